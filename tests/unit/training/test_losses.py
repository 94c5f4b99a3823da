import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.training.fusion_model import Logits
from aigid.training.losses import multi_task_loss

Row = tuple[float, list[float], int]


def loss_of(rows: list[Row]) -> torch.Tensor:
    a, b, labels = (list(column) for column in zip(*rows, strict=True))
    label_b = torch.tensor(labels)
    return multi_task_loss(Logits(torch.tensor(a), torch.tensor(b)), (label_b > 0).long(), label_b)


def expected_loss(rows: list[Row]) -> float:
    """The paper's formula, written down with probabilities in double precision."""
    a = [-math.log(1 / (1 + math.exp(-logit if label else logit))) for logit, _, label in rows]
    b = [-math.log(math.exp(logits[label]) / sum(map(math.exp, logits))) for _, logits, label in rows if label]
    return float(np.mean(a) + (np.mean(b) if b else 0.0))


logits = st.floats(-12, 12, width=32)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(logits, st.lists(logits, min_size=6, max_size=6), st.integers(0, 5)), min_size=1, max_size=9))
def test_the_loss_is_the_paper_s(rows: list[Row]) -> None:
    assert float(loss_of(rows)) == pytest.approx(expected_loss(rows), rel=1e-5, abs=1e-5)


def test_the_second_term_is_averaged_over_the_ai_rows_only() -> None:
    even = [0.0] * 6
    rows = [(0.0, even, 0), (0.0, even, 0), (0.0, even, 3)]
    # Three coin tosses for A; one choice of six for B, not a third of it.
    assert float(loss_of(rows)) == pytest.approx(math.log(2) + math.log(6))


def test_head_b_s_answers_for_real_rows_change_nothing() -> None:
    rows = [(0.3, [9.0, -9, 4, 0, 1, 2], 0), (-0.2, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2)]
    others = [(0.3, [0.0, 7, -7, 3, 3, 3], 0), rows[1]]
    assert float(loss_of(rows)) == float(loss_of(others))


def gradients(labels: list[int]) -> Logits:
    a, b = torch.randn(len(labels), requires_grad=True), torch.randn(len(labels), 6, requires_grad=True)
    label_b = torch.tensor(labels)
    multi_task_loss(Logits(a, b), (label_b > 0).long(), label_b).backward()
    assert a.grad is not None
    assert b.grad is not None
    return Logits(a.grad, b.grad)


def test_a_real_row_teaches_head_b_nothing() -> None:
    gradient = gradients([0, 4, 0, 1]).b.abs().sum(dim=1)
    assert gradient[0] == gradient[2] == 0
    assert gradient[1] > 0
    assert gradient[3] > 0


def test_without_ai_rows_the_second_term_and_its_gradient_are_zero() -> None:
    assert float(loss_of([(1.5, [5.0] * 6, 0)])) == pytest.approx(math.log(1 + math.exp(1.5)))
    found = gradients([0, 0, 0])
    assert torch.equal(found.b, torch.zeros(3, 6))
    assert bool((found.a != 0).all())
