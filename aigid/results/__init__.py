"""The results of a scan: the folder, the result files and the records in it."""

from aigid.results.content_hash import content_sha256
from aigid.results.counting import count_results
from aigid.results.file_check import scorer_metadata, shard_runs
from aigid.results.file_metadata import ScoredBy, labels_of
from aigid.results.finding import Finding, FindingKind, Repair
from aigid.results.finished import FinishedScan, read_finished
from aigid.results.folder import ResultsFolder, open_results
from aigid.results.reading import read_scan, result_schema
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
from aigid.results.remedies import REMEDIES
from aigid.results.repair import repair_results
from aigid.results.retry import FailedRows, ShardRetry, begin_retry, refuse_changed_rows
from aigid.results.run_figures import RunFigures
from aigid.results.schema import (
    OptionalColumns,
    ScannedShard,
    ShardAnswers,
    check_kept_columns,
    image_column,
    result_table,
    results_schema,
)
from aigid.results.shard_list import ListedShard, ShardList
from aigid.results.summary import ErrorExample, ModelIdentity, ScanCounts, ScanSummary
from aigid.results.verify import rows_to_verify, verify_results

__all__ = [
    "REMEDIES",
    "SCAN_FORMAT",
    "ErrorExample",
    "FailedRows",
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
    "ScannedShard",
    "ScoredBy",
    "ShardAnswers",
    "ShardList",
    "ShardRetry",
    "content_sha256",
    "begin_retry",
    "check_kept_columns",
    "count_results",
    "image_column",
    "labels_of",
    "open_results",
    "read_finished",
    "read_scan",
    "refuse_changed_rows",
    "refuse_relabel_under_way",
    "relabel",
    "repair_results",
    "result_schema",
    "result_table",
    "results_schema",
    "rows_to_verify",
    "scorer_metadata",
    "shard_runs",
    "software_versions",
    "verify_results",
]
