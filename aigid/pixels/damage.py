"""Exceptions of decoders, as failures of their row."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from aigid.records import ErrorCode, RowFailure

# What Pillow's plugins raise on damaged files, and the codecs below them (RuntimeError: libavif).
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    EOFError,
    struct.error,
    zlib.error,
)


@contextmanager
def row_failures() -> Iterator[None]:
    """Turn the exceptions of decoders into RowFailure."""
    try:
        yield
    except Image.DecompressionBombError as error:
        # Pillow names a limit of its own, which is larger than ours.
        pixels = next(iter(re.findall(r"\d+", str(error))), "too many")
        detail = f"{pixels} pixels, more than the limit"
        raise RowFailure(ErrorCode.TOO_LARGE, detail) from error
    except UnidentifiedImageError as error:
        raise RowFailure(ErrorCode.UNDECODABLE, str(error)) from error
    except DAMAGED as error:
        raise RowFailure(ErrorCode.UNDECODABLE, _one_line(error)) from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
