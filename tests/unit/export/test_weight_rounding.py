"""Rounding of weights to INT8, without graphs."""

import numpy as np
import numpy.typing as npt
import pytest

from aigid.export.int8_scales import PAIR_MAX
from aigid.export.weight_rounding import error_spread, round_weights

Floats = npt.NDArray[np.float32]


def alike_channels(channels: int) -> tuple[Floats, Floats]:
    """An activation whose channels go together, as those of a trained model do, and a weight."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(2000, channels // 4))
    activation = few @ rng.normal(size=(channels // 4, channels))
    activation += 0.1 * rng.normal(size=activation.shape)
    return activation.astype(np.float32), rng.normal(size=(channels, 24)).astype(np.float32)


def error(
    activation: Floats, weight: Floats, rounded: tuple[npt.NDArray[np.int8], Floats]
) -> float:
    """The mean square error of the product."""
    codes, scales = rounded
    return float(np.square(activation @ (codes * scales - weight)).mean())


@pytest.mark.parametrize("channels", [16, 150, 300])
def test_errors_that_later_rows_make_up_for_are_smaller_than_those_of_the_nearest_steps(
    channels: int,
) -> None:
    activation, weight = alike_channels(channels)
    # Half of the rows calibrate; the other half were not seen.
    seen, unseen = activation[:1000], activation[1000:]
    nearest = round_weights(weight, np.eye(channels, dtype=np.float32))
    made_up = round_weights(weight, error_spread(seen.T @ seen))
    assert error(unseen, weight, made_up) < 0.4 * error(unseen, weight, nearest)


@pytest.mark.parametrize("channels", [7, 8, 131])
def test_neighbouring_weights_keep_their_limit(channels: int) -> None:
    activation, weight = alike_channels(channels)
    codes, _ = round_weights(weight, error_spread(activation.T @ activation))
    pairs = np.pad(codes.astype(int), ((0, channels % 2), (0, 0))).reshape(-1, 2, 24)
    for sums in (np.clip(pairs, 0, None).sum(axis=1), np.clip(-pairs, 0, None).sum(axis=1)):
        assert PAIR_MAX - 2 <= sums.max() <= PAIR_MAX


def test_channels_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest() -> None:
    _, weight = alike_channels(8)
    codes, scales = round_weights(weight, error_spread(np.diag(np.arange(8, dtype=np.float32))))
    np.testing.assert_array_equal(codes, np.rint(weight / scales))


def test_each_column_has_its_own_scale_and_zero_columns_stay_zero() -> None:
    weight = np.float32([[1.0, 0.001, 0.0], [-0.5, -0.0005, 0.0]])
    codes, scales = round_weights(weight, error_spread(np.eye(2, dtype=np.float32)))
    np.testing.assert_allclose(codes * scales, weight, rtol=0.01)
    assert codes[:, :2].max() == 127


def test_an_activation_that_is_always_zero_is_no_error() -> None:
    weight = np.float32([[1.0], [-0.5]])
    codes, scales = round_weights(weight, error_spread(np.zeros((2, 2), np.float32)))
    np.testing.assert_allclose(codes * scales, weight, rtol=0.01)
