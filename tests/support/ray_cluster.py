"""A Ray cluster of several nodes on this host, apart from the clusters of other test processes."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

_STORE_BYTES = 80 << 20
# All processes of a cluster have this variable, with a value of its own.
_MARK = "AIGID_TEST_CLUSTER"


@dataclass(frozen=True)
class RayNodes:
    """A cluster and the means to change it; `node` is Ray's own type, which is not public."""

    cluster: Cluster
    mark: str

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        return str(self.cluster.address)

    def add(self, **settings: Any) -> Any:
        """Add a node, by default with one core, and return it; `env_vars` are for its workers."""
        variables = {_MARK: self.mark, **settings.pop("env_vars", {})}
        defaults = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "env_vars": variables}
        return self.cluster.add_node(**(defaults | settings))

    def remove(self, node: Any, **options: Any) -> None:
        """Remove a node and kill its processes."""
        self.cluster.remove_node(node, **options)

    @contextmanager
    def extra_node(self, **settings: Any) -> Iterator[Any]:
        """Add a node while the block runs."""
        node = self.add(**settings)
        try:
            yield node
        finally:
            self.remove(node)

    def shard_workers(self) -> list[psutil.Process]:
        """The processes of this cluster that scan shards; Ray sets their names."""
        return [process for process in psutil.process_iter() if self._is_shard_worker(process)]

    def _is_shard_worker(self, process: psutil.Process) -> bool:
        try:
            title = (process.cmdline() or [""])[0]
            return (
                title.startswith("ray::ShardWorker")
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(_MARK) == self.mark
            )
        except psutil.Error:
            # It has ended meanwhile, or belongs to another user.
            return False


@contextmanager
def ray_nodes(nodes: int, **settings: Any) -> Iterator[RayNodes]:
    """Start a cluster of nodes with one core each, by default, and stop it after the block."""
    mark = secrets.token_hex(8)
    # Short: the paths of Ray's sockets may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        # Ray notes the address of the last cluster in its temporary folder.
        patch.setenv("RAY_TMPDIR", folder)
        variables = {_MARK: mark, **settings.pop("env_vars", {})}
        head = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        cluster = Cluster(
            initialize_head=True, head_node_args=head | {"env_vars": variables} | settings
        )
        try:
            running = RayNodes(cluster, mark)
            for _ in range(nodes - 1):
                running.add(**settings)
            cluster.wait_for_nodes()
            yield running
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def variables_without_ray() -> dict[str, str]:
    """The environment without Ray's variables, for a process that must not know a cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
