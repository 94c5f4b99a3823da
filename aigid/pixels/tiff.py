"""TIFF: what the first directory says of strips and tiles; and the errors of libtiff."""

import ctypes
import struct
from functools import cache
from threading import local

from PIL import Image, _imaging

from aigid.pixels.limits import too_large

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _SAMPLES = 256, 257, 258, 277
_STRIP_OFFSETS, _STRIP_ROWS = 273, 278
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 322, 323, 324

# Pillow spends some 10 microseconds on each. Strips of one row are the smallest that programs
# write.
_MOST_PARTS = 250_000


def buffer_bytes(data: bytes) -> int:
    """Return the memory that a decoder needs for one strip or tile; 0 where the file is damaged.

    A tile may be far larger than the image. Raises RowFailure where there are too many.
    """
    try:
        tags = _read_directory(data)
    except struct.error:
        return 0
    parts = max(tags.get(tag, (0, 0))[0] for tag in (_STRIP_OFFSETS, _TILE_OFFSETS))
    if parts > _MOST_PARTS:
        raise too_large(f"{parts} strips or tiles; the limit is {_MOST_PARTS}")
    value = {tag: first for tag, (_, first) in tags.items()}
    height = value.get(_HEIGHT, 0)
    if _TILE_WIDTH in tags:
        pixels = value[_TILE_WIDTH] * value.get(_TILE_HEIGHT, 0)
    else:
        pixels = value.get(_WIDTH, 0) * min(value.get(_STRIP_ROWS, height), height)
    # libtiff may convert to 4 bytes a pixel.
    return pixels * max(4, value.get(_SAMPLES, 1) * value.get(_BITS, 1) // 8)


def sample_kind(data: bytes) -> str:
    """Return what the samples of a TIFF are, in brackets; nothing where the file is damaged."""
    try:
        tags = _read_directory(data)
    except struct.error:
        return ""
    if _BITS not in tags:
        return ""
    (_, bits), (_, samples) = tags[_BITS], tags.get(_SAMPLES, (1, 1))
    return f" ({samples} samples a pixel, of {bits} bits)"


def _read_directory(data: bytes) -> dict[int, tuple[int, int]]:
    """Return the tags of the first directory with the number of their values and the first one."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    counted, offset, inline = ("Q", "Q", 8) if is_big else ("H", "I", 4)
    (start,) = struct.unpack_from(order + offset, data, inline)
    (count,) = struct.unpack_from(order + counted, data, start)
    entry = struct.Struct(f"{order}HH{offset}")
    position = start + struct.calcsize(counted)
    tags: dict[int, tuple[int, int]] = {}
    for _ in range(min(count, 65535)):
        tag, kind, values = entry.unpack_from(data, position)
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code and values:
            place = position + entry.size
            if values * struct.calcsize(code) > inline:
                (place,) = struct.unpack_from(order + offset, data, place)
            if place + 8 <= len(data):
                tags.setdefault(tag, (values, struct.unpack_from(order + code, data, place)[0]))
        position += entry.size + inline
    return tags


_thread = local()


def _note_error(module: bytes | None, text: bytes, _: object) -> None:
    """Note an error of one of libtiff's decoders, which call this as they decode in this thread.

    What it reports of tags is about metadata.
    """
    if module is not None and (b"Decode" in module or module == b"JPEGLib"):
        _thread.reported = module.decode("ascii", "replace")


# libtiff keeps its address as long as the process lives.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note_error)


@cache
def catch_errors() -> None:
    """Keep libtiff from printing its errors and warnings; note the errors for `load_tiff`.

    Pillow leaves libtiff's own handlers in place, which print. They are the process's only ones, so
    this is done once, before the first TIFF. A redirection of stderr around each decode would take
    other threads' lines too.
    """
    library = ctypes.CDLL(_imaging.__file__)
    # A Pillow that was built with a hidden libtiff, or with none, has no such symbols.
    if hasattr(library, "TIFFSetErrorHandler") and hasattr(library, "TIFFSetWarningHandler"):
        library.TIFFSetErrorHandler(_HANDLER)
        library.TIFFSetWarningHandler(None)


def load_tiff(image: Image.Image) -> None:
    """Decode an opened TIFF. Raises ValueError where libtiff reports damage.

    Pillow passes over it where libtiff goes on: in faxes, and in some JPEGs.
    """
    _thread.reported = None
    image.load()
    if _thread.reported:
        raise ValueError(f"damaged, as libtiff reports ({_thread.reported})")
