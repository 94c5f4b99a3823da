"""The local runner: scans the shards one after the other, each on all threads."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from aigid.observe import CommittedShard, ScanWatch
from aigid.results import ResultsFolder
from aigid.shard_scan import ShardScanner, scan_shards
from aigid.shards import Shard


def run_local(
    scanner: ShardScanner, shards: Iterable[Shard], results: ResultsFolder, watch: ScanWatch
) -> None:
    """Scan and commit each shard; after an exception the committed shards stay."""
    pool = ThreadPoolExecutor(scanner.threads, thread_name_prefix="scan")
    try:
        with closing(scan_shards(scanner, shards, pool, watch.advance, watch.queue)) as scanned:
            for one in scanned:
                began = time.perf_counter()
                results.commit(one.shard.index, one.table)
                commit_s = time.perf_counter() - began
                watch.committed(CommittedShard(one.shard, one.done, one.seconds, commit_s))
                # Its kept columns may be large: it must not wait for the next one.
                del one
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
