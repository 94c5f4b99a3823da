import numpy as np
import pytest

from aigid.simulation.rendering import render_scene
from aigid.simulation.scene import Scene, draw_scene
from aigid.simulation.vocabulary import SceneKind


def scene_of(kind: SceneKind) -> Scene:
    rng = np.random.default_rng(0)
    return next(scene for scene in iter(lambda: draw_scene(rng), None) if scene.kind is kind)


@pytest.mark.parametrize("kind", list(SceneKind))
def test_light_has_edges_and_fine_texture(kind: SceneKind) -> None:
    light = render_scene(scene_of(kind), np.random.default_rng(3), 96, 128)
    assert light.shape == (96, 128, 3)
    assert light.dtype == np.float32
    assert np.isfinite(light).all()
    assert light.min() >= 0
    assert light.max() < 4
    assert np.abs(np.diff(light, axis=1)).mean() > 0.002


def test_the_same_state_gives_the_same_image_and_another_gives_another() -> None:
    scene = scene_of(SceneKind.SCATTER)
    images = [render_scene(scene, np.random.default_rng(seed), 64, 64) for seed in (1, 1, 2)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
