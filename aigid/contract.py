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
from pathlib import Path
from typing import Any, get_args, get_origin

from aigid.errors import ContractError
from aigid.records import DEFAULT_LABELS

CONTRACT_FORMAT = 1
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
class ModelContract:
    """A model as data. `thresholds` maps a false-positive rate as text ("0.01") to its `p_ai`."""

    name: str
    notice: str
    text_features: int
    image_features: int
    fingerprint: str
    version: int = 1
    cpu_precision: str = "int8"
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    labels: tuple[str, ...] = DEFAULT_LABELS
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.labels != DEFAULT_LABELS:
            raise ContractError(f"labels must be {list(DEFAULT_LABELS)}: got {list(self.labels)}")
        if self.text_features < 1 or self.image_features < 1 or self.version < 1:
            raise ContractError("text_features, image_features and version must be positive")
        wrong = [rate for rate in self.thresholds if not _is_rate(rate)]
        if wrong:
            raise ContractError(
                f"thresholds: a false-positive rate is a number from 0 to 1: got {wrong}"
            )

    def threshold_for(self, max_fpr: float) -> float:
        """Return the `p_ai` threshold of the largest stored rate that is at most `max_fpr`.

        Raises ContractError if no stored rate is that low.
        """
        rates = [float(rate) for rate in self.thresholds if float(rate) <= max_fpr]
        if not rates:
            known = ", ".join(sorted(self.thresholds)) or "none"
            raise ContractError(
                f"model {self.name} has no threshold for a false-positive rate of {max_fpr}: "
                f"it has {known}"
            )
        best = max(rates)
        return next(value for rate, value in self.thresholds.items() if float(rate) == best)


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
    built = {}
    for name, item in fields.items():
        nested = (
            item.type
            if isinstance(item.type, type) and dataclasses.is_dataclass(item.type)
            else None
        )
        built[name] = (
            from_strict_dict(nested, values[name], f"{where}.{name}") if nested else values[name]
        )
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


def _check_types(
    fields: Iterable[dataclasses.Field[Any]], values: dict[str, Any], where: str
) -> None:
    for item in fields:
        if not dataclasses.is_dataclass(item.type) and not _fits(values[item.name], item.type):
            got = json.dumps(values[item.name])[:100]
            raise ContractError(f"{where}.{item.name}: expected {_type_name(item.type)}, got {got}")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON has the type `kind`.

    Lists pass for tuples, and ints for floats.
    """
    inside = get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_fits(item, inside[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return value in list(kind)
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
            "a checkpoint, not a model repository; build one from it: "
            f"python build/pipeline.py {shlex.quote(str(folder))} REPOSITORY --calibration MANIFEST"
        )
    return (
        f"not a model repository: it has no {CONTRACT_FILE}; "
        "build/pipeline.py builds one from a checkpoint"
    )


def load_contract(repository: Path) -> ModelContract:
    """Read a repository's `contract.json`. Raises ContractError if it is missing or invalid."""
    path = repository / CONTRACT_FILE
    values = read_json(path, "the contract of a model repository")
    if not isinstance(values, dict) or values.pop("format", None) != CONTRACT_FORMAT:
        raise ContractError(
            f"{path}: its format is not {CONTRACT_FORMAT}, the one that this version of aigid reads"
        )
    contract: ModelContract = from_strict_dict(ModelContract, values, str(path))
    return contract


def save_contract(contract: ModelContract, repository: Path) -> None:
    """Write `contract.json` into a model repository."""
    text = json.dumps({"format": CONTRACT_FORMAT, **dataclasses.asdict(contract)}, indent=2)
    (repository / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")


def model_fingerprint(weights: bytes, tokenizer: bytes, description: dict[str, Any]) -> str:
    """Return the SHA-256 of a model's weights, its tokenizer and all else that sets its answers."""
    digest = hashlib.sha256()
    for part in (weights, tokenizer, json.dumps(description, sort_keys=True).encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
