"""Procedural scenes: what a simulated picture shows, the caption that says so, and its light.

A `Scene` is drawn once and shared by its six pictures; each picture renders it with a geometry of its own, as
another picture of the same caption. Rendering is in linear light, with edges antialiased by 2x supersampling.
The scattered objects are dead leaves (Lee, Mumford and Huang 2001): their sizes follow a power law, so that edges
and texture fall off with frequency as they do in photographs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Light = npt.NDArray[np.float32]
"""An array of float32: a picture is [height, width, 3], a field [height, width]."""

SUPERSAMPLING = 2


class Family(StrEnum):
    """The kinds of scene."""

    SCATTER = "scatter"
    LANDSCAPE = "landscape"
    CLOUDS = "clouds"
    TILES = "tiles"
    FABRIC = "fabric"
    BOKEH = "bokeh"
    STILL_LIFE = "still_life"


COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.52, 0.05, 0.04),
    "orange": (0.72, 0.25, 0.03),
    "yellow": (0.76, 0.58, 0.06),
    "olive": (0.22, 0.24, 0.05),
    "green": (0.07, 0.32, 0.07),
    "teal": (0.03, 0.26, 0.26),
    "turquoise": (0.11, 0.55, 0.50),
    "blue": (0.05, 0.14, 0.52),
    "navy": (0.03, 0.05, 0.17),
    "purple": (0.22, 0.06, 0.34),
    "pink": (0.75, 0.29, 0.38),
    "maroon": (0.19, 0.03, 0.05),
    "brown": (0.20, 0.10, 0.05),
    "beige": (0.61, 0.51, 0.35),
    "gray": (0.26, 0.26, 0.27),
    "silver": (0.50, 0.52, 0.54),
    "white": (0.80, 0.79, 0.77),
    "black": (0.03, 0.03, 0.035),
}
"""Colour names of captions and their reflectance in linear light."""

LIGHTS: dict[str, tuple[float, float]] = {
    "in soft light": (0.95, 0.0),
    "in bright sunlight": (1.25, 0.06),
    "on a cloudy day": (0.85, -0.06),
    "in the evening": (0.75, 0.14),
    "in the early morning": (0.85, -0.10),
    "under a warm lamp": (0.95, 0.18),
}
"""Phrases of captions, with the brightness and the warmth (red up, blue down) they stand for."""

COUNTS = {"A few": 0.25, "Several": 0.45, "Many": 1.0, "Dozens of": 1.4}

NOUNS: dict[Family, tuple[str, ...]] = {
    Family.SCATTER: (
        "coins",
        "buttons",
        "leaves",
        "pebbles",
        "petals",
        "shells",
        "scraps",
        "shards",
        "stickers",
    ),
    Family.LANDSCAPE: ("hills", "mountains", "dunes", "fields", "cliffs"),
    Family.CLOUDS: ("balloons", "kites", "birds", "lanterns"),
    Family.TILES: ("tiles", "bricks", "panels", "stones", "boxes"),
    Family.FABRIC: ("cloth", "blanket", "towel", "rug", "curtain", "scarf"),
    Family.BOKEH: ("street", "harbor", "market", "fair", "bridge"),
    Family.STILL_LIFE: ("balls", "marbles", "apples", "plums", "bowls", "eggs"),
}

EXTRAS: dict[Family, tuple[str, ...]] = {
    Family.SCATTER: ("table", "floor", "board", "sheet"),
    Family.LANDSCAPE: ("trees", "bushes", "houses", "rocks"),
    Family.CLOUDS: ("sky",),
    Family.TILES: ("wall", "floor", "shelf"),
    Family.FABRIC: ("dots", "patches", "diamonds"),
    Family.BOKEH: ("night", "evening", "dusk"),
    Family.STILL_LIFE: ("table", "shelf", "bench", "tray"),
}

TEMPLATES: dict[Family, tuple[str, ...]] = {
    Family.SCATTER: (
        "{count} {first} and {second} {noun} scattered over a {ground} {extra} {light}.",
        "A close up of {first} {noun} lying among {second} ones on a {ground} {extra} {light}.",
        "A {ground} {extra} covered with {first} and {second} {noun} {light}.",
    ),
    Family.LANDSCAPE: (
        "{first} {noun} under a {ground} sky with {second} {extra} in front {light}.",
        "A view of {first} {noun} and {second} {extra} below a {ground} sky {light}.",
        "{count} {second} {extra} stand before {first} {noun} and a {ground} sky {light}.",
    ),
    Family.CLOUDS: (
        "{count} {second} {noun} in a {ground} {extra} with {first} clouds {light}.",
        "A {ground} {extra} full of {first} clouds and some {second} {noun} {light}.",
        "{first} clouds drift across a {ground} {extra} behind {second} {noun} {light}.",
    ),
    Family.TILES: (
        "A {extra} of {first} and {second} {noun} in rows with {ground} joints {light}.",
        "Rows of {first} {noun} mixed with {second} ones on a {ground} {extra} {light}.",
        "{count} {first} and {second} {noun} set side by side in a {ground} {extra} {light}.",
    ),
    Family.FABRIC: (
        "A {first} and {second} striped {noun} with {ground} {extra} spread out flat {light}.",
        "A close up of a {noun} with {first} and {second} stripes and {ground} {extra} {light}.",
        "{count} {ground} {extra} on a {noun} with {first} and {second} stripes {light}.",
    ),
    Family.BOKEH: (
        "Blurry {first} and {second} lights of a {noun} glow in the {ground} {extra}.",
        "A {noun} at {extra} with out of focus {first} and {second} lights on {ground}.",
        "{count} {first} and {second} lights shine over a {noun} in the {ground} {extra}.",
    ),
    Family.STILL_LIFE: (
        "{count} {first} and {second} {noun} sitting on a {ground} {extra} {light}.",
        "A still life of {first} {noun} and {second} {noun} on a {ground} {extra} {light}.",
        "{first} and {second} {noun} are placed together on a {ground} {extra} {light}.",
    ),
}


@dataclass(frozen=True)
class Scene:
    """What a caption tells: the objects, their colours, the ground they are on, how many, and the light."""

    family: Family
    noun: str
    extra: str
    first: str
    second: str
    ground: str
    count: str
    light: str
    caption: str


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene drawn at random, with its caption of 8 to 20 words."""
    family = list(Family)[rng.integers(len(Family))]
    first, second, ground = (str(name) for name in rng.choice(list(COLOURS), size=3, replace=False))
    words = {
        "noun": str(rng.choice(NOUNS[family])),
        "extra": str(rng.choice(EXTRAS[family])),
        "first": first,
        "second": second,
        "ground": ground,
        "count": str(rng.choice(list(COUNTS))),
        "light": str(rng.choice(list(LIGHTS))),
    }
    template = str(rng.choice(TEMPLATES[family]))
    return Scene(family=family, caption=_write_caption(template, words), **words)


