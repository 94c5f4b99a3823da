"""The plots of an evaluation: what they show, for any number of classes and rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from support.scores import labels_of, made_evaluation, made_scores

from aigid.contract import OpenSet, Threshold
from aigid.training.evaluation import Evaluation, write_evaluation
from aigid.training.metrics import LabelledScores
from aigid.training.plots import (
    confusion_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    scores_figure,
)
from aigid.training.plots.reliability import FEWEST_ROWS

PLOTS = ["confusion.png", "reliability.png", "roc.png", "scores.png"]
THRESHOLDS = {"0.01": Threshold(0.97, 300, 0.95), "0.05": Threshold(0.9, 300, 0.95)}
SUBJECT = "tiny (int8) on test.parquet, 90 rows"


def texts_of(figure: Figure) -> set[str]:
    """Return all texts that a figure shows."""
    texts = {figure.get_suptitle()}
    for axes in figure.axes:
        texts |= {axes.get_xlabel(), axes.get_ylabel(), axes.get_title()}
        texts |= {text.get_text() for text in axes.texts}
        texts |= {label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
        legend = axes.get_legend()
        texts |= {text.get_text() for text in legend.get_texts()} if legend else set()
    return texts


def one_class(label: int) -> LabelledScores:
    scores = made_scores(60)
    rows = scores.label_b == label
    return LabelledScores(
        scores.label_a[rows],
        scores.label_b[rows],
        scores.p_ai[rows],
        scores.p_source[rows],
        scores.known_score[rows],
        scores.labels,
    )


@pytest.mark.parametrize(
    "evaluation",
    [
        made_evaluation(made_scores(7, ("real", "other")), THRESHOLDS),
        made_evaluation(
            made_scores(300, (*labels_of(28), "$a$_b", "图像"), unknown=20, others=30),
            THRESHOLDS,
            OpenSet(0.5, 0.9, 9),
            name="a $model$ " * 20,
        ),
        made_evaluation(one_class(0), THRESHOLDS),
    ],
    ids=["binary", "30 labels", "one class"],
)
def test_every_evaluation_is_drawn_without_a_warning(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    write_evaluation(evaluation, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == PLOTS
    for name in PLOTS:
        with Image.open(tmp_path / name) as plot:
            assert min(plot.size) > 400
            assert len(plot.convert("RGB").getcolors(1 << 24)) > 20


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    scores = made_scores(60)
    for name in ("one", "two"):
        save_figure(scores_figure(scores, {}, SUBJECT), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_titles_name_model_and_data_and_axes_have_units() -> None:
    scores = made_scores(90)
    found = made_evaluation(scores, THRESHOLDS)
    metrics = found.metrics
    for figure, axis in (
        (confusion_figure(tuple(metrics.b.f1), metrics.b.confusion, SUBJECT), "true class (rows)"),
        (reliability_figure(found.calibration, SUBJECT), "rows in bin"),
        (
            roc_figure(scores, found.points, SUBJECT),
            "false-positive rate (share of 15 real rows, log scale)",
        ),
        (
            scores_figure(scores, {}, SUBJECT),
            "rows in each bin of 0.02 (% of the class, log scale)",
        ),
    ):
        assert figure.get_suptitle().splitlines()[1] == SUBJECT
        assert axis in texts_of(figure)


def test_a_long_title_is_cut(tmp_path: Path) -> None:
    figure = scores_figure(made_scores(12), {}, "a long name " * 100)
    title = figure.get_suptitle()
    assert len(title.splitlines()) == 3
    assert title.endswith("...")


def test_a_matrix_of_30_classes_leaves_empty_cells_empty() -> None:
    labels = labels_of(30)
    confusion = np.diag(np.arange(30)) + np.eye(30, k=1, dtype=int)
    shown = [text.get_text() for text in confusion_figure(labels, confusion, "x").axes[0].texts]
    assert "0" not in shown
    assert len(shown) == 29 + 29
    few = confusion_figure(labels[:3], confusion[:3, :3], "x").axes[0].texts
    assert sorted(text.get_text() for text in few) == ["0"] * 5 + ["1"] * 3 + ["2"]


def test_long_names_of_classes_are_cut_in_the_middle() -> None:
    name = "a-generator-with-a-very-long-name-v1.5"
    labels = [
        label.get_text()
        for label in confusion_figure(("real", name), [[1, 0], [0, 1]], "x")
        .axes[0]
        .get_xticklabels()
    ]
    assert labels[0] == "real"
    assert labels[1].startswith("a-gen")
    assert labels[1].endswith("-v1.5")
    assert len(labels[1]) <= 24


def points_of(axes: Axes) -> Iterator[tuple[bool, int]]:
    """Yield for each line of points whether it is solid, and how many points it has."""
    for line in axes.lines:
        if line.get_marker() == "o" and len(line.get_xdata()):
            yield line.get_markerfacecolor() != "white", len(line.get_xdata())


@pytest.mark.parametrize("rows", [60, 3000])
def test_bins_of_few_rows_are_hollow_and_the_legend_says_so(rows: int) -> None:
    calibration = made_evaluation(made_scores(rows)).calibration
    figure = reliability_figure(calibration, SUBJECT)
    for axes, task in zip(figure.axes[:2], (calibration.a, calibration.b), strict=True):
        counts = np.concatenate([task.before.rows, task.after.rows])
        counts = counts[counts > 0]
        drawn = list(points_of(axes))
        solid = sum(points for is_solid, points in drawn if is_solid)
        hollow = sum(points for is_solid, points in drawn if not is_solid)
        assert solid == (counts >= FEWEST_ROWS).sum()
        assert hollow == (counts < FEWEST_ROWS).sum()
        legend = {text.get_text() for text in axes.get_legend().get_texts()}
        assert ("hollow: fewer than 20 rows" in legend) == (hollow > 0)


def test_the_roc_curve_has_the_stored_thresholds_at_their_measured_rates() -> None:
    scores = made_scores(6000)
    found = made_evaluation(scores, THRESHOLDS)
    axes = roc_figure(scores, found.points, SUBJECT).axes[0]
    assert axes.get_xscale() == "log"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    for point in found.points:
        measured = f"measured FPR {point.fpr.value:.2g}, TPR {point.tpr.value:.2g}"
        assert any(
            f"threshold {point.threshold.p_ai:.3f}" in line and measured in line for line in legend
        )
    drawn = [container.lines[0].get_xydata()[0] for container in axes.containers]
    expected = [(point.fpr.value, point.tpr.value) for point in found.points]
    assert drawn == pytest.approx(np.array(expected))
    # 1,000 real rows show no rate below 0.3 %.
    assert "rates below 0.003: too few real rows to show them" in legend


@pytest.mark.parametrize(("label", "missing"), [(0, "AI-generated"), (2, "real")])
def test_one_class_has_no_roc_curve(label: int, missing: str) -> None:
    figure = roc_figure(one_class(label), (), SUBJECT)
    assert f"no curve: the data has no {missing} rows" in texts_of(figure)


def test_the_histogram_has_both_classes_and_every_threshold() -> None:
    thresholds = {f"threshold {number}": number / 10 for number in range(7)}
    figure = scores_figure(made_scores(60), thresholds, SUBJECT)
    assert {"real: 10 rows", "AI-generated: 50 rows", *thresholds} <= texts_of(figure)
