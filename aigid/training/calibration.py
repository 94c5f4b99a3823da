"""Temperatures that calibrate probabilities, and thresholds for false-positive rates.

Both are fitted on validation rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from aigid.contract import Temperatures, Threshold
from aigid.training.heads import Logits
from aigid.training.metrics import FALSE_POSITIVE_RATES, Labels, threshold_at


def fit_temperatures(logits: Logits, label_a: Tensor, label_b: Tensor) -> Temperatures:
    """Return the temperature of each head with the lowest log loss (Guo et al. 2017).

    Head B's is fitted over the five generators, on AI-generated rows; it is 1 without such rows.
    """
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
    """Return `p_ai` [N] and `p_source` [N, 6] of logits.

    p_source[0] is 1 - p_ai; the generators divide p_ai among them, as head B says.
    """
    p_ai = torch.sigmoid(logits.a / temperatures.a)
    p_generator = torch.softmax(logits.b[:, 1:] / temperatures.b, dim=1)
    return p_ai, torch.cat([(1 - p_ai)[:, None], p_ai[:, None] * p_generator], dim=1)


def fit_thresholds(label_a: Labels, p_ai: Tensor) -> dict[str, Threshold]:
    """Return the threshold for each of FALSE_POSITIVE_RATES, by the rate as text.

    Empty without real rows.
    """
    found = {
        f"{rate:g}": threshold_at(label_a, p_ai.numpy(), rate) for rate in FALSE_POSITIVE_RATES
    }
    real_rows = int((label_a == 0).sum())
    return {
        rate: Threshold(value, real_rows, 0.95)
        for rate, value in found.items()
        if value is not None
    }


def _fit(loss_at: Callable[[Tensor], Tensor]) -> float:
    """Return the temperature that minimises a loss, between 0.05 and 20."""
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_at(log_temperature.exp())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    # On perfectly separated rows it goes to 0, and every probability to 0 or 1.
    return float(log_temperature.detach().exp().clamp(0.05, 20))
