"""Requests of the two models that clients ask, as Triton's client sends them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from aigid.prompts import TokenBatch


def tensor(name: str, value: npt.NDArray[Any], kind: str) -> triton.InferInput:
    given = triton.InferInput(name, list(value.shape), kind)
    given.set_data_from_numpy(value)
    return given


def tensor_inputs(images: npt.NDArray[np.uint8], tokens: TokenBatch) -> list[triton.InferInput]:
    """Return the inputs of the model `aigid`."""
    return [
        tensor("image", images, "UINT8"),
        tensor("input_ids", tokens.input_ids, "INT32"),
        tensor("attention_mask", tokens.attention_mask, "INT32"),
    ]


def pair_inputs(images: Sequence[bytes], prompts: Sequence[bytes]) -> list[triton.InferInput]:
    """Return the inputs of the model `aigid_pairs`."""
    columns = {"image_bytes": images, "prompt": prompts}
    return [
        tensor(name, np.array([[item] for item in column], object), "BYTES")
        for name, column in columns.items()
    ]
