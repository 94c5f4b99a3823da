"""Folders that hold a table of another system, whose files alone are not its rows.

Such a table lists its current files in a log or in metadata. The folder keeps files of deleted and
old rows as well, often for days. Lance data sets have no Parquet files, and are not among them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pyarrow import fs

from aigid.errors import ManifestError, StorageError
from aigid.storage.location import Location, explain_failure, failure_of_store, list_names


@dataclass(frozen=True)
class _Kind:
    """A kind of table; `mark` matches a path below its folder, with a / at a folder's end."""

    name: str
    mark: str
    reader: str


_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KINDS = (
    _Kind("a Delta Lake table", r"_delta_log/", "deltalake's DeltaTable(...).to_pyarrow_table()"),
    _Kind("a Hudi table", r"\.hoodie/", "Spark's read.format('hudi')"),
    _Kind(
        "an Iceberg table",
        rf"metadata/(?:version-hint\.text|(?:v\d+|\d+-{_UUID})(?:\.gz)?\.metadata\.json(?:\.gz)?)$",
        "pyiceberg's table.scan().to_arrow()",
    ),
    _Kind(
        "a Paimon table",
        r"snapshot/(?:LATEST|EARLIEST|snapshot-\d+)$",
        "pypaimon's table.new_read_builder()",
    ),
    _Kind(
        "a Hive ACID table",
        r"(?:base_\d{7}(?:_v\d+)?|(?:delta|delete_delta)_\d{7}_\d{7}(?:_\d{4})?(?:_v\d+)?)/",
        "Hive's CREATE TABLE ... STORED AS PARQUET AS SELECT",
    ),
    _Kind("the output of a Spark stream", r"_spark_metadata/", "Spark's read.parquet(...)"),
    _Kind("a DuckLake table", rf"ducklake-{_UUID}(?:-delete)?\.parquet$", "DuckDB's COPY ... TO"),
)
_MARK = re.compile("|".join(f"(?:^|(?<=/))({kind.mark})" for kind in _KINDS))
# A part of every mark: most listings have none of them, which is found out fast.
_HINTS = ("_log/", ".hoodie/", "metadata/", "snapshot/", "base_", "delta_", "ducklake-")
_NAMES_AT_A_TIME = 1 << 16
# Folders of a table's root that tell its kind: by their names alone, or by the files in them.
_BY_NAME = ("_delta_log", ".hoodie", "_spark_metadata")
_BY_CONTENT = ("metadata", "snapshot")
# Between a table's root and its files: year=2024, bucket-3, 2024/01, Iceberg's data.
_PARTITION = re.compile(r"[^=]+=.*|bucket-\d+|\d+|data")


def refuse_table(folder: Location, names: Iterable[str], *, look_into: bool) -> None:
    """Raise ManifestError where the names below a folder are those of a table.

    Names of folders end with a /. With `look_into`, `names` has none below these folders: those
    that could tell are listed.
    """
    rest = iter(names)
    while some := list(islice(rest, _NAMES_AT_A_TIME)):
        text = "\n".join(some)
        if any(hint in text for hint in _HINTS):
            for name in some:
                _refuse_name(folder, name, look_into)


def _refuse_name(folder: Location, name: str, look_into: bool) -> None:
    _refuse_path(folder, name)
    inner = name.rstrip("/")
    if look_into and inner in _BY_CONTENT and inner != name:
        for file in list_names(folder.child(inner)):
            _refuse_path(folder, f"{name}{file}")


def refuse_table_around(location: Location, *, is_folder: bool, checked: set[str]) -> None:
    """Raise ManifestError where a file or a folder is inside of a table.

    The folders that were looked into are added to `checked`, and not looked into again. On the web
    nothing is known of folders. Raises StorageError where an object store fails.
    """
    if location.is_web:
        return
    if location.is_local:
        location = location.at(str(Path(location.path).absolute()))
    root = location.at("/" if location.store is None else location.store.bucket)
    below = location.path.removeprefix(root.path).strip("/")
    _refuse_path(root, f"{below}/" if is_folder else below)
    folders = [folder for folder in _roots(location, is_folder) if folder.uri not in checked]
    checked.update(folder.uri for folder in folders)
    for folder in folders:
        refuse_table(folder, _telling_folders(folder), look_into=True)


def _telling_folders(folder: Location) -> list[str]:
    """Return which folders are there that could tell that a folder is a table.

    There are none where credentials allow to read a file, but not to look around.
    """
    places = [folder.child(name).path for name in (*_BY_NAME, *_BY_CONTENT)]
    try:
        infos = folder.filesystem.get_file_info(places)
    except OSError as error:
        of_store = failure_of_store(folder)
        if of_store is None:
            return []
        raise StorageError(f"{folder.text}: {explain_failure(of_store, folder)}") from error
    return [f"{info.base_name}/" for info in infos if info.type == fs.FileType.Directory]


def _roots(location: Location, is_folder: bool) -> Iterator[Location]:
    """Yield the folders above a file or a folder that may be the root of a table."""
    name = location.path.rpartition("/")[2]
    while not is_folder or _PARTITION.fullmatch(name):
        parent = location.parent
        if parent == location:
            return
        yield parent
        location, is_folder, name = parent, True, parent.path.rpartition("/")[2]


def _refuse_path(folder: Location, path: str) -> None:
    match = _MARK.search(path)
    if match is None:
        return
    kind = _KINDS[(match.lastindex or 0) - 1]
    inner = path[: match.start()].strip("/")
    table = folder.child(inner) if inner else folder
    raise ManifestError(
        f"{table.text}: {kind.name}: its folder has files of deleted and old rows as well: write "
        f"its rows to a Parquet file, as with {kind.reader}, and give that file"
    )
