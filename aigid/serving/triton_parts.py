"""What Triton's models `aigid` and `aigid_pairs` share: tensors of several requests to scores.

They ask the graphs by requests of their own (BLS). An ensemble of the graphs would have no queue
that refuses requests, would compute for clients that have given up, and would end the whole server
(Triton 2.51) when one of its branches fails.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

Tensors = Mapping[str, npt.NDArray[Any]]

SCORES = ("p_ai", "known_score", "p_source")
"""The outputs that have numbers for each pair."""

_TOKENS = ("input_ids", "attention_mask")
# The prompts of a batch are in four buckets, unless clients pad them otherwise.
_THREADS = 5


@dataclass(frozen=True)
class Failure:
    """Why requests get no scores: Triton's message and code."""

    message: str
    code: object

    def response(self) -> "pb_utils.InferenceResponse":
        """Return a response with an error of its own: two responses cannot share an error."""
        return pb_utils.InferenceResponse([], pb_utils.TritonError(self.message, self.code))


class Parts:
    """Asks the graphs for the scores of pairs."""

    def __init__(self, max_tokens: int) -> None:
        """Start the threads that wait for the graphs."""
        self._cpu = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
        self._pool = ThreadPoolExecutor(_THREADS, "graph")
        self._wrong_tokens = Failure(
            f"input_ids must be ids of the vocabulary, at most {max_tokens} a row, and "
            "attention_mask must have the same length",
            pb_utils.TritonError.INVALID_ARG,
        )

    def score(self, items: Sequence[Tensors]) -> list[Tensors | Failure]:
        """Return the scores of each item, or its own error; items share the batches of graphs.

        An item has `image` [N, H, W, 3], `input_ids` [N, T] and `attention_mask` [N, T].
        """
        images = [{"image": item["image"]} for item in items]
        asked = self._pool.submit(self._ask, "clip_vision", images, ("image_features",))
        features = [
            self._joined(text, image)
            for text, image in zip(self._texts(items), asked.result(), strict=True)
        ]
        good = [one for one in features if isinstance(one, dict)]
        scores = iter(self._ask("fusion_heads", good, SCORES))
        return [next(scores) if isinstance(one, dict) else one for one in features]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _texts(self, items: Sequence[Tensors]) -> list[Tensors | Failure]:
        """Return the features of prompts, asked together where their tensors have equal shapes."""
        groups: dict[object, list[int]] = {}
        for number, item in enumerate(items):
            groups.setdefault(tuple(item[name].shape[1] for name in _TOKENS), []).append(number)

        def ask(numbers: list[int]) -> list[Tensors | Failure]:
            tokens = [{name: items[number][name] for name in _TOKENS} for number in numbers]
            return self._ask("bert", tokens, ("text_features",))

        answers = self._pool.map(ask, groups.values())
        found = {
            number: one
            for numbers, group in zip(groups.values(), answers, strict=True)
            for number, one in zip(numbers, group, strict=True)
        }
        return [found[number] for number in range(len(items))]

    def _joined(self, text: Tensors | Failure, image: Tensors | Failure) -> Tensors | Failure:
        """Return the features of both, or the first error.

        Wrong tokens give features of NaN (`token_guard.py`).
        """
        if not isinstance(text, dict):
            return text
        if not isinstance(image, dict):
            return image
        return self._wrong_tokens if np.isnan(text["text_features"]).any() else text | image

    def _ask(
        self, model: str, feeds: Sequence[Tensors], outputs: Sequence[str]
    ) -> list[Tensors | Failure]:
        """Return the model's outputs for each feed, all asked in one request, or its error."""
        if not feeds:
            return []
        tensors = [
            pb_utils.Tensor(name, _concatenated([feed[name] for feed in feeds]))
            for name in feeds[0]
        ]
        answer = pb_utils.InferenceRequest(
            model_name=model,
            requested_output_names=list(outputs),
            inputs=tensors,
            preferred_memory=self._cpu,
        ).exec()
        if answer.has_error():
            error = answer.error()
            return [Failure(error.message(), error.code())] * len(feeds)
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
        columns = {
            name: np.split(pb_utils.get_output_tensor_by_name(answer, name).as_numpy(), ends)
            for name in outputs
        }
        return [
            {name: column[number] for name, column in columns.items()}
            for number in range(len(feeds))
        ]


def _concatenated(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays[1:] else arrays[0]


def gave_up() -> "pb_utils.InferenceResponse":
    """Return the response to a request whose client has given up."""
    return Failure("the client has given up", pb_utils.TritonError.CANCELLED).response()
