"""GIF and BMP: bounds on what Pillow reads in Python, block by block."""

from aigid.pixels.limits import too_large

GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
BMP_SIGNATURE = b"BM"

# Each costs Pillow half a microsecond. Comments, profiles and XMP come in blocks of 255 bytes.
_MOST_BLOCKS = 500_000
# Bytes and pixels of a run-length coded BMP: each costs Pillow about 0.1 microseconds. Programs
# that write these have small images: icons, screens, scanned pages.
_MOST_RUN_LENGTH_STEPS = 50_000_000
_RUN_LENGTH_CODED = (b"\1", b"\2")
_OLD_HEADER = b"\x0c\0\0\0"


def check_gif(data: bytes) -> None:
    """Raise RowFailure where a GIF has very many blocks before its first image."""
    position, blocks = 13, 0
    if len(data) > position and data[10] & 0x80:
        position += 3 << (1 + (data[10] & 7))
    while position < len(data) and data[position] not in b",;":
        if data[position] == 0x21:
            position += 2
            while position < len(data) and data[position] and blocks <= _MOST_BLOCKS:
                position += 1 + data[position]
                blocks += 1
        # The end of an extension, or a byte that Pillow skips.
        position += 1
        blocks += 1
        if blocks > _MOST_BLOCKS:
            raise too_large(f"more than {_MOST_BLOCKS} blocks before the first image")


def check_bmp(data: bytes) -> None:
    """Raise RowFailure where a run-length coded BMP would take long to decode."""
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    if data[30:31] not in _RUN_LENGTH_CODED or data[14:18] == _OLD_HEADER:
        return
    steps = abs(width * height) + len(data)
    if steps > _MOST_RUN_LENGTH_STEPS:
        raise too_large(
            f"{abs(width)} x {abs(height)} pixels, run-length coded; write it again as PNG"
        )
