"""The report of a scan: one HTML page about its results, made from the results folder."""

from aigid.report.config import ReportConfig
from aigid.report.write import WrittenReport, write_report

__all__ = ["ReportConfig", "WrittenReport", "write_report"]
