"""What a report says of a results folder that it cannot be about."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.result_tables import SCAN, SUMMARY, manifest_of
from support.sound_results import sound_results

from aigid.errors import ResumeMismatchError
from aigid.report.config import ReportConfig
from aigid.report.opened import open_for_report
from aigid.results.json_records import format_record
from aigid.results.relabel_record import RelabelRecord


def test_a_relabel_under_way_has_to_end_first(tmp_path: Path) -> None:
    sound_results(tmp_path / "results", manifest_of({"m.parquet": 5}))
    after = replace(SCAN, settings=replace(SCAN.settings, threshold=0.75))
    record = RelabelRecord(SCAN, after, SUMMARY)
    (tmp_path / "results" / "relabel.json").write_bytes(format_record(record))
    with pytest.raises(
        ResumeMismatchError, match="a relabel to threshold 0.75 and mode best-guess"
    ):
        open_for_report(ReportConfig(str(tmp_path / "results"), str(tmp_path / "report.html")))
