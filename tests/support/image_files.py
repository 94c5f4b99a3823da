"""Image files of every format, mode and option; and damage to them, always the same."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pillow_heif
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_OF_JPEG = b"\xff\xd9"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    if kind == "HEIF":
        # Not registered with Pillow: aigid must read these files without that.
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def smooth_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Colours that change slowly, so that lossy files keep them, and no symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def noise_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(kind: bytes, data: bytes, *, damaged: bool = False) -> bytes:
    checksum = zlib.crc32(kind + data) ^ damaged
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunks(png: bytes, chunks: bytes, *, at_the_end: bool = False) -> bytes:
    """Return a PNG with more chunks, before or after the image data."""
    place = png.rindex(b"IEND") - 4 if at_the_end else png.index(b"IDAT") - 4
    return png[:place] + chunks + png[place:]


def jpeg_segments(data: bytes, marker: int) -> list[tuple[int, int]]:
    """Return where the segments of a marker begin, and where the next marker does."""
    found, position = [], 2
    while position + 4 <= len(data) and data[position + 1] != END_OF_JPEG[1]:
        kind, start = data[position + 1], position
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        while kind == 0xDA and (
            data[position] != 0xFF or data[position + 1] in (0, *range(0xD0, 0xD8))
        ):
            position += 1
        if kind == marker:
            found.append((start, position))
    return found


_MODES: dict[str, tuple[str, ...]] = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("L", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "HEIF": ("L", "RGB", "RGBA"),
}
_OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "JPEG": (
        {},
        {"progressive": True},
        {"subsampling": 0, "exif": exif_of(6)},
        {"restart_marker_rows": 1},
        {"progressive": True, "restart_marker_blocks": 3},
    ),
    "PNG": ({}, {"exif": exif_of(8)}, {"transparency": 0}),
    "WEBP": ({}, {"lossless": True}, {"save_all": True, "exif": exif_of(3)}),
    "GIF": ({}, {"interlace": 0}, {"transparency": 1, "comment": b"a comment"}),
    "TIFF": (
        {},
        {"compression": "tiff_lzw", "exif": exif_of(5)},
        {"compression": "tiff_adobe_deflate"},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"compression": "jpeg"},
        {"compression": "group4"},
        {"big_tiff": True},
    ),
    "BMP": ({},),
    "AVIF": ({}, {"subsampling": "4:4:4", "exif": exif_of(6)}),
    "HEIF": ({}, {"chroma": 444}),
}


def valid_files(width: int = 48, height: int = 40) -> dict[str, bytes]:
    """Return a file of every format, mode and option that can be written together."""
    files = {}
    for kind, modes in _MODES.items():
        for mode in modes:
            for index, options in enumerate(_OPTIONS[kind]):
                try:
                    files[f"{kind} {mode} {index}"] = encoded(
                        _in_mode(mode, width, height), kind, **options
                    )
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    # Not every format has every mode with every option.
                    continue
    frames = [noise_image(width, height, seed) for seed in range(3)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"):
        files[f"{kind}, frames"] = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    return files


def _in_mode(mode: str, width: int, height: int) -> Image.Image:
    if mode == "I;16":
        samples = np.random.default_rng(0).integers(0, 65536, (height, width))
        return Image.fromarray(samples.astype(np.uint16))
    return smooth_image(width, height).convert(mode)


def damaged_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `count` damaged files, each with a name that says which it is."""
    rng, files = random.Random(seed), valid_files()
    names = sorted(files)
    for index in range(count):
        name, damage = names[index % len(names)], rng.choice(_DAMAGES)
        yield f"{index} {name} {damage.__name__}", damage(rng, files[name])


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _corrupt_header(rng: random.Random, data: bytes) -> bytes:
    """Set some early bytes to values that break the parsing of sizes and counts."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(min(len(changed), 300))
        size = rng.choice((1, 2, 4))
        changed[place : place + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + rng.choice((b"", END_OF_JPEG, bytes(100)))


def _zero(rng: random.Random, data: bytes) -> bytes:
    place, size = rng.randrange(len(data)), rng.choice((1, 16, 64, 4096))
    return data[:place] + bytes(len(data[place : place + size])) + data[place + size :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randint(1, 200))
    return data[:end] + data[start:end] * rng.choice((1, 10, 1000)) + data[end:]


def _remove(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 64) :]


_DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _corrupt_header,
    _corrupt_header,
    _cut,
    _zero,
    _repeat,
    _remove,
)


def demanding_files(side: int = 10_000) -> Iterator[tuple[str, bytes]]:
    """Yield small files of 100 million pixels that need much memory or work, by format."""
    grey = Image.new("L", (side, side), 90)
    for kind, options in (("JPEG", {"progressive": True, "subsampling": 0}), ("PNG", {})):
        yield f"{kind} RGB", encoded(grey.convert("RGB"), kind, **options)
    many = encoded(grey, "JPEG", progressive=True)
    start, end = jpeg_segments(many, 0xDA)[-1]
    for times in (20, 500):
        yield f"JPEG, {times} more scans", many[:end] + many[start:end] * times + many[end:]
    rgba = grey.convert("RGBA")
    yield "PNG RGBA, turned", encoded(rgba, "PNG", exif=exif_of(6))
    yield "TIFF RGBA", encoded(rgba, "TIFF", compression="zstd", exif=exif_of(6))
    yield "JPEG CMYK", encoded(grey.convert("CMYK"), "JPEG", progressive=True)
    yield "PNG palette", encoded(grey.convert("P"), "PNG", transparency=bytes(9))
    yield "PNG 16-bit", encoded(grey.convert("I;16"), "PNG")
    yield "GIF", encoded(grey, "GIF", transparency=0)
    smaller = rgba.resize((8100, 8100), Image.Resampling.NEAREST)
    for kind, options in (("WEBP", {"lossless": True, "method": 0}), ("AVIF", {"speed": 10})):
        yield f"{kind} RGBA", encoded(smaller, kind, **options)
        yield f"{kind} RGBA, larger", encoded(smaller.resize((9000, 9000), 0), kind, **options)
    small = encoded(noise_image(32, 32), "PNG")
    yield "PNG, many chunks", with_chunks(small, png_chunk(b"abCd", b"") * 1_000_000)
