import dataclasses

import numpy as np
import pytest
import torch

from aigid.contract import Temperatures
from aigid.errors import ManifestError
from aigid.training.calibration import fit_temperatures, probabilities
from aigid.training.few_shot import FOLDS, WITHOUT_LABEL, check_class_rows, fit_few_shot
from aigid.training.heads import Heads
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR

LABELS = ("real", "flux", "sdxl", "sd3")
TEXT, IMAGE = 4, 20


def make_rows(
    rows_per_class: int, seed: int = 0, *, distance: float = 1.0, telling_text: bool = False
) -> LabelledFeatures:
    """Return rows of four classes that image features, or text features, tell apart."""
    rng = np.random.default_rng(seed)
    label_b = np.arange(4).repeat(rows_per_class)
    text = rng.normal(size=(len(label_b), TEXT))
    image = rng.normal(size=(len(label_b), IMAGE))
    means = np.random.default_rng(1).normal(size=(4, TEXT + IMAGE)) * distance
    if telling_text:
        text += 6 * means[label_b, :TEXT]
    else:
        image += means[label_b, TEXT:]
    return LabelledFeatures(
        text.astype(np.float32),
        image.astype(np.float32),
        (label_b > 0).astype(np.int64),
        label_b.astype(np.int64),
    )


def answers(heads: Heads, rows: LabelledFeatures) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        logits = heads.fuse(torch.from_numpy(rows.text), torch.from_numpy(rows.image))
        return probabilities(logits, Temperatures())


def test_heads_from_a_few_rows_answer_both_questions_of_fresh_rows() -> None:
    found = fit_few_shot(make_rows(15), LABELS)
    fresh = make_rows(300, seed=9)
    p_ai, p_source = answers(found.heads, fresh)
    assert np.mean((p_ai > 0.5).numpy() == fresh.label_a) > 0.9
    generated = fresh.label_a == 1
    likeliest = 1 + p_source[:, 1:].argmax(dim=1).numpy()
    assert np.mean(likeliest[generated] == fresh.label_b[generated]) > 0.9


def test_cross_validation_does_not_flatter() -> None:
    """On labels that mean nothing it is at chance, though heads fit these rows perfectly."""
    rows = make_rows(20, distance=0.0)
    found = fit_few_shot(rows, LABELS)
    right = (found.logits.a > 0).numpy() == rows.label_a
    by_class = [right[rows.label_a == label].mean() for label in (0, 1)]
    assert np.mean(by_class) == pytest.approx(0.5, abs=0.12)
    p_ai, _ = probabilities(found.logits, Temperatures())
    assert float((p_ai - 0.5).abs().mean()) < 0.3


def test_the_heads_need_no_temperatures() -> None:
    rows = make_rows(100, distance=0.4)
    found = fit_few_shot(rows, LABELS)
    label_a, label_b = torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b)
    assert dataclasses.astuple(fit_temperatures(found.logits, label_a, label_b)) == pytest.approx(
        (1, 1), rel=1e-3
    )
    fresh = make_rows(2_000, seed=3, distance=0.4)
    p_ai, _ = answers(found.heads, fresh)
    claimed = torch.where(p_ai > 0.5, p_ai, 1 - p_ai).mean()
    # Real and AI-generated rows count the same.
    weight = np.where(fresh.label_a == 1, 1 / 3, 1.0)
    right = np.average((p_ai > 0.5).numpy() == fresh.label_a, weights=weight)
    assert float(claimed) == pytest.approx(right, abs=0.08)


def test_prompts_count_only_where_they_help() -> None:
    assert not fit_few_shot(make_rows(25), LABELS).uses_prompts
    telling = fit_few_shot(make_rows(25, telling_text=True), LABELS)
    assert telling.uses_prompts
    fresh = make_rows(300, seed=9, telling_text=True)
    p_ai, _ = answers(telling.heads, fresh)
    assert np.mean((p_ai > 0.5).numpy() == fresh.label_a) > 0.9


def test_unused_prompts_have_no_influence() -> None:
    rows = make_rows(25)
    heads = fit_few_shot(rows, LABELS).heads
    without = dataclasses.replace(rows, text=np.zeros_like(rows.text))
    torch.testing.assert_close(answers(heads, rows), answers(heads, without))


@pytest.mark.parametrize("code", [UNKNOWN_GENERATOR, OTHER_GENERATOR])
def test_rows_without_a_label_count_for_head_a_alone(code: int) -> None:
    rows = make_rows(30)
    unnamed = dataclasses.replace(rows, label_b=np.where(rows.label_b == 3, code, rows.label_b))
    found = fit_few_shot(unnamed, LABELS[:3])
    assert found.logits.b.shape == (len(rows.label_a), 3)
    fresh = make_rows(300, seed=9)
    p_ai, p_source = answers(found.heads, fresh)
    assert p_source.shape[1] == 3
    assert float((p_ai[fresh.label_b == 3] > 0.5).float().mean()) > 0.9


def test_two_labels_are_enough() -> None:
    rows = make_rows(30)
    binary = dataclasses.replace(rows, label_b=rows.label_a)
    found = fit_few_shot(binary, ("real", "other"))
    p_ai, p_source = answers(found.heads, make_rows(100, seed=9))
    torch.testing.assert_close(p_source[:, 1], p_ai)


def test_the_same_rows_give_the_same_heads() -> None:
    one, other = (fit_few_shot(make_rows(20), LABELS).heads.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fewer_rows_than_folds_are_refused_with_the_classes() -> None:
    rows = make_rows(FOLDS)
    few = rows.take(np.arange(len(rows.label_a))[:-2])
    with pytest.raises(ManifestError, match="each class needs 5 rows.*: sd3 has 3: add such rows"):
        fit_few_shot(few, LABELS)
    fit_few_shot(rows, LABELS)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"real": 4, "flux": 9}, ": real has 4: add"),
        ({"real": 0, "flux": 9, "sdxl": 0}, ": real has 0, sdxl has 0: add"),
        ({"real": 9, "flux": 0, WITHOUT_LABEL: 0}, "all 9 rows are real"),
        ({"real": 9, "flux": 9, WITHOUT_LABEL: 2}, f": {WITHOUT_LABEL} has 2: add"),
    ],
)
def test_each_class_with_too_few_rows_is_named(counts: dict[str, int], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        check_class_rows(counts)


def test_no_rows_without_a_label_are_needed() -> None:
    check_class_rows({"real": 5, "flux": 5, WITHOUT_LABEL: 0})
