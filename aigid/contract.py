"""The model's contract, as data beside its weights: what the inputs are, how to read the outputs.

This module also finds the model repository that a path names.
"""

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from aigid.errors import ContractError
from aigid.records import DEFAULT_LABELS, OTHER, REAL

CONTRACT_FORMAT = 2
CONTRACT_FILE = "contract.json"
TOKENIZER_FILE = "tokenizer.json"
_CHECKPOINT_FILES = ("config.json", "model.safetensors")
_PACKAGE = Path(__file__).parent
# In a clone the demo model is beside the package, in an installed wheel it is in it.
_DEMO_MODELS = (_PACKAGE.parent / "model_repository", _PACKAGE / "demo_model")


class Resizing(StrEnum):
    """How an image of any size becomes the model's square input, or several squares."""

    SHORTER_SIDE = "shorter_side"
    """Resize the shorter side to `size` (bicubic), then crop the centre: CLIP's preprocessing."""
    SQUASH = "squash"
    """Resize both sides to `size` (bilinear), whatever the aspect ratio: the preprocessing of
    SigLIP 2, DINOv3 and Perception Encoder."""
    SQUASH_BICUBIC = "squash_bicubic"
    """The same with a bicubic filter: SigLIP's preprocessing."""
    NATIVE_CROP = "native_crop"
    """Crop the centre at native resolution, from a corner at a multiple of 16 pixels. Only an image
    smaller than `size` is resized."""
    FOUR_NATIVE_CROPS = "4_native_crops"
    """Take a grid of 2 x 2 such crops from edge to edge. The model averages their features."""
    NINE_NATIVE_CROPS = "9_native_crops"
    """Take a grid of 3 x 3 such crops."""


