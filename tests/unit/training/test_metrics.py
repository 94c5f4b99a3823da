import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from aigid.decisions import decide_ai
from aigid.records import DEFAULT_LABELS
from aigid.training.metrics import LabelledScores, compute_metrics, threshold_at


def labelled(
    label_b: list[int], p_ai: list[float], answer_b: list[int] | None = None
) -> LabelledScores:
    """Return rows whose likeliest generator is `answer_b`, by default the true one."""
    truth, p = np.array(label_b), np.array(p_ai, dtype=np.float32)
    likeliest = np.maximum(truth if answer_b is None else np.array(answer_b), 1)
    p_source = np.zeros((len(truth), len(DEFAULT_LABELS)), dtype=np.float32)
    p_source[:, 1:] = 0.1 * p[:, None]
    p_source[np.arange(len(truth)), likeliest] = 0.6 * p
    p_source[:, 0] = 1 - p
    return LabelledScores((truth > 0).astype(np.int64), truth, p, p_source)


def test_task_a_by_hand() -> None:
    # Real: 2 of 3 right. AI: 4 of 5 right.
    found = compute_metrics(
        labelled([0, 0, 0, 1, 2, 3, 4, 5], [0.1, 0.4, 0.8, 0.9, 0.7, 0.6, 0.5, 0.2])
    ).a
    assert found.accuracy == pytest.approx(6 / 8)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.binary_f1 == pytest.approx(2 * 4 / (2 * 4 + 1 + 1))
    assert found.macro_f1 == pytest.approx((8 / 10 + 4 / 6) / 2)
    # Of 15 pairs of an AI and a real row, 0.9 wins 3; 0.7, 0.6 and 0.5 win 2 each; 0.2 wins 1.
    assert found.auroc == pytest.approx((3 + 2 + 2 + 2 + 1) / 15)
    # Three real rows: no false positive at all is allowed, and only 0.9 is above 0.8.
    assert found.tpr_at_fpr[0.01] == found.tpr_at_fpr[0.001] == pytest.approx(1 / 5)


def test_task_b_by_hand_with_real_decided_by_head_a() -> None:
    rows = labelled([0, 0, 1, 1, 2, 5], [0.9, 0.1, 0.9, 0.2, 0.9, 0.9], [3, 3, 1, 1, 1, 5])
    found = compute_metrics(rows).b
    expected = np.zeros((6, 6), dtype=int)
    for truth, answer in ((0, 3), (0, 0), (1, 1), (1, 0), (2, 1), (5, 5)):
        expected[truth, answer] += 1
    assert found.confusion == expected.tolist()
    f1 = {"real": 0.5, "sd21": 0.5, "sdxl": 0.0, "sd3": None, "dalle3": None, "midjourney": 1.0}
    assert found.f1 == pytest.approx(f1)
    # The mean over the classes that have rows.
    assert found.macro_f1 == pytest.approx((0.5 + 0.5 + 0 + 1) / 4)
    assert found.accuracy == pytest.approx(3 / 6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(30, 60))
