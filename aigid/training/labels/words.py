"""Words for real, AI-generated and unknown, as data sets write them."""

import re
from enum import Enum


class Meaning(Enum):
    """What a word says of an image."""

    REAL = "real"
    AI = "ai"
    UNKNOWN = "unknown"


_REAL = frozenset(
    [
        *("real", "human", "authentic", "genuine", "original", "natural", "nature"),
        *("camera", "photo", "photos", "photograph", "photographs"),
        # Collections of photographs that others take their real images from.
        *("coco", "mscoco", "imagenet", "laion", "ffhq", "celeba"),
    ]
)
_AI = frozenset(
    ["ai", "aigc", "fake", "deepfake", "generated", "synthetic", "synthesized", "artificial"]
)
_UNKNOWN = frozenset(
    ["", "unknown", "unlabeled", "unlabelled", "undefined", "none", "null", "nan", "n/a", "na", "?"]
)
_NOT = frozenset(["not", "non"])
# They say nothing, as in "AI-generated image", "RealArt", "is_fake" and "0_real".
_FILLERS = frozenset(
    [
        *("is", "by", "a", "an", "the", "vs", "made", "class", "label", "data"),
        *("image", "images", "img", "imgs", "art", "arts", "face", "faces"),
    ]
)
# Words as in "ai_generated", "AiArt" and "AIGenerated".
_TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def meaning_of(text: str) -> Meaning | None:
    """Return what a value says of an image, in any case; None where it is no such word.

    "not" and "non" turn real and AI-generated around, as in "not_ai".
    """
    if text.strip().casefold() in _UNKNOWN:
        return Meaning.UNKNOWN
    words = {token.lower() for token in _TOKENS.findall(text)}
    words -= _FILLERS | {word for word in words if word.isdigit()}
    telling = words - _NOT
    if not telling or not telling <= _REAL | _AI:
        return None
    # "fake photo" is AI-generated, and so is "synthetic human".
    is_ai = bool(telling & _AI) != bool(words & _NOT)
    return Meaning.AI if is_ai else Meaning.REAL
