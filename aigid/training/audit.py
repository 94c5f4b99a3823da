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
from aigid.manifest import read_segment
from aigid.records import DEFAULT_LABELS, RowFailure
from aigid.training.file_facts import FACT_GROUPS, fact_names, file_facts
from aigid.training.hub_data import local_manifest_path
from aigid.training.labelled import check_labels, label_columns, open_labelled, row_group_segments

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

    The group "all" holds all facts. `unreadable` counts images that were left out.
    """

    rows: int
    unreadable: int
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
        return {"rows": self.rows, "unreadable": self.unreadable, "guesses": guesses}


def audit(paths: tuple[str, ...], limit: int | None = None, seed: int = 0) -> Audit:
    """Guess the labels of a manifest's images from facts about their files.

    `limit` takes that many rows, from row groups drawn at random. Raises UsageError where the
    manifest has no labels, or a class has fewer rows than there are folds.
    """
    facts, labels, unreadable = [], [], 0
    for row, label in _rows(paths, limit, seed):
        if row is None:
            unreadable += 1
        else:
            facts.append(row)
            labels.append(label)
    table = np.array(facts).reshape(len(facts), -1)
    label_b = np.array(labels, dtype=np.int64)
    return Audit(
        len(facts),
        unreadable,
        {
            "a": _guesses(table, (label_b > 0).astype(np.int64), ("real", "ai"), seed),
            "b": _guesses(table, label_b, DEFAULT_LABELS, seed),
        },
    )


def _rows(
    paths: tuple[str, ...], limit: int | None, seed: int
) -> Iterator[tuple[list[float] | None, int]]:
    """Yield the facts and the Label_B of rows, with row groups in random order.

    The facts are None where the image cannot be read.
    """
    paths = tuple(map(local_manifest_path, paths))
    policy = FetchPolicy(image_root_of(paths))

    def with_facts(pair: tuple[ImageReference, int]) -> tuple[list[float] | None, int]:
        reference, label = pair
        try:
            return file_facts(fetch_image(reference, policy), policy.limits), label
        except RowFailure:
            return None, label

    return bounded_map(with_facts, islice(_references(paths, seed), limit), _FETCH_THREADS)


def _references(paths: tuple[str, ...], seed: int) -> Iterator[tuple[ImageReference, int]]:
    manifest = open_labelled(paths)
    names = label_columns(manifest)
    groups = row_group_segments(manifest)
    for index in np.random.default_rng(seed).permutation(len(groups)):
        for rows in read_segment(manifest, groups[index]):
            references = image_references(rows.column(manifest.columns.image))
            labels = [rows.column(name).to_pylist() for name in names]
            for reference, label_a, label_b in zip(references, *labels, strict=True):
                check_labels(label_a, label_b, groups[index].file.path)
                yield reference, label_b


def _guesses(
    table: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    seed: int,
) -> dict[str, Guess]:
    """Return the guess of one task's classes from each group of facts."""
    _check_classes(truth, class_names)
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


def _check_classes(truth: npt.NDArray[np.int64], class_names: tuple[str, ...]) -> None:
    classes, counts = np.unique(truth, return_counts=True)
    if len(classes) < 2 or counts.min() < FOLDS:
        found = ", ".join(
            f"{class_names[label]} {count}" for label, count in zip(classes, counts, strict=True)
        )
        raise UsageError(
            f"an audit needs at least two classes with at least {FOLDS} readable rows each: "
            f"found {found or 'none'}"
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
