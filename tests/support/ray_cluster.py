"""A Ray cluster of several nodes on this machine, and the processes in it that tests kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ray.cluster_utils import Cluster

_STORE_BYTES = 80 << 20


@contextmanager
def ray_nodes(nodes: int, **settings: Any) -> Iterator[Cluster]:
    """A cluster of nodes with one core each; its address is `cluster.address`."""
    head = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head | settings)
    try:
        for _ in range(nodes - 1):
            add_node(cluster, **settings)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Cluster, **settings: Any) -> Any:
    """One more node with a core."""
    return cluster.add_node(**({"num_cpus": 1, "object_store_memory": _STORE_BYTES} | settings))


def shard_workers() -> list[psutil.Process]:
    """The processes of this user that scan shards, which Ray names so."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        title = (process.info["cmdline"] or [""])[0]
        if title.startswith("ray::ShardWorker") and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
