import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

from aigid.contract import OpenSet
from aigid.records import DEFAULT_LABELS
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR
from aigid.training.metrics import LabelledScores, compute_metrics

OPEN_SET = OpenSet(threshold=0.5, known_rate=0.95, rows=100)


def labelled(
    label_b: list[int],
    p_ai: list[float],
    answer_b: list[int] | None = None,
    *,
    known_score: list[float] | None = None,
    labels: tuple[str, ...] = DEFAULT_LABELS,
) -> LabelledScores:
    """Return rows whose likeliest generator is `answer_b`, by default the true one."""
    truth, p = np.array(label_b), np.array(p_ai, dtype=np.float32)
    likeliest = np.maximum(truth if answer_b is None else np.array(answer_b), 1)
    p_source = np.zeros((len(truth), len(labels)), dtype=np.float32)
    p_source[:, 1:] = 0.1 * p[:, None]
    p_source[np.arange(len(truth)), likeliest] = 0.6 * p
    p_source[:, 0] = 1 - p
    known = np.ones(len(truth)) if known_score is None else known_score
    label_a = (truth != 0).astype(np.int64)
    return LabelledScores(label_a, truth, p, p_source, np.array(known, np.float32), labels)


def test_task_a_by_hand() -> None:
    # Real: 2 of 3 right. AI: 4 of 5 right.
    found = compute_metrics(
        labelled([0, 0, 0, 1, 2, 3, 4, 5], [0.1, 0.4, 0.8, 0.9, 0.7, 0.6, 0.5, 0.2])
    ).a
    assert found.accuracy == pytest.approx(6 / 8)
    assert (found.fpr, found.tpr) == pytest.approx((1 / 3, 4 / 5))
    assert (found.real_rows, found.ai_rows) == (3, 5)
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


@settings(max_examples=40)
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
    assert found.a.binary_f1 == pytest.approx(f1_score(made.label_a, says_ai, zero_division=0))
    assert found.a.tpr == pytest.approx(recall_score(made.label_a, says_ai))
    assert found.a.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(made.label_a, says_ai)
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


def undefined(values: object) -> bool:
    """Return whether a value from JSON is null, or all values in it are."""
    if isinstance(values, dict):
        return all(undefined(value) for value in values.values())
    return values is None


@pytest.mark.parametrize(("label_b", "accuracy"), [([0, 0, 0, 0], 0.25), ([1, 2, 3, 3], 0.75)])
def test_undefined_metrics_of_one_class_are_none(label_b: list[int], accuracy: float) -> None:
    found = compute_metrics(labelled(label_b, [0.2, 0.6, 0.7, 0.8]))
    assert found.a.accuracy == accuracy
    assert found.a.macro_f1 is found.a.balanced_accuracy is found.a.auroc is None
    assert found.a.tpr_at_fpr == {0.01: None, 0.001: None}
    assert found.constant.a.macro_f1 is found.constant.a.balanced_accuracy is None
    if label_b[0] == 0:
        assert found.a.tpr is found.a.binary_f1 is found.b.macro_f1 is None
        assert found.a.fpr == 0.75
        assert undefined(found.b.to_json()["f1"])
    else:
        assert found.a.fpr is None
        assert found.a.tpr == 0.75
    json.dumps(found.to_json(), allow_nan=False)


def test_rows_of_an_unknown_generator_count_for_a_and_not_for_b() -> None:
    rows = labelled([0, 0, 1, 2, UNKNOWN_GENERATOR], [0.1, 0.9, 0.9, 0.9, 0.2])
    found = compute_metrics(rows)
    assert (found.rows, found.a.ai_rows, found.a.accuracy) == (5, 3, pytest.approx(3 / 5))
    assert (found.b.rows, found.b.left_out) == (4, 1)
    assert found.b.accuracy == pytest.approx(3 / 4)
    assert np.sum(found.b.confusion) == np.sum(found.constant.b.confusion) == 4
    # They are in no part of the open set either.
    assert found.open_set is not None
    assert (found.open_set.known_as_other.rows, found.open_set.other_as_other.rows) == (2, 0)


def test_without_a_stated_generator_b_is_not_measured() -> None:
    found = compute_metrics(labelled([0, *[UNKNOWN_GENERATOR] * 3], [0.1, 0.6, 0.7, 0.8]))
    assert found.a.accuracy == 1
    assert (found.b.rows, found.b.left_out, found.b.macro_f1) == (1, 3, None)
    only_unknown = compute_metrics(labelled([UNKNOWN_GENERATOR] * 2, [0.1, 0.6]))
    assert (only_unknown.b.rows, only_unknown.b.accuracy) == (0, None)
    assert np.sum(only_unknown.b.confusion) == 0
    json.dumps(only_unknown.to_json(), allow_nan=False)


