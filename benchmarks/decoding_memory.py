"""Peak memory of decoding one image of each format and mode, as large as the limits allow."""

import io
import math
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

ALLOWED_MIB = 1400
Image.MAX_IMAGE_PIXELS = None


def encode(mode: str, kind: str, **options: object) -> Callable[[int], bytes]:
    """Return a function that writes a square image with a side of so many pixels."""

    def write(side: int) -> bytes:
        stream = io.BytesIO()
        ramp = np.linspace(0, 255, side, dtype=np.uint8)
        grey = Image.fromarray(np.broadcast_to(ramp, (side, side)).copy())
        grey.convert(mode).save(stream, kind, **options)
        return stream.getvalue()

    return write


def png(depth: int, colours: int, channels: int, *, interlaced: bool = False):
    """Return a function that writes a PNG of a kind that Pillow cannot write, all of one sample."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    def write(side: int) -> bytes:
        passes = [(0, 0, 1, 1)]
        if interlaced:
            passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
            passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        packer, parts = zlib.compressobj(1), []
        for x, y, across, down in passes:
            width, height = len(range(x, side, across)), len(range(y, side, down))
            row = b"\0" + b"\x40" * (width * channels * depth // 8)
            parts += [packer.compress(row) for _ in range(height)]
        size = side.to_bytes(4, "big")
        header = size + size + bytes([depth, colours, 0, 0, interlaced])
        rows = b"".join([*parts, packer.flush()])
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunks

    return write


def oriented(orientation: int) -> Image.Exif:
    """Return an EXIF block with an orientation alone."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


KINDS: dict[str, Callable[[int], bytes]] = {
    "JPEG": encode("RGB", "JPEG", subsampling=0),
    "JPEG, turned": encode("RGB", "JPEG", exif=oriented(6)),
    "JPEG, progressive 4:4:4": encode("RGB", "JPEG", progressive=True, subsampling=0),
    "JPEG, progressive CMYK": encode("CMYK", "JPEG", progressive=True),
    "PNG, RGB": encode("RGB", "PNG", compress_level=1),
    "PNG, RGBA": encode("RGBA", "PNG", compress_level=1),
    "PNG, RGBA, turned": encode("RGBA", "PNG", compress_level=1, exif=oriented(6)),
    "PNG, palette with transparency": encode("P", "PNG", compress_level=1, transparency=bytes(9)),
    "PNG, 16-bit grey": png(16, 0, 1),
    "PNG, 16-bit RGBA": png(16, 6, 4),
    "PNG, interlaced RGBA": png(8, 6, 4, interlaced=True),
    "GIF, with transparency": encode("P", "GIF", transparency=0),
    "BMP": encode("1", "BMP"),
    "TIFF, one strip, RGBA": encode("RGBA", "TIFF", compression="zstd", strip_size=2**31 - 1),
    "TIFF, one strip, CMYK": encode("CMYK", "TIFF", compression="zstd", strip_size=2**31 - 1),
    "TIFF, JPEG": encode("RGB", "TIFF", compression="jpeg"),
    "WebP, lossy": encode("RGB", "WEBP", method=0),
    "WebP, lossless with alpha": encode("RGBA", "WEBP", lossless=True, method=0, quality=0),
    "AVIF, 4:2:0": encode("RGB", "AVIF", speed=10, max_threads=1),
    "AVIF, 4:4:4 with alpha": encode("RGBA", "AVIF", speed=10, subsampling="4:4:4", max_threads=1),
    "HEIC": encode("RGB", "HEIF", quality=10),
    "HEIC with alpha": encode("RGBA", "HEIF", quality=10),
}


def peak_mib() -> float:
    """Return the most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def decode_one(path: Path, resizing: str) -> None:
    """Decode an image in this process, and print its peak memory, the CPU time and the answer."""
    from aigid.contract import ImageSpec, Resizing
    from aigid.pixels import decode_image
    from aigid.records import RowFailure

    data, spec = path.read_bytes(), ImageSpec(resizing=Resizing(resizing))
    before = peak_mib()
    started = time.process_time()
    try:
        decode_image(data, spec)
        answer = "scored"
    except RowFailure as failure:
        answer = str(failure)
    print(f"{peak_mib() - before:.0f}\t{time.process_time() - started:.1f}\t{answer}")


@click.command()
@click.option("--side", default=10_000, show_default=True, help="Pixels of the longest side.")
@click.option("--only", default="", help="Kinds whose names have this in them.")
@click.option("--make", hidden=True)
@click.option("--decode", hidden=True)
@click.argument("path", type=click.Path(path_type=Path), required=False)
def main(side: int, only: str, make: str | None, decode: str | None, path: Path | None) -> None:
    """Decode images of 100 million pixels, each in its own process. Status 1 above the limit.

    Example: python benchmarks/decoding_memory.py
    """
    if make and path:
        import pillow_heif

        pillow_heif.register_heif_opener()
        path.write_bytes(KINDS[make](side))
    elif decode and path:
        decode_one(path, decode)
    else:
        measure(side, [name for name in KINDS if only in name])


def measure(side: int, names: list[str]) -> None:
    """Measure the kinds, print a table, and exit with status 1 above the limit."""
    table = Table(
        "kind", "side", "file, KiB", "resized, MiB", "s", "native crop, MiB", "s", "answer"
    )
    most = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            path, tried = Path(temporary, "image"), side
            for _ in range(8):
                make = [sys.executable, __file__, "--side", str(tried), "--make", name, str(path)]
                subprocess.run(make, check=True)
                found = [run(path, resizing) for resizing in ("shorter_side", "native_crop")]
                if found[1][2] == "scored":
                    break
                # The largest that is decoded.
                tried = math.floor(tried * 0.95)
            cells = [
                cell for peak, seconds, _ in found for cell in (f"{peak:.0f}", f"{seconds:.1f}")
            ]
            table.add_row(name, str(tried), f"{path.stat().st_size >> 10}", *cells, found[1][2])
            most = max(most, *(peak for peak, _, _ in found))
    Console(width=160).print(table)
    sys.exit(most > ALLOWED_MIB)


def run(path: Path, resizing: str) -> tuple[float, float, str]:
    """Return the peak memory in MiB, the CPU seconds and the answer of decoding in a process."""
    command = [sys.executable, "-W", "ignore", __file__, "--decode", resizing, str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, seconds, answer = printed.strip().split("\t")
    return float(peak), float(seconds), answer


if __name__ == "__main__":
    main()
