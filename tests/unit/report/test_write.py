"""The page: its policy, its text, and that it is there whole or not at all."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image
from support.report_results import FINDING, Made, ResultRow, report_results
from support.result_tables import SCAN

from aigid.contract import find_model, load_contract
from aigid.errors import AigidError, ResultsError, ResumeMismatchError, UsageError
from aigid.progress_bar import SilentProgress
from aigid.report import ReportConfig, WrittenReport, write_report
from aigid.results import REMEDIES


def write(results: Path, **settings: object) -> WrittenReport:
    config = ReportConfig(str(results), **settings)  # type: ignore[arg-type]
    return write_report(config, SilentProgress())


def text_of(written: WrittenReport) -> str:
    """The page without scripts and styles, its white space in one."""
    page = Path(written.page).read_text(encoding="utf-8")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


SUMMARY = "summary.json"
ROWS = [ResultRow(0.9), ResultRow(0.95), ResultRow(0.1), ResultRow(None, error="missing")]


def test_the_answer_comes_first_and_the_notice_with_it(tmp_path: Path) -> None:
    results = report_results(tmp_path, ROWS)
    written = write(results)
    assert written == WrittenReport(
        str(results / "report.html"), written.size_bytes, 4, 2, 1, None, None, False
    )
    text = text_of(written)
    assert text.index("not for real decisions") < text.index("2 of 4 images look AI-generated")
    assert text.index("2 of 4 images look AI-generated") < text.index("Scores")
    assert REMEDIES["missing"][:20] in text


def test_the_policy_allows_the_page_s_own_scripts_and_styles_alone(tmp_path: Path) -> None:
    page = Path(write(report_results(tmp_path, ROWS)).page).read_text(encoding="utf-8")
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    policy = policy.replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy

    def sources(tag: str) -> set[str]:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        return {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}

    assert set(rules["script-src"].split()) == sources("script")
    empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert set(rules["style-src"].split()) == sources("style") | {f"'sha256-{empty}'"}


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    rows = [ResultRow(1.0, prompt=f"row {row}") for row in range(60)]
    results = report_results(tmp_path, rows, Made(shard_rows=10, row_group_rows=10))
    first = Path(write(results).page).read_bytes()
    assert Path(write(results, out=str(tmp_path / "again.html")).page).read_bytes() == first


def test_sections_without_their_columns_name_the_option_that_fills_them(tmp_path: Path) -> None:
    text = text_of(write(report_results(tmp_path, ROWS)))
    assert "aigid scan --evidence" in text and "aigid scan --hash" in text
    made = Made(evidence=True, hashes=True)
    found = [ResultRow(0.1, evidence="ai", findings=[FINDING], hash="a" * 64, perceptual_hash=1)]
    text = text_of(write(report_results(tmp_path / "full", found * 3, made)))
    assert "aigid scan --" not in text
    assert "The score calls 3 real that say AI" in text
    assert "the same bytes 2 1 3" in text


def test_a_page_stays_small_whatever_strangers_wrote(tmp_path: Path) -> None:
    finding = {**FINDING, "details": {f"{number}": "x" * 300 for number in range(20)}}
    noise = encoded_image(0, side=400)
    row = ResultRow(
        0.9, image=noise, prompt="p" * 100_000, evidence="ai", findings=[finding] * 12,
        kept={f"column {number}": "k" * 5000 for number in range(30)},
    )  # fmt: skip
    rows = [replace(row, p_ai=place / 150, source=f"s{place % 30}") for place in range(150)]
    written = write(report_results(tmp_path, rows, Made(evidence=True)))
    assert written.size_bytes < 8_000_000


def test_without_images_the_page_has_none(tmp_path: Path) -> None:
    results = report_results(tmp_path, [ResultRow(prompt="a green car")] * 3)
    assert "<img" in Path(write(results).page).read_text(encoding="utf-8")
    page = Path(write(results, images=False).page).read_text(encoding="utf-8")
    assert "<img" not in page and "data:image" not in page.partition("<script")[0]
    assert "a green car" in page


def test_an_unfinished_scan_is_marked_as_such(tmp_path: Path) -> None:
    rows = [ResultRow() for _ in range(20)]
    made = Made(shard_rows=5, row_group_rows=5, finished=False)
    written = write(report_results(tmp_path, rows, made))
    assert written.unfinished and written.rows == 5
    text = text_of(written)
    assert "The scan has not finished This page counts 1 of 4 shards" in text
    assert "A notice of the model’s makers is known once the scan has finished" in text


def test_before_its_end_a_scan_with_the_demo_model_has_its_notice(tmp_path: Path) -> None:
    rows = [ResultRow() for _ in range(20)]
    contract = load_contract(find_model(None))
    made = Made(shard_rows=5, row_group_rows=5, finished=False, fingerprint=contract.fingerprint)
    text = text_of(write(report_results(tmp_path, rows, made)))
    assert contract.notice and contract.notice in text
    assert "is known once the scan has finished" not in text


def test_labels_give_the_rows_that_are_right(tmp_path: Path) -> None:
    rows = [ResultRow(score, kept={"y": label}) for score, label in ((0.9, 1), (0.8, 0), (0.1, 0))]
    written = write(report_results(tmp_path, rows), label_column="y")
    assert (written.labelled, written.right) == (3, 2)
    assert "2 of 3 labelled rows are right" in text_of(written)


def test_a_report_can_go_elsewhere(tmp_path: Path) -> None:
    results = report_results(tmp_path, ROWS)
    page = tmp_path / "other.html"
    assert write(results, out=str(page)).page == str(page)
    assert page.exists() and not (results / "report.html").exists()


def nothing(results: Path) -> None:
    for file in sorted(results.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()


def another_version(results: Path) -> None:
    record = json.loads((results / "scan.json").read_text())
    (results / "scan.json").write_text(json.dumps(record | {"format": SCAN.format - 1}))


def damaged_record(results: Path) -> None:
    (results / "scan.json").write_text("{")


def no_files(results: Path) -> None:
    (results / "files.arrow").unlink()


def damaged_shard(results: Path) -> None:
    part = results / "detections" / "part-000000.parquet"
    data = bytearray(part.read_bytes())
    data[20:60] = bytes(40)
    part.write_bytes(data)


def short_shard(results: Path) -> None:
    part = results / "detections" / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:100])


def no_shards(results: Path) -> None:
    (results / "detections" / "part-000000.parquet").unlink()
    (results / "summary.json").unlink()


def missing_shard(results: Path) -> None:
    (results / "detections" / "part-000001.parquet").unlink()


def swapped_shards(results: Path) -> None:
    first, second = sorted((results / "detections").glob("*.parquet"))
    first.write_bytes(second.read_bytes())


def another_threshold(results: Path) -> None:
    part = results / "detections" / "part-000001.parquet"
    table = pq.read_table(part)
    pq.write_table(
        table.replace_schema_metadata(table.schema.metadata | {b"aigid.threshold": b"0.7"}), part
    )


def relabel_under_way(results: Path) -> None:
    record, summary = (json.loads((results / name).read_text()) for name in ("scan.json", SUMMARY))
    values = {"before": record, "after": record, "summary": summary}
    (results / "relabel.json").write_text(json.dumps(values))


def other_summary(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    (results / "summary.json").write_text(json.dumps(summary | {"rows": 5}))


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (nothing, UsageError, "no results of a scan there"),
        (another_version, ResumeMismatchError, "another version of aigid"),
        (damaged_record, ResultsError, r"scan\.json: damaged"),
        (no_files, ResultsError, r"files\.arrow is missing or damaged"),
        (damaged_shard, ResultsError, r"part-000000\.parquet: damaged"),
        (short_shard, ResultsError, r"part-000000\.parquet: damaged"),
        (no_shards, UsageError, "no shard of the scan is finished yet"),
        (missing_shard, ResultsError, r"summary\.json has 4 rows.*but the result files 2"),
        (swapped_shards, ResultsError, r"part-000000\.parquet: its shard is 1, the scan's 0"),
        (another_threshold, ResultsError, r"part-000001\.parquet: its threshold is 0\.7"),
        (relabel_under_way, ResumeMismatchError, "a relabel to threshold 0.5 .* is under way"),
        (other_summary, ResultsError, r"summary\.json has 5 rows.*aigid verify"),
    ],
)
def test_bad_results_are_refused_and_an_old_page_stays(
    tmp_path: Path, harm: Callable[[Path], None], kind: type[AigidError], message: str
) -> None:
    results = report_results(tmp_path, ROWS, Made(shard_rows=2, row_group_rows=2))
    if harm is no_shards:
        missing_shard(results)
    harm(results)
    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises(kind, match=message):
        write(results, out=str(page))
    assert page.read_text() == "old"
    assert [file.name for file in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("name", ["by", "label_column"])
def test_a_column_that_was_not_kept_is_refused(tmp_path: Path, name: str) -> None:
    results = report_results(tmp_path, [replace(ROWS[0], kept={"id": 1})])
    with pytest.raises(UsageError, match=rf"`{name}` x: not a column that the scan kept.*id"):
        write(results, **{name: "x"})


def test_a_page_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    results = report_results(tmp_path, ROWS)
    with pytest.raises(ResultsError, match=r"`out` .*gone/x\.html: cannot be written: No such"):
        write(results, out=str(tmp_path / "gone" / "x.html"))


def test_data_for_charts_stays_in_its_element(tmp_path: Path) -> None:
    rows = [ResultRow(0.9, source="</script><script>x</script>&amp;\ud800"[:-1])]
    page = Path(write(report_results(tmp_path, rows)).page).read_text(encoding="utf-8")
    (data,) = re.findall('<script type="application/json" id="charts">(.*?)</script>', page)
    assert json.loads(data)["sources"]["names"] == ["</script><script>x</script>&amp;"]


def test_the_run_tells_where_its_time_went(tmp_path: Path) -> None:
    results = report_results(tmp_path, ROWS)
    summary = json.loads((results / SUMMARY).read_text())
    stages = {"fetch_s": 1.25, "decode_s": 20.0, "score_s": 3.5, "duplicates": 2}
    summary["run"] |= stages
    (results / SUMMARY).write_text(json.dumps(summary))
    text = text_of(write(results))
    assert "Stages fetching 1.2 s, decoding 20.0 s, scoring 3.5 s: of all threads together" in text
    assert "Answers reused 2 rows" in text


def test_a_run_without_stages_does_not_name_them(tmp_path: Path) -> None:
    text = text_of(write(report_results(tmp_path, ROWS)))
    assert "Stages" not in text
    assert "Answers reused" not in text
