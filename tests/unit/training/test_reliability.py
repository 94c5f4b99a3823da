"""Calibration error and reliability diagrams, before and after temperatures."""

import json

import numpy as np
import pytest
import torch

from aigid.contract import Temperatures
from aigid.records import DEFAULT_LABELS
from aigid.training.calibration import fit_temperatures, probabilities
from aigid.training.heads import Logits
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR
from aigid.training.metrics import LabelledScores
from aigid.training.reliability import (
    BINS,
    measure_calibration,
    reliability_diagram,
)


def test_calibrated_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.random(200_000).astype(np.float32)
    found = reliability_diagram(predicted, rng.random(200_000) < predicted)
    assert found.error == pytest.approx(0, abs=0.01)
    assert found.rows.sum() == 200_000
    assert found.rows.min() > 0.9 * 200_000 / BINS


def test_the_error_is_the_mean_gap_weighted_by_rows() -> None:
    predicted = np.array([0.95] * 30 + [0.35] * 10, dtype=np.float32)
    came_true = np.array([True] * 15 + [False] * 15 + [True] * 10)
    found = reliability_diagram(predicted, came_true)
    assert found.error == pytest.approx((30 * 0.45 + 10 * 0.65) / 40)
    assert (found.rows > 0).sum() == 2


def test_the_ends_of_the_range_are_in_a_bin() -> None:
    found = reliability_diagram(np.array([0.0, 1.0], dtype=np.float32), np.array([False, True]))
    assert (found.rows[0], found.rows[-1], found.error) == (1, 1, 0)


def test_without_rows_there_is_no_error() -> None:
    assert reliability_diagram(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool)).error is None


def scored(
    label_b: torch.Tensor, p_ai: torch.Tensor, p_source: torch.Tensor, labels: int = 6
) -> LabelledScores:
    truth, p = label_b.numpy(), p_ai.numpy()
    names = (*DEFAULT_LABELS[:labels], *(f"more {number}" for number in range(labels - 6)))
    return LabelledScores((truth != 0).astype(np.int64), truth, p, p_source.numpy(), p, names)


def overconfident(rows: int = 6000) -> tuple[Logits, torch.Tensor, torch.Tensor]:
    """Return logits three times too large, and labels drawn from the calibrated ones."""
    generator = torch.Generator().manual_seed(1)
    calibrated_a = torch.randn(rows, generator=generator)
    label_a = (torch.rand(rows, generator=generator) < torch.sigmoid(calibrated_a)).long()
    calibrated_b = torch.randn(rows, 6, generator=generator)
    drawn = (
        torch.multinomial(torch.softmax(calibrated_b[:, 1:], dim=1), 1, generator=generator)[:, 0]
        + 1
    )
    return Logits(3 * calibrated_a, 3 * calibrated_b), label_a, torch.where(label_a == 1, drawn, 0)


def test_temperatures_reduce_the_error_of_overconfident_logits() -> None:
    logits, label_a, label_b = overconfident()
    temperatures = fit_temperatures(logits, label_a, label_b)
    assert temperatures.a == pytest.approx(3, rel=0.1)
    assert temperatures.b == pytest.approx(3, rel=0.1)
    p_ai, p_source = probabilities(logits, temperatures)
    found = measure_calibration(scored(label_b, p_ai, p_source), temperatures)
    for task in (found.a, found.b):
        assert task.after.error < 0.03 < 0.1 < task.before.error
    # `before` equals what the logits give without temperatures.
    plain_ai, plain_source = probabilities(logits, Temperatures())
    plain = measure_calibration(scored(label_b, plain_ai, plain_source), Temperatures())
    for task, plain_task in ((found.a, plain.a), (found.b, plain.b)):
        assert plain_task.after.error == pytest.approx(task.before.error, abs=2e-3)


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_are_measured(label: int) -> None:
    p_source = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]]).repeat(4, 1)
    rows = scored(torch.full((4,), label), torch.full((4,), 0.5), p_source)
    found = measure_calibration(rows, Temperatures())
    json.dumps(found.to_json(), allow_nan=False)
    assert found.a.after.error == pytest.approx(0.5)
    assert (found.b.after.error is None) == (label == 0)


def test_rows_without_one_of_the_model_s_generators_count_for_a_only() -> None:
    label_b = torch.tensor([0, 1, 2, UNKNOWN_GENERATOR, OTHER_GENERATOR])
    p_source = torch.tensor([[0.2, 0.6, 0.2]]).repeat(5, 1)
    found = measure_calibration(
        scored(label_b, torch.full((5,), 0.8), p_source, labels=3), Temperatures()
    )
    assert found.a.after.rows.sum() == 5
    assert found.b.after.rows.sum() == 2
    assert found.a.after.error == pytest.approx(0, abs=1e-6)
    # Of two rows with a probability of 0.75, one is right.
    assert found.b.after.error == pytest.approx(0.25)


def test_one_generator_is_always_right() -> None:
    rows = scored(torch.ones(3).long(), torch.ones(3), torch.tensor([[0.0, 1.0]] * 3), labels=2)
    assert measure_calibration(rows, Temperatures(1.0, 2.0)).b.after.error == 0


def test_every_bin_with_rows_has_an_interval_around_what_was_observed() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.random(300).astype(np.float32) / 2
    found = reliability_diagram(predicted, rng.random(300) < predicted)
    low, high = found.intervals
    filled = found.rows > 0
    assert (low[filled] <= found.observed[filled]).all()
    assert (found.observed[filled] <= high[filled]).all()
    assert np.isnan(low[~filled]).all()
