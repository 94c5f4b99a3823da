"""Made-up scores of labelled rows, for tests of metrics, tables and plots."""

from collections.abc import Mapping

import numpy as np

from aigid.contract import FittedOn, OpenSet, Temperatures, Threshold
from aigid.records import DEFAULT_LABELS
from aigid.training.evaluation import Evaluation, ModelFacts
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR, LabelCounts, RowLabels
from aigid.training.metrics import LabelledScores, compute_metrics
from aigid.training.operating_points import measure_thresholds
from aigid.training.reliability import measure_calibration


def labels_of(count: int) -> tuple[str, ...]:
    """Return `count` labels: the paper's as far as they go."""
    more = (f"generator {number}" for number in range(len(DEFAULT_LABELS), count))
    return (*DEFAULT_LABELS[:count], *more)


def made_scores(
    rows: int, labels: tuple[str, ...] = DEFAULT_LABELS, *, unknown: int = 0, others: int = 0
) -> LabelledScores:
    """Return scores that are better than chance, of rows that take turns among the labels.

    The generators of the last `unknown` AI-generated rows are not stated; those of `others` rows
    before them are not among the labels.
    """
    rng = np.random.default_rng(rows)
    truth = np.arange(rows) % len(labels)
    ai = truth > 0
    p_ai = 1 / (1 + np.exp(-rng.normal(np.where(ai, 2, -2), 2)))
    powers = rng.normal(size=(rows, len(labels) - 1))
    powers[ai, truth[ai] - 1] += 2
    share = np.exp(powers) / np.exp(powers).sum(axis=1, keepdims=True)
    generated = np.flatnonzero(ai)
    label_b = truth.copy()
    label_b[generated[len(generated) - unknown :]] = UNKNOWN_GENERATOR
    label_b[generated[len(generated) - unknown - others : len(generated) - unknown]] = (
        OTHER_GENERATOR
    )
    known = share.max(axis=1) * np.where(label_b == OTHER_GENERATOR, 0.6, 1)
    columns = (p_ai, np.column_stack([1 - p_ai, p_ai[:, None] * share]), known)
    return LabelledScores(
        ai.astype(np.int64), label_b, *(part.astype(np.float32) for part in columns), labels
    )


def made_evaluation(
    scores: LabelledScores,
    thresholds: Mapping[str, Threshold] | None = None,
    open_set: OpenSet | None = None,
    name: str = "tiny",
) -> Evaluation:
    """Return the evaluation of these scores."""
    fitted = FittedOn("validation", 900, 300, "int8")
    model = ModelFacts(
        name, "f" * 64, "int8", Temperatures(1.5, 0.8), thresholds or {}, open_set, fitted
    )
    counts = LabelCounts(
        tuple(int((scores.label_b == label).sum()) for label in range(len(scores.labels))),
        unknown=int((scores.label_b == UNKNOWN_GENERATOR).sum()),
        others={"flux": n} if (n := int((scores.label_b == OTHER_GENERATOR).sum())) else {},
    )
    return Evaluation(
        model=model,
        data="test.parquet",
        row_labels=RowLabels(scores.labels, counts, ("Label_A", "Label_B"), {}),
        undecodable=0,
        metrics=compute_metrics(scores, open_set=open_set),
        calibration=measure_calibration(scores, model.temperatures),
        points=measure_thresholds(scores, model.thresholds),
        scores=scores,
    )
