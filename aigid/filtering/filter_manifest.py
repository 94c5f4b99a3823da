"""Write the rows of a manifest that the results of its scan select, in the manifest's own form."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

from aigid.errors import ManifestError, UsageError
from aigid.filtering.conditions import FilterConfig
from aigid.filtering.image_rows import TABLE_ENDINGS, ImageRows
from aigid.filtering.parquet_rows import ParquetRows
from aigid.filtering.row_mask import FilterTotals, RowMask, masks_of_files
from aigid.filtering.tar_rows import TarRows
from aigid.filtering.text_rows import TextRows
from aigid.results import FinishedScan, open_results, read_finished
from aigid.shards import plan_shards
from aigid.sources import Kind, ManifestFile
from aigid.storage import (
    Location,
    exists,
    fixed_folder,
    has_glob,
    is_folder,
    list_names,
    list_others,
    locate,
    staged_folder,
)

_Masks = Iterator[tuple[list[ManifestFile], RowMask]]

_ENDINGS = (*TABLE_ENDINGS, ".parq", ".pq", ".tsv", ".tab", ".ndjson", ".tar", ".tgz", ".gz")
_COPY_BYTES = 8 << 20


class _Rows(Protocol):
    """An output file: takes rows of files of one kind."""

    def add(self, files: list[ManifestFile], mask: RowMask) -> None: ...

    def close(self) -> None: ...


def filter_manifest(config: FilterConfig) -> FilterTotals:
    """Write the rows of a scanned manifest that meet conditions, and return what became of all.

    They are in the manifest's form and order: of a Parquet file rows of the same schema, of text
    tables the records' own bytes, of tars whole samples, and of folders of images a table of their
    names. Several files become one, where their form allows it and `out` has an ending; else a
    file each in the folder `out`. References stay as they are written.

    Raises UsageError for what cannot be done as asked, AigidError where the manifest has changed
    since the scan or is gone, and ResultsError where results are damaged. `out` is not there then.
    """
    results = open_results(config.folder, parameter="folder")
    found = read_finished(results)
    config.check(found.scan)
    target = locate(config.out)
    _refuse_target(target, config, found)
    totals, settings = FilterTotals(), found.scan.settings
    shards = plan_shards(found.files, settings.shard_rows, settings.limit)
    masks = masks_of_files(config, results, shards, totals)
    if target.path.lower().endswith(_ENDINGS):
        _write_one(target, masks, found)
    else:
        with _staged_folder(target) as stage:
            _write_each(stage, masks, found)
    return totals


def _write_one(target: Location, masks: _Masks, found: FinishedScan) -> None:
    """Write the rows of all files into one. Raises UsageError where they are of two kinds."""
    with _staged_file(target) as path:
        first = found.files[0]
        with closing(_new_rows(first.kind, path, target.path, found)) as rows:
            for files, mask in masks:
                if files[0].kind is not first.kind:
                    raise UsageError(
                        f"`out` {target.text}: {first.path} and {files[0].path} are of different "
                        "kinds: give a folder, which gets a file for each"
                    )
                _check(files[0])
                rows.add(files, mask)


def _write_each(
    stage: Callable[[str], AbstractContextManager[Path]],
    masks: _Masks,
    found: FinishedScan,
) -> None:
    """Write a file for each file of the manifest that has rows to write."""
    common = _common_folder(map(_place, found.files))
    for files, mask in masks:
        name = "/".join(_parts(_place(files[0]))[common:])
        if files[0].kind is Kind.IMAGES:
            name += ".parquet"
        _check(files[0])
        with stage(name) as path:
            with closing(_new_rows(files[0].kind, path, name, found)) as rows:
                rows.add(files, mask)
            if not mask.written:
                path.unlink(missing_ok=True)


def _new_rows(kind: Kind, path: Path, name: str, found: FinishedScan) -> _Rows:
    if kind is Kind.PARQUET:
        return ParquetRows(path)
    if kind is Kind.TAR:
        return TarRows(path)
    if kind is Kind.IMAGES:
        return ImageRows(path, name, found.scan.manifests)
    return TextRows(path)


def _check(file: ManifestFile) -> None:
    """Raise ManifestError where a file of the manifest cannot be there any more."""
    if file.path.endswith("?..."):
        raise ManifestError(
            f"{file.path}: the query of its URL is not in the records of the scan, so it cannot be "
            "read again: download the file, and scan the copy"
        )
    location = locate(file.uri)
    if not location.is_web and not (exists(location) or is_folder(location) or has_glob(location)):
        raise ManifestError(
            f"{file.path}: gone since the scan; a relative path starts from the folder that the "
            "scan was started in: restore the file, or start the filter there"
        )


def _refuse_target(target: Location, config: FilterConfig, found: FinishedScan) -> None:
    """Raise UsageError where something is there already, or where a scan would find the output."""
    if target.is_read_only:
        raise UsageError(f"`out` {target.text}: only read from: give a file or an object store")
    if exists(target) or list_names(target) or list_others(target):
        raise UsageError(f"`out` {target.text}: already there: give another name")
    if target.is_below(locate(config.folder)):
        raise UsageError(f"`out` {target.text}: is inside the results: give a place outside them")
    for path in found.scan.manifests:
        source = locate(path)
        folder = fixed_folder(source) if has_glob(source) else source
        if target.is_below(folder) and (has_glob(source) or is_folder(source)):
            raise UsageError(
                f"`out` {target.text}: is inside the manifest's folder {folder.text}, where a scan "
                "would find it: give a place outside it"
            )


@contextmanager
def _staged_file(target: Location) -> Iterator[Path]:
    """Yield a temporary file that becomes `target` at the end, unless the body raises."""
    if target.is_local:
        final = Path(target.path)
        path = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            yield path
            if path.exists():
                path.replace(final)
        finally:
            path.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="aigid-") as scratch:
        path = Path(scratch) / "rows"
        yield path
        if path.exists():
            # One upload: an object is there whole or not at all.
            with (
                path.open("rb") as source,
                target.filesystem.open_output_stream(target.path) as stream,
            ):
                shutil.copyfileobj(source, stream, _COPY_BYTES)


@contextmanager
def _staged_folder(target: Location) -> Iterator[Callable[[str], AbstractContextManager[Path]]]:
    """Yield what stages the files of a folder by name; a local folder is there whole or not."""
    if not target.is_local:
        yield lambda name: _staged_file(target.child(name))
        return
    with staged_folder(Path(target.path)) as folder:

        @contextmanager
        def stage(name: str) -> Iterator[Path]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path

        yield stage


def _place(file: ManifestFile) -> str:
    return locate(file.uri).path


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _common_folder(paths: Iterable[str]) -> int:
    """Return how many folders all paths begin with."""
    common: list[str] | None = None
    for path in paths:
        folders = _parts(path)[:-1]
        common = folders if common is None else common[: _equal(common, folders)]
    return len(common or ())


def _equal(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))
