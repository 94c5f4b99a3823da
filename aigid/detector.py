"""The Python API for a few images in memory: load a model, and tell which images it made."""

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice, repeat, zip_longest
from pathlib import Path, PurePath
from typing import Self

import numpy as np
from PIL import Image

from aigid.batching import DecodedBatch, PairInput, batch_by_bucket, decode_batch
from aigid.contract import TOKENIZER_FILE, find_model
from aigid.decisions import (
    DEFAULT_THRESHOLD,
    VerdictRule,
    mode_of,
)
from aigid.detection import DecisionRule, Detection
from aigid.errors import ModelNoticeWarning, UsageError
from aigid.evidence import EvidenceReader, Finding
from aigid.fetch import ImageInput, content_pixels, read_content
from aigid.pixels import Pixels
from aigid.prompts import PromptEncoder, without_surrogates
from aigid.records import ErrorCode, Mode, RowError, RowFailure
from aigid.scorers import URI_SCHEME, Scorer, TritonConfig, load_scorer

_Pair = tuple[object, object]
_BATCH_ROWS = 32
# What stands for one image: iterating it would give bytes, lines, keys or rows of pixels.
_SINGLE = (str, bytes, bytearray, memoryview, PurePath, Image.Image, Mapping, io.IOBase)
_MISSING = object()
_warned_notices: set[str] = set()


