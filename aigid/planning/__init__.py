"""The plan of a scan before it runs: what is found, what a sample shows, and what it would cost."""

from aigid.planning.plan import plan_scan
from aigid.planning.scan_plan import (
    DEFAULT_SAMPLE_ROWS,
    Estimate,
    FilesFound,
    PlannedColumns,
    SampleError,
    SampleFigures,
    ScanPlan,
)

__all__ = [
    "DEFAULT_SAMPLE_ROWS",
    "Estimate",
    "FilesFound",
    "PlannedColumns",
    "SampleError",
    "SampleFigures",
    "ScanPlan",
    "plan_scan",
]
