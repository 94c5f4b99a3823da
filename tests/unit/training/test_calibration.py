import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.contract import Temperatures
from aigid.training.calibration import fit_temperatures, fit_thresholds, probabilities
from aigid.training.heads import Logits


def overconfident(rows: int, a: float, b: float) -> tuple[Logits, torch.Tensor, torch.Tensor]:
    """Return logits too large by the factors `a` and `b`, with labels of the right ones."""
    rng = np.random.default_rng(4)
    calibrated_a, calibrated_b = rng.normal(0.5, 2, rows), rng.normal(0, 2, (rows, 6))
    label_a = rng.random(rows) < 1 / (1 + np.exp(-calibrated_a))
    share = np.exp(calibrated_b[:, 1:]) / np.exp(calibrated_b[:, 1:]).sum(axis=1, keepdims=True)
    generator = 1 + (share.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    logits = Logits(torch.tensor(calibrated_a * a).float(), torch.tensor(calibrated_b * b).float())
    return logits, torch.tensor(label_a).long(), torch.tensor(np.where(label_a, generator, 0))


@pytest.mark.parametrize(("a", "b"), [(3.0, 0.4), (0.5, 6.0), (1.0, 1.0)])
def test_known_temperatures_are_found(a: float, b: float) -> None:
    found = fit_temperatures(*overconfident(20_000, a, b))
    assert found.a == pytest.approx(a, rel=0.05)
    assert found.b == pytest.approx(b, rel=0.05)


def test_calibrated_probabilities_match_the_observed_frequency() -> None:
    logits, label_a, label_b = overconfident(20_000, 4.0, 1.0)
    p_ai, _ = probabilities(logits, fit_temperatures(logits, label_a, label_b))
    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        about = (p_ai - low).abs() < 0.05
        assert float(label_a[about].float().mean()) == pytest.approx(low, abs=0.05)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_perfectly_separated_rows_get_finite_temperatures(scale: float) -> None:
    label_b = torch.tensor([0, 1, 2, 3, 4, 5] * 5)
    label_a = (label_b > 0).long()
    logits = Logits((2.0 * label_a - 1) * scale, torch.nn.functional.one_hot(label_b, 6) * scale)
    found = fit_temperatures(logits, label_a, label_b)
    assert 0.05 <= found.a <= 20
    assert 0.05 <= found.b <= 20
    p_ai, p_source = probabilities(logits, found)
    assert bool(((p_ai > 0.5).long() == label_a).all())
    assert bool(torch.isfinite(p_source).all())


def test_logits_that_are_all_wrong_get_the_highest_temperature() -> None:
    label_b = torch.tensor([0, 1] * 8)
    logits = Logits(torch.where(label_b > 0, -5.0, 5.0), torch.tensor([[0.0, -9, 9, 0, 0, 0]] * 16))
    found = fit_temperatures(logits, (label_b > 0).long(), label_b)
    assert found == Temperatures(a=20.0, b=20.0)


logit = st.floats(-1e4, 1e4, width=32)


# Few examples: a fit of hopeless rows takes a fraction of a second.
@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(logit, logit, st.integers(0, 5)), min_size=1, max_size=12))
def test_temperatures_of_any_logits_are_within_their_limits(
    rows: list[tuple[float, float, int]],
) -> None:
    label_b = torch.tensor([label for _, _, label in rows])
    b = torch.zeros(len(rows), 6)
    b[:, 2] = torch.tensor([value for _, value, _ in rows])
    found = fit_temperatures(
        Logits(torch.tensor([value for value, _, _ in rows]), b), (label_b > 0).long(), label_b
    )
    assert 0.05 <= found.a <= 20
    assert 0.05 <= found.b <= 20


def test_without_ai_rows_head_b_keeps_its_temperature() -> None:
    logits = Logits(torch.tensor([-1.0, 0.5, -2.0]), torch.randn(3, 6))
    assert fit_temperatures(logits, torch.zeros(3).long(), torch.zeros(3).long()).b == 1


def test_head_b_divides_head_a_s_probability_among_the_generators() -> None:
    logits = Logits(torch.tensor([2.0]), torch.tensor([[50.0, 1, 1, 1, 1, 3]]))
    p_ai, p_source = probabilities(logits, Temperatures(a=2.0, b=0.5))
    assert float(p_ai[0]) == pytest.approx(1 / (1 + np.exp(-1)))
    share = np.exp([2.0, 2, 2, 2, 6])
    expected = [1 - float(p_ai[0]), *(float(p_ai[0]) * share / share.sum())]
    np.testing.assert_allclose(p_source[0].numpy(), expected, rtol=1e-6)


def test_thresholds_are_keyed_by_rate_and_absent_without_real_rows() -> None:
    label_a, p_ai = np.array([0] * 1000 + [1] * 9), torch.linspace(0, 1, 1009)
    found = fit_thresholds(label_a, p_ai)
    assert found.keys() == {"0.01", "0.001"}
    assert {rate: int((p_ai[:1000] >= value).sum()) for rate, value in found.items()} == {
        "0.01": 10,
        "0.001": 1,
    }
    assert fit_thresholds(np.ones(9, dtype=np.int64), p_ai[:9]) == {}
