import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.errors import UsageError
from aigid.training.heads import Logits
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR, LabelCounts
from aigid.training.losses import (
    BatchTotals,
    LossConfig,
    balanced_weights,
    batch_totals,
    consistency_loss,
    multi_task_loss,
)

Row = tuple[float, list[float], int]


def loss_of(rows: list[Row]) -> torch.Tensor:
    a, b, labels = (list(column) for column in zip(*rows, strict=True))
    label_b = torch.tensor(labels)
    return multi_task_loss(Logits(torch.tensor(a), torch.tensor(b)), (label_b > 0).long(), label_b)


def expected_loss(rows: list[Row]) -> float:
    """The paper's formula, written down with probabilities in double precision."""
    a = [-math.log(1 / (1 + math.exp(-logit if label else logit))) for logit, _, label in rows]
    b = [
        -math.log(math.exp(logits[label]) / sum(map(math.exp, logits)))
        for _, logits, label in rows
        if label
    ]
    return float(np.mean(a) + (np.mean(b) if b else 0.0))


logits = st.floats(-12, 12, width=32)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(logits, st.lists(logits, min_size=6, max_size=6), st.integers(0, 5)),
        min_size=1,
        max_size=9,
    )
)
def test_the_loss_is_the_paper_s(rows: list[Row]) -> None:
    assert float(loss_of(rows)) == pytest.approx(expected_loss(rows), rel=1e-5, abs=1e-5)


def test_the_second_term_is_the_mean_over_the_ai_rows_only() -> None:
    even = [0.0] * 6
    rows = [(0.0, even, 0), (0.0, even, 0), (0.0, even, 3)]
    # Three coin tosses for A; one choice of six for B, not a third of it.
    assert float(loss_of(rows)) == pytest.approx(math.log(2) + math.log(6))


def test_head_b_s_outputs_for_real_rows_change_nothing() -> None:
    rows = [(0.3, [9.0, -9, 4, 0, 1, 2], 0), (-0.2, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2)]
    others = [(0.3, [0.0, 7, -7, 3, 3, 3], 0), rows[1]]
    assert float(loss_of(rows)) == float(loss_of(others))


def gradients(labels: list[int]) -> Logits:
    a, b = (
        torch.randn(len(labels), requires_grad=True),
        torch.randn(len(labels), 6, requires_grad=True),
    )
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


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(logits, st.lists(logits, min_size=6, max_size=6), st.integers(-2, 5)),
        min_size=2,
        max_size=9,
    ),
    cut=st.integers(1, 8),
    balanced=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_the_losses_of_micro_batches_add_up_to_that_of_the_batch(
    rows: list[Row], cut: int, balanced: bool, smoothing: float
) -> None:
    a, b, labels = (torch.tensor(column) for column in map(list, zip(*rows, strict=True)))
    config, weights = (
        LossConfig(label_smoothing=smoothing),
        balanced_weights(LabelCounts((9, 1, 2, 3, 4, 5) if balanced else (5, 1, 1, 1, 1, 1), 2)),
    )
    label_a = (labels != 0).long()
    totals = batch_totals(label_a, labels, weights)
    whole = multi_task_loss(Logits(a, b), label_a, labels, config, weights)
    slices = [part for part in (slice(0, cut), slice(cut, None)) if len(a[part])]
    parts = [
        multi_task_loss(
            Logits(a[part], b[part]), label_a[part], labels[part], config, weights, totals
        )
        for part in slices
    ]
    # So do the totals, which the processes of a run gather.
    of_parts = [batch_totals(label_a[part], labels[part], weights) for part in slices]
    assert np.sum(of_parts, axis=0) == pytest.approx(totals)
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5, abs=1e-5)


def test_a_row_of_an_unknown_generator_counts_for_a_and_not_for_b() -> None:
    torch.manual_seed(3)
    a, b = torch.randn(4), torch.randn(4, 3)
    label_a = torch.tensor([0, 1, 1, 1])
    label_b = torch.tensor([0, 2, UNKNOWN_GENERATOR, OTHER_GENERATOR])
    found = multi_task_loss(Logits(a, b), label_a, label_b)
    known = multi_task_loss(Logits(a[:2], b[:2]), label_a[:2], label_b[:2])
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    of_a, of_known_a = binary(a, label_a.float()), binary(a[:2], label_a[:2].float())
    assert float(found - of_a) == pytest.approx(float(known - of_known_a))
    logits = Logits(a.requires_grad_(), b.requires_grad_())
    multi_task_loss(logits, label_a, label_b).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert bool((a.grad != 0).all())
    assert b.grad.any(dim=1).tolist() == [False, True, False, False]


def test_a_batch_of_unknown_generators_alone_leaves_head_b_as_it_is() -> None:
    b = torch.randn(2, 4, requires_grad=True)
    labels = torch.tensor([1, 1]), torch.tensor([UNKNOWN_GENERATOR, OTHER_GENERATOR])
    loss = multi_task_loss(Logits(torch.randn(2), b), *labels)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert b.grad is not None
    assert not b.grad.any()


