"""The rows of a seed hold what they held when the reference was made.

The tolerances are for another processor: its last bits of float32 may round a pixel differently.
"""

import numpy as np
import pytest
from references.simulated_rows import CONFIG, describe_rows, read_rows

from aigid.simulation.rows import draw_split_scene
from aigid.simulation.vocabulary import SceneKind


def test_the_rows_of_a_seed_are_those_of_the_reference() -> None:
    found, expected = describe_rows(), read_rows()
    for name in ("caption", "path", "label_b", "size", "quantisation"):
        assert [getattr(row, name) for row in found] == [getattr(row, name) for row in expected]
    np.testing.assert_allclose([row.grid for row in found], [row.grid for row in expected], atol=2)
    details = [row.detail for row in expected]
    assert [row.detail for row in found] == pytest.approx(details, rel=0.02, abs=0.02)


def test_the_reference_has_every_kind_of_scene() -> None:
    scenes = [draw_split_scene(CONFIG, number)[0] for number in range(CONFIG.rows // 6)]
    assert {scene.kind for scene in scenes} == set(SceneKind)
