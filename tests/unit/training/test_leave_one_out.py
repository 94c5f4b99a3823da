import dataclasses

import numpy as np
import pytest

from aigid.errors import ManifestError, UsageError
from aigid.training.config import TrainingConfig
from aigid.training.head_training import train_heads
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR
from aigid.training.leave_one_out import LeftOut, describe_encoders, leave_one_out
from aigid.training.training_progress import TrainingProgress

LABELS = ("real", "one", "two", "three", "four")
TEXT, IMAGE = 3, 12


def made_rows(rows_per_class: int, seed: int) -> LabelledFeatures:
    """Return rows of each label around centres of the image features; real rows are at 0."""
    rng = np.random.default_rng(seed)
    label_b = np.tile(np.arange(len(LABELS)), rows_per_class)
    centres = np.random.default_rng(1).normal(size=(len(LABELS), IMAGE)) * 2.0
    centres[0] = 0
    return LabelledFeatures(
        rng.normal(size=(len(label_b), TEXT)).astype(np.float32),
        (centres[label_b] + rng.normal(size=(len(label_b), IMAGE))).astype(np.float32),
        (label_b > 0).astype(np.int64),
        label_b.astype(np.int64),
    )


def moved(rows: LabelledFeatures, label: int) -> LabelledFeatures:
    """Return the rows, those of one label somewhere else."""
    image = rows.image.copy()
    image[rows.label_b == label] += 30
    return dataclasses.replace(rows, image=image)


def with_more(rows: LabelledFeatures, label_b: int, label_a: int = 1) -> LabelledFeatures:
    """Return the rows and 200 more of another label, somewhere else."""
    more = rows.take(np.arange(200))
    columns = zip(dataclasses.astuple(rows), dataclasses.astuple(more), strict=True)
    text, image, a, b = (np.concatenate(column) for column in columns)
    image[-200:] -= 20
    a[-200:], b[-200:] = label_a, label_b
    return LabelledFeatures(text, image, a, b)


@pytest.fixture(scope="module")
def sets() -> tuple[LabelledFeatures, LabelledFeatures]:
    return made_rows(200, 3), made_rows(100, 4)


@pytest.fixture
def found(
    sets: tuple[LabelledFeatures, LabelledFeatures], progress: TrainingProgress
) -> tuple[LeftOut, ...]:
    return leave_one_out(*sets, LABELS, progress)


def test_rows_of_an_unknown_generator_get_a_name_less_often(found: tuple[LeftOut, ...]) -> None:
    assert [one.generator for one in found] == [*LABELS[1:]]
    assert all(one.called_ai.rows == one.named.rows == 100 for one in found)
    called_ai, named = (
        sum(part.count for part in parts)
        for parts in zip(*((one.called_ai, one.named) for one in found), strict=True)
    )
    assert 0 < named < called_ai / 2
    for one in found:
        assert one.refused == ""
        assert one.auroc is not None
        assert one.auroc > 0.8
        assert one.macro_f1 is not None
        assert one.macro_f1_with_other is not None
        assert one.macro_f1 > 0.9
        assert one.macro_f1_with_other > one.macro_f1 - 0.03


def test_a_generator_that_is_left_out_does_not_change_the_heads(
    sets: tuple[LabelledFeatures, LabelledFeatures],
    found: tuple[LeftOut, ...],
    progress: TrainingProgress,
) -> None:
    train, test = sets
    again = leave_one_out(moved(train, 2), test, LABELS, progress)
    assert again[1] == found[1]
    assert again[0] != found[0]


def test_rows_whose_generator_is_no_label_do_not_count(
    sets: tuple[LabelledFeatures, LabelledFeatures],
    found: tuple[LeftOut, ...],
    progress: TrainingProgress,
) -> None:
    train, test = sets
    more = with_more(train, UNKNOWN_GENERATOR), with_more(test, OTHER_GENERATOR)
    assert leave_one_out(*more, LABELS, progress) == found


def test_a_label_without_training_rows_is_in_neither_set(
    sets: tuple[LabelledFeatures, LabelledFeatures], progress: TrainingProgress
) -> None:
    train, test = sets
    train = train.take(train.label_b != 3)
    found = leave_one_out(train, test, LABELS, progress)
    assert [one.generator for one in found] == ["one", "two", "four"]
    assert found == leave_one_out(train, test.take(test.label_b != 3), LABELS, progress)


def test_with_few_rows_no_source_is_other(
    sets: tuple[LabelledFeatures, LabelledFeatures], progress: TrainingProgress
) -> None:
    train, test = sets
    found = leave_one_out(train.take(np.arange(250)), test, LABELS, progress)
    assert all("needs 25 rows of each generator" in one.refused for one in found)
    assert all(one.named == one.called_ai for one in found)


def test_too_few_generators_and_a_class_of_others_are_refused(
    sets: tuple[LabelledFeatures, LabelledFeatures], progress: TrainingProgress
) -> None:
    train, test = sets
    with pytest.raises(ManifestError, match=r"`leave_one_out` needs rows of 3.*rows of one, two$"):
        leave_one_out(train.take(train.label_b < 3), test, LABELS, progress)
    with pytest.raises(UsageError, match="label other has a class for other generators"):
        leave_one_out(train, test, (*LABELS[:-1], "other"), progress)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"config": {"encoders": "frozen"}}, "were not trained on these generators"),
        ({"config": {"encoders": "lora"}}, "(--encoders lora): the figures are too good"),
        ({"config": {"encoders": "full"}}, "(--encoders full): the figures are too good"),
        ({}, "nothing tells whether"),
    ],
)
def test_encoders_that_saw_the_generators_are_named(training: dict[str, dict], words: str) -> None:
    assert words in describe_encoders(training)


def test_heads_learn_from_all_rows_and_are_the_same_each_time() -> None:
    rows = made_rows(60, 5)
    config = TrainingConfig(epochs=4, batch_rows=32, learning_rate=1e-3, encoders="frozen")
    one, again = (train_heads(rows, len(LABELS), config) for _ in range(2))
    assert all(
        np.array_equal(value.numpy(), again.state_dict()[name].numpy())
        for name, value in one.state_dict().items()
    )
    other = train_heads(rows.take(np.arange(1, 300)), len(LABELS), config)
    assert not np.array_equal(one.head_b.weight.detach(), other.head_b.weight.detach())
