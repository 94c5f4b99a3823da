"""How the encoders are trained: in full, not at all, or by low-rank additions that are merged."""

import copy
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from aigid.training.config import TrainingConfig
from aigid.training.fusion_model import FusionModel

_ENCODERS = ("text_encoder", "image_encoder")


def prepare_encoders(model: FusionModel, config: TrainingConfig) -> None:
    """Freeze the model's encoders or wrap them with LoRA, in place, as `config.encoders` says."""
    for name in _ENCODERS:
        encoder: Any = getattr(model, name)
        if config.encoders == "lora":
            # alpha equals the rank: additions of every rank then start with the same strength.
            settings = LoraConfig(
                r=config.lora_rank,
                lora_alpha=config.lora_rank,
                target_modules="all-linear",
                exclude_modules=_never_called(encoder),
            )
            setattr(model, name, inject_adapter_in_model(settings, encoder))
        elif config.encoders == "frozen":
            encoder.requires_grad_(False)
        for part, parameter in encoder.named_parameters():
            # DINO's mask token is for its pretraining: no forward pass here gives it a gradient.
            if part.endswith("mask_token"):
                parameter.requires_grad_(False)


def _never_called(encoder: nn.Module) -> list[str]:
    """Return the names of linear layers whose weights are read without calling the layer.

    Additions to them would have no effect, and no gradient: SigLIP's head has one.
    """
    return [
        f"{name}.out_proj"
        for name, module in encoder.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    ]


def set_training_mode(model: FusionModel) -> None:
    """Put the model into training mode, but frozen encoders into evaluation mode: no dropout."""
    model.train()
    for name in _ENCODERS:
        encoder: nn.Module = getattr(model, name)
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.eval()


def merge_adapters(model: FusionModel) -> FusionModel:
    """Return a plain model of the same function; a copy where there are low-rank additions."""
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain
