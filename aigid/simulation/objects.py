"""The outlines, colours, textures and shadings of painted objects, drawn at random."""

import numpy as np

from aigid.simulation.canvas import Canvas, Shade, Texture
from aigid.simulation.light import Light
from aigid.simulation.vocabulary import COLOURS

_ROUND = {"coins", "buttons", "balloons", "lanterns", "balls", "marbles", "dots", "bushes"}
_ROUND |= {"apples"}
_OVAL = {"leaves", "pebbles", "petals", "shells", "birds", "eggs", "plums", "bowls"}
_DIAMOND = {"kites", "diamonds"}


def shape_of(noun: str) -> str:
    """Return the shape of the objects that a caption calls `noun`, for `blob`."""
    if noun in _ROUND:
        return "round"
    if noun in _OVAL:
        return "oval"
    return "diamond" if noun in _DIAMOND else "jagged"


def blob(rng: np.random.Generator, centre: tuple[float, float], radius: float, shape: str) -> Light:
    """Return the outline of a `round`, `oval`, `jagged` or `diamond` object."""
    points = {"round": 24, "oval": 20, "diamond": 4}.get(shape, int(rng.integers(4, 8)))
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = np.full(points, radius)
    if shape == "jagged":
        radii = radii * rng.uniform(0.6, 1.2, points)
    squeeze = rng.uniform(0.35, 0.8) if shape == "oval" else 1.0
    x, y = radii * np.cos(angles), radii * squeeze * np.sin(angles)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], axis=1).astype(
        np.float32
    )


def landmark(rng: np.random.Generator, extra: str, foot: tuple[float, float], size: float) -> Light:
    """Return the outline of a tree, house, bush or rock that stands on `foot`."""
    x, y = foot
    if extra == "trees":
        return np.array([[x, y - 2.5 * size], [x + 0.6 * size, y], [x - 0.6 * size, y]], np.float32)
    if extra == "houses":
        left, right, roof = x - size, x + size, y - 1.7 * size
        walls = [[left, y], [left, y - size], [x, roof], [right, y - size], [right, y]]
        return np.array(walls, np.float32)
    return blob(rng, foot, size, shape_of(extra))


def tint(rng: np.random.Generator, name: str, spread: float = 0.22) -> Light:
    """Return the named colour, varied a little in lightness and hue."""
    factors = np.exp(rng.normal(0, spread) + rng.normal(0, spread / 3, 3))
    colour: Light = np.clip(np.array(COLOURS[name]) * factors, 0.01, 0.9).astype(np.float32)
    return colour


def texture(rng: np.random.Generator, fine: float = 0.12) -> Texture:
    """Return a random texture with about `fine` of fine noise."""
    weave = rng.uniform(0.05, 0.2) if rng.random() < 0.25 else 0.0
    return float(fine * rng.uniform(0.3, 1.6)), float(weave), float(rng.uniform(0.0, 0.15))


def position(rng: np.random.Generator, canvas: Canvas) -> tuple[float, float]:
    """Return a random point of the canvas."""
    return float(rng.uniform(0, canvas.right)), float(rng.uniform(0, canvas.bottom))


def tilt(rng: np.random.Generator, centre: tuple[float, float], steepness: float) -> Shade:
    """Return the shading of a plane that is tilted at random."""
    sx, sy = rng.normal(0, steepness, 2)
    return Shade(centre, (float(sx), float(sy)))
