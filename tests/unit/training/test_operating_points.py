"""Stored thresholds, measured on other data."""

import json

import numpy as np
import pytest

from aigid.contract import Threshold
from aigid.records import DEFAULT_LABELS
from aigid.training.metrics import LabelledScores
from aigid.training.operating_points import measure_thresholds


def scores_of(real: list[float], ai: list[float]) -> LabelledScores:
    p_ai = np.array([*real, *ai], np.float32)
    label = np.array([0] * len(real) + [1] * len(ai))
    p_source = np.full((len(p_ai), 6), 1 / 6, np.float32)
    return LabelledScores(label, label, p_ai, p_source, p_ai, DEFAULT_LABELS)


def test_each_stored_threshold_has_its_rates_on_this_data() -> None:
    scores = scores_of([0.1] * 98 + [0.6, 0.9], [0.2, 0.6, 0.95, 0.9])
    stored = {"0.01": Threshold(0.9, 300, 0.95), "0.05": Threshold(0.5, 300, 0.95)}
    wide, narrow = measure_thresholds(scores, stored)
    assert (wide.max_fpr, wide.threshold.p_ai) == (0.05, 0.5)
    assert (wide.fpr.count, wide.fpr.rows, wide.tpr.count, wide.tpr.rows) == (2, 100, 3, 4)
    # A p_ai that equals the threshold, in float32, is called AI-generated.
    assert (narrow.max_fpr, narrow.fpr.value, narrow.tpr.value) == (0.01, 0.01, 0.5)
    assert not wide.is_exceeded
    assert not narrow.is_exceeded


@pytest.mark.parametrize(("false_positives", "is_exceeded"), [(1, False), (3, False), (9, True)])
def test_a_rate_is_exceeded_where_chance_does_not_explain_it(
    false_positives: int, is_exceeded: bool
) -> None:
    scores = scores_of([0.9] * false_positives + [0.1] * (200 - false_positives), [0.9])
    (point,) = measure_thresholds(scores, {"0.01": Threshold(0.5, 300, 0.95)})
    assert point.is_exceeded == is_exceeded


def test_without_real_rows_there_is_no_rate_to_exceed() -> None:
    (point,) = measure_thresholds(scores_of([], [0.9]), {"0.01": Threshold(0.5, 300, 0.95)})
    assert point.fpr.value is None
    assert not point.is_exceeded
    json.dumps(point.to_json(), allow_nan=False)
    assert measure_thresholds(scores_of([0.1], [0.9]), {}) == ()
