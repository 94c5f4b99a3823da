"""Features of an image encoder's inner block: the encoder cut there, and its tokens pooled.

The config of a cut encoder has `image_pooling`, beside what transformers knows, and as many blocks
as are left. The traces that generators leave are plainest in inner blocks.
"""

from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from aigid.errors import UsageError

# Keys that depend on the number of blocks: transformers derives them anew.
_DERIVED = ("stage_names", "out_features", "out_indices")
# The norm after the last block, by the config's `model_type`.
_FINAL_NORMS = {
    "clip_vision_model": "post_layernorm",
    "metaclip_2_vision_model": "post_layernorm",
    "siglip_vision_model": "post_layernorm",
    "dinov2": "layernorm",
    "dinov2_with_registers": "layernorm",
    "dinov3_vit": "norm",
    "perception_encoder": "norm",
}


class ImagePooling(StrEnum):
    """How the tokens of an inner block become one vector."""

    CLS = "cls"
    """The CLS token."""
    MEAN = "mean"
    """The mean of the patch tokens: neither CLS nor register tokens count."""
    CLS_MEAN = "cls+mean"
    """Both, one after the other: twice the width."""


def cut_config(config: Any, layer: int | None, pooling: ImagePooling | None, where: str) -> Any:
    """Return the config of the encoder that ends after block `layer`, counted from 0.

    Without `layer` it ends after its last block, and without `pooling` its patch tokens are
    averaged. Without both it stays as it is: whole, or cut. Raises UsageError, which begins with
    `where`, if there is no such block or no CLS token.
    """
    pooling = pooling_of(config) if pooling is None else pooling
    if layer is None and pooling is None:
        return config
    blocks = config.num_hidden_layers
    layer = blocks - 1 if layer is None else layer
    if not 0 <= layer < blocks:
        raise UsageError(
            f"{where}: `image_layer` must be from 0 to {blocks - 1}, the encoder's last block: "
            f"got {layer}"
        )
    pooling = ImagePooling.MEAN if pooling is None else pooling
    if pooling is not ImagePooling.MEAN and not _cls_tokens(config):
        raise UsageError(
            f"{where}: `image_pooling` {pooling} needs a CLS token, which this encoder does not "
            f"have: use {ImagePooling.MEAN}"
        )
    values = {key: value for key, value in config.to_dict().items() if key not in _DERIVED}
    values |= {"num_hidden_layers": layer + 1, "image_pooling": str(pooling)}
    if hasattr(config, "vision_use_head"):
        values["vision_use_head"] = False
    return type(config).from_dict(values)


def pooling_of(config: Any) -> ImagePooling | None:
    """Return how the tokens of a cut encoder are pooled, from its config; None for a whole one."""
    name = getattr(config, "image_pooling", None)
    return None if name is None else ImagePooling(name)


def drop_final_norm(encoder: nn.Module) -> None:
    """Remove the norm after the last block, in place: it belongs to the whole encoder."""
    config: Any = encoder.config
    setattr(encoder, _FINAL_NORMS[config.model_type], nn.Identity())


def image_features(encoder: nn.Module, pixels: Tensor) -> Tensor:
    """Return the features [N, D] of normalised pixels [N, 3, H, W].

    They are a whole encoder's own pooled output. Those of a cut encoder are the pooled tokens of
    its last block, each vector then brought to mean 0 and variance 1: blocks differ in scale by
    factors of hundreds, and the heads learn at one learning rate.
    """
    config: Any = encoder.config
    output, pooling = encoder(pixel_values=pixels), pooling_of(config)
    if pooling is None:
        whole: Tensor = output.pooler_output
        return whole
    # In float32: the sum of a thousand tokens can be too large for half precision.
    tokens = output.last_hidden_state.to(torch.float32)
    special = _cls_tokens(config) + getattr(config, "num_register_tokens", 0)
    vectors = [
        tokens[:, 0] if name == ImagePooling.CLS else mean_of(tokens[:, special:])
        for name in pooling.split("+")
    ]
    return torch.cat([layer_norm(vector, vector.shape[1:]) for vector in vectors], dim=1)


def mean_of(tokens: Tensor) -> Tensor:
    """Return the mean [N, D] of tokens [N, T, D]; no row's depends on the rest of its batch.

    It is a product: ONNX Runtime's ReduceMean adds the tokens of one row in another order than
    those of several rows.
    """
    shares = tokens.new_full((1, tokens.shape[1]), 1 / tokens.shape[1])
    return (shares @ tokens)[:, 0]


def _cls_tokens(config: Any) -> int:
    """Return the number of CLS tokens that an encoder's tokens begin with: 0 or 1."""
    return int(config.model_type != "siglip_vision_model" and getattr(config, "class_token", True))
