"""The results of a scan: the folder, the result files and the records in it."""

from aigid.results.content_hash import content_sha256
from aigid.results.counting import count_results
from aigid.results.file_check import shard_runs
from aigid.results.file_metadata import ScoredBy, labels_of
from aigid.results.finding import Finding, FindingKind, Repair
from aigid.results.finished import FinishedScan, read_finished
from aigid.results.folder import ResultsFolder, open_results
from aigid.results.record import (
    SCAN_FORMAT,
    InputTotals,
    ScanModel,
    ScanRecord,
    ScanSettings,
    software_versions,
)
from aigid.results.relabel import RelabelConfig, relabel
from aigid.results.relabel_record import refuse_relabel_under_way
from aigid.results.repair import repair_results
from aigid.results.run_figures import RunFigures
from aigid.results.schema import (
    OptionalColumns,
    ShardAnswers,
    check_kept_columns,
    image_column,
    result_table,
    results_schema,
)
from aigid.results.shard_list import ListedShard, ShardList
from aigid.results.summary import ErrorExample, ModelIdentity, ScanCounts, ScanSummary
from aigid.results.verify import verify_results

__all__ = [
    "SCAN_FORMAT",
    "ErrorExample",
    "Finding",
    "FindingKind",
    "FinishedScan",
    "InputTotals",
    "ListedShard",
    "ModelIdentity",
    "OptionalColumns",
    "Repair",
    "RelabelConfig",
    "ResultsFolder",
    "RunFigures",
    "ScanCounts",
    "ScanModel",
    "ScanRecord",
    "ScanSettings",
    "ScanSummary",
    "ScoredBy",
    "ShardAnswers",
    "ShardList",
    "content_sha256",
    "check_kept_columns",
    "count_results",
    "image_column",
    "labels_of",
    "open_results",
    "read_finished",
    "refuse_relabel_under_way",
    "relabel",
    "repair_results",
    "result_table",
    "results_schema",
    "shard_runs",
    "software_versions",
    "verify_results",
]