class Detector:
    """A loaded model that tells which images are AI-generated, and which generator made them.

    Load one with `Detector.load`. Threads can share it. It is a context manager, which closes the
    connections to Triton servers at its end.

    Example:
        >>> import aigid
        >>> with aigid.Detector.load() as detector:
        ...     for detection in detector.detect(["one.jpg", "two.png"], ["a red car", None]):
        ...         print(detection.p_ai, detection.source, detection.error)
    """

    def __init__(
        self,
        scorer: Scorer,
        prompts: PromptEncoder,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        mode: Mode | str = Mode.BEST_GUESS,
        evidence: EvidenceReader | None = None,
    ) -> None:
        """Make a detector from a scorer of your own. Use `load` otherwise."""
        threshold = _check_threshold(threshold)
        verdicts = VerdictRule.of(mode_of(mode), threshold, scorer.contract)
        self._rule = DecisionRule(scorer.contract, threshold, verdicts)
        self._scorer = scorer
        self._prompts = prompts
        self._evidence = evidence

    @classmethod
    def load(
        cls,
        model: Path | str | None = None,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        mode: Mode | str = Mode.BEST_GUESS,
        repository: Path | str | None = None,
        evidence: bool | EvidenceReader = False,
    ) -> Self:
        """Load a model into this process, or connect to Triton servers.

        Warns once per process with the model's notice, if it has one (ModelNoticeWarning).

        Args:
            model: The path of a model repository, or the addresses of Triton servers, as in
                "triton://gpu1:8001,gpu2:8001". None loads the demo model.
            threshold: An image is AI-generated if its `p_ai` is at least this, from 0 to 1.
            mode: How certain a `verdict` is: "best-guess", "balanced" or "high-precision".
            repository: With Triton servers, the path of the model repository that they serve. The
                contract and the tokenizer are read from it. None means the demo model.
            evidence: Read what each image's file says of its origin as well, into `evidence` and
                `findings` of its Detection. True trusts no issuer of C2PA signatures and runs no
                further readers; an EvidenceReader says which.

        Raises:
            UsageError: An argument is wrong.
            ContractError: The model repository is missing or damaged, lacks the thresholds of the
                mode, or is not what a server has.
            ServerError: No server answers.
            MissingExtraError: The extra `serve`, with Triton's client, or the extra `evidence` is
                not installed.
        """
        threshold, mode = _check_threshold(threshold), mode_of(mode)
        reader = _evidence_reader(evidence)
        folder, triton = _find(model, repository)
        scorer = load_scorer(folder, triton, _BATCH_ROWS)
        prompts = PromptEncoder(folder / TOKENIZER_FILE, scorer.contract.prompt)
        warn_of_notice(scorer.contract.notice, stacklevel=3)
        return cls(scorer, prompts, threshold, mode=mode, evidence=reader)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._scorer.contract.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of `Detection.p_source`. The first is "real"."""
        return self._scorer.contract.labels

    @property
    def notice(self) -> str:
        """The notice that the model's makers attached for every user, or an empty string."""
        return self._scorer.contract.notice

    @property
    def threshold(self) -> float:
        """The smallest `p_ai` of an image that is AI-generated."""
        return self._rule.threshold

    @property
    def mode(self) -> Mode:
        """How certain a `Detection.verdict` is."""
        return self._rule.verdicts.mode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to Triton servers, if there are any."""
        self._scorer.close()

    def detect(
        self, images: Iterable[ImageInput], prompts: Iterable[str | None] | None = None
    ) -> list[Detection]:
        """Return one Detection for each image, in order.

        An image or a prompt that cannot be used gives a Detection with its `error` set. It never
        affects the others. Images and prompts may come from generators, which are read in batches.

        Args:
            images: Each one is a PIL image; a path or URI; encoded bytes (bytes, bytearray or
                memoryview); a file open for reading in binary mode, which is read from its start;
                a dict with "bytes" or "path", as Hugging Face data sets have them; or a uint8
                array [height, width] or [height, width, channels] with 1 (grey), 3 (RGB) or
                4 (RGBA) channels. Transparent pixels are composited over white.
                A large JPEG's `p_ai` differs slightly between its path or bytes, which are decoded
                at a reduced scale, and its PIL image or array.
            prompts: The prompt or caption of each image, None where it has none. Without
                `prompts`, no image has one.

        Raises:
            UsageError: An argument as a whole is wrong: a single image instead of a list, or
                another number of prompts than images.
            ServerError: Triton servers no longer answer.
        """
        found: dict[int, Detection] = {}
        findings: dict[int, tuple[Finding, ...]] = {}
        pairs = self._encode_prompts(_pair_up(images, prompts))
        for batch in batch_by_bucket(pairs, self._prompts.bucket, _BATCH_ROWS):
            decoded = decode_batch(batch, lambda pair: self._decode(pair, findings))
            for position, detection in self._score(decoded):
                said = findings.pop(position, None)
                found[position] = detection if said is None else detection.with_findings(said)
        return [found[position] for position in range(len(found))]

    def _encode_prompts(self, pairs: Iterator[_Pair]) -> Iterator[PairInput[object]]:
        """Tokenize some prompts at a time. A bad prompt takes its image's place as a RowError."""
        position = 0
        while chunk := list(islice(pairs, _BATCH_ROWS)):
            texts = [_check_prompt(prompt) for _, prompt in chunk]
            token_ids = self._prompts.token_ids(
                [None if isinstance(text, RowError) else text for text in texts]
            )
            for (image, _), text, ids in zip(chunk, texts, token_ids, strict=True):
                yield PairInput(position, text if isinstance(text, RowError) else image, ids)
                position += 1

    def _decode(self, pair: PairInput[object], findings: dict[int, tuple[Finding, ...]]) -> Pixels:
        """Return the pixels of a pair's image, and put its file's findings into `findings`."""
        if isinstance(pair.image, RowError):
            raise RowFailure(pair.image.code, pair.image.detail)
        content = read_content(pair.image)
        if self._evidence is not None and isinstance(content, bytes):
            findings[pair.position] = self._evidence.read(content)
        return content_pixels(content, self._scorer.contract.image)

    def _score(self, decoded: DecodedBatch) -> Iterator[tuple[int, Detection]]:
        for position, error in decoded.errors.items():
            yield position, Detection.failed(error)
        if decoded.tensors is not None:
            scores = self._scorer.score(*decoded.tensors)
            yield from zip(decoded.positions, self._rule.detections(scores), strict=True)


