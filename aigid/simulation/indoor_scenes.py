"""Painters of close scenes: scattered objects, tiles, fabric, a still life."""

import numpy as np

from aigid.simulation.canvas import Canvas, Shade
from aigid.simulation.objects import blob, position, shape_of, texture, tilt, tint
from aigid.simulation.scene import Scene
from aigid.simulation.vocabulary import COUNTS


def paint_scatter(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint objects scattered over a surface, as dead leaves (Lee, Mumford and Huang 2001).

    Their sizes follow a power law, so that edges and texture fall off with frequency as they do in
    photographs.
    """
    canvas.fill(
        tint(rng, scene.ground),
        texture(rng, 0.2),
        tilt(rng, (canvas.right / 2, canvas.bottom / 2), 0.3),
    )
    shape = shape_of(scene.noun)
    for _ in range(int(140 * COUNTS[scene.count]) + 20):
        radius = min(0.018 * rng.random() ** -0.6, 0.22)
        centre = position(rng, canvas)
        colour = tint(rng, scene.first if rng.random() < 0.6 else scene.second)
        canvas.add(
            blob(rng, centre, radius, shape),
            colour,
            texture(rng, 0.15),
            tilt(rng, centre, 0.2 / radius**0.7 / 6),
        )


def paint_tiles(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint rows of tiles with joints between them; bricks are staggered."""
    canvas.fill(tint(rng, scene.ground), texture(rng, 0.25))
    tall = float(rng.uniform(0.07, 0.16))
    wide = tall * float(
        rng.uniform(1.6, 2.6) if scene.noun in {"bricks", "panels"} else rng.uniform(0.9, 1.1)
    )
    gap, wobble = float(rng.uniform(0.004, 0.012)), 0.03 * tall
    stagger = wide / 2 if scene.noun == "bricks" else 0.0
    offset = rng.uniform(-0.1, 0.0, 2)
    for row in range(int(canvas.bottom / tall) + 2):
        for column in range(-1, int(canvas.right / wide) + 2):
            left, top = offset[0] + column * wide + stagger * (row % 2), offset[1] + row * tall
            right, low = left + wide - gap, top + tall - gap
            corners = np.array([[left, top], [right, top], [right, low], [left, low]]) + rng.normal(
                0, wobble, (4, 2)
            )
            colour = tint(rng, scene.first if rng.random() < 0.6 else scene.second)
            canvas.add(
                corners.astype(np.float32), colour, texture(rng, 0.2), tilt(rng, (left, top), 0.8)
            )


def paint_fabric(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a striped cloth with a pattern of small objects."""
    weave = (
        float(rng.uniform(0.05, 0.15)),
        float(rng.uniform(0.08, 0.2)),
        float(rng.uniform(0.05, 0.2)),
    )
    canvas.fill(tint(rng, scene.first), weave)
    turn, period = rng.uniform(0, np.pi), float(rng.uniform(0.05, 0.2))
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    middle = np.array([canvas.right / 2, canvas.bottom / 2])
    width = period * float(rng.uniform(0.25, 0.7))
    colour = tint(rng, scene.second)
    for step in range(-int(1.2 / period), int(1.2 / period) + 1):
        centre = middle + across * step * period
        corners = [
            centre - 2 * along,
            centre + 2 * along,
            centre + 2 * along + across * width,
            centre - 2 * along + across * width,
        ]
        canvas.add(np.array(corners, np.float32), colour, weave)
    for _ in range(int(40 * COUNTS[scene.count]) + 4):
        radius = float(rng.uniform(0.01, 0.035))
        outline = blob(rng, position(rng, canvas), radius, shape_of(scene.extra))
        canvas.add(outline, tint(rng, scene.ground), weave)


def paint_still_life(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint round objects with their shadows on a table, the far ones first."""
    canvas.fill(
        tint(rng, scene.ground) * np.float32(0.6), (0.05, 0.0, 0.25), tilt(rng, (0.5, 0.5), 0.4)
    )
    edge = float(canvas.bottom * rng.uniform(0.3, 0.55))
    top = [[0.0, edge], [canvas.right, edge], [canvas.right, canvas.bottom], [0.0, canvas.bottom]]
    canvas.add(
        np.array(top, np.float32),
        tint(rng, scene.ground),
        texture(rng, 0.25),
        Shade((0.0, edge), (0.0, 0.3)),
    )
    lamp_x, lamp_y = (float(value) for value in rng.normal(0, 1, 2))
    for depth in np.sort(rng.uniform(0, 1, int(18 * COUNTS[scene.count]) + 3)):
        radius = float((0.04 + 0.08 * depth) * rng.uniform(0.7, 1.3))
        x = float(rng.uniform(0, canvas.right))
        y = float(edge + depth * (canvas.bottom - edge)) - radius / 2
        shadow = blob(rng, (x - 0.3 * radius * lamp_x, y + 0.5 * radius), radius, "oval")
        canvas.add(shadow, tint(rng, scene.ground) * np.float32(0.4), (0.1, 0.0, 0.0))
        slope = (0.4 * lamp_x / radius, -abs(0.4 * lamp_y) / radius)
        colour = tint(rng, scene.first if rng.random() < 0.5 else scene.second)
        shade = Shade((x, y), slope, 0.5 / radius**2)
        outline = blob(rng, (x, y), radius, shape_of(scene.noun))
        canvas.add(outline, colour, texture(rng, 0.1), shade)
