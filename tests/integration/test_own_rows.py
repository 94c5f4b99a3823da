"""One's own labelled rows: a model calibrated on them, and one adapted to them, scan and serve."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from support.command_line import invoke
from support.manifests import REPOSITORY
from support.scan_results import result_rows

from aigid.contract import load_contract
from aigid.serving import ServerConfig, TritonServer
from aigid.simulation import SimulationConfig, Split, simulate

pytestmark = pytest.mark.integration

SCORES = ("p_ai", "p_source", "known_score")


def aigid(*words: object, exit_status: int = 0) -> Result:
    """Run a command in this process, and check its exit status."""
    result: Result = invoke(*words)
    assert result.exit_code == exit_status, result.output
    return result


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 simulated rows, 30 of them real."""
    folder = tmp_path_factory.mktemp("own") / "mine"
    simulate(SimulationConfig(180, Split.VALIDATION, seed=8, shorter_side=64), folder)
    return folder


@pytest.fixture
def unlabelled(mine: Path, tmp_path: Path) -> Path:
    """40 of these rows without labels."""
    (file,) = mine.glob("*.parquet")
    rows = pq.read_table(file).drop_columns(["Label_A", "Label_B"]).slice(0, 40)
    pq.write_table(rows, tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


def assert_served_as_embedded(
    repository: Path, manifest: Path, cache: Path, embedded: Path, tmp_path: Path
) -> None:
    """Check that a server on the repository gives the results of an embedded scan."""
    with TritonServer(ServerConfig(repository, cache=cache)) as server:
        words = ("--model", repository, "--triton", server.grpc_address, "--out", tmp_path / "t")
        aigid("scan", manifest, *words)
    served, expected = result_rows(tmp_path / "t"), result_rows(embedded)
    assert [row["source"] for row in served] == [row["source"] for row in expected]
    for name in SCORES:
        np.testing.assert_allclose(
            [row[name] for row in served], [row[name] for row in expected], atol=1e-5
        )


def test_a_model_calibrated_on_own_rows_scans_and_serves(
    mine: Path, unlabelled: Path, cache: Path, tmp_path: Path
) -> None:
    model, before = tmp_path / "model", tmp_path / "before"
    shutil.copytree(REPOSITORY, model)
    old = load_contract(model)
    scan = ("scan", unlabelled, "--model", model, "--out")
    aigid(*scan, before, "--limit", 20)
    said = aigid(*scan, tmp_path / "x", "--max-fpr", "0.1", exit_status=2).stderr
    assert "--max-fpr 0.1: " in said
    assert "29 real rows: fit it" in said
    said = aigid("calibrate", model, mine, "--max-fpr", "0.1").stdout
    assert f"version {old.version + 1}" in said
    assert "fitted on the int8 scores of mine: 180 rows, 30 of them real" in said
    assert "0.01 needs 299 real rows: got 30" in said
    # The results of the old version are not continued with the new one.
    assert "model.fingerprint" in aigid(*scan, before, exit_status=2).stderr
    after = tmp_path / "after"
    said = aigid(*scan, after, "--max-fpr", "0.1").stderr
    assert "false-positive rate of 0.1 was measured on 30 real rows of mine, int8" in said
    threshold = load_contract(model).threshold_for(0.1).p_ai
    rows = result_rows(after)
    assert [row["is_ai"] for row in rows] == [row["p_ai"] >= threshold for row in rows]
    aigid(*scan, tmp_path / "plain")
    assert_served_as_embedded(model, unlabelled, cache, tmp_path / "plain", tmp_path)


def test_a_model_adapted_to_own_rows_scans_and_serves(
    mine: Path, unlabelled: Path, cache: Path, tmp_path: Path
) -> None:
    adapted = tmp_path / "adapted"
    said = aigid("adapt", REPOSITORY, mine, "--out", adapted).stdout
    assert "cross-validated on 180 rows" in said
    assert "a constant answer has 0.500" in said
    assert "few rows give wide intervals" in said
    contract = load_contract(adapted)
    assert contract.labels == load_contract(REPOSITORY).labels
    said = aigid("scan", unlabelled, "--model", adapted, "--out", tmp_path / "out").stderr
    assert "Adapted to 180 rows of mine" in said
    assert_served_as_embedded(adapted, unlabelled, cache, tmp_path / "out", tmp_path)
    # What calibrate reads back are the adapted heads.
    said = aigid("calibrate", adapted, mine, "--out", tmp_path / "again").stdout
    assert f"model {contract.name}, version 1" in said
    assert "model" in aigid("evaluate", mine, "--model", tmp_path / "again").stdout


def test_too_few_rows_of_a_class_are_one_clear_error(mine: Path, tmp_path: Path) -> None:
    (file,) = mine.glob("*.parquet")
    table = pq.read_table(file)
    real = [row for row, label in enumerate(table["Label_A"].to_pylist()) if label == 0]
    pq.write_table(table.take(real), tmp_path / "real.parquet")
    pq.write_table(table.slice(0, 18), tmp_path / "few.parquet")
    words = ("calibrate", REPOSITORY, tmp_path / "real.parquet", "--out", tmp_path / "out")
    assert (
        "no AI-generated rows: temperatures and thresholds need"
        in aigid(*words, exit_status=2).stderr
    )
    words = ("adapt", REPOSITORY, tmp_path / "few.parquet", "--out", tmp_path / "out")
    assert "each class needs 5 rows" in aigid(*words, exit_status=2).stderr
    assert not (tmp_path / "out").exists()
