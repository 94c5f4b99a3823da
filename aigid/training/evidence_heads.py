"""Heads on evidence: how much more a row is like each generator than like real images.

Head A answers by the largest evidence, head B compares that of the generators.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from aigid.contract import Temperatures
from aigid.training.discriminants import Discriminants, Floats, Labels
from aigid.training.heads import Heads, Logits

# The inverse strength of the penalty on head A's slope, for evidence of about 1: weak.
_SLOPE_C = 10.0


@dataclass(frozen=True)
class EvidenceHeads:
    """Heads on evidence [N, C] of generators, the last of which may be one without a label.

    The logit of head A is `slope` times the largest evidence, plus `offset`.
    """

    slope: float
    offset: float

    def logits(self, evidence: Floats, labels: int) -> Logits:
        """Return the logits of rows for a model of so many labels. Head B's for "real" are 0."""
        b = torch.zeros(len(evidence), labels, dtype=torch.float64)
        b[:, 1:] = torch.from_numpy(evidence[:, : labels - 1])
        return Logits(torch.from_numpy(self.slope * evidence.max(axis=1) + self.offset), b)

    def on_features(
        self, discriminants: Discriminants, text_features: int, labels: int, by: Temperatures
    ) -> Heads:
        """Return the heads on the features that give the evidence; logits are divided `by`.

        The hidden layer holds the positive and the negative part of each evidence, whose difference
        it is.
        """
        classes, features = discriminants.weights.shape
        image_features = features - text_features
        heads = Heads(text_features, image_features, 2 * classes, labels, outputs_a=classes)
        evidence = torch.cat([torch.eye(classes), -torch.eye(classes)], dim=1)
        real = torch.zeros(1, 2 * classes)
        signed = np.concatenate([discriminants.weights, -discriminants.weights])
        weights = {
            **heads.state_dict(),
            "fusion.weight": torch.from_numpy(signed),
            "fusion.bias": torch.from_numpy(np.append(discriminants.bias, -discriminants.bias)),
            "head_a.weight": evidence * self.slope / by.a,
            "head_a.bias": torch.full((classes,), self.offset / by.a),
            "head_b.weight": torch.cat([real, evidence[: labels - 1]]) / by.b,
            "head_b.bias": torch.zeros(labels),
        }
        found = {name: value.float() for name, value in weights.items()}
        heads.load_state_dict(heads.state_dict() | found)
        return heads.eval()


def fit_evidence_heads(evidence: Floats, label_a: Labels) -> EvidenceHeads:
    """Fit heads to the evidence [N, C] of rows, of about 1.

    Real and AI-generated rows count the same in head A, however many there are of each.
    """
    line = LogisticRegression(C=_SLOPE_C, class_weight="balanced")
    line.fit(evidence.max(axis=1, keepdims=True), label_a)
    return EvidenceHeads(float(line.coef_[0, 0]), float(line.intercept_[0]))
