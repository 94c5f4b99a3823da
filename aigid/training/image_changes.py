"""What happens to pictures on their way: random changes to train with, fixed ones to evaluate after, and one for all alike.

Detectors live off traces that recompression and resizing weaken; trained on such pictures, they keep what survives.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image, ImageFilter

from aigid.errors import UsageError

ImageChange = Callable[[Image.Image], Image.Image]

_SMALLEST_SIDE = 32
_RESAMPLINGS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
UNIFIED_SIDE, UNIFIED_QUALITY = 512, 90


@dataclass(frozen=True)
class Augmentation:
    """With which probability each change is made to a training picture, in this order; by default it is mirrored, or not.

    `crop` keeps 50 to 100 % of each side, `resize` scales by 0.5 to 1.5, `blur` has a radius of 0.3 to 1.5 pixels, `jpeg`
    re-encodes at a quality of 40 to 95; `flip` mirrors what comes of it, left and right.
    """

    crop: float = 0.0
    resize: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    flip: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise UsageError(
                    f"--augment {field.name}={getattr(self, field.name):g}: a probability is from 0 to 1"
                )

    @classmethod
    def parse(cls, words: tuple[str, ...]) -> "Augmentation":
        """From `NAME=PROBABILITY` each; raises UsageError where one is nothing of the kind."""
        names = [field.name for field in fields(cls)]
        found: dict[str, float] = {}
        for word in words:
            name, _, value = word.partition("=")
            try:
                found[name] = float(value)
            except ValueError as error:
                raise UsageError(
                    f"--augment {word}: give NAME=PROBABILITY, as in jpeg=0.5"
                ) from error
            if name not in names:
                raise UsageError(f"--augment {word}: the changes are {', '.join(names)}")
        return cls(**found)

    @property
    def is_off(self) -> bool:
        """Whether pictures stay as they are, but for being mirrored."""
        return not any(getattr(self, name) for name in _RANDOM)

    def change(self, rng: np.random.Generator) -> ImageChange:
        """The changes that `rng` draws for one picture."""

        def apply(picture: Image.Image) -> Image.Image:
            for name, make in _RANDOM.items():
                if rng.random() < getattr(self, name):
                    picture = make(picture, rng)
            return picture

        return apply


def unify(picture: Image.Image) -> Image.Image:
    """The same encoding for all: a shorter side of at most 512 pixels, JPEG at quality 90, 4:2:0."""
    scale = UNIFIED_SIDE / min(picture.size)
    return _jpeg(
        _scaled(picture, scale, Image.Resampling.BICUBIC) if scale < 1 else picture, UNIFIED_QUALITY
    )


def _screenshot(picture: Image.Image) -> Image.Image:
    # Shown at another size, captured without loss, and saved by whatever app it is sent with.
    shown = _scaled(picture, 0.8, Image.Resampling.BILINEAR)
    return _jpeg(shown, 80)


DEGRADATIONS: Mapping[str, ImageChange] = {
    "JPEG 70": lambda picture: _jpeg(picture, 70),
    "JPEG 50": lambda picture: _jpeg(picture, 50),
    "half size": lambda picture: _scaled(picture, 0.5, Image.Resampling.BICUBIC),
    "blur 1": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "crop 70 %": lambda picture: _cropped(picture, 0.7, 0.7, 0.5, 0.5),
    "screenshot": _screenshot,
}
"""What pictures go through in the wild, by name; each is a pure function of the picture."""


def _random_crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    across, down = rng.uniform(0.5, 1, 2)
    return _cropped(picture, across, down, rng.random(), rng.random())


def _random_resize(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _scaled(picture, rng.uniform(0.5, 1.5), _RESAMPLINGS[rng.integers(len(_RESAMPLINGS))])


def _random_blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))


def _random_jpeg(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _jpeg(picture, int(rng.integers(40, 96)))


_RANDOM = {
    "crop": _random_crop,
    "resize": _random_resize,
    "blur": _random_blur,
    "jpeg": _random_jpeg,
}


def _cropped(picture: Image.Image, across: float, down: float, x: float, y: float) -> Image.Image:
    """A part of so much of each side, `x` and `y` of the way from one edge to the other."""
    width, height = (
        min(side, max(_SMALLEST_SIDE, round(side * share)))
        for side, share in zip(picture.size, (across, down), strict=True)
    )
    left, top = round((picture.width - width) * x), round((picture.height - height) * y)
    return picture.crop((left, top, left + width, top + height))


def _scaled(picture: Image.Image, scale: float, resampling: Image.Resampling) -> Image.Image:
    smallest = min(picture.size)
    scale = max(scale, min(1, _SMALLEST_SIDE / smallest))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), resampling)


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, subsampling=2)
    again = Image.open(stream, formats=("JPEG",))
    again.load()
    return again
