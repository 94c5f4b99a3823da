"""Run a scan's shards on this machine, one after the other, each on all workers."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from aigid.results import ResultsFolder
from aigid.shard_scan import OnBatch, ShardScanner, scan_shard
from aigid.shards import Shard


def run_local(scanner: ShardScanner, shards: Iterable[Shard], results: ResultsFolder, on_batch: OnBatch) -> None:
    """Scan and commit each shard; an exception ends the run and leaves what was committed."""
    pool = ThreadPoolExecutor(scanner.workers, thread_name_prefix="scan")
    try:
        for shard in shards:
            results.commit(shard.index, scan_shard(scanner, shard, pool, on_batch))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
