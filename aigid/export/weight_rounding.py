"""Round a weight matrix to INT8, so that the product with its activations changes little.

Rounding to the nearest step is best for each weight by itself. The products are nearer if the
rounding error of each row is made up for by the rows after it, as far as their channels go together
in the calibration rows (GPTQ, arXiv 2210.17323). On DINOv2-S, cut after block 4, this halved the
error of the features, from 4.9 % of their spread to 2.6 %; on MiniLM it fell from 9.5 % to 8.0 %.
"""

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from aigid.export.int8_scales import INT8_MAX, PAIR_MAX, Floats, column_scales

# Added to the diagonal, as a share of its mean: it keeps channels that were hardly seen from being
# trusted. From 0.0001 to 0.1, the results were the same.
_DAMPING = 0.01

# Rows that are rounded before the effect of their errors on all later rows is computed.
_ROWS_AT_A_TIME = 128


def error_spread(products: Floats) -> Floats:
    """Return how a rounding error spreads, [channels, channels], upper triangular.

    `products` are those of every two channels of the activation, summed over tokens. An error of 1
    in row i, over the diagonal's value, is made up for by row i of the result.
    """
    damped = products.astype(np.float64)
    # An activation that is always zero has no products.
    damped[np.diag_indices(len(damped))] += _DAMPING * np.diag(damped).mean() or 1.0
    # The upper factor R of R R^T = damped, by way of the matrix turned around.
    factor = cholesky(damped[::-1, ::-1], lower=True)[::-1, ::-1]
    spread: Floats = solve_triangular(factor, np.eye(len(damped))).astype(np.float32)
    return spread


def round_weights(weight: Floats, spread: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return a weight matrix as int8, and one scale for each column (output channel).

    `spread` is the `error_spread` of the activation. Neighbouring weights keep PAIR_MAX.
    """
    scales = column_scales(weight)
    scales[scales == 0] = 1.0
    exact = weight / scales
    codes = np.zeros_like(exact)
    for start in range(0, len(exact), _ROWS_AT_A_TIME):
        end = min(start + _ROWS_AT_A_TIME, len(exact))
        errors = np.zeros((end - start, exact.shape[1]), np.float32)
        for row in range(start, end):
            codes[row] = _rounded(exact[row], codes[row - 1] if row % 2 else None)
            error = (exact[row] - codes[row]) / spread[row, row]
            errors[row - start] = error
            exact[row + 1 : end] -= np.outer(spread[row, row + 1 : end], error)
        exact[end:] -= spread[start:end, end:].T @ errors
    return codes.astype(np.int8), scales


def _rounded(row: Floats, neighbour: Floats | None) -> Floats:
    """Return a row in whole steps, within what its neighbour in the pair leaves."""
    low, high = np.float32(-INT8_MAX), np.float32(INT8_MAX)
    if neighbour is not None:
        low = np.maximum(low, -PAIR_MAX - np.minimum(neighbour, 0))
        high = np.minimum(high, PAIR_MAX - np.maximum(neighbour, 0))
    rounded: Floats = np.clip(np.rint(row), low, high)
    return rounded
