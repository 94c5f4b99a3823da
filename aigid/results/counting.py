"""The totals of a scan, counted from its result files."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from aigid.bounded_map import bounded_map
from aigid.records import REAL
from aigid.results.folder import ResultsFolder
from aigid.results.summary import ErrorExample, ScanCounts
from aigid.shards import Shard

# With an object store, each thread waits for a few requests.
_COUNTING_THREADS = 16
_EXAMPLE_COLUMNS = ["manifest", "row", "image", "error_detail"]


def count_results(
    results: ResultsFolder, shards: Iterable[Shard], names: Sequence[str]
) -> ScanCounts:
    """Return the totals over the result files of these shards, which are in the manifest's order.

    `names` are the sources that the model can name; a source without rows has 0.

    Raises ResultsError where a file is missing or damaged, or has not the rows of its shard.
    """

    def read(shard: Shard) -> tuple[Shard, pa.Table]:
        return shard, results.read(shard, ["source", "error"])

    sources: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    examples: dict[str, ErrorExample] = {}
    files = rows = 0
    for shard, table in bounded_map(read, shards, _COUNTING_THREADS):
        files, rows = files + 1, rows + table.num_rows
        sources.update(_value_counts(table.column("source")))
        found = _value_counts(table.column("error"))
        errors.update(found)
        for code in found.keys() - examples.keys():
            position = pc.index(table.column("error").cast(pa.string()), code).as_py()
            examples[code] = _example(results, shard, position)
    failed = errors.total()
    return ScanCounts(
        shards=files,
        rows=rows,
        scored=rows - failed,
        ai=sum(sources[name] for name in names if name != REAL),
        sources={name: sources[name] for name in names},
        errors=dict(sorted(errors.items())),
        error_rate=failed / rows,
        error_examples=dict(sorted(examples.items())),
    )


def _example(results: ResultsFolder, shard: Shard, position: int) -> ErrorExample:
    row = results.read(shard, _EXAMPLE_COLUMNS).slice(position, 1).to_pylist()[0]
    return ErrorExample(row["manifest"], row["row"], row["image"], row["error_detail"])


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = column.drop_null().value_counts()
    return {item["values"]: item["counts"] for item in counts.to_pylist()}
