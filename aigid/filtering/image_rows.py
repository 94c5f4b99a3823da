"""Images of a folder as a table of their names and captions."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import AigidError, UsageError
from aigid.filtering.row_mask import RowMask
from aigid.sources import Kind, ManifestFile, Segment, find_sources, read_rows

_NAMES = {"image": "file_name", "txt": "text"}
TABLE_ENDINGS = (".parquet", ".csv", ".jsonl")


class ImageRows:
    """Writes a table: Parquet, CSV or JSON lines, as the ending of `name` says.

    The images' names are relative to the folder that was scanned.
    """

    def __init__(self, path: Path, name: str, paths: Sequence[str]) -> None:
        self._path, self._ending = path, name[name.rfind(".") :].lower()
        if self._ending not in TABLE_ENDINGS:
            raise UsageError(
                f"`out` {name}: a folder of images is filtered into a table: give a name that "
                f"ends in {', '.join(TABLE_ENDINGS)}"
            )
        self._found = _runs_again(paths)
        self._tables: list[pa.Table] = []

    def add(self, files: list[ManifestFile], mask: RowMask) -> None:
        """Take rows of a folder. Raises AigidError where its images are not those of the scan."""
        for recorded in files:
            run = self._found.get((recorded.path, recorded.first_row))
            if run is None or run != recorded:
                raise AigidError(
                    f"{recorded.path}: its images have changed since the scan: restore them, or "
                    "start a new scan"
                )
            wanted = mask.take(recorded.rows)
            if wanted.any():
                batches = read_rows(Segment(run, 0, recorded.rows), run.schema.names)
                names = [_NAMES.get(name, name) for name in run.schema.names]
                table = pa.Table.from_batches([one.select(run.schema.names) for one in batches])
                self._tables.append(table.filter(pa.array(wanted)).rename_columns(names))

    def close(self) -> None:
        """Write the table."""
        empty = pa.table({"file_name": pa.array([], pa.string())})
        table = pa.concat_tables(self._tables or [empty], promote_options="permissive")
        if self._ending == ".parquet":
            pq.write_table(table, self._path, compression="zstd")
            return
        with self._path.open("w", encoding="utf-8", newline="") as file:
            if self._ending == ".csv":
                writer = csv.writer(file)
                writer.writerow(table.column_names)
                writer.writerows(_cells(table))
            else:
                file.writelines(
                    json.dumps(row, ensure_ascii=False, default=str) + "\n"
                    for batch in table.to_batches()
                    for row in batch.to_pylist()
                )


def _cells(table: pa.Table) -> Iterator[list[object]]:
    for batch in table.to_batches():
        yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _runs_again(paths: Sequence[str]) -> dict[tuple[str, int], ManifestFile]:
    """Return the runs of images in folders by folder and first row, found anew."""
    rows: Counter[str] = Counter()
    found = {}
    for path in paths:
        for run in find_sources(path, lambda note: None):
            if isinstance(run, ManifestFile) and run.kind is Kind.IMAGES:
                run = replace(run, first_row=rows[run.path])
                rows[run.path] += run.rows
                found[run.path, run.first_row] = run
    return found
