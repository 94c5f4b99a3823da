"""The local runner: scans the shards one after the other, each on all threads."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from aigid.results import ResultsFolder, StageFigures
from aigid.shard_scan import OnBatch, ShardScanner, scan_shards
from aigid.shards import Shard


def run_local(
    scanner: ShardScanner, shards: Iterable[Shard], results: ResultsFolder, on_batch: OnBatch
) -> StageFigures:
    """Scan and commit each shard; after an exception the committed shards stay."""
    stages = StageFigures()
    pool = ThreadPoolExecutor(scanner.threads, thread_name_prefix="scan")
    try:
        with closing(scan_shards(scanner, shards, pool, on_batch)) as scanned:
            for one in scanned:
                results.commit(one.shard.index, one.table)
                stages += one.stages
                # Its kept columns may be large: it must not wait for the next one.
                del one
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return stages
