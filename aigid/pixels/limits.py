"""Limits on an image, each checked against what the file says of itself before it is decoded."""

from dataclasses import dataclass

from aigid.records import ErrorCode, RowFailure


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on an image, checked before it is decoded.

    `max_memory_bytes` is what the file's header makes a decoder allocate, and what aigid then adds.
    Only formats that need far more than their pixels reach it below `max_pixels`.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_memory_bytes: int = 850_000_000


def check_byte_limit(size: int, limits: DecodeLimits) -> None:
    """Raise RowFailure if an encoded image of `size` bytes is empty or over the limit."""
    if size == 0:
        raise RowFailure(ErrorCode.EMPTY, "zero bytes")
    if size > limits.max_bytes:
        raise RowFailure(ErrorCode.TOO_LARGE, f"{size} bytes; the limit is {limits.max_bytes}")


def check_pixel_limit(size: tuple[int, int], limits: DecodeLimits) -> None:
    """Raise RowFailure if an image of `size` has no pixels or too many."""
    width, height = size
    if width * height == 0:
        raise RowFailure(ErrorCode.EMPTY, f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise RowFailure(
            ErrorCode.TOO_LARGE, f"{width} x {height} pixels; the limit is {limits.max_pixels}"
        )


def check_memory_limit(needed_bytes: int, limits: DecodeLimits) -> None:
    """Raise RowFailure if decoding an image would need too much memory."""
    if needed_bytes > limits.max_memory_bytes:
        raise too_large(
            f"decoding needs {needed_bytes // 1_000_000} MB of memory; "
            f"the limit is {limits.max_memory_bytes // 1_000_000} MB"
        )


def too_large(detail: str) -> RowFailure:
    """Return the failure of an image that would cost too much."""
    return RowFailure(ErrorCode.TOO_LARGE, detail)
