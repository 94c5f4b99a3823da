import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from support.manifests import manifest_table

from aigid.cli.main import main
from aigid.contract import Temperatures
from aigid.errors import CheckpointError, TrainingError
from aigid.records import SOURCES
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.training.checkpoint import load_checkpoint, save_checkpoint
from aigid.training.evaluation import (
    evaluate_checkpoint,
    evaluate_repository,
    print_evaluation,
    write_evaluation,
)
from aigid.training.image_changes import DEGRADATIONS

Label = Callable[..., Path]
UNDECODABLE: list[int | None] = [None] * 80
Evaluate = Callable[[Path], dict[str, object]]


@pytest.fixture(params=["checkpoint", "repository"])
def evaluate(request: pytest.FixtureRequest, tiny_repository: Path, progress: object) -> Evaluate:
    """Evaluates the tiny model on a manifest, in torch or through its graphs."""
    if request.param == "checkpoint":
        checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
        return lambda source: evaluate_checkpoint(
            checkpoint, (str(source),), progress, batch_rows=8
        )
    return lambda source: evaluate_repository(
        tiny_repository, OnnxScorer(tiny_repository), (str(source),), progress
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluated") / "rows.parquet"
    pq.write_table(manifest_table(120), path, row_group_size=50)
    return path


def test_an_evaluation_has_the_model_s_figures_and_the_constant_answer_s(
    evaluate: Evaluate, manifest: Path, progress: object, tiny_repository: Path
) -> None:
    found = evaluate(manifest)
    assert (found["model"], found["rows"], found["undecodable"], found["threshold"]) == (
        "tiny",
        120,
        0,
        0.5,
    )
    assert (
        found["fingerprint"] == load_checkpoint(tiny_repository.parent / "checkpoint").fingerprint
    )
    assert found["constant"]["a"]["accuracy"] == pytest.approx(5 / 6)
    assert np.array(found["b"]["confusion"]).sum(axis=1).tolist() == [20] * 6
    assert (progress.total, progress.rows) == (120, 120)


def test_checkpoint_and_repository_agree_but_for_quantisation(
    manifest: Path, tiny_repository: Path, progress: object
) -> None:
    sources, checkpoint = (str(manifest),), tiny_repository.parent / "checkpoint"
    torch_s = evaluate_checkpoint(load_checkpoint(checkpoint), sources, progress)
    fp32 = evaluate_repository(
        tiny_repository, OnnxScorer(tiny_repository, precision="fp32"), sources, progress
    )
    int8 = evaluate_repository(tiny_repository, OnnxScorer(tiny_repository), sources, progress)
    assert fp32["b"]["confusion"] == torch_s["b"]["confusion"]
    assert fp32["a"] == pytest.approx(torch_s["a"], abs=1e-6)
    moved = np.abs(np.array(int8["b"]["confusion"]) - np.array(torch_s["b"]["confusion"])).sum() / 2
    # The answers are both kinds, and few of the random model's differ.
    assert 5 < sum(row[0] for row in torch_s["b"]["confusion"]) < 115
    assert moved <= 12
    assert int8["a"]["auroc"] == pytest.approx(torch_s["a"]["auroc"], abs=0.05)


def test_the_threshold_is_used(manifest: Path, tiny_repository: Path, progress: object) -> None:
    checkpoint, scorer = tiny_repository.parent / "checkpoint", OnnxScorer(tiny_repository)
    for found in (
        evaluate_checkpoint(load_checkpoint(checkpoint), (str(manifest),), progress, threshold=0.0),
        evaluate_repository(tiny_repository, scorer, (str(manifest),), progress, threshold=0.0),
    ):
        # From zero on, everything is called AI-generated: the constant answer.
        assert found["threshold"] == 0.0
        assert found["a"]["accuracy"] == found["constant"]["a"]["accuracy"]


def test_a_checkpoint_is_evaluated_at_its_temperatures(
    manifest: Path, tiny_repository: Path, progress: object, tmp_path: Path
) -> None:
    loaded = load_checkpoint(tiny_repository.parent / "checkpoint")
    info = replace(loaded.info, temperatures=Temperatures(a=20.0))
    save_checkpoint(loaded.model, info, loaded.tokenizer_file, tmp_path / "flat")
    own, flat = (
        evaluate_checkpoint(load_checkpoint(folder), (str(manifest),), progress, threshold=0.9)
        for folder in (tiny_repository.parent / "checkpoint", tmp_path / "flat")
    )
    # Divided by twenty, no logit makes for 0.9 any more.
    called_real = [sum(row[0] for row in found["b"]["confusion"]) for found in (own, flat)]
    assert called_real[0] < called_real[1] == 120


def test_rows_that_cannot_be_decoded_are_counted_in_long_runs_too(
    evaluate: Evaluate, write_labelled: Label
) -> None:
    found = evaluate(write_labelled([0, 1, 2, None, 4, *UNDECODABLE, 5]))
    assert (found["rows"], found["undecodable"]) == (5, 81)


def test_a_manifest_of_which_nothing_can_be_decoded_is_a_clear_error(
    evaluate: Evaluate, write_labelled: Label
) -> None:
    path = write_labelled(UNDECODABLE)
    with pytest.raises(TrainingError, match=f"{path}: not one image could be decoded"):
        evaluate(path)


def test_a_folder_that_is_no_checkpoint_is_a_clear_error(
    manifest: Path, tmp_path: Path, progress: object
) -> None:
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        evaluate_checkpoint(load_checkpoint(tmp_path), (str(manifest),), progress)


def test_figures_and_confusion_matrix_are_written(
    evaluate: Evaluate, manifest: Path, tmp_path: Path
) -> None:
    found = evaluate(manifest)
    write_evaluation(found, tmp_path / "new" / "evaluation")
    folder = tmp_path / "new" / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "metrics.json",
        "reliability.png",
    ]
    # JSON keeps all of it, so None and not NaN stands for what is not defined.
    assert json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail) == found
    with Image.open(folder / "confusion.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (720, 600)
        picture.load()
        # A colour map was drawn, and not all of one shade.
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_an_evaluation_of_one_class_is_written_and_printed(
    evaluate: Evaluate, write_labelled: Label, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(write_labelled([3, 3, 3]))
    write_evaluation(found, tmp_path)
    print_evaluation(found)
    assert (tmp_path / "confusion.png").stat().st_size > 1000
    [line] = [line for line in capsys.readouterr().out.splitlines() if "A auroc" in line]
    assert line.split()[-2] == "-"


def test_the_table_has_both_answers_side_by_side(
    evaluate: Evaluate,
    manifest: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = evaluate(manifest)
    print_evaluation(found)
    shown = capsys.readouterr().out
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:4]]
        for line in shown.splitlines()
        if "│" in line
    }
    assert rows["A binary_f1"] == [f"{found['a']['binary_f1']:.4f}", "0.9091"]
    assert rows["B macro_f1"] == [
        f"{found['b']['macro_f1']:.4f}",
        f"{found['constant']['b']['macro_f1']:.4f}",
    ]
    # A constant answer ranks nothing.
    assert rows["A auroc"] == [f"{found['a']['auroc']:.4f}", "-"]
    for index, source in enumerate(SOURCES):
        assert f"B f1 {source}" in rows
        assert rows[source][0] == str(found["b"]["confusion"][index][0])


def test_the_command_measures_after_changes_too(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    words = [
        "evaluate",
        manifest,
        "--model",
        tiny_repository,
        "--unify",
        "--robustness",
        "--out",
        tmp_path,
    ]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert list(figures["after"]) == ["all encoded alike", *DEGRADATIONS]
    assert len({str(view["b"]["confusion"]) for view in figures["after"].values()}) > 3
    for name, view in figures["after"].items():
        assert f"│ {name} " in result.output
        assert f"{view['a']['auroc']:.4f}" in result.output
