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


class Heads(nn.Module):
    """One hidden layer over both features (text first), and two heads over `labels` classes.

    The weights of a new one are random.
    """

    def __init__(self, text_features: int, image_features: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.fusion = nn.Linear(text_features + image_features, hidden)
        self.head_a = nn.Linear(hidden, 1)
        self.head_b = nn.Linear(hidden, labels)

    def hidden(self, text: Tensor, image: Tensor) -> Tensor:
        """Return the hidden layer [N, H] for features [N, Dt] and [N, Di]."""
        return torch.relu(self.fusion(torch.cat([text, image], dim=1)))

    def logits(self, hidden: Tensor) -> Logits:
        """Return the logits of both heads for the hidden layer [N, H]."""
        return Logits(self.head_a(hidden)[:, 0], self.head_b(hidden))

    def fuse(self, text: Tensor, image: Tensor) -> Logits:
        """Return the logits of both heads for features [N, Dt] and [N, Di]."""
        return self.logits(self.hidden(text, image))

    def known_score(self, hidden: Tensor, logits: Logits) -> Tensor:
        """Return the open-set score [N], from 0 to 1: how well a known generator fits.

        It is the likeliest generator's probability among the generators.
        """
        return torch.softmax(logits.b[:, 1:], dim=1).amax(dim=1)
