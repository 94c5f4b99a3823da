import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.manifests import manifest_table

from aigid.cli.main import main
from aigid.contract import Temperatures, load_contract
from aigid.errors import TrainingError
from aigid.scorers import OnnxScorer
from aigid.training.checkpoint import load_checkpoint, save_checkpoint
from aigid.training.evaluation import (
    Evaluation,
    EvaluationConfig,
    evaluate_checkpoint,
    evaluate_repository,
    write_evaluation,
)
from aigid.training.image_changes import DEGRADATIONS

Label = Callable[..., Path]
UNDECODABLE: list[int | None] = [None] * 80
Evaluate = Callable[[Path], Evaluation]


@pytest.fixture(params=["checkpoint", "repository"])
def evaluate(request: pytest.FixtureRequest, tiny_repository: Path, progress: object) -> Evaluate:
    """Evaluate the tiny model on a manifest, in torch or through its graphs."""
    if request.param == "checkpoint":
        checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
        return lambda path: evaluate_checkpoint(
            checkpoint, EvaluationConfig((str(path),)), progress, batch_rows=8
        )
    scorer = OnnxScorer(tiny_repository)
    return lambda path: evaluate_repository(
        tiny_repository, scorer, EvaluationConfig((str(path),)), progress
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
    assert (found.model.name, found.data) == ("tiny", "rows.parquet")
    assert (metrics.rows, found.undecodable, metrics.threshold) == (120, 0, 0.5)
    assert found.model.graphs in ("torch fp32", "int8")
    checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
    assert found.model.fingerprint == checkpoint.fingerprint
    assert metrics.constant.a.accuracy == pytest.approx(5 / 6)
    assert np.array(metrics.b.confusion).sum(axis=1).tolist() == [20] * 6
    assert (progress.total, progress.rows) == (120, 120)


def test_checkpoint_and_repository_agree_but_for_quantisation(
    manifest: Path, tiny_repository: Path, progress: object
) -> None:
    config = EvaluationConfig((str(manifest),))
    checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
    in_torch = evaluate_checkpoint(checkpoint, config, progress).metrics
    fp32, int8 = (
        evaluate_repository(
            tiny_repository, OnnxScorer(tiny_repository, precision=precision), config, progress
        ).metrics
        for precision in ("fp32", "int8")
    )
    assert fp32.b.confusion == in_torch.b.confusion
    assert fp32.a.auroc == pytest.approx(in_torch.a.auroc, abs=1e-6)
    moved = np.abs(np.array(int8.b.confusion) - np.array(in_torch.b.confusion)).sum() / 2
    # The random model predicts both classes, and quantisation changes few predictions.
    assert 5 < sum(row[0] for row in in_torch.b.confusion) < 115
    assert moved <= 12
    assert int8.a.auroc == pytest.approx(in_torch.a.auroc, abs=0.05)


def test_the_threshold_is_used(manifest: Path, tiny_repository: Path, progress: object) -> None:
    checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
    config = EvaluationConfig((str(manifest),), threshold=0.0)
    for found in (
        evaluate_checkpoint(checkpoint, config, progress),
        evaluate_repository(tiny_repository, OnnxScorer(tiny_repository), config, progress),
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
        evaluate_checkpoint(
            load_checkpoint(folder), EvaluationConfig((str(manifest),), threshold=0.9), progress
        )
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


def test_metrics_and_plots_are_written(evaluate: Evaluate, manifest: Path, tmp_path: Path) -> None:
    found = evaluate(manifest)
    write_evaluation(found, tmp_path / "new" / "evaluation")
    folder = tmp_path / "new" / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "metrics.json",
        "reliability.png",
        "roc.png",
        "scores.png",
    ]
    # JSON has no NaN: what is undefined must be null.
    written = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written == found.to_json()


FORM = {
    "model": "tiny",
    "graphs": "torch fp32",
    "data": "rows.parquet",
    "undecodable": 0,
    "without_labels": 0,
    "other_generators": {},
    "rows": 120,
    "threshold": 0.5,
}


def test_metrics_json_says_what_was_measured_on_what(
    manifest: Path, tiny_repository: Path, progress: object
) -> None:
    checkpoint = load_checkpoint(tiny_repository.parent / "checkpoint")
    found = evaluate_checkpoint(checkpoint, EvaluationConfig((str(manifest),)), progress)
    values = found.to_json()
    assert {key: values[key] for key in FORM} == FORM
    assert values.keys() - FORM.keys() == {
        "fingerprint",
        "a",
        "b",
        "open_set",
        "constant",
        "calibration",
        "thresholds",
    }
    rates = [point["max_fpr"] for point in values["thresholds"]]
    assert rates == sorted((float(rate) for rate in checkpoint.info.thresholds), reverse=True)
    with_changes = replace(found, after={"half size": found}).to_json()
    assert list(with_changes)[-1] == "after"
    assert with_changes["after"] == {"half size": values}


def mixed(write_labelled: Label) -> Path:
    """Return a manifest as public collections are: many generators, few of them the model's."""
    path = write_labelled([0, 0, 0, 1, 1, 3, 5, 5, 5, 5])
    table = pq.read_table(path)
    label_b = pa.array([0, 0, 0, 1, 1, 3, None, None, None, None], pa.int32())
    generators = [None, None, None, "sd21", "sd21", "sd3", "flux", "flux", "gpt-image", None]
    table = table.set_column(3, "Label_B", label_b).append_column("generator", [generators])
    pq.write_table(table, path)
    return path


def test_generators_that_are_not_stated_are_left_out_of_b(
    evaluate: Evaluate, write_labelled: Label
) -> None:
    metrics = evaluate(mixed(write_labelled)).metrics
    assert (metrics.rows, metrics.a.real_rows, metrics.a.ai_rows) == (10, 3, 7)
    assert (metrics.b.rows, metrics.b.left_out) == (6, 4)
    assert metrics.to_json()["b"]["left_out"] == {"generator not stated": 4}


def test_the_command_reads_another_column_of_generators(
    write_labelled: Label, tiny_repository: Path, tmp_path: Path
) -> None:
    words = ["evaluate", mixed(write_labelled), "--model", tiny_repository, "--out", tmp_path]
    words += ["--label-column", "Label_A", "--generator-column", "generator"]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["other_generators"] == {"flux": 2, "gpt-image": 1}
    assert (found["b"]["rows"], found["b"]["left_out"]) == (9, {"generator not stated": 1})
    assert list(found["b"]["f1"])[-1] == "other"
    assert found["open_set"]["other_as_known"]["rows"] == 3
    assert "3 rows are of generators that are not among the labels: flux 2, gpt-image 1" in (
        result.output
    )
    assert "1 row is AI-generated by an unknown generator" in result.output


def test_the_command_measures_after_changes_too(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    words = ["evaluate", manifest, "--model", tiny_repository, "--unify", "--robustness"]
    words += ["--out", tmp_path]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert list(figures["after"]) == ["all encoded alike", *DEGRADATIONS]
    assert len({str(one["b"]["confusion"]) for one in figures["after"].values()}) > 3
    for name, one in figures["after"].items():
        assert f"│ {name} " in result.output
        assert f"{one['a']['auroc']:.4f}" in result.output


def test_the_command_leaves_each_generator_out(
    write_labelled: Label, tiny_repository: Path, tmp_path: Path
) -> None:
    train = write_labelled([0, 1, 2, 3, 0, 5] * 10, "train.parquet")
    words = ["evaluate", write_labelled([*range(6)] * 2), "--model", tiny_repository]
    words += ["--leave-one-out", train, "--out", tmp_path]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "metrics.json").read_text())["leave_one_out"]
    assert [one["generator"] for one in found] == ["sd21", "sdxl", "sd3", "midjourney"]
    assert [one["called_ai"]["rows"] for one in found] == [2, 2, 2, 2]
    assert "heads trained on train.parquet without one generator" in result.output
    assert "sd3: the source other needs 25 rows of each generator" in result.output
    assert "nothing tells whether the encoders were trained on these generators" in result.output


def test_leaving_one_of_two_generators_out_is_refused_before_a_row_is_scored(
    write_labelled: Label, tiny_repository: Path, tmp_path: Path
) -> None:
    train = write_labelled([0, 1, 2] * 5, "train.parquet")
    words = ["evaluate", write_labelled([0, 1, 2]), "--model", tiny_repository, "--out", tmp_path]
    result = CliRunner().invoke(main, [str(word) for word in [*words, "--leave-one-out", train]])
    assert result.exit_code == 2
    assert "--leave-one-out needs rows of 3 generators that the model knows" in result.stderr
    assert "there are rows of sd21, sdxl" in result.stderr
    assert result.stdout == ""


def test_the_command_shows_the_model_s_notice(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    words = ["evaluate", str(manifest), "--model", str(tiny_repository)]
    shown = CliRunner().invoke(main, words, catch_exceptions=False)
    assert load_contract(tiny_repository).notice in shown.stderr
    both = CliRunner().invoke(main, [*words, "--checkpoint", str(tiny_repository.parent)])
    assert both.exit_code == 2
    assert "give one of --checkpoint and --model, not both" in both.stderr
