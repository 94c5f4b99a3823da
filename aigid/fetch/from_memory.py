"""The pixels of an image in any form that `Detector.detect` takes; every refusal is a row error."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.contract import ImageSpec
from aigid.fetch.image import FetchPolicy, fetch_image
from aigid.fetch.inline import inline_image
from aigid.fetch.references import ImageReference
from aigid.pixels import DecodeLimits, Pixels, check_byte_limit, decode_image, image_pixels
from aigid.records import ErrorCode, RowFailure
from aigid.storage import locate

ImageInput = (
    Image.Image
    | Path
    | str
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Mapping[str, object]
    | npt.NDArray[np.uint8]
)
"""Every form of an image that `Detector.detect` takes."""


def read_content(image: object) -> bytes | Image.Image:
    """Return the encoded bytes of an image's file, or the PIL image of what has no file.

    Raises RowFailure for what is not an image, cannot be fetched, or is empty or too large.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return _image_of_array(image)
    if isinstance(image, Mapping):
        image = _content_of(image)
    data = _encoded_bytes(image)
    check_byte_limit(len(data), DecodeLimits())
    return data


def content_pixels(content: bytes | Image.Image, spec: ImageSpec) -> Pixels:
    """Return the pixels of what `read_content` returned, uint8 of `spec.shape`.

    Raises RowFailure for what cannot be decoded.
    """
    if isinstance(content, bytes):
        return decode_image(content, spec)
    return image_pixels(content, spec)


def _image_of_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    ):
        raise _undecodable(
            "an image array must be uint8 [height, width] or [height, width, channels] with 1, 3 "
            f"or 4 channels: got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(array)


def _content_of(image: Mapping[str, object]) -> object:
    """Return the bytes of a Hugging Face image dict, else its path."""
    if not image.keys() & {"bytes", "path"}:
        raise _undecodable(f"a {type(image).__name__} is not an image without a key bytes or path")
    data = image.get("bytes")
    content = image.get("path") if data is None else data
    if not isinstance(content, bytes | bytearray | memoryview | str | Path | None):
        raise _undecodable(f"bytes or path of an image dict is {type(content).__name__}")
    return content


def _encoded_bytes(image: object) -> bytes:
    if isinstance(image, bytes):
        return image
    if image is None or isinstance(image, str | Path):
        data = inline_image(image) if isinstance(image, str) else None
        reference = ImageReference(data, None if image is None else str(image))
        return fetch_image(reference, FetchPolicy(locate("."), allow_outside=True))
    if isinstance(image, bytearray | memoryview):
        return _copy(image)
    if hasattr(image, "read"):
        return _read_file(image)
    raise _undecodable(
        f"{type(image).__name__} is not an image: an image is a PIL image, a path or URI, encoded "
        "bytes, a file in binary mode, a dict with bytes or path, or a uint8 array"
    )


def _copy(data: bytearray | memoryview) -> bytes:
    try:
        return bytes(data)
    except ValueError as error:
        raise _undecodable(f"the memoryview cannot be read: {error}") from error


def _read_file(file: Any, limits: DecodeLimits = DecodeLimits()) -> bytes:
    """Read a file object from its start, at most one byte more than the limit."""
    if getattr(file, "closed", False):
        raise _undecodable("the file object is closed")
    if isinstance(file, io.TextIOBase):
        raise _undecodable("the file object is in text mode: open it in binary mode")
    data = bytearray()
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        # A file without a buffer may return less than it was asked for.
        while part := file.read(limits.max_bytes + 1 - len(data)):
            data += part
    except (OSError, ValueError, TypeError) as error:
        raise _undecodable(f"the file object cannot be read: {error}") from error
    return bytes(data)


def _undecodable(detail: str) -> RowFailure:
    return RowFailure(ErrorCode.UNDECODABLE, detail)