def warn_of_notice(notice: str, *, stacklevel: int) -> None:
    """Warn once per process with a model's notice. `stacklevel` is that of `warnings.warn`."""
    if notice and notice not in _warned_notices:
        warnings.warn(notice, ModelNoticeWarning, stacklevel=stacklevel)
        _warned_notices.add(notice)


def _find(
    model: Path | str | None, repository: Path | str | None
) -> tuple[Path, TritonConfig | None]:
    """Return the folder of the model repository, and the servers if `model` names some."""
    _check_path("model", model)
    _check_path("repository", repository)
    if isinstance(model, str) and model.startswith(URI_SCHEME):
        return find_model(repository, parameter="repository"), TritonConfig.parse(model)
    if repository is not None:
        raise UsageError(
            "`repository` belongs to Triton servers: give the path of a model repository as `model`"
        )
    return find_model(model), None


def _evidence_reader(evidence: bool | EvidenceReader) -> EvidenceReader | None:
    if isinstance(evidence, bool):
        return EvidenceReader() if evidence else None
    if isinstance(evidence, EvidenceReader):
        return evidence
    kind = _type_name(evidence)
    raise UsageError(f"`evidence` must be a bool or an EvidenceReader: got {kind}")


def _check_threshold(threshold: object) -> float:
    number = (int, float, np.integer, np.floating)
    if isinstance(threshold, number) and not isinstance(threshold, bool):
        value = float(threshold)
        if 0 <= value <= 1:
            return value
    raise UsageError(f"`threshold` must be a number between 0 and 1: got {threshold!r}")


def _check_path(parameter: str, path: object) -> None:
    if not isinstance(path, str | Path | None):
        raise UsageError(f"`{parameter}` must be a path or None: got {_type_name(path)}")


def _check_list(parameter: str, values: object) -> None:
    """Raise UsageError if an argument is one item, or has no order."""
    kind = _type_name(values)
    if isinstance(values, _SINGLE):
        raise UsageError(f"`{parameter}` must be a list: put a single {kind} into brackets")
    if isinstance(values, np.ndarray) and values.ndim in (2, 3):
        raise UsageError(
            f"`{parameter}` must be a list: put a single array into brackets; an array of images "
            f"has the shape [images, height, width, channels]: got {list(values.shape)}"
        )
    if isinstance(values, set | frozenset):
        raise UsageError(f"`{parameter}` must be a list: a {kind} has no order")
    try:
        iter(values)  # type: ignore[call-overload]
    except TypeError as error:
        raise UsageError(f"`{parameter}` must be a list: got {kind}") from error


def _pair_up(images: Iterable[ImageInput], prompts: Iterable[str | None] | None) -> Iterator[_Pair]:
    """Check both arguments as a whole, and return their pairs."""
    _check_list("images", images)
    if prompts is None:
        return zip(images, repeat(None))
    _check_list("prompts", prompts)
    if isinstance(images, Sized) and isinstance(prompts, Sized) and len(images) != len(prompts):
        raise _unequal(f"{len(images)} images but {len(prompts)} prompts")
    return _zip_equal(images, prompts)


def _zip_equal(images: Iterable[ImageInput], prompts: Iterable[str | None]) -> Iterator[_Pair]:
    for count, pair in enumerate(zip_longest(images, prompts, fillvalue=_MISSING)):
        if pair[0] is _MISSING:
            raise _unequal(f"{count} images but more prompts")
        if pair[1] is _MISSING:
            raise _unequal(f"{count} prompts but more images")
        yield pair


def _unequal(counts: str) -> UsageError:
    return UsageError(
        f"`images` and `prompts` must have the same length: got {counts}; "
        "give one prompt, or None, for each image"
    )


def _check_prompt(prompt: object) -> str | RowError | None:
    if prompt is None:
        return None
    if not isinstance(prompt, str):
        detail = f"the prompt is not text or None: got {_type_name(prompt)}"
        return RowError(ErrorCode.UNDECODABLE, detail)
    return without_surrogates(prompt)


def _type_name(value: object) -> str:
    return type(value).__name__
