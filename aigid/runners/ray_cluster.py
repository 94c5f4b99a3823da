"""A connection to a Ray cluster, or one of this scan's own; what cannot be reached is told in one line."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from aigid.config import RayConfig
from aigid.cores import available_cores
from aigid.errors import ClusterError

# Ray's own takes 30 % of the memory otherwise: what passes through it here are shards' names.
_OBJECT_STORE_BYTES = 128 << 20
_ANSWERS_WITHIN_S = 10.0


@contextmanager
def ray_cluster(config: RayConfig) -> Iterator[None]:
    """Be connected to the cluster of `config`, or to the one that this process is connected to already.

    Raises ClusterError where there is none, or it has other versions of Ray or Python.
    """
    if ray.is_initialized():
        yield
        return
    own = config.address == "local"
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    else:
        _check_reachable(config.address)
    try:
        ray.init(
            config.address,
            num_cpus=available_cores() if own else None,
            object_store_memory=_OBJECT_STORE_BYTES if own else None,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(_reason(config.address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def worker_resources(config: RayConfig) -> dict[str, float]:
    """What a worker reserves on its machine, by Ray's names; memory in bytes."""
    memory = (config.worker_memory_gib or 0) * (1 << 30)
    asked = {
        "CPU": config.worker_cpus,
        "GPU": config.worker_gpus,
        "memory": memory,
        **dict(config.worker_resources),
    }
    return {name: float(amount) for name, amount in asked.items() if amount}


def workers_that_fit(config: RayConfig) -> int:
    """How many workers the cluster's machines have room for, were nothing else running there."""
    asked = worker_resources(config)
    return sum(
        int(min(node["Resources"].get(name, 0.0) // amount for name, amount in asked.items()))
        for node in _living_nodes()
    )


def no_room(config: RayConfig) -> str:
    """A line that says what a worker asks for, what machines there are, and what to do."""
    asked = worker_resources(config)
    has = [
        f"{node['NodeManagerAddress']} {_amounts(node['Resources'], asked)}"
        for node in _living_nodes()
    ]
    more = f" and {len(has) - 8} more" if len(has) > 8 else ""
    return (
        f"a worker asks for {_amounts(asked, asked)}; the cluster's machines have: {'; '.join(has[:8])}{more}. Lower "
        "--worker-cpus, --worker-gpus, --worker-memory, --worker-resources or --min-workers, or add machines"
    )


def node_names() -> dict[str, str]:
    """A name for people for each machine of the cluster, by its id."""
    nodes = {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in _living_nodes()}
    counts = Counter(nodes.values())
    return {
        node: address if counts[address] == 1 else f"{address}/{node[:6]}"
        for node, address in nodes.items()
    }


def _living_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _amounts(resources: Mapping[str, float], names: Iterable[str]) -> str:
    def amount(name: str) -> str:
        value = resources.get(name, 0)
        return f"{value / (1 << 30):.1f} GiB of memory" if name == "memory" else f"{value:g} {name}"

    return ", ".join(map(amount, names))


def _check_reachable(address: str) -> None:
    """Raise ClusterError where nobody listens: Ray itself would try for a long time, and fill the terminal with it."""
    if address == "auto":
        return
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"--ray {address}: nobody listens there ({error}): is the cluster up, is it its head's port?"
        ) from error


def _reason(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Version mismatch" in text:
        return f"--ray {address}: {text}; use the same versions of Ray and Python as the cluster"
    if address == "auto":
        return (
            f"--ray: this machine is in no running Ray cluster ({text[:200]}): give HOST:PORT, start one with `ray start "
            "--head`, or say --ray local"
        )
    return f"--ray {address}: {text[:500]}"
