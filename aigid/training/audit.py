"""Format bias: how well a labelled image's class can be guessed from its file, not its content.

Real and generated images of a data set often differ in format, size and JPEG quality. A detector
learns these differences: it does well on the data set, badly elsewhere, and its robustness figures
are inflated (arXiv 2606.20488).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from aigid.bounded_map import bounded_map
from aigid.errors import UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references, image_root_of
from aigid.manifest import Manifest, open_parquet, read_segment
from aigid.progress import OnMessage
from aigid.records import RowFailure
from aigid.training.file_facts import FACT_GROUPS, fact_names, file_facts
from aigid.training.hub_data import local_manifest_path
from aigid.training.labelled import row_group_segments
from aigid.training.labels import (
    LEFT_OUT,
    OTHER_GENERATOR,
    UNKNOWN_GENERATOR,
    LabelChoice,
    RowLabels,
    read_labels,
)

FOLDS = 5
MIN_BIAS = 0.1
"""A guess whose accuracy exceeds chance by more than this reveals a bias."""
_FETCH_THREADS = 16
_ALL = "all"


@dataclass(frozen=True)
class Guess:
    """The balanced accuracy of guessing the classes from some facts, over cross-validation folds.

    `accuracy` is the mean and `spread` the standard deviation over the folds; `chance` is the
    accuracy of a random guess.
    """

    accuracy: float
    spread: float
    chance: float

    @property
    def is_biased(self) -> bool:
        """Whether the accuracy is well above chance, by more than the folds' spread explains."""
        return self.accuracy > self.chance + max(MIN_BIAS, 2 * self.spread)

    def to_json(self) -> dict[str, float | bool]:
        """Return the guess for `json.dumps`."""
        return {
            "accuracy": self.accuracy,
            "spread": self.spread,
            "chance": self.chance,
            "biased": self.is_biased,
        }


