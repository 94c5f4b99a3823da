"""Perception Encoder's image encoder (arXiv 2504.13181), with the tensors of timm's checkpoints.

transformers has it only by way of timm, which needs a torchvision that fits the installed torch.
The hub's timm/vit_pe_core_* repositories hold the weights as safetensors. An image is squashed to
a square.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward

from aigid.errors import CheckpointError

_ROTARY_BASE = 10_000.0
_TIMM = "vit_pe_core_"
# By timm's name without _TIMM: width, width of the MLPs, blocks, heads, patch, side, CLS token.
_CORE: dict[str, tuple[int, int, int, int, int, int, bool]] = {
    "tiny_patch16_384": (192, 768, 12, 3, 16, 384, True),
    "small_patch16_384": (384, 1536, 12, 6, 16, 384, True),
    "base_patch16_224": (768, 3072, 12, 12, 16, 224, True),
    "large_patch14_336": (1024, 4096, 24, 16, 14, 336, True),
    "gigantic_patch14_448": (1536, 8960, 50, 16, 14, 448, False),
}


class PerceptionEncoderConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """The sizes of a Perception Encoder. The defaults are those of PE core B/16."""

    model_type = "perception_encoder"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    pool_heads: int = 8
    patch_size: int = 16
    image_size: int = 224
    class_token: bool = True
    vision_use_head: bool = True
    layer_norm_eps: float = 1e-5


def config_of_timm(architecture: str) -> PerceptionEncoderConfig:
    """Return the config of timm's `architecture`; raises CheckpointError unless it is PE core's."""
    sizes = _CORE.get(architecture.removeprefix(_TIMM)) if architecture.startswith(_TIMM) else None
    if sizes is None:
        known = ", ".join(_TIMM + name for name in _CORE)
        raise CheckpointError(
            f"{architecture}: of timm's image encoders these can be used: {known}"
        )
    width, mlp, blocks, heads, patch, side, class_token = sizes
    return PerceptionEncoderConfig(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        patch_size=patch,
        image_size=side,
        class_token=class_token,
    )


class PerceptionEncoder(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A ViT with learned and rotary positions, whose pooled output attention collects."""

    config_class = PerceptionEncoderConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: PerceptionEncoderConfig) -> None:
        super().__init__(config)
        width, eps = config.hidden_size, config.layer_norm_eps
        tokens = (config.image_size // config.patch_size) ** 2 + config.class_token
        patch = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.patch_embed = nn.ModuleDict({"proj": patch})
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        if config.class_token:
            self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.norm_pre = nn.LayerNorm(width, eps)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width, eps)
        self.attn_pool = _AttentionPool(config) if config.vision_use_head else None
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Return the tokens [N, T, D] and the pooled output [N, D] of pixels [N, 3, H, W]."""
        config: Any = self.config
        tokens = self.patch_embed["proj"](pixel_values).flatten(2).transpose(1, 2)
        if config.class_token:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm_pre(tokens + self.pos_embed)
        rotation = _rotation(config, tokens)
        for block in self.blocks:
            tokens = block(tokens, rotation)
        tokens = self.norm(tokens)
        pooled = None if self.attn_pool is None else self.attn_pool(tokens)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=pooled)


class _Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = _SelfAttention(config)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = _Mlp(width, config.intermediate_size)

    def forward(self, tokens: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), rotation)
        added: Tensor = self.mlp(self.norm2(tokens))
        return tokens + added


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return result


class _Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.is_causal = config, False

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return what the queries find, [N, T, D], for inputs of [N, heads, T, D / heads]."""
        implementation = self.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        found: Tensor = attend(self, query, key, value, None, scaling=query.shape[-1] ** -0.5)[0]
        return found.flatten(2)


class _SelfAttention(_Attention):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        heads = self.config.num_attention_heads
        query, key, value = (_heads(part, heads) for part in self.qkv(tokens).chunk(3, dim=-1))
        query, key = _rotated(query, *rotation), _rotated(key, *rotation)
        result: Tensor = self.proj(self.attend(query, key, value))
        return result


class _AttentionPool(_Attention):
    """One learned query that attends to all tokens, and an MLP on what it finds."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.latent = nn.Parameter(width**-0.5 * torch.randn(1, 1, width))
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.mlp = _Mlp(width, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        heads = self.config.pool_heads
        query = _heads(self.q(self.latent).expand(tokens.shape[0], -1, -1), heads)
        key, value = (_heads(part, heads) for part in self.kv(tokens).chunk(2, dim=-1))
        found = self.proj(self.attend(query, key, value))
        pooled: Tensor = (found + self.mlp(self.norm(found)))[:, 0]
        return pooled


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """Split [N, T, D] into [N, heads, T, D / heads]."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def _rotation(config: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sine and cosine [T, D / heads] of each token's rotation; a CLS token has none.

    The first half of the channels turns with the column of a patch, the second with its row.
    Columns and rows are counted from 1 where there is a CLS token.
    """
    side, channels = config.image_size // config.patch_size, config.hidden_size
    quarter = channels // config.num_attention_heads // 4
    first = int(config.class_token)
    places = torch.arange(first, side + first, device=like.device, dtype=torch.float32)
    steps = torch.arange(quarter, device=like.device, dtype=torch.float32) / quarter
    angles = places[:, None] * _ROTARY_BASE**-steps
    across = angles.expand(side, side, quarter)
    down = angles[:, None].expand(side, side, quarter)
    turns = torch.cat([across, down], dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)
    turns = nn.functional.pad(turns, (0, 0, first, 0))
    return turns.sin().to(like.dtype), turns.cos().to(like.dtype)


def _rotated(states: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate each pair of neighbouring channels."""
    turned = torch.stack([-states[..., 1::2], states[..., ::2]], dim=-1).flatten(-2)
    return states * cosine + turned * sine
