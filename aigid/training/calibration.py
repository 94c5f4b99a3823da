"""Temperatures that make probabilities honest, and thresholds for given false-positive rates, from validation rows."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from aigid.contract import Temperatures
from aigid.training.fusion_model import Logits
from aigid.training.metrics import FALSE_POSITIVE_RATES, Labels, threshold_at


def fit_temperatures(logits: Logits, label_a: Tensor, label_b: Tensor) -> Temperatures:
    """The temperature of each head with the least log loss (Guo et al. 2017); head B's over its five generators."""
    generated = label_a == 1
    a = _fit(
        lambda temperature: functional.binary_cross_entropy_with_logits(
            logits.a / temperature, label_a.float()
        )
    )
    if not bool(generated.any()):
        return Temperatures(a=a)
    generators, truth = logits.b[generated, 1:], label_b[generated].long() - 1
    return Temperatures(
        a=a, b=_fit(lambda temperature: functional.cross_entropy(generators / temperature, truth))
    )


def probabilities(logits: Logits, temperatures: Temperatures) -> tuple[Tensor, Tensor]:
    """`p_ai` [N] and `p_source` [N, 6] of logits: p_source[0] = 1 - p_ai, the generators share the rest."""
    p_ai = torch.sigmoid(logits.a / temperatures.a)
    share = torch.softmax(logits.b[:, 1:] / temperatures.b, dim=1)
    return p_ai, torch.cat([(1 - p_ai)[:, None], p_ai[:, None] * share], dim=1)


def fit_thresholds(label_a: Labels, p_ai: Tensor) -> dict[str, float]:
    """The threshold for each false-positive rate that the contract stores, by the rate as text."""
    found = {
        f"{rate:g}": threshold_at(label_a, p_ai.numpy(), rate) for rate in FALSE_POSITIVE_RATES
    }
    return {rate: value for rate, value in found.items() if value is not None}


def _fit(loss_at: Callable[[Tensor], Tensor]) -> float:
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_at(log_temperature.exp())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    # Perfectly separated rows would drive it to 0 and every probability to 0 or 1.
    return float(log_temperature.detach().exp().clamp(0.05, 20))
