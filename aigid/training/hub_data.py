"""Data sets on the Hugging Face hub: `hf://datasets/OWNER/NAME/PATH`, downloaded into the hub's own cache."""

import re
from fnmatch import translate
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from aigid.errors import ManifestError

_URI = re.compile(r"hf://datasets/([^/]+/[^/]+?)(?:/(.*))?")
_SCHEME = "hf://"


def downloaded(source: str) -> str:
    """Where a source of a manifest is on this machine: itself, or of `hf://` the downloaded file, folder or glob.

    Of a folder the Parquet files right in it are taken, without a path those of the whole data set. What was downloaded
    before is not downloaded again. Raises ManifestError where there is none, or the hub cannot be reached.
    """
    if not source.startswith(_SCHEME):
        return source
    named = _URI.fullmatch(source.rstrip("/"))
    if named is None:
        raise ManifestError(
            f"{source}: not a data set of the hub: give hf://datasets/OWNER/NAME or .../NAME/PATH"
        )
    repository, path = named[1], named[2] or ""
    patterns = (
        [path] if path.endswith(".parquet") or "*" in path else [f"{path}/*.parquet".lstrip("/")]
    )
    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", allow_patterns=patterns))
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise ManifestError(
                f"{source}: the hub has no such data set, or you may not read it (`hf auth login`)"
            ) from error
        raise ManifestError(
            f"{source}: not downloaded before, and the hub cannot be reached: {_one_line(error)}"
        ) from error
    except Exception as error:
        raise ManifestError(f"{source}: cannot be downloaded: {_one_line(error)}") from error
    matching = re.compile(translate(patterns[0]))
    if not any(
        matching.fullmatch(file.relative_to(folder).as_posix())
        for file in folder.rglob("*.parquet")
    ):
        raise ManifestError(f"{source}: the data set has no Parquet files there")
    return str(folder / path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
