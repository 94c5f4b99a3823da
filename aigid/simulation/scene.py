"""Scenes: what a simulated image shows, and the caption that describes it."""

import re
from dataclasses import dataclass

import numpy as np

from aigid.simulation.vocabulary import COLOURS, COUNTS, EXTRAS, LIGHTS, NOUNS, TEMPLATES, SceneKind


@dataclass(frozen=True)
class Scene:
    """The content of a caption: objects with their colours and number, the ground, the light."""

    kind: SceneKind
    noun: str
    extra: str
    first: str
    second: str
    ground: str
    count: str
    light: str
    caption: str


def draw_scene(rng: np.random.Generator) -> Scene:
    """Return a random scene; its caption has 8 to 20 words."""
    kind = list(SceneKind)[rng.integers(len(SceneKind))]
    first, second, ground = (str(name) for name in rng.choice(list(COLOURS), size=3, replace=False))
    words = {
        "noun": str(rng.choice(NOUNS[kind])),
        "extra": str(rng.choice(EXTRAS[kind])),
        "first": first,
        "second": second,
        "ground": ground,
        "count": str(rng.choice(list(COUNTS))),
        "light": str(rng.choice(list(LIGHTS))),
    }
    template = str(rng.choice(TEMPLATES[kind]))
    return Scene(kind=kind, caption=_write_caption(template, words), **words)


def _write_caption(template: str, words: dict[str, str]) -> str:
    sentence = template.format(**words)
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
    return sentence[0].upper() + sentence[1:]
