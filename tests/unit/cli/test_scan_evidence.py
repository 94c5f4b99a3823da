"""`aigid scan --evidence`: its columns, its settings, and that scores stay as they are."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from support.c2pa_files import Issuer, created, make_issuer, signed
from support.command_line import invoke, run_without
from support.evidence_files import A1111, jpeg, png, png_with_text
from support.image_files import encoded
from support.scan_results import result_files, result_rows, summary_of
from support.stealth_images import with_stealth_text


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return make_issuer()


@pytest.fixture
def images(issuer: Issuer) -> dict[str, bytes | None]:
    cut = png_with_text(parameters=A1111)[:-60]
    return {
        "ai": png_with_text(parameters=A1111),
        "plain": png(),
        "signed": signed(issuer, created("digitalCapture")),
        "cut": cut,
        "null": None,
        "text": b"no image at all",
        "edited": jpeg(),
    }


@pytest.fixture
def manifest(images: dict[str, bytes | None], tmp_path: Path) -> Path:
    path = tmp_path / "m.parquet"
    table = {"id": list(images), "image": list(images.values()), "prompt": ["a cat"] * len(images)}
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def scan(manifest: Path, tiny_repository: Path) -> Any:
    def run(out: Path, *options: object) -> Result:
        words = ("scan", manifest, "--out", out, "--model", tiny_repository)
        return invoke(*words, "--max-error-rate", 1, "--keep", "id", *options)

    return run


def test_each_image_that_could_be_fetched_has_its_evidence(scan: Any, tmp_path: Path) -> None:
    result = scan(tmp_path / "out", "--evidence")
    assert result.exit_code == 0, result.output
    rows = {row["id"]: row for row in result_rows(tmp_path / "out")}
    assert {name: row["evidence"] for name, row in rows.items()} == {
        "ai": "ai",
        "plain": "none",
        "signed": "camera",
        "cut": "ai",
        "null": None,
        "text": "none",
        "edited": "none",
    }
    # Also of an image that cannot be decoded.
    assert rows["cut"]["error"] == "undecodable"
    assert json.loads(str(rows["cut"]["evidence_detail"]))[0]["details"]["seed"] == "4242"
    assert json.loads(str(rows["signed"]["evidence_detail"]))[0]["strength"] == "signed_untrusted"
    assert rows["plain"]["evidence_detail"] is None
    assert summary_of(tmp_path / "out")["evidence"] == {
        "ai": 2,
        "camera": 1,
        "edited": 0,
        "none": 3,
    }
    assert "evidence in the files: ai 2, camera 1, edited 0, none 3" in result.stdout


def test_the_columns_are_dictionaries_in_their_documented_place(scan: Any, tmp_path: Path) -> None:
    assert scan(tmp_path / "out", "--evidence").exit_code == 0
    schema = pq.read_schema(result_files(tmp_path / "out")[0])
    names = schema.names
    assert names[names.index("evidence") :] == [
        *("evidence", "evidence_detail", "error", "error_detail")
    ]
    assert schema.field("evidence").type == pa.dictionary(pa.int32(), pa.string())


def test_scores_are_the_same_with_and_without_evidence(scan: Any, tmp_path: Path) -> None:
    assert scan(tmp_path / "with", "--evidence").exit_code == 0
    assert scan(tmp_path / "without").exit_code == 0
    (with_,), (without,) = result_files(tmp_path / "with"), result_files(tmp_path / "without")
    columns = pq.read_schema(without).names
    assert pq.read_table(with_, columns=columns).equals(pq.read_table(without))
    assert "evidence" not in columns
    assert summary_of(tmp_path / "without")["evidence"] is None


def test_issuers_on_the_trust_list_are_trusted(scan: Any, issuer: Issuer, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(issuer.root)
    assert scan(tmp_path / "out", "--evidence", "--trust-list", anchors).exit_code == 0
    (row,) = [row for row in result_rows(tmp_path / "out") if row["id"] == "signed"]
    assert json.loads(str(row["evidence_detail"]))[0]["strength"] == "signed_trusted"
    # A resume with another list would give other answers.
    other = scan(tmp_path / "out", "--evidence")
    assert other.exit_code == 2
    assert "settings.trust_anchors_sha256" in other.output


def test_a_resume_without_evidence_is_refused(scan: Any, tmp_path: Path) -> None:
    assert scan(tmp_path / "out", "--evidence").exit_code == 0
    other = scan(tmp_path / "out")
    assert other.exit_code == 2
    assert "settings.evidence: true -> false" in other.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trust-list", "no.pem"), "no.pem"),
        (("--trust-list", __file__), "--trust-list"),
        (("--evidence", "--trust-list", __file__), "no PEM certificate in it"),
    ],
)
def test_wrong_trust_lists_are_refused(
    scan: Any, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = scan(tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_trust_list_without_evidence_is_refused(
    scan: Any, issuer: Issuer, tmp_path: Path
) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(issuer.root)
    result = scan(tmp_path / "out", "--trust-list", anchors)
    assert result.exit_code == 2
    assert "--trust-list is for scans with --evidence: give --evidence too" in result.output


def test_a_kept_column_may_be_called_evidence_only_without_evidence(
    tiny_repository: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image": [png()], "evidence": ["my own"]}), manifest)
    words = ("scan", manifest, "--model", tiny_repository, "--keep", "evidence", "--out")
    refused = invoke(*words, tmp_path / "with", "--evidence")
    assert refused.exit_code == 2
    assert "--keep evidence" in refused.output
    assert invoke(*words, tmp_path / "without").exit_code == 0
    assert result_rows(tmp_path / "without")[0]["evidence"] == "my own"


def test_verify_finds_the_folder_sound(scan: Any, tmp_path: Path) -> None:
    assert scan(tmp_path / "out", "--evidence").exit_code == 0
    assert invoke("verify", tmp_path / "out").exit_code == 0
    summary = tmp_path / "out" / "summary.json"
    values = json.loads(summary.read_text())
    values["evidence"]["ai"] += 1
    summary.write_text(json.dumps(values))
    found = invoke("verify", tmp_path / "out")
    assert found.exit_code == 1
    assert "summary.json: contradiction: evidence" in found.output


def test_without_the_extra_the_command_names_it(manifest: Path, tmp_path: Path) -> None:
    found = run_without(("c2pa",), "scan", manifest, "--out", tmp_path / "out", "--evidence")
    assert found.returncode == 2
    assert "--evidence needs c2pa: pip install " in found.stderr
    assert not (tmp_path / "out" / "scan.json").exists()


def test_further_readers_run_where_they_are_named(tiny_repository: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.parquet"
    hidden = encoded(with_stealth_text(A1111.encode()), "PNG")
    pq.write_table(pa.table({"image": [hidden, png()]}), manifest)
    words = ("scan", manifest, "--model", tiny_repository, "--evidence", "--out")
    assert invoke(*words, tmp_path / "with", "--reader", "stealth-text").exit_code == 0
    assert [row["evidence"] for row in result_rows(tmp_path / "with")] == ["ai", "none"]
    assert invoke(*words, tmp_path / "without").exit_code == 0
    assert [row["evidence"] for row in result_rows(tmp_path / "without")] == ["none", "none"]
    resumed = invoke(*words, tmp_path / "with")
    assert resumed.exit_code == 2
    assert 'settings.readers: ["stealth-text"] -> []' in resumed.output


def test_a_reader_that_does_not_exist_is_refused(scan: Any, tmp_path: Path) -> None:
    result = scan(tmp_path / "out", "--evidence", "--reader", "tea-leaves")
    assert result.exit_code == 2
    assert "--reader tea-leaves: no such reader; there are dwt-dct, stealth-text" in result.output
    assert not (tmp_path / "out" / "scan.json").exists()
    without = scan(tmp_path / "out", "--reader", "dwt-dct")
    assert "--reader is for scans with --evidence: give --evidence too" in without.output
