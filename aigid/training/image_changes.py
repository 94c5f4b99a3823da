"""Changes of images: random ones for training, fixed ones for evaluation, and one common encoding.

Detectors rely on traces that recompression and resizing weaken. Trained on changed images, they
rely on what survives.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

from aigid.errors import UsageError

ImageChange = Callable[[Image.Image], Image.Image]

_SMALLEST_SIDE = 32
_RESAMPLINGS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
UNIFIED_SIDE, UNIFIED_QUALITY = 512, 90


@dataclass(frozen=True)
class Augmentation:
    """The probability of each random change of a training image; they are applied in this order.

    `crop` keeps 50 to 100 % of each side, `resize` scales by 0.5 to 1.5, `blur` has a radius of 0.3
    to 1.5 pixels, `jpeg` re-encodes at a quality of 40 to 95, and `flip` mirrors left to right. By
    default images are not changed.
    """

    crop: float = 0.0
    resize: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise UsageError(
                    f"`augment`: the probability of {field.name} must be between 0 and 1: "
                    f"got {value:g}"
                )

    @classmethod
    def parse(cls, words: tuple[str, ...]) -> "Augmentation":
        """Parse words of the form NAME=PROBABILITY; raises UsageError for any other."""
        names = [field.name for field in fields(cls)]
        found: dict[str, float] = {}
        for word in words:
            name, _, value = word.partition("=")
            try:
                found[name] = float(value)
            except ValueError as error:
                raise UsageError(
                    f"`augment`: {word} is not NAME=PROBABILITY, as in jpeg=0.5"
                ) from error
            if name not in names:
                raise UsageError(
                    f"`augment`: unknown change in {word}: the changes are {', '.join(names)}"
                )
        return cls(**found)

    @property
    def is_off(self) -> bool:
        """Whether images stay unchanged, apart from flipping."""
        return not any(getattr(self, name) for name in _RANDOM)

    def draw(self, rng: np.random.Generator) -> ImageChange | None:
        """Draw the random change of one image, or None where it stays as it is (no flipping)."""
        drawn = [make for name, make in _RANDOM.items() if rng.random() < getattr(self, name)]
        return in_turn(*(partial(make, rng=rng) for make in drawn))


def in_turn(*changes: ImageChange | None) -> ImageChange | None:
    """Return the change that applies these one after the other; None where there are none."""
    given = [change for change in changes if change is not None]

    def apply(image: Image.Image) -> Image.Image:
        for change in given:
            image = change(image)
        return image

    return apply if given else None


def unify(image: Image.Image) -> Image.Image:
    """Return the image in the common encoding: a JPEG (quality 90, 4:2:0), shorter side <= 512."""
    scale = UNIFIED_SIDE / min(image.size)
    if scale < 1:
        image = _scaled(image, scale, Image.Resampling.BICUBIC)
    return _jpeg(image, UNIFIED_QUALITY)


def _screenshot(image: Image.Image) -> Image.Image:
    # Displayed at another size, captured losslessly, and saved again by a messaging app.
    displayed = _scaled(image, 0.8, Image.Resampling.BILINEAR)
    return _jpeg(displayed, 80)


DEGRADATIONS: Mapping[str, ImageChange] = {
    "JPEG 70": lambda image: _jpeg(image, 70),
    "JPEG 50": lambda image: _jpeg(image, 50),
    "half size": lambda image: _scaled(image, 0.5, Image.Resampling.BICUBIC),
    "blur 1": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "crop 70 %": lambda image: _cropped(image, 0.7, 0.7, 0.5, 0.5),
    "screenshot": _screenshot,
}
"""Changes that images commonly undergo, by name. Each is a pure function of the image."""


def _random_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    across, down = rng.uniform(0.5, 1, 2)
    return _cropped(image, across, down, rng.random(), rng.random())


def _random_resize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _scaled(image, rng.uniform(0.5, 1.5), _RESAMPLINGS[rng.integers(len(_RESAMPLINGS))])


def _random_blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))


def _random_jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _jpeg(image, int(rng.integers(40, 96)))


_RANDOM = {
    "crop": _random_crop,
    "resize": _random_resize,
    "blur": _random_blur,
    "jpeg": _random_jpeg,
}


def _cropped(image: Image.Image, across: float, down: float, x: float, y: float) -> Image.Image:
    """Keep the fractions `across` and `down` of the sides.

    `x` and `y` place the crop: 0 is the left or upper edge, 1 the right or lower one.
    """
    width, height = (
        min(side, max(_SMALLEST_SIDE, round(side * fraction)))
        for side, fraction in zip(image.size, (across, down), strict=True)
    )
    left, top = round((image.width - width) * x), round((image.height - height) * y)
    return image.crop((left, top, left + width, top + height))


def _scaled(image: Image.Image, scale: float, resampling: Image.Resampling) -> Image.Image:
    smallest = min(image.size)
    scale = max(scale, min(1, _SMALLEST_SIDE / smallest))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), resampling)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=2)
    # Not decoded: what reads it decodes it at a scale, as it does any JPEG.
    return Image.open(stream, formats=("JPEG",))
