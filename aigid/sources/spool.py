"""Tables that may be larger than memory should hold: written to a temporary file and mapped."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa


def spooled(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return a table of the batches. If there are several, their pages are those of a file.

    The file has no name any more when this returns. The operating system frees it with the table.
    """
    rest = iter(batches)
    first = next(rest, None)
    second = next(rest, None)
    if first is None or second is None:
        return pa.Table.from_batches([first] if first is not None else [], schema=schema)
    return _mapped(chain([first, second], rest), schema)


def _mapped(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    with tempfile.NamedTemporaryFile(prefix="aigid-") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        return pa.ipc.open_stream(pa.memory_map(file.name)).read_all()
