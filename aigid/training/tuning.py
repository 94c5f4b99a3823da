"""What of the encoders is trained: all, nothing, or low-rank additions that are merged into the weights in the end."""

import copy
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from aigid.training.config import TrainingConfig
from aigid.training.fusion_model import FusionModel

_ENCODERS = ("text_encoder", "image_encoder")


def prepare_encoders(model: FusionModel, config: TrainingConfig) -> None:
    """Make of `model`, in place, what is trained."""
    for name in _ENCODERS:
        encoder: Any = getattr(model, name)
        if config.encoders == "lora":
            # As the paper of LoRA has it, additions of all ranks start with the same strength: alpha is the rank.
            settings = LoraConfig(
                r=config.lora_rank, lora_alpha=config.lora_rank, target_modules="all-linear"
            )
            setattr(model, name, inject_adapter_in_model(settings, encoder))
        elif config.encoders == "frozen":
            encoder.requires_grad_(False)
        for part, parameter in encoder.named_parameters():
            # DINO's, for its pretraining alone: no forward pass uses it.
            if part.endswith("mask_token"):
                parameter.requires_grad_(False)


def training_mode(model: FusionModel) -> None:
    """Put a model into training mode, but frozen encoders: these have no use for dropout."""
    model.train()
    for name in _ENCODERS:
        encoder: nn.Module = getattr(model, name)
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.eval()


def merged(model: FusionModel) -> FusionModel:
    """The same function as a plain model: a copy, where there are additions to merge."""
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain
