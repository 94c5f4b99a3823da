"""The words of captions, and the colours, light and numbers of objects that they stand for."""

from enum import StrEnum


class SceneKind(StrEnum):
    """The seven kinds of scene."""

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
"""The colour names in captions, with their reflectance in linear light."""

LIGHTS: dict[str, tuple[float, float]] = {
    "in soft light": (0.95, 0.0),
    "in bright sunlight": (1.25, 0.06),
    "on a cloudy day": (0.85, -0.06),
    "in the evening": (0.75, 0.14),
    "in the early morning": (0.85, -0.10),
    "under a warm lamp": (0.95, 0.18),
}
"""The phrases for light in captions, with their brightness and warmth (red up, blue down)."""

COUNTS: dict[str, float] = {"A few": 0.25, "Several": 0.45, "Many": 1.0, "Dozens of": 1.4}
"""The words for a number of objects, with the number relative to a crowded scene."""

NOUNS: dict[SceneKind, tuple[str, ...]] = {
    SceneKind.SCATTER: ("coins", "buttons", "leaves", "pebbles", "petals")
    + ("shells", "scraps", "shards", "stickers"),
    SceneKind.LANDSCAPE: ("hills", "mountains", "dunes", "fields", "cliffs"),
    SceneKind.CLOUDS: ("balloons", "kites", "birds", "lanterns"),
    SceneKind.TILES: ("tiles", "bricks", "panels", "stones", "boxes"),
    SceneKind.FABRIC: ("cloth", "blanket", "towel", "rug", "curtain", "scarf"),
    SceneKind.BOKEH: ("street", "harbor", "market", "fair", "bridge"),
    SceneKind.STILL_LIFE: ("balls", "marbles", "apples", "plums", "bowls", "eggs"),
}
"""The objects of each kind of scene."""

EXTRAS: dict[SceneKind, tuple[str, ...]] = {
    SceneKind.SCATTER: ("table", "floor", "board", "sheet"),
    SceneKind.LANDSCAPE: ("trees", "bushes", "houses", "rocks"),
    SceneKind.CLOUDS: ("sky",),
    SceneKind.TILES: ("wall", "floor", "shelf"),
    SceneKind.FABRIC: ("dots", "patches", "diamonds"),
    SceneKind.BOKEH: ("night", "evening", "dusk"),
    SceneKind.STILL_LIFE: ("table", "shelf", "bench", "tray"),
}
"""What surrounds or carries the objects of each kind of scene."""

TEMPLATES: dict[SceneKind, tuple[str, ...]] = {
    SceneKind.SCATTER: (
        "{count} {first} and {second} {noun} scattered over a {ground} {extra} {light}.",
        "A close up of {first} {noun} lying among {second} ones on a {ground} {extra} {light}.",
        "A {ground} {extra} covered with {first} and {second} {noun} {light}.",
    ),
    SceneKind.LANDSCAPE: (
        "{first} {noun} under a {ground} sky with {second} {extra} in front {light}.",
        "A view of {first} {noun} and {second} {extra} below a {ground} sky {light}.",
        "{count} {second} {extra} stand before {first} {noun} and a {ground} sky {light}.",
    ),
    SceneKind.CLOUDS: (
        "{count} {second} {noun} in a {ground} {extra} with {first} clouds {light}.",
        "A {ground} {extra} full of {first} clouds and some {second} {noun} {light}.",
        "{first} clouds drift across a {ground} {extra} behind {second} {noun} {light}.",
    ),
    SceneKind.TILES: (
        "A {extra} of {first} and {second} {noun} in rows with {ground} joints {light}.",
        "Rows of {first} {noun} mixed with {second} ones on a {ground} {extra} {light}.",
        "{count} {first} and {second} {noun} set side by side in a {ground} {extra} {light}.",
    ),
    SceneKind.FABRIC: (
        "A {first} and {second} striped {noun} with {ground} {extra} spread out flat {light}.",
        "A close up of a {noun} with {first} and {second} stripes and {ground} {extra} {light}.",
        "{count} {ground} {extra} on a {noun} with {first} and {second} stripes {light}.",
    ),
    SceneKind.BOKEH: (
        "Blurry {first} and {second} lights of a {noun} glow in the {ground} {extra}.",
        "A {noun} at {extra} with out of focus {first} and {second} lights on {ground}.",
        "{count} {first} and {second} lights shine over a {noun} in the {ground} {extra}.",
    ),
    SceneKind.STILL_LIFE: (
        "{count} {first} and {second} {noun} sitting on a {ground} {extra} {light}.",
        "A still life of {first} {noun} and {second} {noun} on a {ground} {extra} {light}.",
        "{first} and {second} {noun} are placed together on a {ground} {extra} {light}.",
    ),
}
"""The captions of each kind of scene, before their words are filled in."""
