"""The tensors of every model of a repository, as its contract has them: what servers declare and clients check."""

from dataclasses import dataclass

from aigid.contract import ModelContract

ENSEMBLE, PAIRS_ENSEMBLE, PREPROCESS = "aigid", "aigid_pairs", "preprocess"
PARTS = ("bert", "clip_vision", "fusion_heads")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as Triton's configuration describes it: `dims` without the batch, -1 where the length varies."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelSpec:
    """What goes into and comes out of one model of the repository."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def model_specs(contract: ModelContract) -> dict[str, ModelSpec]:
    """The tensors of the three graphs, of the preprocessing and of both ensembles, by the models' names."""
    image = TensorSpec("image", "TYPE_UINT8", contract.image.shape)
    tokens = (
        TensorSpec("input_ids", "TYPE_INT32", (-1,)),
        TensorSpec("attention_mask", "TYPE_INT32", (-1,)),
    )
    text_features = TensorSpec("text_features", "TYPE_FP32", (contract.text_features,))
    image_features = TensorSpec("image_features", "TYPE_FP32", (contract.image_features,))
    answers = (
        TensorSpec("p_ai", "TYPE_FP32", (1,)),
        TensorSpec("p_source", "TYPE_FP32", (len(contract.labels),)),
    )
    # Encoded images and UTF-8 text; an error code for each pair, empty where all is well.
    pair = (
        TensorSpec("image_bytes", "TYPE_STRING", (1,)),
        TensorSpec("prompt", "TYPE_STRING", (1,)),
    )
    error = TensorSpec("error", "TYPE_STRING", (1,))
    return {
        "bert": ModelSpec(tokens, (text_features,)),
        "clip_vision": ModelSpec((image,), (image_features,)),
        "fusion_heads": ModelSpec((text_features, image_features), answers),
        PREPROCESS: ModelSpec(pair, (image, *tokens, error)),
        ENSEMBLE: ModelSpec((image, *tokens), answers),
        PAIRS_ENSEMBLE: ModelSpec(pair, (*answers, error)),
    }
