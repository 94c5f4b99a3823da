"""The numbers of INT8 quantization, without graphs."""

import numpy as np
import pytest

from aigid.export.int8_scales import (
    ChannelStatistics,
    activation_scale,
    rounding_error,
    smoothing_factors,
)
from aigid.export.weight_rounding import round_weights


def unlike_channels() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    activation = generator.normal(size=(50, 6)).astype(np.float32) * np.float32(
        [1, 100, 1, 1, 0.01, 0]
    )
    return activation, generator.normal(size=(6, 4)).astype(np.float32)


def test_smoothing_evens_out_channels_without_changing_the_product() -> None:
    activation, weight = unlike_channels()
    factors = smoothing_factors(ChannelStatistics.of(activation), [weight[:, :1], weight[:, 1:]])
    np.testing.assert_allclose(
        (activation / factors) @ (weight * factors[:, None]), activation @ weight, rtol=1e-3
    )
    smooth = np.abs(activation / factors).max(axis=0)[:4]
    assert smooth.max() / smooth.min() < 20
    assert factors[5] == 1


def test_smoothing_lowers_the_expected_error() -> None:
    activation, weight = unlike_channels()
    seen = ChannelStatistics.of(activation)
    with_smoothing = rounding_error(seen, weight, smoothing_factors(seen, [weight]))
    assert with_smoothing < 0.5 * rounding_error(seen, weight, np.ones(6, np.float32))


def test_the_expected_rounding_error_equals_the_measured_one() -> None:
    generator = np.random.default_rng(0)
    activation = generator.normal(size=(400, 64)).astype(np.float32) * generator.uniform(
        0.1, 3, 64
    ).astype(np.float32)
    weight = generator.normal(size=(64, 48)).astype(np.float32)
    seen, factors = (
        ChannelStatistics.of(activation),
        generator.uniform(0.5, 2, 64).astype(np.float32),
    )
    scale, zero_point = activation_scale(seen, factors)
    codes = np.clip(np.rint(activation / factors / scale) + zero_point, 0, 255)
    # Channels that have nothing to do with each other: weights are rounded to the nearest step.
    weights, scales = round_weights(weight * factors[:, None], np.eye(64, dtype=np.float32))
    error = (codes - zero_point) * scale @ (weights * scales) - activation @ weight
    expected = rounding_error(seen, weight, factors)
    assert np.square(error).sum(axis=1).mean() == pytest.approx(expected, rel=0.1)


def test_statistics_of_parts_equal_those_of_the_whole() -> None:
    activation = np.random.default_rng(0).normal(size=(3, 200, 6)).astype(np.float32)
    parts, whole = ChannelStatistics(6), ChannelStatistics.of(activation)
    for row in activation:
        parts.add(row[None, :7])
        parts.add(row[None, 7:])
    tokens = activation.reshape(-1, 6)
    assert parts.tokens == whole.tokens == 600
    for found in (parts, whole):
        np.testing.assert_array_equal(found.low, tokens.min(axis=0))
        np.testing.assert_array_equal(found.high, tokens.max(axis=0))
        np.testing.assert_allclose(found.products, tokens.T @ tokens, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found.mean_squares, np.square(tokens).mean(axis=0), rtol=1e-4)


def test_activation_scales_represent_zero_exactly_and_cover_the_range() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        seen = ChannelStatistics.of(np.float32([[low], [high]]))
        scale, zero_point = activation_scale(seen, np.float32([1]))
        assert 0 <= zero_point <= 255
        assert (0 - zero_point) * scale <= min(low, 0) + scale / 2
        assert (255 - zero_point) * scale >= max(high, 0) - scale / 2
