"""A scan as others observe it: progress, metrics for Prometheus, traces for OpenTelemetry.

The packages of the extra `observe` are imported only where a scan asks for them.
"""

from aigid.observe.observing import observing
from aigid.observe.watch import CommittedShard, ScanBegin, ScanWatch

__all__ = ["CommittedShard", "ScanBegin", "ScanWatch", "observing"]