def _write_caption(template: str, words: dict[str, str]) -> str:
    sentence = template.format(**words)
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
    return sentence[0].upper() + sentence[1:]


def render_scene(scene: Scene, rng: np.random.Generator, height: int, width: int) -> Light:
    """One picture's linear light, float32 [height, width, 3], mostly in [0, 1]; the geometry is drawn from `rng`."""
    canvas = Canvas(height, width)
    _PAINTERS[scene.family](scene, canvas, rng)
    light = canvas.light(rng)
    if scene.family is Family.BOKEH:
        _add_lights(light, scene, rng)
    brightness, warmth = LIGHTS[scene.light]
    light *= np.array(
        [brightness * (1 + warmth), brightness, brightness * (1 - warmth)], np.float32
    )
    return light


@dataclass
class Canvas:
    """An index map of objects drawn at 2x, and how each object looks; lengths are in shorter sides."""

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
        self,
        outline: Light,
        colour: Light,
        texture: tuple[float, float, float],
        shade: "Shade | None" = None,
    ) -> None:
        """Paint the polygon `outline` [points, 2] of x and y; `texture` weighs fine noise, weave and clouds."""
        coefficients = shade.coefficients() if shade else (1.0, 0.0, 0.0, 0.0)
        self.looks.append((*(float(value) for value in colour), *texture, *coefficients))
        self.pen.polygon((outline * self.unit).ravel().tolist(), fill=len(self.looks) - 1)

    def fill(
        self, colour: Light, texture: tuple[float, float, float], shade: "Shade | None" = None
    ) -> None:
        """Paint all of the canvas."""
        corners = [[0.0, 0.0], [self.right, 0.0], [self.right, self.bottom], [0.0, self.bottom]]
        self.add(np.array(corners, np.float32), colour, texture, shade)

    def light(self, rng: np.random.Generator) -> Light:
        """The painted objects with their textures and shading, in linear light."""
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
        result = light * (np.maximum(texture, 0.1) * np.maximum(shading, 0.08))[..., None]
        result[..., 0] *= 1 + 0.06 * clouds
        result[..., 2] *= 1 - 0.06 * clouds
        return np.asarray(np.maximum(result, 0), np.float32)


