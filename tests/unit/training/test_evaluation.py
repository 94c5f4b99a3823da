import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from support.manifests import REPOSITORY, manifest_table

from aigid.cli.main import main
from aigid.contract import Temperatures
from aigid.errors import CheckpointError, TrainingError
from aigid.records import DEFAULT_LABELS
from aigid.scorers import OnnxScorer
from aigid.training.checkpoint import load_checkpoint, save_checkpoint
from aigid.training.evaluation import (
    Evaluation,
    evaluate_checkpoint,
    evaluate_repository,
    print_evaluation,
    write_evaluation,
)
from aigid.training.image_changes import DEGRADATIONS

Label = Callable[..., Path]
UNDECODABLE: list[int | None] = [None] * 80
Evaluate = Callable[[Path], Evaluation]
DEMO_METRICS = REPOSITORY.parent / "build/demo/evaluation/metrics.json"


@pytest.fixture(params=["checkpoint", "repository"])
def evaluate(request: pytest.FixtureRequest, tiny_repository: Path, progress: object) -> Evaluate:
    """Evaluate the tiny model on a manifest, in torch or through its graphs."""
    if request.param == "checkpoint":
        checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
        return lambda path: evaluate_checkpoint(checkpoint, (str(path),), progress, batch_rows=8)
    return lambda path: evaluate_repository(
        tiny_repository, OnnxScorer(tiny_repository), (str(path),), progress
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluated") / "rows.parquet"
    pq.write_table(manifest_table(120), path, row_group_size=50)
    return path


def test_an_evaluation_has_the_model_s_metrics_and_a_constant_answer_s(
    evaluate: Evaluate, manifest: Path, progress: object, tiny_repository: Path
) -> None:
    found = evaluate(manifest)
    metrics = found.metrics
    assert (found.model, metrics.rows, found.undecodable, metrics.threshold) == (
        "tiny",
        120,
        0,
        0.5,
    )
    assert found.fingerprint == load_checkpoint(tiny_repository.parent / "checkpoint").fingerprint
    assert metrics.constant.a.accuracy == pytest.approx(5 / 6)
    assert np.array(metrics.b.confusion).sum(axis=1).tolist() == [20] * 6
    assert (progress.total, progress.rows) == (120, 120)


def test_checkpoint_and_repository_agree_but_for_quantisation(
    manifest: Path, tiny_repository: Path, progress: object
) -> None:
    paths, checkpoint = (str(manifest),), tiny_repository.parent / "checkpoint"
    in_torch = evaluate_checkpoint(load_checkpoint(checkpoint), paths, progress).metrics
    fp32, int8 = (
        evaluate_repository(
            tiny_repository, OnnxScorer(tiny_repository, precision=precision), paths, progress
        ).metrics
        for precision in ("fp32", "int8")
    )
    assert fp32.b.confusion == in_torch.b.confusion
    assert fp32.a.to_json() == pytest.approx(in_torch.a.to_json(), abs=1e-6)
    moved = np.abs(np.array(int8.b.confusion) - np.array(in_torch.b.confusion)).sum() / 2
    # The random model predicts both classes, and quantisation changes few predictions.
    assert 5 < sum(row[0] for row in in_torch.b.confusion) < 115
    assert moved <= 12
    assert int8.a.auroc == pytest.approx(in_torch.a.auroc, abs=0.05)


def test_the_threshold_is_used(manifest: Path, tiny_repository: Path, progress: object) -> None:
    checkpoint, scorer = tiny_repository.parent / "checkpoint", OnnxScorer(tiny_repository)
    for found in (
        evaluate_checkpoint(load_checkpoint(checkpoint), (str(manifest),), progress, threshold=0.0),
        evaluate_repository(tiny_repository, scorer, (str(manifest),), progress, threshold=0.0),
    ):
        # At a threshold of 0 everything is called AI-generated, as the constant answer does.
        assert found.metrics.threshold == 0.0
        assert found.metrics.a.accuracy == found.metrics.constant.a.accuracy


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
    # Divided by 20, no logit gives a probability of 0.9.
    called_real = [sum(row[0] for row in found.metrics.b.confusion) for found in (own, flat)]
    assert called_real[0] < called_real[1] == 120


def test_rows_that_cannot_be_decoded_are_counted_in_long_runs_too(
    evaluate: Evaluate, write_labelled: Label
) -> None:
    found = evaluate(write_labelled([0, 1, 2, None, 4, *UNDECODABLE, 5]))
    assert (found.metrics.rows, found.undecodable) == (5, 81)


def test_a_manifest_without_readable_images_is_a_clear_error(
    evaluate: Evaluate, write_labelled: Label
) -> None:
    path = write_labelled(UNDECODABLE)
    with pytest.raises(TrainingError, match=f"{path}: not one image could be decoded"):
        evaluate(path)


def test_a_folder_that_is_not_a_checkpoint_is_a_clear_error(
    manifest: Path, tmp_path: Path, progress: object
) -> None:
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        evaluate_checkpoint(load_checkpoint(tmp_path), (str(manifest),), progress)


def test_metrics_and_plots_are_written(evaluate: Evaluate, manifest: Path, tmp_path: Path) -> None:
    found = evaluate(manifest)
    write_evaluation(found, tmp_path / "new" / "evaluation")
    folder = tmp_path / "new" / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "metrics.json",
        "reliability.png",
    ]
    # JSON has no NaN: what is undefined must be null.
    written = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written == found.to_json()
    with Image.open(folder / "confusion.png") as plot:
        assert plot.format == "PNG"
        assert plot.size == (720, 600)
        plot.load()
        # A colour map was drawn, in more than one shade.
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 20


def keys_of(values: object) -> object:
    """Return the keys of nested dictionaries, in order."""
    if not isinstance(values, dict):
        return None
    return [(key, keys_of(value)) for key, value in values.items()]


def test_metrics_json_keeps_its_form(evaluate: Evaluate, manifest: Path) -> None:
    found = evaluate(manifest)
    assert keys_of(found.to_json()) == keys_of(json.loads(DEMO_METRICS.read_text()))
    with_changes = replace(found, after={"half size": found}).to_json()
    assert list(with_changes)[-1] == "after"
    assert with_changes["after"] == {"half size": found.to_json()}


def test_an_evaluation_of_one_class_is_written_and_printed(
    evaluate: Evaluate, write_labelled: Label, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(write_labelled([3, 3, 3]))
    write_evaluation(found, tmp_path)
    print_evaluation(found)
    assert (tmp_path / "confusion.png").stat().st_size > 1000
    [line] = [line for line in capsys.readouterr().out.splitlines() if "A auroc" in line]
    assert line.split()[-2] == "-"


def test_the_table_shows_the_constant_answer_beside_the_model(
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
    metrics = found.metrics
    assert rows["A binary_f1"] == [f"{metrics.a.binary_f1:.4f}", "0.9091"]
    assert rows["B macro_f1"] == [
        f"{metrics.b.macro_f1:.4f}",
        f"{metrics.constant.b.macro_f1:.4f}",
    ]
    # A constant answer ranks nothing.
    assert rows["A auroc"] == [f"{metrics.a.auroc:.4f}", "-"]
    for index, name in enumerate(DEFAULT_LABELS):
        assert f"B f1 {name}" in rows
        assert rows[name][0] == str(metrics.b.confusion[index][0])


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
    assert len({str(one["b"]["confusion"]) for one in figures["after"].values()}) > 3
    for name, one in figures["after"].items():
        assert f"│ {name} " in result.output
        assert f"{one['a']['auroc']:.4f}" in result.output
