"""The results of a scan."""

from aigid.results.folder import ResultsFolder, open_results, result_table, results_schema

__all__ = ["ResultsFolder", "open_results", "result_table", "results_schema"]
