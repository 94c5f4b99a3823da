"""The embedded scorer: ONNX Runtime inside the process, on the very repository that Triton serves."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from aigid.contract import ModelContract, load_contract
from aigid.errors import ContractError
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.scorers import Scores

Features = npt.NDArray[np.float32]

# Text features that are kept for prompts met again: 12 MB at BERT-base's 768.
CACHED_PROMPTS = 4096

# What an encoder takes at a time: enough to keep one core's products busy, few enough that activations stay in its cache.
# Beside whole batches of 32 this made base-size encoders 9 % faster.
IMAGES_AT_A_TIME = 8
TOKENS_AT_A_TIME = 256


class OnnxScorer:
    """Scores batches with the three graphs of a model repository, one thread for each caller."""

    in_flight = 0

    def __init__(
        self,
        repository: Path,
        *,
        precision: str | None = None,
        cached_prompts: int = CACHED_PROMPTS,
    ) -> None:
        """Load the graphs of `precision` (the contract's own for CPUs by default).

        Raises ContractError where a graph is missing, damaged, or made for another model than the contract's.
        """
        self.contract = load_contract(repository)
        self.precision = precision or self.contract.cpu_precision
        self._bert = _load_graph(repository, "bert", self.contract, self.precision)
        self._clip_vision = _load_graph(repository, "clip_vision", self.contract, self.precision)
        self._fusion_heads = _load_graph(repository, "fusion_heads", self.contract, self.precision)
        self._texts = _FeatureCache(cached_prompts)

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        """The probabilities of N images, uint8 [N, *ImageSpec.shape], each with its prompt."""
        image_features = _in_slices(self._clip_vision, {"image": images}, IMAGES_AT_A_TIME)
        inputs = {"text_features": self._text_features(tokens), "image_features": image_features}
        p_ai, p_source = self._fusion_heads.run(["p_ai", "p_source"], inputs)
        return Scores(p_ai[:, 0], p_source)

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        """What `score` gives, computed before this returns."""
        future: Future[Scores] = Future()
        future.set_result(self.score(images, tokens))
        return future

    def close(self) -> None:
        """Nothing is in flight."""

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
            encoded = _in_slices(
                self._bert, inputs, max(1, TOKENS_AT_A_TIME // tokens.input_ids.shape[1])
            )
            fresh = dict(zip(missing, encoded, strict=True))
            self._texts.put_many(fresh)
            features |= fresh
        return np.stack([features[key] for key in keys])


def _in_slices(encoder: Any, inputs: dict[str, npt.NDArray[Any]], rows: int) -> Features:
    """The encoder's one output for all rows, computed `rows` at a time."""
    total = len(next(iter(inputs.values())))
    slices = [slice(start, start + rows) for start in range(0, total, rows)]
    return np.concatenate(
        [
            encoder.run(None, {name: value[part] for name, value in inputs.items()})[0]
            for part in slices
        ]
    )


class _FeatureCache:
    """The features of the prompts met last, by their padded token ids; bounded, and safe across threads."""

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


def _load_graph(repository: Path, part: str, contract: ModelContract, precision: str) -> Any:
    path = repository / part / str(contract.version) / f"model.{precision}.onnx"
    if not path.is_file():
        raise ContractError(
            f"{path}: no such file; the model repository lacks the {precision} graph of {part}: build it with build/"
        )
    options = ort.SessionOptions()
    # Each scanning thread runs its own batch on one core: no time is lost waiting for other threads inside a graph.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own share no other base
        reason = " ".join(str(error).split())[:300]
        raise ContractError(f"{path}: ONNX Runtime cannot load this graph: {reason}") from error
    facts = session.get_modelmeta().custom_metadata_map
    fingerprint = facts.get("aigid.fingerprint")
    if fingerprint != contract.fingerprint:
        raise ContractError(
            f"{path}: made from model {fingerprint}, but contract.json speaks of {contract.fingerprint}: "
            "features would be read by heads that were not trained on them; build the repository anew"
        )
    if (facts.get("aigid.part"), facts.get("aigid.precision")) != (part, precision):
        raise ContractError(
            f"{path}: not the {precision} graph of {part}, but the {facts.get('aigid.precision')} graph of "
            f"{facts.get('aigid.part')}: build the repository anew"
        )
    return session
