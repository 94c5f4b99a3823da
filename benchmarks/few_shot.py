"""How many labelled rows `aigid adapt` needs: balanced accuracy by rows of each class.

Rows are drawn from a labelled manifest, and heads that are fitted to them are measured on another
one: with rows of all generators, and with each generator left out in turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from aigid.contract import Temperatures
from aigid.progress_bar import show_progress
from aigid.scorers import OnnxScorer
from aigid.training.calibration import probabilities
from aigid.training.few_shot import fit_few_shot
from aigid.training.inference import score_features
from aigid.training.labelled_features import LabelledFeatures, labelled_features
from aigid.training.labels import OTHER_GENERATOR, LabelChoice
from aigid.training.model_rows import open_for_repository

SHOTS = (10, 30, 100, 300, 1000)
COLUMNS = (
    "cross-validated",
    "balanced accuracy",
    "AUROC",
    "right generator",
    "left out: balanced accuracy",
    "left out: AUROC",
)


@dataclass(frozen=True)
class Data:
    """Features of the rows to draw from and of those to measure on, over the same labels."""

    labels: tuple[str, ...]
    train: LabelledFeatures
    test: LabelledFeatures


def read_features(repository: Path, train: tuple[str, ...], test: str) -> Data:
    """Compute the features of both manifests by the graphs of a repository."""
    choice = LabelChoice()
    features = OnnxScorer(repository).features
    rows = open_for_repository(repository, None, train, choice)
    with show_progress("train") as progress:
        drawn_from = labelled_features(features, rows, progress)
    with show_progress("test") as progress:
        measured = open_for_repository(repository, rows.labels, (test,), choice)
        return Data(rows.labels, drawn_from, labelled_features(features, measured, progress))


def draw(data: Data, shots: int, left_out: int | None, seed: int) -> tuple[Data, LabelledFeatures]:
    """Return the data without a generator's labels, and some rows of each class that stays."""
    kept = [code for code in range(len(data.labels)) if code != left_out]
    codes = np.full(len(data.labels), OTHER_GENERATOR)
    codes[kept] = range(len(kept))
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(data.train.label_b == code), shots, False) for code in kept]
    )
    train, test = (
        replace(features, label_b=codes[features.label_b]) for features in (data.train, data.test)
    )
    return Data(tuple(data.labels[code] for code in kept), train, test), train.take(rows)


def measure(data: Data, rows: LabelledFeatures) -> dict[str, float]:
    """Fit heads to some rows, and measure them on the test rows."""
    found, test = fit_few_shot(rows, data.labels), data.test
    scores = score_features(found.heads, test).calibrated(found.heads, Temperatures(), data.labels)
    p_ai, p_source = scores.p_ai, scores.p_source
    left_out = test.label_b == OTHER_GENERATOR
    if left_out.any():
        chosen = left_out | (test.label_a == 0)
        a, b = COLUMNS[4:]
        return dict(zip((a, b), detection(test.label_a[chosen], p_ai[chosen]), strict=True))
    accuracy, auroc = detection(test.label_a, p_ai)
    generated = test.label_a == 1
    right = 1 + p_source[generated, 1:].argmax(axis=1) == test.label_b[generated]
    own = probabilities(found.logits, Temperatures())[0].numpy()
    values = (detection(rows.label_a, own)[0], accuracy, auroc, float(right.mean()))
    return dict(zip(COLUMNS, values, strict=False))


def detection(label_a: np.ndarray, p_ai: np.ndarray) -> tuple[float, float]:
    """Return balanced accuracy and AUROC."""
    return balanced_accuracy_score(label_a, p_ai >= 0.5), roc_auc_score(label_a, p_ai)


def rows_of_table(data: Data, draws: int) -> Iterator[tuple[str, ...]]:
    """Yield the cells for each number of shots: the mean over draws, and the extremes."""
    most = int(np.bincount(data.train.label_b).min())
    for shots in (shots for shots in SHOTS if shots <= most):
        found: dict[str, list[float]] = {column: [] for column in COLUMNS}
        for seed in range(draws):
            for left_out in (None, *range(1, len(data.labels))):
                for column, value in measure(*draw(data, shots, left_out, seed)).items():
                    found[column].append(value)
        cells = (
            f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            for values in found.values()
        )
        yield (f"{shots:,}", *cells)


@click.command()
@click.argument("repository", type=click.Path(exists=True, path_type=Path))
@click.argument("train", nargs=-1, required=True)
@click.option("--test", required=True, help="Labelled manifest to measure on.")
@click.option("--draws", type=click.IntRange(min=1), default=5, show_default=True)
def main(repository: Path, train: tuple[str, ...], test: str, draws: int) -> None:
    """Measure adapted heads by the number of labelled rows of each class."""
    data = read_features(repository, train, test)
    table = Table("rows a class", *COLUMNS, title=f"mean (lowest to highest) of {draws} draws")
    for cells in rows_of_table(data, draws):
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