@dataclass(frozen=True)
class ImageSpec:
    """What the image encoder expects. The defaults are CLIP's.

    `mean` and `std` have one value for each channel, for pixels scaled to [0, 1].
    """

    size: int = 224
    resizing: Resizing = Resizing.SHORTER_SIDE
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resizing", Resizing(self.resizing))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ContractError(
                f"image: size must be positive, mean and std three numbers, std above 0: got {self}"
            )

    @property
    def is_native(self) -> bool:
        """Whether crops are taken at native resolution."""
        return self.resizing in (
            Resizing.NATIVE_CROP,
            Resizing.FOUR_NATIVE_CROPS,
            Resizing.NINE_NATIVE_CROPS,
        )

    @property
    def crops_across(self) -> int:
        """The number of crops in each row of the grid, and of rows in it."""
        return {Resizing.FOUR_NATIVE_CROPS: 2, Resizing.NINE_NATIVE_CROPS: 3}.get(self.resizing, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image's pixels: height, width, channels.

        Several crops are stacked vertically, in the grid's row-major order.
        """
        return self.crops_across**2 * self.size, self.size, 3


@dataclass(frozen=True)
class PromptSpec:
    """What the text encoder expects: at most `max_tokens` ids, padded to the smallest bucket."""

    max_tokens: int = 128
    buckets: tuple[int, ...] = (16, 32, 64, 128)

    def __post_init__(self) -> None:
        object.__setattr__(self, "buckets", tuple(self.buckets))
        rising = list(self.buckets) == sorted(set(self.buckets))
        if (
            not self.buckets
            or not rising
            or self.buckets[0] < 2
            or self.buckets[-1] != self.max_tokens
        ):
            raise ContractError(
                f"prompt: buckets must rise, from 2 or more, to max_tokens: got {self}"
            )


@dataclass(frozen=True)
class Temperatures:
    """The divisors of each head's logits, inside the graph, that calibrate the probabilities."""

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ContractError(f"temperatures must be positive: got {self}")


@dataclass(frozen=True)
class Threshold:
    """The `p_ai` threshold of a false-positive rate.

    It was measured on `real_rows` rows of real images. With the probability `confidence`, the true
    rate is not above the one that was asked for.
    """

    p_ai: float
    real_rows: int
    confidence: float

    def __post_init__(self) -> None:
        if self.real_rows < 1 or not 0 < self.confidence < 1:
            raise ContractError(
                f"a threshold needs real_rows above 0, and a confidence between 0 and 1: got {self}"
            )


def rows_needed(rate: float, confidence: float = 0.95) -> int:
    """Return how many real rows a threshold for the false-positive rate `rate` needs.

    With fewer, even a detector that calls none of them AI-generated may exceed the rate.
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


@dataclass(frozen=True)
class OpenSet:
    """When an AI-generated image's source is `other`: its `known_score` is below `threshold`.

    `known_rate` is the share of the known generators' rows that keep their generator's name, of the
    `rows` that the threshold was fitted on.
    """

    threshold: float
    known_rate: float
    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1 or not 0 <= self.known_rate <= 1:
            raise ContractError(
                f"open_set needs rows above 0, and a known_rate from 0 to 1: got {self}"
            )


@dataclass(frozen=True)
class FittedOn:
    """What temperatures and thresholds were fitted on.

    `data` names the manifest, `rows` counts its rows and `real_rows` those of real images. `graphs`
    is the precision of the graphs that scored them, or "torch" for the checkpoint itself.
    """

    data: str
    rows: int
    real_rows: int
    graphs: str


@dataclass(frozen=True)
class ModelContract:
    """A model as data.

    `labels` are the classes in the order of `p_source`, "real" first. `thresholds` maps a
    false-positive rate as text ("0.01") to its threshold. Without `open_set`, no source is `other`.
    `encoders_fingerprint` is that of both encoders and of what they read, `fingerprint` that of the
    whole model: new heads change the second only.
    """

    name: str
    notice: str
    text_features: int
    image_features: int
    fingerprint: str
    encoders_fingerprint: str
    version: int = 1
    cpu_precision: str = "int8"
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    labels: tuple[str, ...] = DEFAULT_LABELS
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    open_set: OpenSet | None = None
    fitted_on: FittedOn | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels, self.open_set)
        if self.text_features < 1 or self.image_features < 1 or self.version < 1:
            raise ContractError("text_features, image_features and version must be positive")
        wrong = [rate for rate in self.thresholds if not _is_rate(rate)]
        if wrong:
            raise ContractError(
                f"thresholds: a false-positive rate is a number from 0 to 1: got {wrong}"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The values that `source` can have, in the order of `p_source`."""
        return self.labels if self.open_set is None else (*self.labels, OTHER)

    def graph_fingerprint(self, part: str) -> str:
        """Return the fingerprint that the graph of a part carries."""
        return self.fingerprint if part == "fusion_heads" else self.encoders_fingerprint

    def threshold_for(self, max_fpr: float) -> Threshold:
        """Return the threshold of the false-positive rate `max_fpr`.

        Raises ContractError if that rate is not among the stored ones.
        """
        for rate, threshold in self.thresholds.items():
            if float(rate) == max_fpr:
                return threshold
        known = [
            f"{rate} ({item.real_rows:,} real rows)"
            for rate, item in sorted(self.thresholds.items(), key=lambda pair: float(pair[0]))
        ]
        raise ContractError(
            f"`max_fpr` {max_fpr:g}: model {self.name} has no threshold for this false-positive "
            f"rate: it has {', '.join(known) or 'none'}{self._fitted_on() if known else ''}"
            f"{_how_to_fit(max_fpr)}"
        )

    def threshold_origin(self, max_fpr: float) -> str:
        """Return a line that says what the threshold of a rate was measured on.

        Raises ContractError as `threshold_for` does.
        """
        return (
            f"the threshold for a false-positive rate of {max_fpr:g} was measured on "
            f"{self.threshold_for(max_fpr).real_rows:,} real rows{self._fitted_on()}: "
            "on images of another kind the rate can be higher"
        )

    def _fitted_on(self) -> str:
        return f" of {self.fitted_on.data}, {self.fitted_on.graphs}" if self.fitted_on else ""


def _how_to_fit(max_fpr: float) -> str:
    if not 0 < max_fpr < 1:
        return ""
    return (
        f"; {max_fpr:g} needs {rows_needed(max_fpr):,} real rows: fit it on labelled rows of your "
        f"own with: aigid calibrate MODEL MANIFEST --max-fpr {max_fpr:g}"
    )


def check_labels(labels: tuple[str, ...], open_set: OpenSet | None = None) -> None:
    """Raise ContractError unless these can be a model's labels.

    They are at least two, all different and printable, and the first is "real". A model with the
    label "other" has a class for generators that it does not know, and so no open set.
    """
    if open_set is not None and OTHER in labels:
        raise ContractError(f"open_set must be null for a model with the label {OTHER!r}")
    if (
        labels[:1] != (REAL,)
        or len(labels) < 2
        or len(set(labels)) < len(labels)
        or not all(label.isprintable() and label.strip() == label != "" for label in labels)
    ):
        raise ContractError(
            f"labels must be at least two different names, {REAL!r} first: got {list(labels)}"
        )


def from_strict_dict(cls: type[Any], values: Any, where: str) -> Any:
    """Build the dataclass `cls` from a mapping that has exactly its fields, also in nested ones.

    Raises ContractError for unknown keys, missing keys and wrong types, so that a newer or damaged
    file is never half understood. The error begins with `where`.
    """
    if not isinstance(values, dict):
        raise ContractError(f"{where}: expected an object, got {type(values).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    unknown, missing = sorted(values.keys() - fields.keys()), sorted(fields.keys() - values.keys())
    if unknown or missing:
        raise ContractError(
            f"{where}: unknown keys {unknown}, missing keys {missing}; "
            "was it written by another version?"
        )
    built = {
        name: _from_json(values[name], item.type, f"{where}.{name}")
        for name, item in fields.items()
    }
    try:
        record = cls(**built)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        _check_types(fields.values(), values, where)
        raise ContractError(f"{where}: a value has the wrong type: {error}") from error
    # A dataclass accepts values of any type.
    _check_types(fields.values(), values, where)
    return record


def _from_json(value: Any, kind: Any, where: str) -> Any:
    """Return a value of the type `kind`: dataclasses are built, all else stays as it is."""
    inside = get_args(kind)
    if get_origin(kind) is UnionType:
        return None if value is None else _from_json(value, inside[0], where)
    if get_origin(kind) is dict and dataclasses.is_dataclass(inside[1]) and isinstance(value, dict):
        return {
            key: from_strict_dict(inside[1], item, f"{where}.{key}")  # type: ignore[arg-type]
            for key, item in value.items()
        }
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return from_strict_dict(kind, value, where)
    return value


def _check_types(
    fields: Iterable[dataclasses.Field[Any]], values: dict[str, Any], where: str
) -> None:
    for item in fields:
        if not _fits(values[item.name], item.type):
            got = json.dumps(values[item.name])[:100]
            raise ContractError(f"{where}.{item.name}: expected {_type_name(item.type)}, got {got}")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON has the type `kind`.

    Lists pass for tuples, and ints for floats.
    """
    inside = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_fits(value, one) for one in inside)
    if dataclasses.is_dataclass(kind):
        # `from_strict_dict` has checked what is in it.
        return isinstance(value, dict)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_fits(item, inside[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return value in list(kind)
    if kind is type(None):
        return value is None
    return kind is Any or type(value) is kind


def _type_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(kind)
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _is_rate(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. Raises ContractError that names `what` the file should have been."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError(f"{path}: no such file; expected {what}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not readable as {what}: {error}") from error


def find_model(model: Path | str | None, *, parameter: str = "model") -> Path:
    """Return the folder of the model repository, or of the demo model if `model` is None.

    Raises ContractError, which names `parameter`, if there is no model repository.
    """
    if model is None:
        for folder in _DEMO_MODELS:
            if (folder / CONTRACT_FILE).is_file():
                return folder
        raise ContractError(
            "the demo model is missing from this installation; "
            f"name a model repository with `{parameter}`"
        )
    folder = Path(model)
    try:
        if (folder / CONTRACT_FILE).is_file():
            return folder
        reason = _why_no_repository(folder)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ContractError(f"`{parameter}` {folder}: {reason}")


def _why_no_repository(folder: Path) -> str:
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file, not the folder of a model repository"
    if all((folder / name).is_file() for name in _CHECKPOINT_FILES):
        return (
            "a checkpoint, not a model repository; build one from it: aigid build "
            f"{shlex.quote(str(folder))} REPOSITORY --calibration MANIFEST --validation MANIFEST"
        )
    return (
        f"not a model repository: it has no {CONTRACT_FILE}; "
        "`aigid build` builds one from a checkpoint"
    )


def load_contract(repository: Path) -> ModelContract:
    """Read a repository's `contract.json`. Raises ContractError if it is missing or invalid."""
    path = repository / CONTRACT_FILE
    values = read_json(path, "the contract of a model repository")
    if not isinstance(values, dict) or values.pop("format", None) != CONTRACT_FORMAT:
        raise ContractError(
            f"{path}: its format is not {CONTRACT_FORMAT}, the one that this version of aigid "
            "reads: build the model repository again with `aigid build`"
        )
    contract: ModelContract = from_strict_dict(ModelContract, values, str(path))
    return contract


def save_contract(contract: ModelContract, repository: Path) -> None:
    """Write `contract.json` into a model repository."""
    text = json.dumps({"format": CONTRACT_FORMAT, **dataclasses.asdict(contract)}, indent=2)
    (repository / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")


def fingerprint_of(parts: Iterable[bytes], description: dict[str, Any]) -> str:
    """Return the SHA-256 of some bytes and of a description that JSON can hold."""
    digest = hashlib.sha256()
    for part in chain(parts, [json.dumps(description, sort_keys=True).encode()]):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