@dataclass(frozen=True)
class Shade:
    """Shading of an object: 1 + slope . (p - centre) - bulge |p - centre|^2, a plane or a ball lit from one side."""

    centre: tuple[float, float]
    slope: tuple[float, float]
    bulge: float = 0.0

    def coefficients(self) -> tuple[float, float, float, float]:
        """The weights of 1, x, y and x^2 + y^2."""
        (cx, cy), (sx, sy), bulge = self.centre, self.slope, self.bulge
        constant = 1 - sx * cx - sy * cy - bulge * (cx * cx + cy * cy)
        return constant, sx + 2 * bulge * cx, sy + 2 * bulge * cy, -bulge


@lru_cache(maxsize=64)
def _power_amplitude(shape: tuple[int, int], power: float) -> Light:
    rows = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    amplitude = frequency**-power
    amplitude[0, 0] = 0.0
    amplitude *= np.sqrt(shape[0] * shape[1] / (2 * np.square(amplitude).sum()))
    return amplitude.astype(np.float32)


def power_noise(rng: np.random.Generator, shape: tuple[int, int], power: float) -> Light:
    """A field [height, width] of unit variance whose spectral amplitude falls as frequency to the -`power`."""
    amplitude = _power_amplitude(shape, power)
    spectrum = (
        rng.standard_normal((*amplitude.shape, 2), np.float32).view(np.complex64)[..., 0]
        * amplitude
    )
    noise: Light = np.fft.irfft2(spectrum, s=shape).astype(np.float32, copy=False)
    noise *= np.float32(1 / max(float(noise.std()), 1e-6))
    return noise


def _tint(rng: np.random.Generator, name: str, spread: float = 0.22) -> Light:
    """The named colour, varied a little in lightness and hue."""
    factors = np.exp(rng.normal(0, spread) + rng.normal(0, spread / 3, 3))
    tint: Light = np.clip(np.array(COLOURS[name]) * factors, 0.01, 0.9).astype(np.float32)
    return tint


def _texture(rng: np.random.Generator, fine: float = 0.12) -> tuple[float, float, float]:
    weave = rng.uniform(0.05, 0.2) if rng.random() < 0.25 else 0.0
    return float(fine * rng.uniform(0.3, 1.6)), float(weave), float(rng.uniform(0.0, 0.15))


def _blob(rng: np.random.Generator, centre: tuple[float, float], radius: float, kind: str) -> Light:
    """The outline of a `round`, `oval`, `jagged` or `diamond` object."""
    points = {"round": 24, "oval": 20, "diamond": 4}.get(kind, int(rng.integers(4, 8)))
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = np.full(points, radius)
    if kind == "jagged":
        radii = radii * rng.uniform(0.6, 1.2, points)
    squeeze = rng.uniform(0.35, 0.8) if kind == "oval" else 1.0
    x, y = radii * np.cos(angles), radii * squeeze * np.sin(angles)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], axis=1).astype(
        np.float32
    )


def _kind(noun: str) -> str:
    if noun in {
        "coins",
        "buttons",
        "balloons",
        "lanterns",
        "balls",
        "marbles",
        "dots",
        "bushes",
        "apples",
    }:
        return "round"
    if noun in {"leaves", "pebbles", "petals", "shells", "birds", "eggs", "plums", "bowls"}:
        return "oval"
    return "diamond" if noun in {"kites", "diamonds"} else "jagged"