def test_other_generators_have_the_source_other_in_b() -> None:
    # The model is sure of its own generators, but of one row; it takes one of three others for
    # one of its own, and another for real.
    label_b = [0, 1, 2, 2, OTHER_GENERATOR, OTHER_GENERATOR, OTHER_GENERATOR]
    known = [0.9, 0.9, 0.8, 0.4, 0.2, 0.7, 0.1]
    p_ai = [0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.2]
    rows = labelled(label_b, p_ai, [1, 1, 2, 2, 3, 3, 3], known_score=known)
    found = compute_metrics(rows, open_set=OPEN_SET)
    assert list(found.b.f1) == [*DEFAULT_LABELS, "other"]
    assert found.b.confusion[6] == [1, 0, 0, 1, 0, 0, 1]
    assert found.b.confusion[2] == [0, 0, 1, 0, 0, 0, 1]
    assert found.b.f1["other"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert found.a.tpr == pytest.approx(5 / 6)
    open_set = found.open_set
    assert open_set is not None
    assert (open_set.known_as_other.count, open_set.known_as_other.rows) == (1, 3)
    assert open_set.other_as_other.value == open_set.other_as_known.value == pytest.approx(1 / 3)
    # Of 9 pairs of a known and an other row, the known one's score is the lower one in one.
    assert open_set.auroc == pytest.approx(8 / 9)


def test_without_an_open_set_threshold_no_row_is_called_other() -> None:
    rows = labelled([0, 1, OTHER_GENERATOR], [0.1, 0.9, 0.9], [1, 1, 3], known_score=[0.1] * 3)
    found = compute_metrics(rows)
    assert found.b.confusion[6] == [0, 0, 0, 1, 0, 0, 0]
    assert found.open_set is not None
    assert found.open_set.other_as_known.value == 1
    assert found.open_set.auroc == 0.5
    assert compute_metrics(labelled([0, 1, 2], [0.1, 0.9, 0.9])).open_set.auroc is None  # type: ignore[union-attr]


def test_a_model_with_the_label_other_has_a_class_and_no_open_set() -> None:
    rows = labelled(
        [0, 0, 1, OTHER_GENERATOR], [0.1, 0.9, 0.9, 0.2], [1, 1, 1, 1], labels=("real", "other")
    )
    found = compute_metrics(rows)
    assert found.open_set is None
    assert found.b.confusion == [[1, 1], [1, 1]]
    assert found.b.macro_f1 == found.a.macro_f1 == 0.5
    assert found.b.f1 == {"real": 0.5, "other": 0.5}


def test_thirty_labels_are_counted_by_name() -> None:
    labels = ("real", *(f"generator {number}" for number in range(1, 31)))
    label_b = [*range(31)] * 4
    answers = [max(label, 1) for label in label_b]
    answers[30] = 7
    found = compute_metrics(
        labelled(label_b, [float(label > 0) for label in label_b], answers, labels=labels)
    )
    assert list(found.b.f1) == list(labels)
    assert found.b.f1["generator 30"] == pytest.approx(6 / 7)
    assert found.b.f1["generator 7"] == pytest.approx(8 / 9)
    assert found.b.macro_f1 == pytest.approx((29 + 6 / 7 + 8 / 9) / 31)


def test_metrics_lie_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    label_b = rng.integers(0, 6, 300).tolist()
    p_ai = [float(np.clip(rng.normal(0.3 + 0.4 * (label > 0), 0.2), 0, 1)) for label in label_b]
    found = compute_metrics(labelled(label_b, p_ai, rng.integers(1, 6, 300).tolist()))
    for metrics in (found.a, found.b):
        assert len(metrics.intervals) >= 2
        for name, (low, high) in metrics.intervals.items():
            assert 0 <= low < getattr(metrics, name) < high <= 1, name
            assert metrics.to_json()["intervals"][name] == [low, high]


def test_the_true_positive_rate_at_a_false_positive_rate_counts_whole_real_rows() -> None:
    # 200 real rows: 1 % allows two of them, 0.1 % none. AI rows lie between the highest real ones.
    real = [0.95, 0.85, 0.75, *np.linspace(0, 0.5, 197)]
    found = compute_metrics(labelled([0] * 200 + [1] * 4, [*real, 0.99, 0.9, 0.8, 0.7])).a
    assert found.tpr_at_fpr[0.01] == pytest.approx(3 / 4)
    assert found.tpr_at_fpr[0.001] == pytest.approx(1 / 4)
