"""Captions in text files beside the images of a folder."""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from aigid.bounded_map import bounded_map
from aigid.errors import AigidError
from aigid.records import ErrorCode, RowError, printable
from aigid.storage import Location, explain_failure, failure_of_store, locate, object_failure

CAPTION = "txt"
"""The column of a run of images with the names of their captions' files, then with the captions."""

_ERROR = "caption error"
_ERROR_TYPE = pa.struct([("code", pa.string()), ("detail", pa.string())])

_MOST_BYTES = 64 * 1024
_THREADS = 32
_DAMAGED = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)
_NO_FILE = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO)


def location_of(reference: str, root: Location) -> Location:
    """Return where a file is: below `root`, or by its URI, which need not be UTF-8."""
    if "://" not in reference:
        return root.child(reference)
    if not root.is_local:
        return locate(reference)
    path = os.fsdecode(unquote_to_bytes(reference.removeprefix("file://")))
    return replace(root, path=path, text=path)


def with_captions(batch: pa.RecordBatch, root: Location) -> pa.RecordBatch:
    """Return rows with captions in place of the names of their files.

    Where captions cannot be read, there is a column for `caption_errors`. Raises AigidError where
    others could not be read as well.
    """
    place = batch.schema.get_field_index(CAPTION)
    names = batch.column(place).to_pylist()
    if root.is_local:
        folder = os.path.realpath(root.path)
        found = [_caption(root, name, folder) for name in names]
    else:
        found = list(bounded_map(partial(_caption, root), names, _THREADS))
    captions = [None if isinstance(caption, RowError) else caption for caption in found]
    batch = batch.set_column(place, CAPTION, pa.array(captions, pa.string()))
    errors = [asdict(caption) if isinstance(caption, RowError) else None for caption in found]
    if any(errors):
        batch = batch.append_column(_ERROR, pa.array(errors, _ERROR_TYPE))
    return batch


def captions_beside(images: Sequence[str | None], root: Location) -> list[str | None]:
    """Return the captions in the text files beside images, by their references.

    A caption is None where there is none, and where it cannot be read. Raises AigidError where
    others could not be read as well.
    """
    stems = (None if image is None else re.sub(r"\.[^./]*$", "", image) for image in images)
    names = pa.array([None if stem is None else f"{stem}.txt" for stem in stems], pa.string())
    captions = with_captions(pa.record_batch({CAPTION: names}), root).column(CAPTION)
    return list(captions.to_pylist())


def caption_errors(batch: pa.RecordBatch) -> dict[int, RowError]:
    """Return the errors of rows whose captions cannot be read, by their place in the batch."""
    if _ERROR not in batch.schema.names:
        return {}
    errors = enumerate(batch.column(_ERROR).to_pylist())
    return {
        row: RowError(ErrorCode(error["code"]), error["detail"])
        for row, error in errors
        if error is not None
    }


def keep_caption_errors(batch: pa.RecordBatch, arrays: dict[str, pa.Array]) -> None:
    """Add the errors of a batch to the columns of another with the same rows."""
    if _ERROR in batch.schema.names:
        arrays[_ERROR] = batch.column(_ERROR)


def _caption(root: Location, name: str | None, folder: str = "") -> str | RowError | None:
    """Return the start of a caption's file; None without one, or if it links out of `folder`."""
    if name is None:
        return None
    location = location_of(name, root)
    try:
        data = _read_local(location.path, folder) if root.is_local else _read_stored(location)
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        return _failure(error, location)
    return data.decode("utf-8", "replace").removeprefix("\ufeff").strip()


def _read_local(path: str, folder: str) -> bytes:
    # By Arrow, its name had to be UTF-8.
    target = os.path.realpath(path)
    if not target.startswith(f"{folder.rstrip('/')}/"):
        raise FileNotFoundError
    # Neither a link that was put there since, nor a pipe that would wait for a writer.
    handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(handle, _MOST_BYTES)
    finally:
        os.close(handle)


def _read_stored(location: Location) -> bytes:
    with location.filesystem.open_input_stream(location.path, compression=None) as stream:
        return bytes(stream.read(_MOST_BYTES))


def _failure(error: OSError, location: Location) -> RowError | None:
    """Return what an error of one caption's file means for its row; None if there is no file.

    Raises AigidError for an error that other files could meet as well.
    """
    if location.store is None:
        if error.errno in _NO_FILE:
            return None
        code = ErrorCode.FORBIDDEN if isinstance(error, PermissionError) else ErrorCode.UNDECODABLE
        is_own, reason = code is ErrorCode.FORBIDDEN or error.errno in _DAMAGED, error.strerror
    else:
        failure = object_failure(error, location.store)
        code, reason = failure.code, failure.reason
        is_own = failure.is_own or (
            code is not ErrorCode.TIMEOUT and failure_of_store(location) is None
        )
    if not is_own:
        raise AigidError(
            f"{location.text}: cannot be read: {explain_failure(error, location)}; "
            "run the scan again to continue"
        ) from error
    return RowError(code, f"its caption {printable(location.text)}: {reason}")
