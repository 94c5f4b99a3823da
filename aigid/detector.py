"""The Python API: detect AI-generated images among a few, in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.contract import TOKENIZER_FILE, find_model
from aigid.decisions import DEFAULT_THRESHOLD, decide_ai, decide_source, source_name
from aigid.errors import UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.pixels import Pixels, decode_image, image_pixels
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.records import Detection, RowError, RowFailure
from aigid.scorers import Scorer
from aigid.scorers.load import load_scorer
from aigid.scorers.triton_config import URI_SCHEME, TritonConfig
from aigid.storage import locate

ImageInput = Image.Image | Path | str | bytes | npt.NDArray[np.uint8]
_BATCH_ROWS = 32


class Detector:
    """A loaded model with its preprocessing and threshold; a context manager, which closes connections to servers."""

    def __init__(
        self, scorer: Scorer, prompts: PromptEncoder, threshold: float = DEFAULT_THRESHOLD
    ) -> None:
        """Use `load` instead, unless you bring a scorer of your own."""
        self.scorer = scorer
        self.prompts = prompts
        self.threshold = threshold

    @classmethod
    def load(
        cls,
        model: Path | str | None = None,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        repository: Path | str | None = None,
    ) -> Self:
        """Load a model repository by its path, or the demo model; or use Triton servers, as in "triton://host:8001".

        Of servers (several: "triton://a:8001,b:8001") `repository` names the model that they serve, the demo model by
        default: its contract.json and tokenizer.json are read here. Raises ContractError where the model cannot be
        loaded or a server has another, and ServerError where no server answers.
        """
        on_servers = isinstance(model, str) and model.startswith(URI_SCHEME)
        if repository is not None and not on_servers:
            raise UsageError(
                "repository= is for Triton servers: give a model repository's path as the model itself"
            )
        triton = TritonConfig.parse(str(model)) if on_servers else None
        path = repository if on_servers else model
        folder = find_model(None if path is None else Path(path))
        scorer = load_scorer(folder, triton, _BATCH_ROWS)
        return cls(
            scorer, PromptEncoder(folder / TOKENIZER_FILE, scorer.contract.prompt), threshold
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections to servers, if there are any."""
        self.scorer.close()

    def detect(
        self, images: Sequence[ImageInput], prompts: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """One Detection for each image, in order; an image that cannot be read gives one with its `error` set.

        An image is a PIL image, a path or URI, encoded bytes, or an array uint8 [height, width, 3]. (PIL images and arrays are
        decoded in full already: a large JPEG's answer then differs slightly from that of its path, see decode_image.)
        Raises UsageError where an image or a prompt is nothing of the kind, or there are not as many of both.
        """
        if isinstance(images, str | bytes | Path | Image.Image) or isinstance(prompts, str):
            raise UsageError("images and prompts are lists: put a single one into brackets")
        texts = [None] * len(images) if prompts is None else [_text(prompt) for prompt in prompts]
        if len(texts) != len(images):
            raise UsageError(
                f"{len(images)} images but {len(texts)} prompts: give one prompt (or None) for each image"
            )
        detections: list[Detection] = []
        for start in range(0, len(images), _BATCH_ROWS):
            stop = start + _BATCH_ROWS
            detections += self._detect_batch(images[start:stop], texts[start:stop])
        return detections

    def _detect_batch(
        self, images: Sequence[ImageInput], prompts: Sequence[str | None]
    ) -> list[Detection]:
        read = [self._read(image) for image in images]
        token_ids = self.prompts.token_ids(prompts)
        found: list[Detection | None] = [
            Detection(None, None, None, None, result) if isinstance(result, RowError) else None
            for result in read
        ]
        for bucket in self.prompts.spec.buckets:
            rows = [
                row
                for row, ids in enumerate(token_ids)
                if self.prompts.bucket(len(ids)) == bucket and found[row] is None
            ]
            pixels = [
                result for result in (read[row] for row in rows) if not isinstance(result, RowError)
            ]
            if rows:
                for row, detection in zip(
                    rows, self._score(pixels, [token_ids[row] for row in rows], bucket), strict=True
                ):
                    found[row] = detection
        return [detection for detection in found if detection is not None]

    def _score(
        self, pixels: list[Pixels], token_ids: list[list[int]], bucket: int
    ) -> list[Detection]:
        scores = self.scorer.score(np.stack(pixels), pad_to_bucket(token_ids, bucket))
        is_ai = decide_ai(scores.p_ai, self.threshold)
        sources = decide_source(is_ai, scores.p_source)
        rows = zip(scores.p_ai, is_ai, sources, scores.p_source, strict=True)
        return [
            Detection(float(p), bool(ai), source_name(int(source)), tuple(map(float, ps)))
            for p, ai, source, ps in rows
        ]

    def _read(self, image: ImageInput) -> Pixels | RowError:
        spec = self.scorer.contract.image
        try:
            if isinstance(image, Image.Image):
                return image_pixels(image, spec)
            if isinstance(image, np.ndarray):
                return image_pixels(_picture(image), spec)
            return decode_image(_encoded(image), spec)
        except RowFailure as failure:
            return failure.error


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(
            f"an image array must be uint8 [height, width, 3]: got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(array)


def _encoded(image: Path | str | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return fetch_image(
            ImageReference(None, str(image)), FetchPolicy(locate("."), allow_outside=True)
        )
    raise UsageError(
        f"an image is a PIL image, a path, encoded bytes or an array: got {type(image).__name__}"
    )


def _text(prompt: str | None) -> str | None:
    if prompt is None:
        return None
    if not isinstance(prompt, str):
        raise UsageError(f"a prompt is text or None: got {type(prompt).__name__}")
    # Half a surrogate pair, as a cut emoji leaves behind, is no Unicode text: tokenizers refuse it.
    return prompt.encode("utf-8", "ignore").decode("utf-8")
