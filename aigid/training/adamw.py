"""AdamW as transformers' Trainer sets it up: which weights decay, the learning rate, the state."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aigid.training.config import TrainingConfig

# The names by which transformers' Trainer knows biases and norms, beside nn.LayerNorm.
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|[._])norm(?:\.|$)")
_ONE_CYCLE_WARMUP = 0.15


def new_adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return the optimizer of a model's trained parameters, with torch's betas and epsilon."""
    decayed = decayed_parameters(model)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    groups = [
        {
            "params": [value for name, value in trained.items() if (name in decayed) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], config.learning_rate)


def decayed_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay applies to: no biases and no norms.

    The rule is that of transformers' Trainer: by the type of the layer, and by its name. So the
    scales of DINOv2's layers (LayerScale) decay.
    """
    norms = tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)
    )
    return {
        name
        for name, _ in model.named_parameters()
        if not name.startswith(norms) and not _UNDECAYED.search(name.lower())
    }


def learning_rate_at(config: TrainingConfig, step: int, steps: int) -> float:
    """Return the learning rate of step number `step`, from 0, of `steps`."""
    factors = {"constant": _constant, "linear": _linear, "one_cycle": _one_cycle}
    return config.learning_rate * factors[config.schedule](config.warmup_fraction, step, steps)


def _constant(warmup_fraction: float | None, step: int, steps: int) -> float:
    return 1.0


def _linear(warmup_fraction: float | None, step: int, steps: int) -> float:
    # To the step as transformers' schedule "linear", whose warm-up begins at 0.
    warmup_steps = math.ceil((warmup_fraction or 0.0) * steps)
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def _one_cycle(warmup_fraction: float | None, step: int, steps: int) -> float:
    fraction = _ONE_CYCLE_WARMUP if warmup_fraction is None else warmup_fraction
    warmup_steps = max(1, int(fraction * steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * progress))


def adamw_state(model: nn.Module, adamw: torch.optim.AdamW) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named `PARAMETER|KEY`."""
    names = {id(value): name for name, value in model.named_parameters()}
    return {
        f"{names[id(parameter)]}|{key}": value.clone().contiguous()
        for parameter, state in adamw.state.items()
        for key, value in state.items()
    }


def load_adamw_state(
    model: nn.Module, adamw: torch.optim.AdamW, state: Mapping[str, Tensor]
) -> None:
    """Restore the state that `adamw_state` returned."""
    parameters = dict(model.named_parameters())
    for name, value in state.items():
        parameter_name, _, key = name.rpartition("|")
        parameter = parameters[parameter_name]
        # AdamW keeps its count of steps on the CPU.
        adamw.state[parameter][key] = value if key == "step" else value.to(parameter.device)
