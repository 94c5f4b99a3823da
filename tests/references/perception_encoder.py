"""Make the reference of Perception Encoder: what timm's own implementation of it gives.

    python tests/references/perception_encoder.py

It needs timm, which needs a torchvision that fits the installed torch.
`tests/unit/training/test_perception_encoder.py` compares with it.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

REFERENCE = Path(__file__).parent / "perception_encoder.json"
SIDE, DIGITS = 32, 6
# With a CLS token, rows and columns are counted from 1.
FORMS: dict[str, dict[str, Any]] = {
    "with a CLS token": {"class_token": True, "rope_grid_offset": 1.0},
    "without a CLS token": {"class_token": False, "rope_grid_offset": 0.0},
}


def weights_and_pixels(like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return weights of the names and shapes of `like`, and two images: the same ones always."""
    rng = np.random.default_rng(0)
    values = {name: 0.3 * rng.standard_normal(like[name].shape) for name in sorted(like)}
    weights = {name: torch.from_numpy(value).float() for name, value in values.items()}
    return weights, torch.from_numpy(rng.standard_normal((2, 3, SIDE, SIDE))).float()


def made_by_timm(form: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """Return the tokens' mean and the pooled output of timm's model, [2, 32] each."""
    from timm.models.eva import Eva

    model = Eva(
        img_size=SIDE,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        global_pool="map",
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        rope_grid_indexing="xy",
        attn_pool_num_heads=4,
        attn_pool_mlp_ratio=4.0,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        num_classes=0,
        **form,
    ).eval()
    weights, pixels = weights_and_pixels(model.state_dict())
    model.load_state_dict(weights)
    with torch.no_grad():
        tokens = model.forward_features(pixels)
        pooled = model.forward_head(tokens)
    return {"tokens_mean": _rounded(tokens.mean(dim=1)), "pooled": _rounded(pooled)}


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(value, DIGITS) for value in row] for row in values.tolist()]


if __name__ == "__main__":
    import timm

    made = {name: made_by_timm(form) for name, form in FORMS.items()}
    text = json.dumps({"made_with": f"timm {timm.__version__}", **made}, indent=1)
    REFERENCE.write_text(text + "\n", encoding="utf-8")
