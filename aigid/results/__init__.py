"""The results of a scan."""

from aigid.results.folder import ResultsFolder, open_results, result_table, results_schema
from aigid.results.summary import ErrorExample, ModelIdentity, RunFigures, ScanCounts, ScanSummary

__all__ = [
    "ErrorExample",
    "ModelIdentity",
    "ResultsFolder",
    "RunFigures",
    "ScanCounts",
    "ScanSummary",
    "open_results",
    "result_table",
    "results_schema",
]