@dataclass(frozen=True)
class Audit:
    """What file facts reveal in a manifest: guesses by task ("a", "b") and group of facts.

    The group "all" holds all facts. `unreadable` counts images that were left out, and
    `unlabelled` the rows of the whole manifest whose labels say nothing. `left_out_of_b` counts,
    by reason or class, the rows that tell nothing about generators; there is no task "b" where
    rows of fewer than two generators are left.
    """

    rows: int
    unreadable: int
    unlabelled: int
    left_out_of_b: dict[str, int]
    guesses: dict[str, dict[str, Guess]]

    @property
    def biased(self) -> dict[str, list[str]]:
        """By task, the groups of facts that reveal the classes, the most accurate first."""
        return {
            task: sorted(
                (name for name, guess in guesses.items() if guess.is_biased),
                key=lambda name: -guesses[name].accuracy,
            )
            for task, guesses in self.guesses.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the audit for `json.dumps`."""
        guesses = {
            task: {name: guess.to_json() for name, guess in of_task.items()}
            for task, of_task in self.guesses.items()
        }
        return {
            "rows": self.rows,
            "unreadable": self.unreadable,
            "unlabelled": self.unlabelled,
            "left_out_of_b": self.left_out_of_b,
            "guesses": guesses,
        }


def audit(
    paths: tuple[str, ...],
    limit: int | None = None,
    seed: int = 0,
    *,
    choice: LabelChoice = LabelChoice(),
    on_message: OnMessage = lambda line: None,
) -> Audit:
    """Guess the labels of a manifest's images from facts about their files.

    `limit` takes that many rows, from row groups drawn at random. Raises UsageError where the
    manifest has no labels, labels are invalid, or there are fewer rows than folds of real or of
    AI-generated images.
    """
    paths = tuple(map(local_manifest_path, paths))
    manifest = open_parquet(paths)
    row_labels = read_labels([manifest], choice)
    row_labels.check_any()
    for line in row_labels.describe():
        on_message(line)
    _check_classes(row_labels.counts.real, row_labels.counts.generated)
    facts, labels, unreadable = [], [], 0
    references = islice(_references(manifest, row_labels, seed), limit)
    for row, label in _facts(references, FetchPolicy(image_root_of(paths))):
        if row is None:
            unreadable += 1
        else:
            facts.append(row)
            labels.append(label)
    label_b = np.array(labels, dtype=np.int64)
    label_a = (label_b != 0).astype(np.int64)
    real, generated = np.bincount(label_a, minlength=2).tolist()
    _check_classes(real, generated, unreadable)
    table = np.array(facts)
    in_b, left_out = _rows_in_b(label_b, row_labels.labels)
    guesses = {"a": _guesses(table, label_a, seed)}
    if len(np.unique(label_b[in_b & (label_b > 0)])) > 1:
        guesses["b"] = _guesses(table[in_b], label_b[in_b], seed)
    unlabelled = row_labels.counts.left_out
    return Audit(len(facts), unreadable, unlabelled, left_out, guesses)


def _facts(
    references: Iterator[tuple[ImageReference, int]], policy: FetchPolicy
) -> Iterator[tuple[list[float] | None, int]]:
    """Yield the facts and the label of each image; facts are None where it cannot be read."""

    def with_facts(pair: tuple[ImageReference, int]) -> tuple[list[float] | None, int]:
        reference, label = pair
        try:
            return file_facts(fetch_image(reference, policy), policy.limits), label
        except RowFailure:
            return None, label

    return bounded_map(with_facts, references, _FETCH_THREADS)


def _references(
    manifest: Manifest, row_labels: RowLabels, seed: int
) -> Iterator[tuple[ImageReference, int]]:
    """Yield image and label of each row whose labels say something; row groups in random order."""
    groups = row_group_segments(manifest)
    for index in np.random.default_rng(seed).permutation(len(groups)):
        codes, start = row_labels.of(groups[index]), 0
        for rows in read_segment(manifest, groups[index]):
            labels = codes[start : start + len(rows)].tolist()
            start += len(rows)
            images = image_references(rows.column(manifest.columns.image))
            for image, label in zip(images, labels, strict=True):
                if label != LEFT_OUT:
                    yield image, label


def _rows_in_b(
    label_b: npt.NDArray[np.int64], labels: tuple[str, ...]
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Return which rows count for task B, and how many of the others there are by reason or class.

    A class with fewer rows than folds cannot be guessed.
    """
    left_out = {
        "unknown generator": label_b == UNKNOWN_GENERATOR,
        "generator without a label": label_b == OTHER_GENERATOR,
    }
    for label, rows in enumerate(np.bincount(label_b[label_b >= 0], minlength=len(labels))):
        if rows < FOLDS:
            left_out[labels[label]] = label_b == label
    counts = {reason: int(rows.sum()) for reason, rows in left_out.items() if rows.any()}
    return ~np.any(list(left_out.values()), axis=0), counts


def _guesses(
    table: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], seed: int
) -> dict[str, Guess]:
    """Return the guess of one task's classes from each group of facts."""
    names = list(fact_names())
    forest = RandomForestClassifier(
        100, min_samples_leaf=3, class_weight="balanced", random_state=seed
    )
    tree = DecisionTreeClassifier(
        max_depth=8, min_samples_leaf=5, class_weight="balanced", random_state=seed
    )
    guesses = {_ALL: _guess(forest, table, truth, seed)}
    for group, facts in FACT_GROUPS.items():
        columns = [names.index(fact) for fact in facts]
        guesses[group] = _guess(tree, table[:, columns], truth, seed)
    return guesses


def _check_classes(real: int, generated: int, unreadable: int = 0) -> None:
    if min(real, generated) < FOLDS:
        lost = f", and {unreadable:,} whose image cannot be read" if unreadable else ""
        raise UsageError(
            f"an audit needs at least {FOLDS} readable rows of real and of AI-generated images, "
            f"one for each fold: found {real} real and {generated} AI-generated rows{lost}: add "
            "rows of the class that lacks them, or raise `limit` if you set one"
        )


def _guess(
    model: Any, facts: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], seed: int
) -> Guess:
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, facts, truth, cv=folds)
    accuracies = [
        balanced_accuracy_score(truth[test], predicted[test])
        for _, test in folds.split(facts, truth)
    ]
    return Guess(float(np.mean(accuracies)), float(np.std(accuracies)), 1 / len(np.unique(truth)))
