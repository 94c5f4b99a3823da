import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from aigid.contract import Temperatures
from aigid.training.calibration import ROWS_NEEDED, fit_temperatures, probabilities
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


def separated(rows_per_class: int, scale: float) -> tuple[Logits, torch.Tensor, torch.Tensor]:
    """Return logits of about `scale` that are right on every row, with their labels."""
    rng = np.random.default_rng(1)
    label_b = torch.arange(6).repeat(rows_per_class)
    label_a = (label_b > 0).long()
    size = torch.tensor(rng.uniform(0.5, 1.5, len(label_b)) * scale).float()
    return (
        Logits((2 * label_a - 1) * size, functional.one_hot(label_b, 6) * size[:, None]),
        label_a,
        label_b,
    )


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("rows_per_class", [10, 200])
def test_separated_rows_claim_no_more_than_so_many_rows_can_show(
    rows_per_class: int, scale: float
) -> None:
    logits, label_a, label_b = separated(rows_per_class, scale)
    p_ai, p_source = probabilities(logits, fit_temperatures(logits, label_a, label_b))
    assert bool(((p_ai > 0.5).long() == label_a).all())
    wrong = torch.where(label_a == 1, 1 - p_ai, p_ai)
    # The real rows are the fewest: their wrong answers have about half a row of probability.
    assert 0.1 < float(wrong[label_a == 0].sum()) < 2
    generated = label_a == 1
    right = p_source[generated, label_b[generated]] / p_ai[generated]
    assert 0.1 < float((1 - right[label_b[generated] == 1]).sum()) < 2
    # Nothing is so certain that float32 cannot tell it from 1.
    assert float(p_ai.max()) < 1


def test_a_larger_logit_scale_changes_no_probability() -> None:
    small, large = (separated(50, scale) for scale in (0.1, 100.0))
    assert fit_temperatures(*large).a == pytest.approx(1000 * fit_temperatures(*small).a, rel=1e-3)
    assert fit_temperatures(*large).b == pytest.approx(1000 * fit_temperatures(*small).b, rel=1e-3)


def test_logits_that_are_all_wrong_give_every_answer_the_same_probability() -> None:
    logits, label_a, label_b = separated(20, 5.0)
    wrong = Logits(-logits.a, -logits.b)
    p_ai, p_source = probabilities(wrong, fit_temperatures(wrong, label_a, label_b))
    np.testing.assert_allclose(p_ai, 0.5, atol=1e-3)
    np.testing.assert_allclose(p_source[:, 1:], 0.1, atol=1e-3)


logit = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=50)
@given(st.lists(st.tuples(logit, logit, st.integers(0, 5)), min_size=1, max_size=60))
def test_temperatures_of_any_logits_give_probabilities(
    rows: list[tuple[float, float, int]],
) -> None:
    label_b = torch.tensor([label for _, _, label in rows])
    b = torch.zeros(len(rows), 6)
    b[:, 2] = torch.tensor([value for _, value, _ in rows])
    logits = Logits(torch.tensor([value for value, _, _ in rows]), b)
    p_ai, p_source = probabilities(logits, fit_temperatures(logits, (label_b > 0).long(), label_b))
    np.testing.assert_allclose(p_source.sum(dim=1), 1, rtol=1e-5)
    assert bool(((p_ai >= 0) & (p_ai <= 1)).all())


def test_a_head_with_too_few_rows_keeps_its_temperature() -> None:
    kept = Temperatures(a=3.0, b=0.25)
    logits, label_a, label_b = overconfident(400, 1.0, 1.0)

    def fit(chosen: torch.Tensor) -> Temperatures:
        some = Logits(logits.a[chosen], logits.b[chosen])
        return fit_temperatures(some, label_a[chosen], label_b[chosen], kept)

    real, generated = (torch.nonzero(label_a == label)[:, 0] for label in (0, 1))
    one_generator = torch.nonzero(label_b == 2)[:, 0]
    assert fit(real) == kept
    assert fit(torch.cat([real, generated[: ROWS_NEEDED - 1]])) == kept
    only_b = fit(torch.cat([real[: ROWS_NEEDED - 1], generated]))
    assert only_b.a == kept.a
    assert only_b.b != kept.b
    # Of one generator alone, any certainty would look right.
    only_a = fit(torch.cat([real, one_generator]))
    assert only_a.a != kept.a
    assert only_a.b == kept.b


def test_rows_of_generators_that_are_not_known_count_for_head_a_only() -> None:
    logits, label_a, label_b = overconfident(4_000, 2.0, 2.0)
    unnamed = label_b.clone()
    unnamed[:3_000][label_a[:3_000] == 1] = -1
    known = torch.arange(4_000) >= 3_000
    expected = fit_temperatures(
        Logits(logits.a[known], logits.b[known]), label_a[known], label_b[known]
    )
    found = fit_temperatures(logits, label_a, unnamed)
    assert found.a == fit_temperatures(logits, label_a, label_b).a
    assert found.b == pytest.approx(expected.b)


def test_head_b_divides_head_a_s_probability_among_the_generators() -> None:
    logits = Logits(torch.tensor([2.0]), torch.tensor([[50.0, 1, 1, 1, 1, 3]]))
    p_ai, p_source = probabilities(logits, Temperatures(a=2.0, b=0.5))
    assert float(p_ai[0]) == pytest.approx(1 / (1 + np.exp(-1)))
    share = np.exp([2.0, 2, 2, 2, 6])
    expected = [1 - float(p_ai[0]), *(float(p_ai[0]) * share / share.sum())]
    np.testing.assert_allclose(p_source[0].numpy(), expected, rtol=1e-6)
