import math

import numpy as np
import pytest

from aigid.training.config import TrainingConfig
from aigid.training.optimization import learning_rate_at


def rates(schedule: str, steps: int, warmup_fraction: float = 0.15) -> list[float]:
    """Return the learning rate of each step."""
    config = TrainingConfig(schedule=schedule, learning_rate=0.1, warmup_fraction=warmup_fraction)
    return [learning_rate_at(config, step, steps) for step in range(steps)]


def test_the_constant_schedule_is_constant() -> None:
    assert rates("constant", 7) == [0.1] * 7


def test_one_cycle_rises_for_15_percent_of_the_steps_then_falls_as_a_cosine() -> None:
    found = rates("one_cycle", 100)
    np.testing.assert_allclose(found[:15], [0.1 * (step + 1) / 15 for step in range(15)])
    np.testing.assert_allclose(
        found[15:], [0.05 * (1 + math.cos(math.pi * step / 85)) for step in range(85)]
    )
    assert found[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 6, 7])
def test_one_cycle_of_few_steps_never_stands_still(steps: int) -> None:
    assert rates("one_cycle", steps)[0] == 0.1
    assert min(rates("one_cycle", steps)) > 0


def test_the_warm_up_is_a_fraction_of_all_steps() -> None:
    assert rates("one_cycle", 10, 0.5)[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates("one_cycle", 10, 1.0) == pytest.approx([0.01 * step for step in range(1, 11)])
    assert rates("one_cycle", 10, 0.0)[0] == 0.1
