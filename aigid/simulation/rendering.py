"""Rendering: the linear light of a scene, with a geometry of its own for each image.

Edges are antialiased by 2x supersampling.
"""

from collections.abc import Callable

import numpy as np

from aigid.simulation.canvas import Canvas
from aigid.simulation.indoor_scenes import (
    paint_fabric,
    paint_scatter,
    paint_still_life,
    paint_tiles,
)
from aigid.simulation.light import Light
from aigid.simulation.outdoor_scenes import add_lights, paint_bokeh, paint_clouds, paint_landscape
from aigid.simulation.scene import Scene
from aigid.simulation.vocabulary import LIGHTS, SceneKind

_PAINTERS: dict[SceneKind, Callable[[Scene, Canvas, np.random.Generator], None]] = {
    SceneKind.SCATTER: paint_scatter,
    SceneKind.LANDSCAPE: paint_landscape,
    SceneKind.CLOUDS: paint_clouds,
    SceneKind.TILES: paint_tiles,
    SceneKind.FABRIC: paint_fabric,
    SceneKind.BOKEH: paint_bokeh,
    SceneKind.STILL_LIFE: paint_still_life,
}


def render_scene(scene: Scene, rng: np.random.Generator, height: int, width: int) -> Light:
    """Return the linear light of one image: float32 [height, width, 3], mostly in [0, 1].

    The geometry is drawn from `rng`: another state gives another image of the same caption.
    """
    canvas = Canvas(height, width)
    _PAINTERS[scene.kind](scene, canvas, rng)
    light = canvas.light(rng)
    if scene.kind is SceneKind.BOKEH:
        add_lights(light, scene, rng)
    brightness, warmth = LIGHTS[scene.light]
    light *= np.array(
        [brightness * (1 + warmth), brightness, brightness * (1 - warmth)], np.float32
    )
    return light
