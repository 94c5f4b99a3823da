"""The numbers of INT8 quantization, without graphs."""

import numpy as np
import pytest

from aigid.export.int8_scales import (
    ChannelStatistics,
    activation_scale,
    quantize_columns,
    rounding_error,
    smoothing_factors,
)


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
    weights, scales = quantize_columns(weight * factors[:, None])
    error = (codes - zero_point) * scale @ (weights * scales) - activation @ weight
    expected = rounding_error(seen, weight, factors)
    assert np.square(error).sum(axis=1).mean() == pytest.approx(expected, rel=0.1)


def test_merged_statistics_equal_those_of_the_whole() -> None:
    activation, _ = unlike_channels()
    parts, whole = (
        ChannelStatistics.of(activation[:7]).merged(ChannelStatistics.of(activation[7:])),
        ChannelStatistics.of(activation),
    )
    assert parts.tokens == whole.tokens == 50
    np.testing.assert_array_equal((parts.low, parts.high), (whole.low, whole.high))
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-5)


def test_activation_scales_represent_zero_exactly_and_cover_the_range() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        seen = ChannelStatistics(np.float32([low]), np.float32([high]), np.float32([1]), 1)
        scale, zero_point = activation_scale(seen, np.float32([1]))
        assert 0 <= zero_point <= 255
        assert (0 - zero_point) * scale <= min(low, 0) + scale / 2
        assert (255 - zero_point) * scale >= max(high, 0) - scale / 2


def test_each_column_has_its_own_scale_and_zero_columns_stay_zero() -> None:
    weight = np.float32([[1.0, 0.001, 0.0], [-0.5, -0.0005, 0.0]])
    codes, scales = quantize_columns(weight)
    np.testing.assert_allclose(codes * scales, weight, rtol=0.01)
    assert codes[:, :2].max() == 127
