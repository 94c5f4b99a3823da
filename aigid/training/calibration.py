"""Temperatures that calibrate probabilities: the divisors of each head's logits."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from aigid.contract import Temperatures
from aigid.training.heads import Logits

ROWS_NEEDED = 10
"""Rows of each side that a temperature is fitted on: fewer say too little, even of a rough one."""

# The limits of the search. Only logits that are worse than chance reach one: the higher their
# temperature, the lower is their loss.
_LOWEST, _HIGHEST = 1e-4, 1e4


def fit_temperatures(
    logits: Logits, label_a: Tensor, label_b: Tensor, unfitted: Temperatures = Temperatures()
) -> Temperatures:
    """Return the temperature of each head with the lowest log loss (Guo et al. 2017).

    Head A's is fitted on rows of both labels, head B's over the generators, on rows whose generator
    is known. A head with fewer than ROWS_NEEDED rows of each label A, or of several generators,
    keeps that of `unfitted`.

    Each label counts as right but for half a row of every class, which keeps probabilities as far
    from 0 and 1 as so many rows can show (Platt 2000; half a row: Krichevsky and Trofimov 1981).
    Without that, rows that the model separates without a fault would take the temperature to 0.
    """
    a, b = unfitted.a, unfitted.b
    if int(torch.bincount(label_a.long(), minlength=2).min()) >= ROWS_NEEDED:
        # Head A as a choice of two classes: its logit is that of "AI-generated" over "real".
        both = torch.stack([torch.zeros_like(logits.a), logits.a], dim=1)
        a = _fit(both, label_a.long())
    named = label_b > 0
    generators = label_b[named].long() - 1
    if len(generators) >= ROWS_NEEDED and int(torch.bincount(generators).count_nonzero()) > 1:
        b = _fit(logits.b[named, 1:], generators)
    return Temperatures(a, b)


def probabilities(logits: Logits, temperatures: Temperatures) -> tuple[Tensor, Tensor]:
    """Return `p_ai` [N] and `p_source` [N, K] of logits.

    p_source[0] is 1 - p_ai; the generators divide p_ai among them, as head B says.
    """
    p_ai = torch.sigmoid(logits.a / temperatures.a)
    p_generator = torch.softmax(logits.b[:, 1:] / temperatures.b, dim=1)
    return p_ai, torch.cat([(1 - p_ai)[:, None], p_ai[:, None] * p_generator], dim=1)


def _fit(logits: Tensor, truth: Tensor) -> float:
    """Return the temperature with the lowest smoothed log loss, for logits [N, C], truth [N]."""
    scores, targets = logits.double(), _smoothed(truth, logits.shape[1])

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(scores / math.exp(log_temperature), targets))

    # The loss is convex in 1 / temperature, so that it has one minimum.
    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)


def _smoothed(truth: Tensor, classes: int) -> Tensor:
    """Return target probabilities [N, classes]: half a row of each class is wrong."""
    rows = torch.bincount(truth, minlength=classes).double()
    wrong = (0.5 / (rows + 1))[truth, None]
    targets = (wrong / (classes - 1)).repeat(1, classes)
    return targets.scatter(1, truth[:, None], 1 - wrong)
