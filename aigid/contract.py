"""The model's contract: what it expects of its inputs and how its outputs are read, as data beside the weights."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from aigid.errors import ContractError
from aigid.records import SOURCES

CONTRACT_FORMAT = 1
CONTRACT_FILE = "contract.json"
TOKENIZER_FILE = "tokenizer.json"


class Resizing(StrEnum):
    """How an image of any size becomes the model's square, or several of them."""

    SHORTER_SIDE = "shorter_side"
    """Shorter side to `size` (bicubic), then the centre crop: CLIP's preprocessing."""
    NATIVE_CROP = "native_crop"
    """The centre crop at native resolution, moved left and up to a multiple of 16 pixels; only images smaller than `size`
    are resized."""
    FOUR_NATIVE_CROPS = "4_native_crops"
    """A grid of 2 x 2 such crops from edge to edge; their features are averaged."""
    NINE_NATIVE_CROPS = "9_native_crops"
    """The same with 3 x 3 crops."""


@dataclass(frozen=True)
class ImageSpec:
    """What the image encoder expects. Defaults are CLIP's; mean and std are per channel, of values in [0, 1]."""

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
        """How many crops there are in a row of the grid, and rows in the grid."""
        return {Resizing.FOUR_NATIVE_CROPS: 2, Resizing.NINE_NATIVE_CROPS: 3}.get(self.resizing, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image's pixels: height, width, channels; several crops stand below one another, row by row of the grid."""
        return self.crops_across**2 * self.size, self.size, 3


@dataclass(frozen=True)
class PromptSpec:
    """What the text encoder expects: at most `max_tokens` ids, padded to the smallest of `buckets`."""

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
    """What the logits of each head are divided by, inside the graph, so that probabilities are calibrated."""

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ContractError(f"temperatures must be positive: got {self}")


@dataclass(frozen=True)
class ModelContract:
    """A model as data. `thresholds` maps a false-positive rate, as text ("0.01"), to the `p_ai` that gives it."""

    name: str
    notice: str
    text_features: int
    image_features: int
    fingerprint: str
    version: int = 1
    cpu_precision: str = "int8"
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    labels: tuple[str, ...] = SOURCES
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.labels != SOURCES:
            raise ContractError(f"labels must be {list(SOURCES)}: got {list(self.labels)}")
        if self.text_features < 1 or self.image_features < 1 or self.version < 1:
            raise ContractError("text_features, image_features and version must be positive")
        wrong = [rate for rate in self.thresholds if not _is_rate(rate)]
        if wrong:
            raise ContractError(
                f"thresholds: a false-positive rate is a number from 0 to 1: got {wrong}"
            )

    def threshold_for(self, max_fpr: float) -> float:
        """The stored `p_ai` threshold whose false-positive rate is at most `max_fpr`."""
        rates = [float(rate) for rate in self.thresholds if float(rate) <= max_fpr]
        if not rates:
            known = ", ".join(sorted(self.thresholds)) or "none"
            raise ContractError(
                f"model {self.name} has no threshold for a false-positive rate of {max_fpr}: it has {known}"
            )
        best = max(rates)
        return next(value for rate, value in self.thresholds.items() if float(rate) == best)


def from_strict_dict(cls: type[Any], values: Any, where: str) -> Any:
    """Build the dataclass `cls` from a mapping that has exactly its fields, nested ones included.

    Raises ContractError for unknown or missing keys and wrong types, so that a newer or a damaged file is never half
    understood.
    """
    if not isinstance(values, dict):
        raise ContractError(f"{where}: expected an object, got {type(values).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    unknown, missing = sorted(values.keys() - fields.keys()), sorted(fields.keys() - values.keys())
    if unknown or missing:
        raise ContractError(
            f"{where}: unknown keys {unknown}, missing keys {missing}; was it written by another version?"
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
        made = cls(**built)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        _check_types(fields.values(), values, where)
        raise ContractError(f"{where}: a value has the wrong type: {error}") from error
    # Dataclasses take values of any type.
    _check_types(fields.values(), values, where)
    return made


def _check_types(
    fields: Iterable[dataclasses.Field[Any]], values: dict[str, Any], where: str
) -> None:
    for item in fields:
        if not dataclasses.is_dataclass(item.type) and not _fits(values[item.name], item.type):
            got = json.dumps(values[item.name])[:100]
            raise ContractError(f"{where}.{item.name}: expected {_type_name(item.type)}, got {got}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of the type `kind`; lists do for tuples, whole numbers for fractions."""
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
    """The parsed JSON file, or a ContractError that names `what` it should have been."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError(f"{path}: no such file; expected {what}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not readable as {what}: {error}") from error


def load_contract(repository: Path) -> ModelContract:
    """Read `contract.json` of a model repository; raises ContractError where it is missing or not understood."""
    path = repository / CONTRACT_FILE
    values = read_json(path, "the contract of a model repository")
    if not isinstance(values, dict) or values.pop("format", None) != CONTRACT_FORMAT:
        raise ContractError(
            f"{path}: its format is not {CONTRACT_FORMAT}, the one this version of aigid reads"
        )
    contract: ModelContract = from_strict_dict(ModelContract, values, str(path))
    return contract


def save_contract(contract: ModelContract, repository: Path) -> None:
    """Write `contract.json` into a model repository."""
    text = json.dumps({"format": CONTRACT_FORMAT, **dataclasses.asdict(contract)}, indent=2)
    (repository / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")


def model_fingerprint(weights: bytes, tokenizer: bytes, description: dict[str, Any]) -> str:
    """A model's identity: SHA-256 over its weights, tokenizer and everything else that changes its answers."""
    digest = hashlib.sha256()
    for part in (weights, tokenizer, json.dumps(description, sort_keys=True).encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
