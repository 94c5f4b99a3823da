"""The writer of simulated manifests, in the schema of the MS COCOAI data set."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import map_in_pool
from aigid.errors import UsageError
from aigid.simulation.config import SimulationConfig
from aigid.simulation.rows import make_row

SCHEMA = pa.schema(
    [
        ("Caption", pa.string()),
        ("Image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("Label_A", pa.int32()),
        ("Label_B", pa.int32()),
    ]
)
"""The columns of MS COCOAI: `Label_A` is 0 (real) or 1, `Label_B` the index in `DEFAULT_LABELS`."""


def simulate(
    config: SimulationConfig, out_dir: Path, *, progress: Callable[[int], None] | None = None
) -> list[Path]:
    """Write the Parquet files of a split into `out_dir` and return their paths.

    Each file appears whole or not at all. The same settings give the same bytes. `progress` is
    called with the number of rows written so far. Raises UsageError where `out_dir` cannot be made
    or holds files of another simulation.
    """
    order = _row_order(config)
    starts = list(range(0, config.rows, config.rows_per_file))
    paths = [
        out_dir / f"{config.split}-{index:05d}-of-{len(starts):05d}.parquet"
        for index in range(len(starts))
    ]
    _prepare_folder(config, out_dir, paths)
    files = [order[start : start + config.rows_per_file] for start in starts]
    groups = [
        file[start : start + config.rows_per_group]
        for file in files
        for start in range(0, len(file), config.rows_per_group)
    ]
    tables = _make_groups(config, groups)
    done = 0
    for path, file in zip(paths, files, strict=True):
        for rows in _write_file(path, islice(tables, -(-len(file) // config.rows_per_group))):
            done += rows
            if progress is not None:
                progress(done)
    return paths


def make_group(config: SimulationConfig, rows: list[int]) -> pa.Table:
    """Return the table of the rows with these numbers: the task of a worker."""
    made = [make_row(config, row) for row in rows]
    columns = {
        "Caption": [row.caption for row in made],
        "Image": [{"bytes": row.image, "path": row.path} for row in made],
        "Label_A": [row.label_a for row in made],
        "Label_B": [row.label_b for row in made],
    }
    return pa.table(columns, schema=SCHEMA)


def _row_order(config: SimulationConfig) -> list[int]:
    """Return the numbers of all rows, shuffled over the whole split."""
    state = np.random.SeedSequence(config.seed, spawn_key=(config.split.number,))
    return [int(row) for row in np.random.default_rng(state).permutation(config.rows)]


def _prepare_folder(config: SimulationConfig, out_dir: Path, paths: list[Path]) -> None:
    """Make the folder; refuse one where other files of the split would mix with the new ones."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out_dir}: the folder cannot be made: {error}") from error
    others = sorted(set(out_dir.glob(f"{config.split}-*.parquet")) - set(paths))
    if others:
        raise UsageError(
            f"{out_dir}: holds {others[0].name} of another simulation: "
            "remove it or choose another folder"
        )


def _make_groups(config: SimulationConfig, groups: list[list[int]]) -> Iterator[pa.Table]:
    """Yield the row groups in order; at most two for each worker are made ahead."""
    make = partial(make_group, config)
    if config.workers == 1:
        yield from map(make, groups)
        return
    others = set(multiprocessing.active_children())
    with _Workers(min(config.workers, len(groups))) as pool:
        try:
            yield from map_in_pool(pool, make, groups, 2 * config.workers)
        except BaseException:
            # They would first finish their groups.
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise


class _Workers(ProcessPoolExecutor):
    """Processes that Ctrl-C on the terminal does not reach: this process ends them."""

    def __init__(self, number: int) -> None:
        # Spawned, since forking a process with threads can deadlock.
        super().__init__(number, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, *call: Any, **settings: Any) -> Future[Any]:
        # A process begins here, with the blocked signals of this thread.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return super().submit(*call, **settings)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _write_file(path: Path, tables: Iterator[pa.Table]) -> Iterator[int]:
    """Write the row groups, yield the rows of each, and put the whole file in place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # The images are compressed already.
        with pq.ParquetWriter(
            temporary, SCHEMA, compression="none", use_dictionary=False
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=table.num_rows)
                yield table.num_rows
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
