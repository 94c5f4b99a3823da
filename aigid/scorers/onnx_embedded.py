"""The embedded scorer: ONNX Runtime in this process, on the repository that Triton serves too."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from aigid.contract import ModelContract, load_contract
from aigid.errors import ContractError
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.scorers.scorer import Scores
from aigid.scorers.tensors import BUILD_COMMAND

Features = npt.NDArray[np.float32]

# Text features kept for prompts that come again: 12 MB at BERT-base's 768 features.
CACHED_PROMPTS = 4096

# Rows that an encoder computes at a time: enough to keep the matrix products of one core busy, few
# enough that activations stay in its cache. Base-size encoders ran 9 % faster than with whole
# batches of 32.
IMAGES_AT_A_TIME = 8
TOKENS_AT_A_TIME = 256

_ANSWERS = ["p_ai", "known_score", "p_source"]

_REMEDY = f"build the repository again: {BUILD_COMMAND}"


class OnnxScorer:
    """Scores batches with the three graphs of a model repository, on one core a calling thread."""

    in_flight = 0

    def __init__(
        self,
        repository: Path,
        *,
        precision: str | None = None,
        cached_prompts: int = CACHED_PROMPTS,
    ) -> None:
        """Load the graphs of `precision`, by default the contract's precision for CPUs.

        Raises ContractError if a graph is missing, damaged, or made for another model.
        """
        self.contract = load_contract(repository)
        self.precision = precision or self.contract.cpu_precision
        self._bert = _load_graph(repository, "bert", self.contract, self.precision)
        self._clip_vision = _load_graph(repository, "clip_vision", self.contract, self.precision)
        self._fusion_heads = _load_graph(repository, "fusion_heads", self.contract, self.precision)
        self._texts = _FeatureCache(cached_prompts)

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        """Score N pairs: images uint8 [N, *ImageSpec.shape] and their prompts' tokens."""
        text, image = self.features(images, tokens)
        inputs = {"text_features": text, "image_features": image}
        p_ai, known_score, p_source = self._fusion_heads.run(_ANSWERS, inputs)
        return Scores(p_ai[:, 0], p_source, known_score[:, 0])

    def features(self, images: Pixels, tokens: TokenBatch) -> tuple[Features, Features]:
        """Return the features of N pairs that the heads read: text [N, Dt] and image [N, Di]."""
        image_features = _in_slices(self._clip_vision, {"image": images}, IMAGES_AT_A_TIME)
        return self._text_features(tokens), image_features

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        """Score N pairs before this returns; the future is done already."""
        future: Future[Scores] = Future()
        future.set_result(self.score(images, tokens))
        return future

    def close(self) -> None:
        """Do nothing: no batch is ever in flight."""

    def _text_features(self, tokens: TokenBatch) -> Features:
        keys = [row.tobytes() for row in tokens.input_ids]
        features = self._texts.get_many(keys)
        missing = {key: row for row, key in enumerate(keys) if key not in features}
        if missing:
            rows = list(missing.values())
            inputs = {
                "input_ids": tokens.input_ids[rows],
                "attention_mask": tokens.attention_mask[rows],
            }
            rows_at_a_time = max(1, TOKENS_AT_A_TIME // tokens.input_ids.shape[1])
            encoded = _in_slices(self._bert, inputs, rows_at_a_time)
            fresh = dict(zip(missing, encoded, strict=True))
            self._texts.put_many(fresh)
            features |= fresh
        return np.stack([features[key] for key in keys])


def _in_slices(
    encoder: ort.InferenceSession, inputs: Mapping[str, npt.NDArray[np.generic]], rows: int
) -> Features:
    """Return the encoder's only output for all rows, computed `rows` at a time."""
    total = len(next(iter(inputs.values())))
    slices = [slice(start, start + rows) for start in range(0, total, rows)]
    return np.concatenate(
        [
            encoder.run(None, {name: value[part] for name, value in inputs.items()})[0]
            for part in slices
        ]
    )


class _FeatureCache:
    """A bounded, thread-safe cache of text features by padded token ids; the oldest go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._features: OrderedDict[bytes, Features] = OrderedDict()
        self._lock = threading.Lock()

    def get_many(self, keys: list[bytes]) -> dict[bytes, Features]:
        with self._lock:
            found = {key: self._features[key] for key in keys if key in self._features}
            for key in found:
                self._features.move_to_end(key)
            return found

    def put_many(self, features: dict[bytes, Features]) -> None:
        with self._lock:
            for key, value in features.items():
                # A copy: a view would keep the whole batch's array alive.
                self._features[key] = value.copy()
            while len(self._features) > self._capacity:
                self._features.popitem(last=False)


def _load_graph(
    repository: Path, part: str, contract: ModelContract, precision: str
) -> ort.InferenceSession:
    path = repository / part / str(contract.version) / f"model.{precision}.onnx"
    if not path.is_file():
        raise ContractError(
            f"{path}: no such file: the model repository has no {precision} graph of {part}; "
            f"{_REMEDY}"
        )
    try:
        session = ort.InferenceSession(path, _options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no other common base
        reason = " ".join(str(error).split())[:300]
        raise ContractError(f"{path}: ONNX Runtime cannot load this graph: {reason}") from error
    _check_graph(path, session, (part, precision), contract)
    return session


def _options() -> ort.SessionOptions:
    """Return options for one core: each scanning thread runs its own batch.

    With more threads inside a graph, cores would spend time waiting for each other.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _check_graph(
    path: Path, session: ort.InferenceSession, expected: tuple[str, str], contract: ModelContract
) -> None:
    """Raise ContractError unless the graph is the expected part and precision of this model."""
    metadata = session.get_modelmeta().custom_metadata_map
    fingerprint = metadata.get("aigid.fingerprint")
    wanted = contract.graph_fingerprint(expected[0])
    if fingerprint != wanted:
        raise ContractError(
            f"{path}: made from model {fingerprint}, but contract.json is for {wanted}: the heads "
            f"were not trained on this graph's features; {_REMEDY}"
        )
    found = metadata.get("aigid.part"), metadata.get("aigid.precision")
    if found != expected:
        raise ContractError(
            f"{path}: expected the {expected[1]} graph of {expected[0]}, got the {found[1]} graph "
            f"of {found[0]}; {_REMEDY}"
        )
