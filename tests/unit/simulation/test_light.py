import numpy as np
import pytest

from aigid.simulation.light import power_noise


@pytest.mark.parametrize("power", [0.6, 1.6])
def test_noise_falls_with_frequency_as_asked(power: float) -> None:
    noise = power_noise(np.random.default_rng(0), (256, 256), power)
    spectrum = np.abs(np.fft.rfft2(noise)) ** 2
    low, high = spectrum[4:12, 4:12].mean(), spectrum[32:96, 32:96].mean()
    slope = np.log(low / high) / np.log(64 / 8) / 2
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert slope == pytest.approx(power, abs=0.25)
