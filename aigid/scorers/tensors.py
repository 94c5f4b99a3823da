"""The input and output tensors of every model of a repository, derived from its contract.

Triton's configurations declare them, and clients check them.
"""

from dataclasses import dataclass

from aigid.contract import ModelContract

TENSORS_MODEL, PAIRS_MODEL = "aigid", "aigid_pairs"
PARTS = ("bert", "clip_vision", "fusion_heads")

BUILD_COMMAND = "aigid build CHECKPOINT REPOSITORY --calibration MANIFEST --validation MANIFEST"
"""The command that makes a model repository, for messages."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor in the terms of Triton's configuration.

    `dims` leaves out the batch dimension; -1 stands for a length that varies.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelSpec:
    """The inputs and outputs of one model of the repository."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def model_specs(contract: ModelContract) -> dict[str, ModelSpec]:
    """Return the tensors of the graphs and of both models that clients ask, by model name."""
    image = TensorSpec("image", "TYPE_UINT8", contract.image.shape)
    tokens = (
        TensorSpec("input_ids", "TYPE_INT32", (-1,)),
        TensorSpec("attention_mask", "TYPE_INT32", (-1,)),
    )
    text_features = TensorSpec("text_features", "TYPE_FP32", (contract.text_features,))
    image_features = TensorSpec("image_features", "TYPE_FP32", (contract.image_features,))
    answers = (
        TensorSpec("p_ai", "TYPE_FP32", (1,)),
        TensorSpec("known_score", "TYPE_FP32", (1,)),
        TensorSpec("p_source", "TYPE_FP32", (len(contract.labels),)),
    )
    # An encoded image and UTF-8 text.
    pair = (
        TensorSpec("image_bytes", "TYPE_STRING", (1,)),
        TensorSpec("prompt", "TYPE_STRING", (1,)),
    )
    # An error code for each pair, empty if the pair has no error.
    error = TensorSpec("error", "TYPE_STRING", (1,))
    # JSON of what each file says of its origin; empty unless the request's parameters ask for it.
    evidence = TensorSpec("evidence", "TYPE_STRING", (1,))
    return {
        "bert": ModelSpec(tokens, (text_features,)),
        "clip_vision": ModelSpec((image,), (image_features,)),
        "fusion_heads": ModelSpec((text_features, image_features), answers),
        TENSORS_MODEL: ModelSpec((image, *tokens), answers),
        PAIRS_MODEL: ModelSpec(pair, (*answers, error, evidence)),
    }
