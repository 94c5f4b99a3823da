"""Runners: ways to run the scan of a manifest's shards, in this process or on a Ray cluster.

Names are imported on first use, for only scans on a cluster need Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigid.runners.local import run_local
    from aigid.runners.ray import run_ray
    from aigid.runners.ray_cluster import connect_ray
    from aigid.runners.ray_worker import WorkOrder
    from aigid.runners.shard_queue import ShardFailure
else:
    _MODULES = {
        "ShardFailure": "shard_queue",
        "WorkOrder": "ray_worker",
        "connect_ray": "ray_cluster",
        "run_local": "local",
        "run_ray": "ray",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = ["ShardFailure", "WorkOrder", "connect_ray", "run_local", "run_ray"]