def test_a_class_without_rows_has_no_weight_and_unknown_generators_count_for_a() -> None:
    weights = balanced_weights(LabelCounts((10, 4, 0, 8), unknown=6, others={"kolors": 2}))
    # 10 real and 20 AI-generated rows; 12 of them in two classes.
    assert weights.a.tolist() == pytest.approx([1.5, 0.75])
    assert weights.b.tolist() == pytest.approx([0, 1.5, 0, 0.75])
    none = balanced_weights(LabelCounts((10, 0), unknown=5))
    assert none.b.tolist() == [0, 0]


def test_balanced_weights_make_every_class_count_alike() -> None:
    counts = (100, 10, 20, 30, 40, 400)
    weights = balanced_weights(LabelCounts(counts))
    assert float(weights.a[0]) * 100 == pytest.approx(float(weights.a[1]) * 500)
    sums = [float(weights.b[label]) * counts[label] for label in range(1, 6)]
    assert sums == pytest.approx([sums[0]] * 5)
    # Their mean is 1, so that the learning rate keeps its meaning.
    assert sum(sums) == pytest.approx(500)
    assert float(weights.a[0]) * 100 + float(weights.a[1]) * 500 == pytest.approx(600)


def test_a_class_balanced_loss_is_the_mean_over_classes_of_their_means() -> None:
    rows: list[Row] = [
        (0.5, [0.0] * 6, 0),
        *[(1.0, [0.0, 2, 0, 0, 0, 0], 1)] * 8,
        (-1.0, [0.0, 0, 1, 0, 0, 0], 2),
    ]
    label_b = torch.tensor([label for _, _, label in rows])
    given_logits = Logits(
        torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    )
    label_a = (label_b > 0).long()
    weights = balanced_weights(LabelCounts((1, 8, 1, 0, 0, 0)))
    found = multi_task_loss(
        given_logits, label_a, label_b, LossConfig(class_balanced=True), weights
    )
    by_class = [float(loss_of([row])) for row in (rows[0], rows[1], rows[9])]
    b_only = [by_class[1] - math.log(1 + math.exp(-1)), by_class[2] - math.log(1 + math.exp(1))]
    a_only = [
        math.log(1 + math.exp(0.5)),
        (8 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 9,
    ]
    assert float(found) == pytest.approx(np.mean(a_only) + np.mean(b_only), rel=1e-5)


def test_smoothing_spreads_a_part_of_the_label_over_all_classes() -> None:
    rows: list[Row] = [(3.0, [0.0, 4, 0, 0, 0, 0], 1), (-2.0, [0.0] * 6, 0)]
    logits_a, label_b = torch.tensor([3.0, -2.0]), torch.tensor([1, 0])
    given_logits = Logits(logits_a, torch.tensor([row[1] for row in rows]))
    found = multi_task_loss(
        given_logits, (label_b > 0).long(), label_b, LossConfig(label_smoothing=0.2)
    )
    p = [1 / (1 + math.exp(-3)), 1 / (1 + math.exp(2))]
    a = [-(t * math.log(q) + (1 - t) * math.log(1 - q)) for t, q in zip((0.9, 0.1), p, strict=True)]
    softmax = [math.exp(value) / (math.exp(4) + 5) for value in rows[0][1]]
    b = -sum((0.8 * (label == 1) + 0.2 / 6) * math.log(softmax[label]) for label in range(6))
    assert float(found) == pytest.approx(np.mean(a) + b, rel=1e-5)


def test_without_its_weight_head_b_learns_nothing() -> None:
    a, b = torch.randn(3, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    multi_task_loss(
        Logits(a, b), torch.tensor([0, 1, 1]), torch.tensor([0, 2, 5]), LossConfig(weight_b=0)
    ).backward()
    assert b.grad is not None
    assert not b.grad.any()
    assert a.grad is not None
    assert a.grad.any()


def test_equal_outputs_cost_nothing_and_others_more_with_their_distance() -> None:
    torch.manual_seed(0)
    logits_of, features, totals = (
        Logits(torch.randn(4), torch.randn(4, 6)),
        torch.randn(4, 8),
        BatchTotals(4, 4, 4),
    )
    found = [
        float(
            consistency_loss(
                logits_of,
                Logits(logits_of.a + shift, logits_of.b + shift * torch.arange(6)),
                (features, features + shift * torch.randn(4, 8)),
                totals,
            )
        )
        for shift in (0.0, 0.1, 1.0)
    ]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"label_smoothing": 1.0}, "`label_smoothing` must be from 0 to below 1: got 1"),
        ({"label_smoothing": -0.1}, "`label_smoothing` must be from 0 to below 1: got -0.1"),
        ({"weight_b": -1}, "`weight_b` must be 0 or more: got -1"),
        ({"consistency": math.nan}, "`consistency` must be 0 or more: got nan"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(bad: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        LossConfig(**bad)
    assert str(refused.value) == message
