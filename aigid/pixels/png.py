"""PNG: checksums of the image data, and files whose other chunks Pillow stumbles over."""

import struct
import zlib
from collections.abc import Iterator

from aigid.records import ErrorCode, RowFailure

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEAD = struct.Struct(">I4s")
# Orientation, besides what makes the pixels. Pillow ignores gAMA, cHRM, sRGB and iCCP.
_KEPT = (b"tRNS", b"eXIf")
_CRITICAL = (b"IHDR", b"PLTE", b"IEND")

# Pillow spends some microseconds on each chunk. Common encoders write 8 KiB to a chunk, so that
# this is 800 MB for them: a file with more is rewritten, at no loss.
_MANY_CHUNKS = 100_000


def checked(data: bytes) -> bytes:
    """Return the PNG; rewritten, as `pixel_chunks` does, where it has very many chunks.

    Raises RowFailure where a checksum of its image data is wrong. Pillow skips them, and zlib's own
    checksum comes too late: damage may leave more data than pixels, and then nobody reads it.
    """
    for count, (kind, start, end) in enumerate(_chunks(data)):
        if kind == b"IDAT":
            _check_image_data(data, start, end)
        if count > _MANY_CHUNKS:
            return pixel_chunks(data) or data
    return data


def pixel_chunks(data: bytes) -> bytes | None:
    """Return the PNG without the chunks that do not change pixels; None if it has no others.

    Large, damaged or unknown metadata then stays unread: the pixels are whole without it. Damaged
    chunks that do make the pixels are kept, for Pillow to refuse. Raises RowFailure as `checked`
    does.
    """
    kept, image_data, has_others = [], [], False
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            _check_image_data(data, start, end)
            image_data.append(data[start:end])
            continue
        if kind in _CRITICAL or (kind in _KEPT and _is_whole(data, start, end)):
            if kind == b"IEND":
                break
            kept.append(data[start - 8 : end + 4])
        else:
            has_others = True
    if not image_data or not (has_others or len(image_data) > 1):
        return None
    whole = b"".join(image_data)
    body = _HEAD.pack(len(whole), b"IDAT") + whole
    checksum = struct.pack(">I", zlib.crc32(whole, zlib.crc32(b"IDAT")))
    end_chunk = _HEAD.pack(0, b"IEND") + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"".join([SIGNATURE, *kept, body, checksum, end_chunk])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's kind, and where its content begins and ends; the last may be cut."""
    position, last = len(SIGNATURE), len(data) - _HEAD.size
    while position <= last:
        length, kind = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        yield kind, start, start + length
        position = start + length + 4


def _check_image_data(data: bytes, start: int, end: int) -> None:
    """Raise RowFailure where a checksum is wrong. Where it is cut off, the pixels may be whole."""
    if end + 4 <= len(data) and not _is_whole(data, start, end):
        detail = f"damaged: the checksum of the image data at byte {start - 8} is wrong"
        raise RowFailure(ErrorCode.UNDECODABLE, detail)


def _is_whole(data: bytes, start: int, end: int) -> bool:
    checksum = zlib.crc32(memoryview(data)[start - 4 : end])
    return data[end : end + 4] == struct.pack(">I", checksum)