def _position(rng: np.random.Generator, canvas: Canvas) -> tuple[float, float]:
    return float(rng.uniform(0, canvas.right)), float(rng.uniform(0, canvas.bottom))


def _tilt(rng: np.random.Generator, centre: tuple[float, float], steepness: float) -> Shade:
    sx, sy = rng.normal(0, steepness, 2)
    return Shade(centre, (float(sx), float(sy)))


def _paint_scatter(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.fill(
        _tint(rng, scene.ground),
        _texture(rng, 0.2),
        _tilt(rng, (canvas.right / 2, canvas.bottom / 2), 0.3),
    )
    kind = _kind(scene.noun)
    for _ in range(int(140 * COUNTS[scene.count]) + 20):
        radius = min(0.018 * rng.random() ** -0.6, 0.22)
        centre = _position(rng, canvas)
        colour = _tint(rng, scene.first if rng.random() < 0.6 else scene.second)
        canvas.add(
            _blob(rng, centre, radius, kind),
            colour,
            _texture(rng, 0.15),
            _tilt(rng, centre, 0.2 / radius**0.7 / 6),
        )


def _paint_landscape(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    horizon = canvas.bottom * rng.uniform(0.3, 0.6)
    canvas.fill(
        _tint(rng, scene.ground),
        (0.02, 0.0, 0.1),
        Shade((0.0, horizon), (0.0, -float(rng.uniform(0.1, 0.5)))),
    )
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
            _tint(rng, scene.first, 0.35),
            _texture(rng, 0.3),
            Shade((0.0, top), (0.0, -0.4)),
        )
    for _ in range(int(30 * COUNTS[scene.count]) + 4):
        foot = (
            float(rng.uniform(0, canvas.right)),
            float(rng.uniform(horizon + 0.1, canvas.bottom)),
        )
        size = 0.02 + 0.16 * (foot[1] - horizon) * rng.uniform(0.5, 1.2)
        canvas.add(
            _landmark(rng, scene.extra, foot, size), _tint(rng, scene.second), _texture(rng, 0.3)
        )


def _landmark(
    rng: np.random.Generator, extra: str, foot: tuple[float, float], size: float
) -> Light:
    """The outline of a tree, house, bush or rock that stands on `foot`."""
    x, y = foot
    if extra == "trees":
        return np.array([[x, y - 2.5 * size], [x + 0.6 * size, y], [x - 0.6 * size, y]], np.float32)
    if extra == "houses":
        walls = [
            [x - size, y],
            [x - size, y - size],
            [x, y - 1.7 * size],
            [x + size, y - size],
            [x + size, y],
        ]
        return np.array(walls, np.float32)
    return _blob(rng, foot, size, _kind(extra))


def _paint_clouds(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.fill(
        _tint(rng, scene.ground),
        (0.03, 0.0, 0.25),
        Shade((0.0, 0.5), (0.0, float(rng.uniform(0.1, 0.6)))),
    )
    for _ in range(int(rng.integers(4, 9))):
        centre, length = _position(rng, canvas), rng.uniform(0.08, 0.3)
        for _ in range(14):
            spot = (
                centre[0] + float(rng.normal(0, length)),
                centre[1] + float(rng.normal(0, length / 3)),
            )
            puff = _blob(rng, spot, float(length * rng.uniform(0.15, 0.5)), "round")
            canvas.add(
                puff, _tint(rng, scene.first, 0.05), (0.05, 0.0, 0.3), Shade(centre, (0.0, -0.8))
            )
    for _ in range(int(20 * COUNTS[scene.count]) + 2):
        centre, radius = _position(rng, canvas), float(rng.uniform(0.012, 0.06))
        shade = Shade(centre, (0.0, -3.0), 40.0)
        canvas.add(
            _blob(rng, centre, radius, _kind(scene.noun)),
            _tint(rng, scene.second),
            _texture(rng),
            shade,
        )


def _paint_tiles(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.fill(_tint(rng, scene.ground), _texture(rng, 0.25))
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
            colour = _tint(rng, scene.first if rng.random() < 0.6 else scene.second)
            canvas.add(
                corners.astype(np.float32), colour, _texture(rng, 0.2), _tilt(rng, (left, top), 0.8)
            )


def _paint_fabric(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    weave = (
        float(rng.uniform(0.05, 0.15)),
        float(rng.uniform(0.08, 0.2)),
        float(rng.uniform(0.05, 0.2)),
    )
    canvas.fill(_tint(rng, scene.first), weave)
    turn, period = rng.uniform(0, np.pi), float(rng.uniform(0.05, 0.2))
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    middle, width = (
        np.array([canvas.right / 2, canvas.bottom / 2]),
        period * float(rng.uniform(0.25, 0.7)),
    )
    colour = _tint(rng, scene.second)
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
        canvas.add(
            _blob(rng, _position(rng, canvas), radius, _kind(scene.extra)),
            _tint(rng, scene.ground),
            weave,
        )


def _paint_bokeh(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.fill(
        _tint(rng, scene.ground) * np.float32(0.35), (0.1, 0.0, 0.5), _tilt(rng, (0.5, 0.5), 0.6)
    )
    skyline = float(canvas.bottom * rng.uniform(0.55, 0.85))
    left = 0.0
    while left < canvas.right:
        wide, top = float(rng.uniform(0.04, 0.2)), skyline - float(rng.uniform(0.0, 0.3))
        corners = [
            [left, top],
            [left + wide, top],
            [left + wide, canvas.bottom],
            [left, canvas.bottom],
        ]
        canvas.add(
            np.array(corners, np.float32),
            _tint(rng, scene.ground) * np.float32(0.2),
            _texture(rng, 0.3),
        )
        left += wide * float(rng.uniform(0.7, 1.3))


def _add_lights(light: Light, scene: Scene, rng: np.random.Generator) -> None:
    """Add out-of-focus lights: even discs with soft edges, brighter where they overlap."""
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
        colour = _tint(rng, scene.first if rng.random() < 0.6 else scene.second) * np.float32(
            rng.uniform(0.3, 1.0)
        )
        light[rows, columns] += disc[..., None] * colour


def _paint_still_life(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.fill(
        _tint(rng, scene.ground) * np.float32(0.6), (0.05, 0.0, 0.25), _tilt(rng, (0.5, 0.5), 0.4)
    )
    edge = float(canvas.bottom * rng.uniform(0.3, 0.55))
    top = [[0.0, edge], [canvas.right, edge], [canvas.right, canvas.bottom], [0.0, canvas.bottom]]
    canvas.add(
        np.array(top, np.float32),
        _tint(rng, scene.ground),
        _texture(rng, 0.25),
        Shade((0.0, edge), (0.0, 0.3)),
    )
    lamp = rng.normal(0, 1, 2)
    for depth in np.sort(rng.uniform(0, 1, int(18 * COUNTS[scene.count]) + 3)):
        radius = float((0.04 + 0.08 * depth) * rng.uniform(0.7, 1.3))
        centre = (
            float(rng.uniform(0, canvas.right)),
            float(edge + depth * (canvas.bottom - edge)) - radius / 2,
        )
        shadow = _blob(
            rng,
            (centre[0] - 0.3 * radius * float(lamp[0]), centre[1] + 0.5 * radius),
            radius,
            "oval",
        )
        canvas.add(shadow, _tint(rng, scene.ground) * np.float32(0.4), (0.1, 0.0, 0.0))
        slope = (0.4 * float(lamp[0]) / radius, -abs(0.4 * float(lamp[1])) / radius)
        colour = _tint(rng, scene.first if rng.random() < 0.5 else scene.second)
        shade = Shade(centre, slope, 0.5 / radius**2)
        canvas.add(_blob(rng, centre, radius, _kind(scene.noun)), colour, _texture(rng, 0.1), shade)


_PAINTERS: dict[Family, Callable[[Scene, Canvas, np.random.Generator], None]] = {
    Family.SCATTER: _paint_scatter,
    Family.LANDSCAPE: _paint_landscape,
    Family.CLOUDS: _paint_clouds,
    Family.TILES: _paint_tiles,
    Family.FABRIC: _paint_fabric,
    Family.BOKEH: _paint_bokeh,
    Family.STILL_LIFE: _paint_still_life,
}
