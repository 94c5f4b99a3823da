"""Calibration error and reliability diagrams, before and after temperatures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aigid.contract import Temperatures
from aigid.training.calibration import fit_temperatures, probabilities
from aigid.training.heads import Logits
from aigid.training.metrics import LabelledScores
from aigid.training.reliability import (
    BINS,
    draw_reliability,
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
    found = measure_calibration(
        LabelledScores(label_a.numpy(), label_b.numpy(), p_ai.numpy(), p_source.numpy()),
        temperatures,
    )
    for task in (found.a, found.b):
        assert task.after.error < 0.03 < 0.1 < task.before.error
    # `before` equals what the logits give without temperatures.
    plain_ai, plain_source = probabilities(logits, Temperatures())
    plain = measure_calibration(
        LabelledScores(label_a.numpy(), label_b.numpy(), plain_ai.numpy(), plain_source.numpy()),
        Temperatures(),
    )
    for task, plain_task in ((found.a, plain.a), (found.b, plain.b)):
        assert plain_task.after.error == pytest.approx(task.before.error, abs=2e-3)


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_are_measured_and_drawn(label: int, tmp_path: Path) -> None:
    p_source = np.full((4, 6), [0.5, 0.1, 0.1, 0.1, 0.1, 0.1], dtype=np.float32)
    rows = LabelledScores(
        np.full(4, label), np.full(4, label), np.full(4, 0.5, dtype=np.float32), p_source
    )
    found = measure_calibration(rows, Temperatures())
    json.dumps(found.to_json())
    assert found.a.after.error == pytest.approx(0.5)
    assert (found.b.after.error is None) == (label == 0)
    draw_reliability(found, tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as drawn:
        assert drawn.size == (1200, 720)
