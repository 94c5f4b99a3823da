"""The counts of a report: what they are of tables that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.report_results import (
    CAMERA,
    CONTRADICTION,
    FINDING,
    Made,
    ResultRow,
    report_results,
)

from aigid.errors import UsageError
from aigid.progress_bar import SilentProgress
from aigid.report import ReportConfig
from aigid.report.counts import SCORE_BINS
from aigid.report.duplicates import DuplicateCounter
from aigid.report.groups import GroupCounts, share_interval
from aigid.report.opened import open_for_report
from aigid.report.rows import CodedColumn, hash_prefixes
from aigid.report.statistics import Statistics, collect


def statistics_of(
    folder: Path, rows: list[ResultRow], made: Made = Made(), **by: str
) -> Statistics:
    config = ReportConfig(str(report_results(folder, rows, made)), **by)
    return collect(open_for_report(config), config, SilentProgress())


def test_scores_verdicts_sources_and_errors_are_counted_over_shards(tmp_path: Path) -> None:
    rows = [
        ResultRow(0.0),
        ResultRow(0.25, verdict="unsure"),
        ResultRow(0.75, source="sdxl"),
        ResultRow(1.0),
        ResultRow(None, error="missing"),
        ResultRow(None, error="missing"),
    ]
    found = statistics_of(tmp_path, rows, Made(shard_rows=2)).scores
    assert (found.rows, found.scored) == (6, 4)
    assert [found.verdict(name) for name in ("ai", "unsure", "real")] == [2, 1, 1]
    assert found.sources == {"real": 2, "sdxl": 1, "sd21": 1}
    assert found.errors == {"missing": 2}
    assert np.flatnonzero(found.scores).tolist() == [0, 250, 750, SCORE_BINS - 1]
    assert found.scored_from(0.5) == 2 and found.scored_from(0, 0.1) == 1


def test_evidence_is_counted_by_verdict_and_findings_by_kind(tmp_path: Path) -> None:
    signed = FINDING | {"kind": "c2pa", "strength": "signed_trusted"}
    rows = [
        ResultRow(0.1, evidence="ai", findings=[FINDING, FINDING]),
        ResultRow(0.9, evidence="ai", findings=[signed, FINDING]),
        ResultRow(0.9, evidence="camera", findings=[CAMERA]),
        ResultRow(0.9, evidence="none", detail='{"not": "a list"}'),
        ResultRow(0.9, evidence="none", detail="[" * 100_000),
        ResultRow(None, evidence=None, error="missing"),
    ]
    found = statistics_of(tmp_path, rows, Made(evidence=True))
    assert found.findings is not None
    assert found.scores.evidence("ai") == 2 and found.scores.evidence("camera") == 1
    assert found.scores.outcomes.tolist() == [
        [1, 0, 1, 2, 0], [1, 0, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 1]
    ]  # fmt: skip
    assert found.findings.kinds == {
        ("comfyui", "ai", "metadata"): 2,
        ("c2pa", "ai", "signed_trusted"): 1,
        ("camera", "camera", "camera_exif"): 1,
    }
    assert found.findings.strengths["ai", "signed_trusted"] == 1
    assert found.findings.unreadable == 2


def test_without_optional_columns_nothing_is_made_up(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, [ResultRow()] * 3)
    assert (found.findings, found.same, found.alike, found.truth) == (None, None, None, None)


def test_duplicates_are_rows_that_repeat_bytes_or_looks(tmp_path: Path) -> None:
    hashes = ["a" * 64, "a" * 64, "b" * 64, "c" * 64, "a" * 64, None]
    looks = [1, 1, 1, 2, 1, None]
    pairs = zip(hashes, looks, strict=True)
    rows = [ResultRow(hash=one, perceptual_hash=look) for one, look in pairs]
    found = statistics_of(tmp_path, rows, Made(hashes=True, shard_rows=2))
    assert found.same is not None and found.alike is not None
    assert (found.same.rows, found.same.repeats, found.same.groups, found.same.largest) == (
        5, 2, 1, 3
    )  # fmt: skip
    assert (found.alike.repeats, found.alike.groups, found.alike.largest) == (3, 1, 4)


@pytest.mark.parametrize("kind", ["random", "small numbers"])
def test_beyond_the_bound_duplicates_are_estimated_from_whole_groups(kind: str) -> None:
    values = np.arange(1, 40_001, dtype=np.uint64)
    if kind == "random":
        values = np.random.default_rng(0).integers(1, 1 << 63, 40_000).astype(np.uint64)
    counter = DuplicateCounter(most=10_000)
    for part in np.split(np.concatenate([values, values, values]), 12):
        counter.add(part)
    found = counter.duplicates()
    assert found.sampled == 16 and found.largest == 3
    assert found.repeats == pytest.approx(80_000, rel=0.1)
    assert found.groups == pytest.approx(40_000, rel=0.1)


def test_no_rows_have_no_duplicates() -> None:
    found = DuplicateCounter().duplicates()
    assert (found.rows, found.repeats, found.groups, found.largest) == (0, 0, 0, 0)


@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "g" * 64, "é" * 64, None])
def test_what_is_no_hash_counts_for_none(text: str | None) -> None:
    column = pa.chunked_array([["0" * 15 + "f" + "0" * 48, text]])
    assert hash_prefixes(column).tolist() == [15, 0]


def test_groups_that_differ_by_more_than_chance_are_named(tmp_path: Path) -> None:
    rows = [ResultRow(0.9, kept={"camera": "x"}) for _ in range(200)]
    rows += [ResultRow(0.1, kept={"camera": "y"}) for _ in range(200)]
    rows += [ResultRow(0.9 * (row % 2), kept={"camera": None}) for row in range(20)]
    rows += [ResultRow(None, kept={"camera": "y"}, error="empty")]
    found = statistics_of(tmp_path, rows, Made(shard_rows=100), by="camera")
    assert found.grouped_by == "camera"
    groups = {group.name: group for group in found.groups}
    assert list(groups) == ["x", "y", "(no value)"]
    assert [group.differs for group in found.groups] == [True, True, False]
    assert (groups["y"].rows, groups["y"].failed, groups["y"].ai) == (201, 1, 0)
    assert groups["x"].mean_score == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    "values", [[1, 2], [0.5, float("nan")], [True, False], [b"a", b"b"], [[1], [2]]]
)
def test_any_column_is_compared_by_its_values_or_refused(
    tmp_path: Path, values: list[object]
) -> None:
    rows = [ResultRow(kept={"c": value}) for value in values]
    if isinstance(values[0], bytes | list):
        with pytest.raises(UsageError, match="cannot be compared"):
            statistics_of(tmp_path, rows, by="c")
        return
    names = [group.name for group in statistics_of(tmp_path, rows, by="c").groups]
    assert names == [str(value) for value in values]


def test_one_file_is_compared_by_runs_of_its_rows(tmp_path: Path) -> None:
    rows = [ResultRow(row / 100) for row in range(100)]
    found = statistics_of(tmp_path, rows, Made(shard_rows=30, row_group_rows=30))
    assert found.grouped_by == "rows"
    assert [group.name for group in found.groups][:2] == ["0 to 4", "5 to 9"]
    assert len(found.groups) == 20 and sum(group.rows for group in found.groups) == 100
    assert [group.mean_score for group in found.groups] == sorted(
        group.mean_score for group in found.groups
    )


def test_groups_beyond_the_bound_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.report.groups._MOST_GROUPS", 70)
    rows = [ResultRow(kept={"c": row}) for row in range(100)]
    groups = statistics_of(tmp_path, rows, Made(shard_rows=10, row_group_rows=10), by="c").groups
    assert len(groups) == 71
    assert (groups[-1].name, groups[-1].rows) == ("(other values)", 30)


def test_a_share_s_interval_is_wilson_s() -> None:
    # By the textbook: 10 of 100.
    assert share_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_interval(5, 5)[1] == 1.0


def test_rows_are_right_by_a_label_column(tmp_path: Path) -> None:
    labels = ["1", "real", "AI", "0", "unknown", None, "true"]
    scores = [0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.6]
    pairs = zip(labels, scores, strict=True)
    rows = [ResultRow(score, kept={"label": label}) for label, score in pairs]
    rows[6] = replace(rows[6], verdict="unsure")
    truth = statistics_of(tmp_path, rows, label_column="label").truth
    assert truth is not None
    assert (truth.rows, truth.right, truth.unsure) == (5, 2, 1)
    assert (truth.false_ai, truth.missed_ai) == (1, 1)
    assert truth.right_sources == {"sd21": 1, "real": 1}


@pytest.mark.parametrize("value", [2, "sdxl", 0.5])
def test_a_value_that_is_no_label_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match=r"`label_column` label: '.*' is neither real"):
        statistics_of(tmp_path, [ResultRow(kept={"label": value})], label_column="label")


def test_groups_keep_their_names_over_shards_with_other_dictionaries() -> None:
    parts = [pa.array(["b", "a"]).dictionary_encode(), pa.array(["a", None]).dictionary_encode()]
    column = CodedColumn.of(pa.chunked_array(parts))
    names = [*column.names, None]
    assert [names[code] for code in column.codes] == ["b", "a", "a", None]
    assert len(GroupCounts()) == 0


def test_a_contradiction_is_no_evidence(tmp_path: Path) -> None:
    rows = [ResultRow(evidence="camera", findings=[CAMERA, CONTRADICTION])]
    found = statistics_of(tmp_path, rows, Made(evidence=True)).findings
    assert found is not None and found.strengths == {("camera", "camera_exif"): 1}