def test_the_metrics_equal_scikit_learn_s(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    label_b = [0, 1, 2, 3, 4, 5, *rng.integers(0, 6, rows - 6).tolist()]
    made = labelled(label_b, rng.random(rows).round(1).tolist(), rng.integers(1, 6, rows).tolist())
    found = compute_metrics(made, 0.5)
    says_ai = made.p_ai >= np.float32(0.5)
    answer_b = np.where(says_ai, made.p_source[:, 1:].argmax(axis=1) + 1, 0)
    assert found.a.macro_f1 == pytest.approx(
        f1_score(made.label_a, says_ai, average="macro", zero_division=0)
    )
    assert found.a.auroc == pytest.approx(roc_auc_score(made.label_a, made.p_ai))
    assert found.b.macro_f1 == pytest.approx(
        f1_score(made.label_b, answer_b, average="macro", zero_division=0)
    )
    assert found.b.confusion == confusion_matrix(made.label_b, answer_b).tolist()


def test_the_threshold_moves_the_decisions_but_not_the_ranking() -> None:
    rows = labelled([0, 0, 1, 2], [0.1, 0.55, 0.6, 0.9])
    low, high = compute_metrics(rows, 0.5), compute_metrics(rows, 0.58)
    assert (low.a.accuracy, high.a.accuracy) == (0.75, 1.0)
    assert (low.threshold, high.threshold) == (0.5, 0.58)
    assert low.a.auroc == high.a.auroc == 1.0


def test_a_constant_answer_has_a_flattering_binary_f1() -> None:
    found = compute_metrics(labelled([0, 1, 2, 3, 4, 5] * 20, [0.5] * 120)).constant
    assert found.a.binary_f1 == pytest.approx(10 / 11)
    assert f"{found.a.binary_f1:.3f}" == "0.909"
    assert found.a.accuracy == pytest.approx(5 / 6)
    assert found.a.balanced_accuracy == pytest.approx(0.5)
    assert found.a.macro_f1 == pytest.approx(5 / 11)
    # All classes are equally frequent: each is right in 1 of 6 rows (precision 1/6, recall 1).
    assert found.b.accuracy == pytest.approx(1 / 6)
    assert found.b.macro_f1 == pytest.approx(2 / 7 / 6)


def test_the_constant_answer_of_task_b_is_the_most_frequent_class() -> None:
    found = compute_metrics(labelled([0, 4, 4, 4, 2], [0.5] * 5)).constant.b
    assert [sum(column) for column in zip(*found.confusion, strict=True)] == [0, 0, 0, 0, 5, 0]
    assert found.accuracy == pytest.approx(3 / 5)


@pytest.mark.parametrize(("label_b", "accuracy"), [([0, 0, 0, 0], 0.25), ([1, 2, 3, 3], 0.75)])
def test_undefined_metrics_of_one_class_are_none(label_b: list[int], accuracy: float) -> None:
    found = compute_metrics(labelled(label_b, [0.2, 0.6, 0.7, 0.8]))
    assert found.a.accuracy == accuracy
    assert found.a.balanced_accuracy is found.a.auroc is None
    assert found.a.tpr_at_fpr == {0.01: None, 0.001: None}
    assert found.constant.a.balanced_accuracy is None


def test_the_true_positive_rate_at_a_false_positive_rate_counts_whole_real_rows() -> None:
    # 200 real rows: 1 % allows two of them, 0.1 % none. AI rows lie between the highest real ones.
    real = [0.95, 0.85, 0.75, *np.linspace(0, 0.5, 197)]
    found = compute_metrics(labelled([0] * 200 + [1] * 4, [*real, 0.99, 0.9, 0.8, 0.7])).a
    assert found.tpr_at_fpr[0.01] == pytest.approx(3 / 4)
    assert found.tpr_at_fpr[0.001] == pytest.approx(1 / 4)


# Few distinct values, so that there are ties.
probabilities = st.lists(
    st.sampled_from([0.0, 0.125, 0.3, 0.30000001, 0.5, 0.999, 1.0]), min_size=1, max_size=40
)


def false_positives(p_ai: npt.NDArray[np.float32], threshold: float) -> int:
    return int(decide_ai(p_ai, threshold).sum())


@settings(deadline=None, max_examples=200)
@given(probabilities, st.floats(0, 1))
def test_the_threshold_is_the_lowest_within_the_false_positive_rate(
    real: list[float], max_fpr: float
) -> None:
    p_ai = np.array([*real, 0.4, 1.0], dtype=np.float32)
    label_a = np.array([0] * len(real) + [1, 1])
    threshold = threshold_at(label_a, p_ai, max_fpr)
    assert threshold is not None
    assert false_positives(p_ai[: len(real)], threshold) / len(real) <= max_fpr
    below = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    if below >= 0:
        assert false_positives(p_ai[: len(real)], below) / len(real) > max_fpr


@pytest.mark.parametrize(
    ("max_fpr", "called_ai"),
    [(0.0, []), (0.25, [0.8]), (0.5, [0.8]), (0.74, [0.8]), (0.75, [0.6, 0.6, 0.8]), (1.0, None)],
)
def test_tied_real_rows_are_called_ai_together_or_not_at_all(
    max_fpr: float, called_ai: list[float] | None
) -> None:
    p_ai = np.array([0.6, 0.2, 0.8, 0.6], dtype=np.float32)
    threshold = threshold_at(np.zeros(4, dtype=np.int64), p_ai, max_fpr)
    assert threshold is not None
    expected = (
        sorted(p_ai.tolist())
        if called_ai is None
        else [float(np.float32(value)) for value in called_ai]
    )
    assert sorted(p_ai[decide_ai(p_ai, threshold)].tolist()) == expected


def test_without_real_rows_there_is_no_threshold() -> None:
    assert (
        threshold_at(np.ones(3, dtype=np.int64), np.array([0.1, 0.2, 0.3], dtype=np.float32), 0.01)
        is None
    )
