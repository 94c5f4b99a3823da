"""The canvas that scenes are painted on: polygons with a colour, a texture and a shading each."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from aigid.simulation.light import Light, power_noise

SUPERSAMPLING = 2
"""Samples per pixel along each axis; their mean antialiases the edges."""

Texture = tuple[float, float, float]
"""The weights of fine noise, weave and clouds in a surface."""


@dataclass(frozen=True)
class Shade:
    """The shading of an object: 1 + slope . (p - centre) - bulge |p - centre|^2 at point p.

    Without a bulge it is a plane that catches the light at an angle, with one a ball.
    """

    centre: tuple[float, float]
    slope: tuple[float, float]
    bulge: float = 0.0

    def coefficients(self) -> tuple[float, float, float, float]:
        """Return the weights of 1, x, y and x^2 + y^2."""
        (cx, cy), (sx, sy), bulge = self.centre, self.slope, self.bulge
        constant = 1 - sx * cx - sy * cy - bulge * (cx * cx + cy * cy)
        return constant, sx + 2 * bulge * cx, sy + 2 * bulge * cy, -bulge


@dataclass
class Canvas:
    """A map of which object covers which sample, and the look of each object.

    Coordinates are multiples of the shorter side: they run to `right` and `bottom`.
    """

    height: int
    width: int
    looks: list[tuple[float, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unit = SUPERSAMPLING * min(self.height, self.width)
        self.right = self.width * SUPERSAMPLING / self.unit
        self.bottom = self.height * SUPERSAMPLING / self.unit
        self.map = Image.new("I", (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING), 0)
        self.pen = ImageDraw.Draw(self.map)

    def add(
        self, outline: Light, colour: Light, texture: Texture, shade: Shade | None = None
    ) -> None:
        """Paint the polygon whose corners are the rows x, y of `outline` [points, 2]."""
        coefficients = shade.coefficients() if shade else (1.0, 0.0, 0.0, 0.0)
        self.looks.append((*(float(value) for value in colour), *texture, *coefficients))
        self.pen.polygon((outline * self.unit).ravel().tolist(), fill=len(self.looks) - 1)

    def fill(self, colour: Light, texture: Texture, shade: Shade | None = None) -> None:
        """Paint the whole canvas."""
        corners = [[0.0, 0.0], [self.right, 0.0], [self.right, self.bottom], [0.0, self.bottom]]
        self.add(np.array(corners, np.float32), colour, texture, shade)

    def light(self, rng: np.random.Generator) -> Light:
        """Return the linear light of the painted objects, with their textures and shading."""
        index = np.asarray(self.map)
        table = np.array(self.looks, np.float32)
        phases = [(row, column) for row in range(SUPERSAMPLING) for column in range(SUPERSAMPLING)]
        colours = np.ascontiguousarray(table[:, :3]) / len(phases)
        light = sum(
            np.take(colours, index[row::SUPERSAMPLING, column::SUPERSAMPLING], axis=0)
            for row, column in phases
        )
        looks = np.take(
            np.ascontiguousarray(table[:, 3:].T), index[::SUPERSAMPLING, ::SUPERSAMPLING], axis=1
        )
        clouds, surface = self._surface(looks, rng)
        result = light * surface[..., None]
        result[..., 0] *= 1 + 0.06 * clouds
        result[..., 2] *= 1 - 0.06 * clouds
        return np.asarray(np.maximum(result, 0), np.float32)

    def _surface(self, looks: Light, rng: np.random.Generator) -> tuple[Light, Light]:
        """Return the field of clouds, and the factor by which texture and shading change light."""
        shape = (self.height, self.width)
        fine, clouds = power_noise(rng, shape, 0.6), power_noise(rng, shape, 1.6)
        y = np.linspace(0, self.bottom, self.height, dtype=np.float32)[:, None]
        x = np.linspace(0, self.right, self.width, dtype=np.float32)[None, :]
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(0.15, 0.35) * self.unit
        weave = np.sin(
            np.float32(pitch * np.cos(angle)) * x + np.float32(pitch * np.sin(angle)) * y + clouds
        )
        texture = 1 + looks[0] * fine + looks[1] * weave + looks[2] * clouds
        shading = looks[3] + looks[4] * x + looks[5] * y + looks[6] * (x * x + y * y)
        return clouds, np.maximum(texture, 0.1) * np.maximum(shading, 0.08)
