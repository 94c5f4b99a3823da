"""Painters of scenes under the sky: landscapes, clouds, streets at night with blurred lights."""

import numpy as np

from aigid.simulation.canvas import Canvas, Shade
from aigid.simulation.light import Light
from aigid.simulation.objects import blob, landmark, position, shape_of, texture, tilt, tint
from aigid.simulation.scene import Scene
from aigid.simulation.vocabulary import COUNTS


def paint_landscape(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the sky, a few ranges of hills, and landmarks in front of them."""
    horizon = float(canvas.bottom * rng.uniform(0.3, 0.6))
    canvas.fill(
        tint(rng, scene.ground),
        (0.02, 0.0, 0.1),
        Shade((0.0, horizon), (0.0, -float(rng.uniform(0.1, 0.5)))),
    )
    _paint_hills(scene, canvas, horizon, rng)
    for _ in range(int(30 * COUNTS[scene.count]) + 4):
        foot = (
            float(rng.uniform(0, canvas.right)),
            float(rng.uniform(horizon + 0.1, canvas.bottom)),
        )
        size = 0.02 + 0.16 * (foot[1] - horizon) * rng.uniform(0.5, 1.2)
        outline = landmark(rng, scene.extra, foot, size)
        canvas.add(outline, tint(rng, scene.second), texture(rng, 0.3))


def _paint_hills(scene: Scene, canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    x = np.linspace(0, canvas.right, 96)
    for layer in range(int(rng.integers(2, 5))):
        top = horizon + layer * rng.uniform(0.08, 0.18)
        relief = np.cumsum(rng.normal(0, 0.012, x.size)) * rng.uniform(0.4, 1.2) + rng.normal(
            0, 0.003, x.size
        )
        y = np.clip(top + relief - relief.mean(), 0.02, canvas.bottom)
        ends = [[canvas.right, canvas.bottom], [0.0, canvas.bottom]]
        outline = np.concatenate([np.stack([x, y], axis=1), ends]).astype(np.float32)
        canvas.add(
            outline,
            tint(rng, scene.first, 0.35),
            texture(rng, 0.3),
            Shade((0.0, top), (0.0, -0.4)),
        )


def paint_clouds(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the sky, clouds made of overlapping puffs, and objects that float among them."""
    canvas.fill(
        tint(rng, scene.ground),
        (0.03, 0.0, 0.25),
        Shade((0.0, 0.5), (0.0, float(rng.uniform(0.1, 0.6)))),
    )
    for _ in range(int(rng.integers(4, 9))):
        centre, length = position(rng, canvas), rng.uniform(0.08, 0.3)
        for _ in range(14):
            spot = (
                centre[0] + float(rng.normal(0, length)),
                centre[1] + float(rng.normal(0, length / 3)),
            )
            puff = blob(rng, spot, float(length * rng.uniform(0.15, 0.5)), "round")
            canvas.add(
                puff, tint(rng, scene.first, 0.05), (0.05, 0.0, 0.3), Shade(centre, (0.0, -0.8))
            )
    for _ in range(int(20 * COUNTS[scene.count]) + 2):
        centre, radius = position(rng, canvas), float(rng.uniform(0.012, 0.06))
        shade = Shade(centre, (0.0, -3.0), 40.0)
        outline = blob(rng, centre, radius, shape_of(scene.noun))
        canvas.add(outline, tint(rng, scene.second), texture(rng), shade)


def paint_bokeh(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a dark skyline; `add_lights` puts its lights over it."""
    canvas.fill(
        tint(rng, scene.ground) * np.float32(0.35), (0.1, 0.0, 0.5), tilt(rng, (0.5, 0.5), 0.6)
    )
    skyline = float(canvas.bottom * rng.uniform(0.55, 0.85))
    left = 0.0
    while left < canvas.right:
        wide, top = float(rng.uniform(0.04, 0.2)), skyline - float(rng.uniform(0.0, 0.3))
        right, bottom = left + wide, canvas.bottom
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        colour = tint(rng, scene.ground) * np.float32(0.2)
        canvas.add(np.array(corners, np.float32), colour, texture(rng, 0.3))
        left += wide * float(rng.uniform(0.7, 1.3))


def add_lights(light: Light, scene: Scene, rng: np.random.Generator) -> None:
    """Add lights that are out of focus, in place: even discs with soft edges that add up."""
    height, width = light.shape[:2]
    unit = min(height, width)
    size = float(rng.uniform(0.02, 0.06))
    for _ in range(int(50 * COUNTS[scene.count]) + 8):
        radius = unit * size * float(rng.uniform(0.5, 1.5))
        cx, cy = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        rows = slice(max(int(cy - radius) - 1, 0), min(int(cy + radius) + 3, height))
        columns = slice(max(int(cx - radius) - 1, 0), min(int(cx + radius) + 3, width))
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(cy)
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(cx)
        distance = np.sqrt(x * x + y * y)
        disc = np.clip(radius - distance, 0, 1) * (0.6 + 0.4 * (distance / radius) ** 3)
        colour = tint(rng, scene.first if rng.random() < 0.6 else scene.second) * np.float32(
            rng.uniform(0.3, 1.0)
        )
        light[rows, columns] += disc[..., None] * colour
