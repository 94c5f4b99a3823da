"""Features of labelled rows, by whatever encoders made them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of both encoders for N rows, [N, Dt] and [N, Di], and their labels, int [N]."""

    text: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    label_a: npt.NDArray[np.int64]
    label_b: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.generic]) -> "LabelledFeatures":
        """Return some rows, by their numbers or a mask."""
        return LabelledFeatures(
            self.text[rows], self.image[rows], self.label_a[rows], self.label_b[rows]
        )
