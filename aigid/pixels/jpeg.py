"""JPEG: what the markers of a file say, and its decoding with the warnings of libjpeg-turbo.

Pillow swallows libjpeg's warnings: it accepts a file that was cut short and closed with an end
marker, and fills the rest with grey. simplejpeg decodes with the same library, to the same pixels
and in the same time, and tells of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from aigid.pixels.limits import DecodeLimits, check_pixel_limit, too_large
from aigid.records import ErrorCode, RowFailure

Pixels = npt.NDArray[np.uint8]

SIGNATURE = b"\xff\xd8\xff"
_END, _SCAN = b"\xff\xd9", b"\xff\xda"

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SAMPLE_BITS = 8
_PROGRESSIVE_FRAMES = (0xC2, 0xC6, 0xCA, 0xCE)
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
# The next marker between segments, after padding or junk.
_NEXT = re.compile(rb"\xff[^\xff]")
# The next marker in entropy-coded data: neither a stuffed byte, nor a restart, nor padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Cameras and editors write about 30 segments, with an embedded profile or a gain map up to 300.
# Pillow spends some microseconds on each.
_MOST_SEGMENTS = 10_000
# Encoders write about 10 progressive scans. Together they go 5 times through the samples: 1.5e9 for
# 100 million pixels without chroma subsampling. libjpeg-turbo needs 1 to 2 s for 1e9.
_MOST_SCANNED_SAMPLES = 3_000_000_000

_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# The warnings that tell of lost pixels. The others are about metadata, or about parameters that
# every decoder ignores.
_LOSSES = ("premature end", "bad huffman", "bad arithmetic", "instead of rst", "extraneous bytes")


@dataclass(frozen=True)
class _Component:
    """A component of a frame: its samples, and how exactly its 64 coefficients are known."""

    samples: int
    # For each coefficient the lowest bit that the scans gave so far; -1 before the first scan.
    lowest_bits: list[int] = field(default_factory=lambda: [-1] * 64)


@dataclass
class JpegLayout:
    """What the markers of a JPEG say of its components and scans."""

    components: dict[int, _Component]
    is_progressive: bool
    in_several_scans: bool = False
    scanned_samples: int = 0

    @property
    def coefficient_bytes(self) -> int:
        """The memory that a decoder needs for the coefficients of an image in several scans."""
        if not self.in_several_scans:
            return 0
        return 2 * sum(component.samples for component in self.components.values())

    def add_scan(self, header: bytes) -> None:
        """Note which coefficients of which components the next scan gives.

        Raises RowFailure where decoding all scans would take too long.
        """
        count = header[0]
        first, last, bits = header[1 + 2 * count : 4 + 2 * count]
        named = [self.components[header[1 + 2 * index]] for index in range(count)]
        if count < len(self.components) or self.is_progressive:
            self.in_several_scans = True
        for component in named:
            component.lowest_bits[first : last + 1] = [bits & 15] * (last + 1 - first)
            self.scanned_samples += component.samples
        if self.scanned_samples > _MOST_SCANNED_SAMPLES:
            raise too_large(
                f"its scans go through more than {_MOST_SCANNED_SAMPLES} samples; write it again "
                "with fewer scans"
            )


def read_layout(data: bytes, limits: DecodeLimits) -> JpegLayout | None:
    """Read the markers of a JPEG. None means that it has no scan.

    Raises RowFailure where it has too many pixels, or decoding would take too long, and ValueError
    or LookupError where it is damaged or lacks scans.
    """
    layout: JpegLayout | None = None
    for marker, start, end in _segments(data):
        if marker in _FRAMES and layout is None:
            layout = _read_frame(data[start:end], marker, limits)
        elif marker == _START_OF_SCAN:
            if layout is None:
                return None
            layout.add_scan(data[start:end])
            if not layout.in_several_scans:
                # As nearly all JPEGs. A second scan would be an error to libjpeg.
                break
    if layout is not None and layout.in_several_scans:
        _check_complete(layout)
    return layout


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each marker segment: its code, and where its content begins and ends."""
    position = 2
    for _ in range(_MOST_SEGMENTS):
        found = _NEXT.search(data, position)
        if found is None or found.end() + 2 > len(data):
            return
        position = found.start()
        if data[position + 1] == _END_OF_IMAGE:
            return
        marker = data[position + 1]
        position += 2
        if marker in _WITHOUT_LENGTH:
            continue
        end = position + (data[position] << 8 | data[position + 1])
        yield marker, position + 2, end
        position = end
        if marker == _START_OF_SCAN:
            found = _MARKER.search(data, position)
            if found is None:
                return
            position = found.start()
    raise too_large(f"more than {_MOST_SEGMENTS} segments")


