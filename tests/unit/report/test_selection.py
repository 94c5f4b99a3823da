"""The rows that galleries show: the right ones, and always the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from support.report_results import CAMERA, CONTRADICTION, FINDING, Made, ResultRow, report_results

from aigid.progress_bar import SilentProgress
from aigid.report import ReportConfig
from aigid.report.opened import open_for_report
from aigid.report.selection import Best, Galleries
from aigid.report.statistics import collect


def galleries_of(folder: Path, rows: list[ResultRow], made: Made = Made()) -> Galleries:
    made = replace(made, shard_rows=7, row_group_rows=7)
    config = ReportConfig(str(report_results(folder, rows, made)))
    return collect(open_for_report(config), config, SilentProgress()).galleries


def row_numbers(best: Best) -> list[int]:
    """The rows' numbers in a manifest whose shards have 7 rows."""
    return [7 * one.shard + one.position for one in best.rows]


def test_galleries_have_the_rows_with_the_best_scores_of_all_shards(tmp_path: Path) -> None:
    scores = np.random.default_rng(3).permutation(100) / 100
    found = galleries_of(tmp_path, [ResultRow(float(score)) for score in scores])
    order = np.argsort(scores).tolist()
    assert row_numbers(found.ai) == order[::-1][:12]
    assert row_numbers(found.real) == order[:12]
    # Row 50 is the middle; the others come in pairs.
    assert row_numbers(found.borderline)[0] == order[50]
    assert set(row_numbers(found.borderline)) <= set(order[43:58])


def test_at_a_tie_chance_decides_the_same_way_each_time(tmp_path: Path) -> None:
    rows = [ResultRow(1.0) for _ in range(100)]
    first = row_numbers(galleries_of(tmp_path / "1", rows).ai)
    assert first == row_numbers(galleries_of(tmp_path / "2", rows).ai)
    assert len({number // 7 for number in first}) > 4, "they are from many shards"


def test_an_image_is_in_a_gallery_once_however_often_it_is_there(tmp_path: Path) -> None:
    rows = [ResultRow(1 - row / 1000, hash=f"{1 + row // 30}" * 64) for row in range(90)]
    found = galleries_of(tmp_path, rows, Made(hashes=True))
    assert {number // 30 for number in row_numbers(found.ai)} == {0, 1, 2}


def test_rows_without_a_hash_are_not_taken_for_one_image(tmp_path: Path) -> None:
    found = galleries_of(tmp_path, [ResultRow(hash=None)] * 20, Made(hashes=True))
    assert len(found.ai.rows) == 12


def test_the_strongest_evidence_comes_first_and_ai_before_edited_before_camera(
    tmp_path: Path,
) -> None:
    def signed(says: str, strength: str = "signed_trusted") -> ResultRow:
        finding = FINDING | {"says": says, "strength": strength}
        return ResultRow(0.9, evidence=says, findings=[finding])

    rows = [
        ResultRow(0.9, evidence="camera", findings=[CAMERA]),
        signed("camera", "signed_untrusted"),
        ResultRow(0.9, evidence="none", findings=[FINDING | {"says": "none"}]),
        signed("camera"),
        ResultRow(0.9, evidence="ai", findings=[FINDING]),
        signed("edited"),
        signed("ai"),
        ResultRow(None, evidence=None, error="missing"),
    ]
    found = galleries_of(tmp_path, rows, Made(evidence=True))
    assert row_numbers(found.evidence) == [6, 5, 3, 1, 4, 0]


def test_contradictions_are_those_of_a_file_then_those_with_the_score(tmp_path: Path) -> None:
    rows = [
        ResultRow(0.9, evidence="camera", findings=[CAMERA]),
        ResultRow(0.1, evidence="camera", findings=[CAMERA]),
        ResultRow(0.1, evidence="ai", findings=[FINDING]),
        ResultRow(0.9, evidence="ai", findings=[FINDING]),
        ResultRow(0.9, evidence="ai", findings=[FINDING, CONTRADICTION]),
        ResultRow(0.1, evidence="edited", findings=[FINDING | {"says": "edited"}]),
    ]
    found = galleries_of(tmp_path, rows, Made(evidence=True))
    assert row_numbers(found.contradictions) == [4, 2, 0]


def test_each_source_has_rows_at_random(tmp_path: Path) -> None:
    sources = ("sdxl", "other")
    rows = [ResultRow(0.9, source=sources[row % 2]) for row in range(80)] + [ResultRow(0.1)]
    found = galleries_of(tmp_path, rows).sources
    assert {name: len(best.rows) for name, best in found.items()} == {
        "sdxl": 6, "other": 6, "real": 1
    }  # fmt: skip
    assert {number % 2 for number in row_numbers(found["sdxl"])} == {0}
    assert row_numbers(found["sdxl"]) != list(range(0, 12, 2))
