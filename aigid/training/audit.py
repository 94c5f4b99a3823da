"""Format bias: how well the class of a labelled image can be guessed from facts of its file, without its picture.

Real and generated images of a data set often differ in format, size and JPEG quality. A detector learns that, does well on the
data set and badly elsewhere, and robustness figures are inflated (arXiv 2606.20488).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import JpegImagePlugin
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from aigid.bounded_map import bounded_map
from aigid.errors import UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references, image_root_of
from aigid.manifest import read_segment
from aigid.pixels import FORMATS, DecodeLimits, open_image
from aigid.records import SOURCES, RowFailure
from aigid.training.hub_data import downloaded
from aigid.training.labelled import check_labels, label_columns, open_labelled, row_group_segments

FOLDS = 5
# So far above chance a guess from file facts is a bias that a detector will learn.
BIAS = 0.1
_FETCH_THREADS = 16
_SIZE = ("width", "height")
_GROUPS = {
    "format": ("format", "mode"),
    "dimensions": (*_SIZE, "pixels", "ratio"),
    "byte size": ("bytes", "bytes a pixel"),
    "JPEG tables": ("luminance table", "chrominance table", "subsampling", "progressive"),
    "metadata": ("exif", "icc profile", "other metadata"),
}
"""The facts, by what a person would unify."""
_MODES = ("L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16")

Facts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Guess:
    """Balanced accuracy of guessing a task's classes from some facts, cross-validated, and that of guessing blindly."""

    accuracy: float
    spread: float
    chance: float

    @property
    def is_biased(self) -> bool:
        """Whether it is well above chance, and not by the luck of the folds."""
        return self.accuracy > self.chance + max(BIAS, 2 * self.spread)


@dataclass(frozen=True)
class Audit:
    """What the file facts of a manifest give away: per task ("a", "b") and group of facts, "all" among them."""

    rows: int
    unreadable: int
    guesses: dict[str, dict[str, Guess]]

    @property
    def biased(self) -> dict[str, list[str]]:
        """Per task, the groups of facts that tell its classes apart, the most telling first."""
        return {
            task: sorted(
                (name for name, guess in found.items() if guess.is_biased),
                key=lambda name: -found[name].accuracy,
            )
            for task, found in self.guesses.items()
        }

    def to_json(self) -> dict[str, Any]:
        """The same for `json.dumps`."""
        guesses = {
            task: {
                name: {**vars(guess), "biased": guess.is_biased} for name, guess in found.items()
            }
            for task, found in self.guesses.items()
        }
        return {"rows": self.rows, "unreadable": self.unreadable, "guesses": guesses}


def audit(sources: tuple[str, ...], limit: int | None = None, seed: int = 0) -> Audit:
    """Guess the labels of a manifest's images from their files' facts; `limit` takes that many rows, spread over it.

    Raises UsageError where the manifest has no labels, or of a class fewer rows than folds.
    """
    facts, labels, unreadable = [], [], 0
    for row, label in _rows(sources, limit, seed):
        if row is None:
            unreadable += 1
        else:
            facts.append(row)
            labels.append(label)
    names, table = list(fact_names()), np.array(facts).reshape(len(facts), -1)
    sources_b = np.array(labels, dtype=np.int64)
    guesses = {}
    for task, truth in (("a", (sources_b > 0).astype(np.int64)), ("b", sources_b)):
        _check_classes(truth, task)
        columns = {name: [names.index(fact) for fact in group] for name, group in _GROUPS.items()}
        columns = {"all": list(range(len(names))), **columns}
        guesses[task] = {
            name: _guess(table[:, chosen], truth, seed, name == "all")
            for name, chosen in columns.items()
        }
    return Audit(len(facts), unreadable, guesses)


def fact_names() -> Iterator[str]:
    """The facts' names, in the order of `file_facts`."""
    for group in _GROUPS.values():
        yield from group


def file_facts(data: bytes, limits: DecodeLimits = DecodeLimits()) -> list[float]:
    """What an encoded image's file says without its picture, as numbers; raises RowFailure where it is no image."""
    image = open_image(data, limits)
    pixels = image.width * image.height
    tables = getattr(image, "quantization", {})
    luminance, chrominance = (float(sum(tables[key])) if key in tables else 0.0 for key in (0, 1))
    known = {"exif", "icc_profile"}
    facts = {
        "format": FORMATS.index(image.format) if image.format in FORMATS else -1,
        "mode": _MODES.index(image.mode) if image.mode in _MODES else -1,
        "width": image.width,
        "height": image.height,
        "pixels": pixels,
        "ratio": image.width / image.height,
        "bytes": len(data),
        "bytes a pixel": len(data) / pixels,
        "luminance table": luminance,
        "chrominance table": chrominance,
        "subsampling": JpegImagePlugin.get_sampling(image)
        if isinstance(image, JpegImagePlugin.JpegImageFile)
        else -2,
        "progressive": bool(image.info.get("progressive")),
        "exif": "exif" in image.info,
        "icc profile": "icc_profile" in image.info,
        "other metadata": len(set(image.info) - known),
    }
    return [float(facts[name]) for name in fact_names()]


def _rows(
    sources: tuple[str, ...], limit: int | None, seed: int
) -> Iterator[tuple[list[float] | None, int]]:
    """The facts and the Label_B of rows, in an order that does not depend on how the manifest is sorted."""
    sources = tuple(map(downloaded, sources))
    policy = FetchPolicy(image_root_of(sources))

    def with_facts(pair: tuple[ImageReference, int]) -> tuple[list[float] | None, int]:
        try:
            return file_facts(fetch_image(pair[0], policy), policy.limits), pair[1]
        except RowFailure:
            return None, pair[1]

    return bounded_map(with_facts, islice(_references(sources, seed), limit), _FETCH_THREADS)


def _references(sources: tuple[str, ...], seed: int) -> Iterator[tuple[ImageReference, int]]:
    manifest = open_labelled(sources)
    names = label_columns(manifest)
    groups = row_group_segments(manifest)
    for index in np.random.default_rng(seed).permutation(len(groups)):
        for rows in read_segment(manifest, groups[index]):
            labels = zip(*(rows.column(name).to_pylist() for name in names), strict=True)
            for image, (label_a, label_b) in zip(
                image_references(rows.column(manifest.columns.image)), labels, strict=True
            ):
                check_labels(label_a, label_b, groups[index].file.path)
                yield image, label_b


def _check_classes(truth: npt.NDArray[np.int64], task: str) -> None:
    classes, counts = np.unique(truth, return_counts=True)
    if len(classes) < 2 or counts.min() < FOLDS:
        names = ("real", "ai") if task == "a" else SOURCES
        found = (
            ", ".join(
                f"{names[label]} {count}" for label, count in zip(classes, counts, strict=True)
            )
            or "none"
        )
        raise UsageError(
            f"an audit needs two classes or more, of each {FOLDS} readable rows or more: found {found}"
        )


def _guess(facts: Facts, truth: npt.NDArray[np.int64], seed: int, all_facts: bool) -> Guess:
    model: Any = DecisionTreeClassifier(
        max_depth=8, min_samples_leaf=5, class_weight="balanced", random_state=seed
    )
    if all_facts:
        model = RandomForestClassifier(
            100, min_samples_leaf=3, class_weight="balanced", random_state=seed
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    answers = cross_val_predict(model, facts, truth, cv=folds)
    parts = [
        balanced_accuracy_score(truth[test], answers[test]) for _, test in folds.split(facts, truth)
    ]
    return Guess(float(np.mean(parts)), float(np.std(parts)), 1 / len(np.unique(truth)))
