"""The connection to a Ray cluster, its nodes, and the workers that they have room for."""

import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypedDict

import ray

from aigid.config import RayConfig
from aigid.cores import available_cores
from aigid.errors import ClusterError

# By default Ray takes 30 % of the memory for its object store; here only shards' names go there.
_OBJECT_STORE_BYTES = 128 << 20
_CONNECT_WITHIN_S = 10.0
_SHOWN_NODES = 8


@contextmanager
def connect_ray(config: RayConfig) -> Iterator[None]:
    """Connect to the cluster of `config`, or keep the connection that this process already has.

    Raises ClusterError if there is no such cluster, or if its versions of Ray or Python differ.
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
        with _unchanged_sigterm():
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


@contextmanager
def _unchanged_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: Ray's prints a stack trace before it ends it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Only the main thread may set handlers, and Ray sets its own only there.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def worker_resources(config: RayConfig) -> dict[str, float]:
    """Return what a worker reserves on its node, by Ray's names; memory in bytes."""
    memory = (config.worker_memory_gib or 0) * (1 << 30)
    asked = {
        "CPU": config.worker_cpus,
        "GPU": config.worker_gpus,
        "memory": memory,
        **dict(config.worker_resources),
    }
    return {name: float(amount) for name, amount in asked.items() if amount}


def workers_that_fit(config: RayConfig) -> int:
    """Return how many workers all nodes have room for if nothing else runs there."""
    asked = worker_resources(config)
    return sum(
        int(min(node["Resources"].get(name, 0.0) // amount for name, amount in asked.items()))
        for node in _living_nodes()
    )


def no_room(config: RayConfig) -> str:
    """Describe in one line what a worker asks for, what the nodes have, and what to do."""
    asked = worker_resources(config)
    has = [
        f"{node['NodeManagerAddress']} {_amounts(node['Resources'], asked)}"
        for node in _living_nodes()
    ]
    more = f" and {len(has) - _SHOWN_NODES} more" if len(has) > _SHOWN_NODES else ""
    return (
        f"a worker asks for {_amounts(asked, asked)}; the cluster's nodes have: "
        f"{'; '.join(has[:_SHOWN_NODES])}{more}. Lower `worker_cpus`, `worker_gpus`, "
        "`worker_memory_gib`, `worker_resources` or `min_workers`, or add nodes"
    )


def node_names() -> dict[str, str]:
    """Return a readable name for each node of the cluster, by its id."""
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _living_nodes()}
    counts = Counter(nodes.values())
    return {
        node: address if counts[address] == 1 else f"{address}/{node[:6]}"
        for node, address in nodes.items()
    }


class _Node(TypedDict):
    """The fields of `ray.nodes()` that are used here."""

    Alive: bool
    NodeID: str
    NodeManagerAddress: str
    Resources: dict[str, float]


def _living_nodes() -> list[_Node]:
    nodes: list[_Node] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _amounts(resources: Mapping[str, float], names: Iterable[str]) -> str:
    def amount(name: str) -> str:
        value = resources.get(name, 0)
        return f"{value / (1 << 30):.1f} GiB of memory" if name == "memory" else f"{value:g} {name}"

    return ", ".join(map(amount, names))


def _check_reachable(address: str) -> None:
    """Raise ClusterError if nothing listens: Ray itself would retry long, and print all of it."""
    if address == "auto":
        return
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"`address` {address}: nothing listens there ({error}): is the cluster up, and is this "
            "the port of its head?"
        ) from error


def _reason(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Version mismatch" in text:
        return f"`address` {address}: {text}; use the cluster's versions of Ray and Python"
    if address == "auto":
        return (
            f"`address` auto: this host is in no running Ray cluster ({text[:200]}): give "
            "HOST:PORT, start a cluster with `ray start --head`, or give local"
        )
    return f"`address` {address}: {text[:500]}"
