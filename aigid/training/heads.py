"""The trained part on top of the encoders: fusion layer, head A, head B, open-set score.

Source of the network: NAU-QMUL (arXiv 2602.23863).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Logits(NamedTuple):
    """The logits of N pairs: `a` float [N] (AI-generated or real), `b` float [N, K] (the class)."""

    a: Tensor
    b: Tensor

    def evidence(self) -> Tensor:
        """Return what tells the generators apart: `a`, then `b` without "real", [N, K]."""
        return torch.cat([self.a.unsqueeze(1), self.b[:, 1:]], dim=1)


class Heads(nn.Module):
    """One hidden layer over both features (text first), and two heads over `labels` classes.

    The weights of a new one are random. The constants of its open-set score are 0, by which every
    row is typical, until `fit_open_set` fits them.
    """

    def __init__(
        self,
        text_features: int,
        image_features: int,
        hidden: int,
        labels: int,
        *,
        outputs_a: int = 1,
    ) -> None:
        """Head A's logit is the largest of its `outputs_a`: one, unless heads were adapted."""
        super().__init__()
        self.fusion = nn.Linear(text_features + image_features, hidden)
        self.head_a = nn.Linear(hidden, outputs_a)
        self.head_b = nn.Linear(hidden, labels)
        generators = labels - 1
        self.register_buffer("known_projection", torch.zeros(labels, generators))
        self.register_buffer("known_means", torch.zeros(generators, generators))

    def hidden(self, text: Tensor, image: Tensor) -> Tensor:
        """Return the hidden layer [N, H] for features [N, Dt] and [N, Di]."""
        return torch.relu(self.fusion(torch.cat([text, image], dim=1)))

    def logits(self, hidden: Tensor) -> Logits:
        """Return the logits of both heads for the hidden layer [N, H]."""
        outputs = self.head_a(hidden)
        a = outputs[:, 0] if outputs.shape[1] == 1 else outputs.amax(dim=1)
        return Logits(a, self.head_b(hidden))

    def fuse(self, text: Tensor, image: Tensor) -> Logits:
        """Return the logits of both heads for features [N, Dt] and [N, Di]."""
        return self.logits(self.hidden(text, image))

    def known_score(self, logits: Logits, p_source: Tensor) -> Tensor:
        """Return the open-set score [N], from 0 to 1: how well a known generator explains a row.

        It is the likeliest generator's probability, `p_source` being [N, K], times how typical the
        logits are of a generator: 1 / (1 + d / G), with the squared Mahalanobis distance d to the
        nearest of the G generators, whose mean over that generator's rows is G. The first factor is
        low between generators, the second far from all of them (distance: arXiv 1807.03888).
        """
        means = self.get_buffer("known_means")
        projected = logits.evidence() @ self.get_buffer("known_projection")
        squares = (projected.unsqueeze(1) - means).square()
        # A product: ONNX Runtime's sum adds up one row in another order than several rows.
        distances = squares @ squares.new_ones(squares.shape[2])
        typical = 1 / (1 + distances.amin(dim=1) / len(means))
        return p_source[:, 1:].amax(dim=1) * typical