def _read_frame(header: bytes, marker: int, limits: DecodeLimits) -> JpegLayout:
    if header[0] != _SAMPLE_BITS:
        detail = f"a JPEG image with {header[0]} bits for each sample; {_SAMPLE_BITS} are read"
        raise RowFailure(ErrorCode.UNDECODABLE, detail)
    height, width = header[1] << 8 | header[2], header[3] << 8 | header[4]
    check_pixel_limit((width, height), limits)
    found = [(header[at], header[at + 1]) for at in range(6, 6 + 3 * header[5], 3)]
    widest, tallest = (max(factor >> shift & 15 for _, factor in found) for shift in (4, 0))
    # Rounded up to whole blocks, roughly: a component has at least 64 samples.
    components = {
        name: _Component(64 + width * height * (factor >> 4) * (factor & 15) // (widest * tallest))
        for name, factor in found
    }
    return JpegLayout(components, is_progressive=marker in _PROGRESSIVE_FRAMES)


def _check_complete(layout: JpegLayout) -> None:
    """Raise ValueError where a scan is missing, as at the end of a file that was cut short."""
    if any(any(component.lowest_bits) for component in layout.components.values()):
        raise ValueError("the JPEG was cut short: its last scans are missing")


def with_end_marker(data: bytes) -> bytes:
    """Return a JPEG with an end marker, or the second byte of one, if it ends without.

    All its pixels are there where nothing else is missing. Where more is, libjpeg says so. What
    follows an end marker does not count, and is not copied: it may be long.
    """
    if data.endswith(_END) or data.rfind(_END) > data.rfind(_SCAN):
        return data
    return data + (_END[1:] if data.endswith(_END[:1]) else _END)


def load_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """Decode an opened JPEG, at the scale of its draft. Raises ValueError where pixels are lost."""
    if image.mode in ("RGB", "L"):
        pixels = _decode(data, "RGBX", image.size)
        if pixels is not None:
            return _image_of(pixels)
    elif image.mode == "CMYK":
        # Pillow converts these. An eighth of the size is enough to look for damage.
        _decode(data, "CMYK", (-(-image.width // 8), -(-image.height // 8)))
    image.load()
    return image


def _decode(data: bytes, colours: str, size: tuple[int, int]) -> Pixels | None:
    """Decode to pixels of `size`; None where Pillow is to say what is wrong, if anything is.

    Raises ValueError where pixels are lost.
    """
    width, height = size
    # A buffer of the size that was checked: a decoder that reads another one in the file fails.
    pixels = np.empty((height, width, len(colours)), np.uint8)
    try:
        simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, buffer=pixels)
    except ValueError as error:
        # Not again with `strict=False`: that passes over errors, and leaves the buffer as it is.
        text = str(error)
    else:
        return pixels
    clean = _without_junk(data) if "extraneous" in text else data
    if len(clean) < len(data):
        # libjpeg tells of its first warning alone: junk in the header may hide a loss.
        return _decode(clean, colours, size)
    padding = _PADDING.search(text)
    is_lost = any(loss in text.lower() for loss in _LOSSES)
    if is_lost and not (padding and _is_padded(data, int(padding[1]))):
        raise ValueError(text.removeprefix("Corrupt JPEG data: "))
    return None


def _without_junk(data: bytes) -> bytes:
    """Return a JPEG without bytes between the segments of its header, which decoders skip."""
    parts = [data[:2]]
    for marker, start, end in _segments(data):
        parts.append(data[start - 4 : end])
        if marker == _START_OF_SCAN:
            parts.append(data[end:])
            break
    return b"".join(parts)


def _image_of(pixels: Pixels) -> Image.Image:
    """Return an RGB image over pixels [height, width, 4], without a copy where PyArrow is there.

    A copy takes as long as a quarter of the decoding.
    """
    height, width = pixels.shape[:2]
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        # In a Triton server, which needs nothing else of it.
        return Image.frombytes("RGB", (width, height), pixels.tobytes(), "raw", "RGBX")
    samples = pa.Array.from_buffers(pa.uint8(), pixels.size, [None, pa.py_buffer(pixels)])
    quadruples = pa.FixedSizeListArray.from_arrays(samples, 4)
    return Image.fromarrow(quadruples, "RGB", (width, height))


def _is_padded(data: bytes, count: int) -> bool:
    """Whether the last `count` bytes before the end marker are alike, as some cameras pad them.

    After damage they are what is left of the image's data.
    """
    end = data.rfind(_END)
    return len(set(data[end - count : end])) == 1
