"""Facts about an encoded image's file, as numbers: everything but the image's content."""

from collections.abc import Iterator

from PIL import Image, JpegImagePlugin

from aigid.pixels import FORMATS, DecodeLimits, open_image

FACT_GROUPS = {
    "format": ("format", "mode"),
    "dimensions": ("width", "height", "pixels", "ratio"),
    "byte size": ("bytes", "bytes per pixel"),
    "JPEG tables": ("luminance table", "chrominance table", "subsampling", "progressive"),
    "metadata": ("exif", "icc profile", "other metadata"),
}
"""The facts, grouped by what a person would make uniform."""
_MODES = ("L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16")


def fact_names() -> Iterator[str]:
    """Yield the names of the facts, in the order of `file_facts`."""
    for group in FACT_GROUPS.values():
        yield from group


def file_facts(data: bytes, limits: DecodeLimits = DecodeLimits()) -> list[float]:
    """Return the facts about an encoded image; raises RowFailure where it is not an image."""
    image = open_image(data, limits)
    pixels = image.width * image.height
    facts = {
        "format": FORMATS.index(image.format) if image.format in FORMATS else -1,
        "mode": _MODES.index(image.mode) if image.mode in _MODES else -1,
        "width": image.width,
        "height": image.height,
        "pixels": pixels,
        "ratio": image.width / image.height,
        "bytes": len(data),
        "bytes per pixel": len(data) / pixels,
        **_jpeg_facts(image),
        "exif": "exif" in image.info,
        "icc profile": "icc_profile" in image.info,
        "other metadata": len(set(image.info) - {"exif", "icc_profile"}),
    }
    return [float(facts[name]) for name in fact_names()]


def _jpeg_facts(image: Image.Image) -> dict[str, float]:
    tables = getattr(image, "quantization", {})
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
    return {
        "luminance table": sum(tables.get(0, ())),
        "chrominance table": sum(tables.get(1, ())),
        "subsampling": JpegImagePlugin.get_sampling(image) if is_jpeg else -2,
        "progressive": bool(image.info.get("progressive")),
    }
