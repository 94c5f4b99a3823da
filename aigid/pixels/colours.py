"""Images of every mode upright and in RGB, with transparent pixels over white."""

import numpy as np
from PIL import ExifTags, Image

from aigid.pixels.damage import DAMAGED
from aigid.pixels.resize import Box

_Turn = Image.Transpose
# By EXIF orientation: the transposition that turns the image upright, and whether it moves the
# stored image's right and bottom edges to the left and to the top.
_TURNS: dict[object, tuple[_Turn | None, bool, bool]] = {
    1: (None, False, False),
    2: (_Turn.FLIP_LEFT_RIGHT, True, False),
    3: (_Turn.ROTATE_180, True, True),
    4: (_Turn.FLIP_TOP_BOTTOM, False, True),
    5: (_Turn.TRANSPOSE, False, False),
    6: (_Turn.ROTATE_270, True, False),
    7: (_Turn.TRANSVERSE, True, True),
    8: (_Turn.ROTATE_90, False, True),
}
_SIDEWAYS = (_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90)

# Conversions in several steps go through an image in strips of this many pixels: each step would
# need the memory of the whole image once more.
_STRIP_PIXELS = 1 << 20


def orientation_of(image: Image.Image) -> object:
    """Return the orientation that the metadata of an opened image gives; 1 where it is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:
        # A damaged EXIF block tells nothing about the pixels: keep them as they are stored.
        return 1


def turn_upright(
    image: Image.Image, orientation: object, filled: tuple[float, float]
) -> tuple[Image.Image, Box]:
    """Apply an EXIF orientation. Return the image, and the box that its content fills."""
    turn, left, top = _TURNS.get(orientation, _TURNS[1])
    width, height = reversed(filled) if turn in _SIDEWAYS else filled
    upright = image if turn is None else image.transpose(turn)
    x, y = upright.width - width if left else 0, upright.height - height if top else 0
    return upright, (x, y, x + width, y + height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB. Raises ValueError for modes whose white is not defined."""
    if image.mode in ("I", "F"):
        raise ValueError(f"pixel mode {image.mode} has no defined white")
    is_wide, is_transparent = image.mode.startswith("I;16"), image.has_transparency_data
    if not is_wide and not is_transparent:
        return image if image.mode == "RGB" else image.convert("RGB")
    convert = _narrow if is_wide else _lay_over_white
    if image.width * image.height <= _STRIP_PIXELS:
        return convert(image)
    rgb, rows = Image.new("RGB", image.size), max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(convert(strip), (0, top))
    return rgb


def _narrow(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion clips it at 255."""
    wide = np.asarray(image).astype(np.uint32)
    grey = ((wide + 128) // 257).astype(np.uint8)
    grey[wide == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey).convert("RGB")


def _lay_over_white(image: Image.Image) -> Image.Image:
    # Pillow turns grey with alpha in its samples into grey with alpha alone.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")
