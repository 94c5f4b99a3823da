"""What is no image that aigid reads is named as what it is."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.image_files import encoded, jpeg_segments, smooth_image

from aigid.contract import ImageSpec
from aigid.pixels import decode_image
from aigid.records import ErrorCode, RowFailure

SPEC = ImageSpec(size=32)
IMAGE = smooth_image(32, 32)


def detail_of(data: bytes) -> str:
    with pytest.raises(RowFailure) as caught:
        decode_image(data, SPEC)
    assert caught.value.error.code is ErrorCode.UNDECODABLE
    return caught.value.error.detail


def container(brand: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(40)


def zip_file() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.png", encoded(IMAGE, "PNG"))
    return stream.getvalue()


def tar_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("image.png"))
    return stream.getvalue()


def parquet_file() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), stream)
    return stream.getvalue()


FILES = {
    "JPEG 2000": encoded(IMAGE, "JPEG2000"),
    "JPEG 2000 codestream": encoded(IMAGE, "JPEG2000", no_jp2=True),
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "JPEG XL container": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "JPEG XR": b"II\xbc\x01" + bytes(40),
    "Windows icon": encoded(IMAGE, "ICO"),
    "Apple icon": encoded(smooth_image(64, 64), "ICNS"),
    "Windows cursor": b"\0\0\2\0\1\0" + bytes(40),
    "Windows bitmap without its file header": encoded(IMAGE, "DIB"),
    "TGA": encoded(IMAGE, "TGA"),
    "TGA, grey, run-length coded": encoded(IMAGE.convert("L"), "TGA", compression="tga_rle"),
    "TGA, with a palette": encoded(IMAGE.quantize(9), "TGA"),
    "TGA, with alpha and a comment": encoded(
        IMAGE.convert("RGBA"), "TGA", id_section=b"drawn", orientation=-1
    ),
    "Photoshop": b"8BPS\0\1" + bytes(40),
    "PDF": encoded(IMAGE, "PDF"),
    "PostScript": encoded(IMAGE, "EPS"),
    "Netpbm": encoded(IMAGE, "PPM"),
    "QOI": encoded(IMAGE, "QOI"),
    "DirectDraw": encoded(IMAGE, "DDS"),
    "PCX": encoded(IMAGE, "PCX"),
    "SGI": encoded(IMAGE, "SGI"),
    "Canon raw (CR2)": b"II*\0\x10\0\0\0CR\2\0" + bytes(40),
    "Canon raw (CR3)": container(b"crx "),
    "Fujifilm raw": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "OpenEXR": b"v/1\x01\2\0\0\0" + bytes(40),
    "SVG": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "SVG without a declaration": b"\xef\xbb\xbf  <svg></svg>",
    "HTML page": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
    "HTML page in capitals": b"\r\n<HTML><HEAD>",
    "XML document": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "XML document of a store": b"<Error><Code>NoSuchKey</Code></Error>",
    "JSON document": json.dumps({"error": "not found"}).encode(),
    "JSON document, indented": json.dumps([{"a": 1}], indent=2).encode(),
    "text": b"rate limit exceeded",
    "text, not in English": "nicht gefunden: größer, über 5 €".encode(),
    "font": b"OTTO" + bytes(40),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "MP4 video": container(b"isom", b"mp42"),
    "QuickTime video": container(b"qt  "),
    "Matroska or WebM video": b"\x1aE\xdf\xa3" + bytes(40),
    "AVI video": b"RIFF\0\0\0\0AVI LIST" + bytes(40),
    "WAV audio": b"RIFF\0\0\0\0WAVEfmt " + bytes(40),
    "MP3 audio": b"ID3\4" + bytes(40),
    "zip archive": zip_file(),
    "gzip": gzip.compress(b"an image"),
    "tar archive": tar_file(),
    "Parquet": parquet_file(),
    "NumPy array": b"\x93NUMPY\1\0" + bytes(40),
    "Linux program": b"\x7fELF" + bytes(40),
    "SQLite database": b"SQLite format 3\0" + bytes(40),
    "DICOM": bytes(128) + b"DICM" + bytes(40),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_image_is_named(name: str) -> None:
    detail = detail_of(FILES[name])
    known = name.partition(",")[0]
    for addition in (" without", " container", " codestream", " in capitals", " of a store"):
        known = known.partition(addition)[0]
    assert f"but: {known}" in detail
    assert "images are JPEG, PNG, WEBP, GIF, TIFF, BMP, AVIF, HEIC" in detail


@pytest.mark.parametrize(("kind", "size"), [("JPEG", 3), ("PNG", 8), ("GIF", 9), ("BMP", 12)])
def test_an_image_that_is_damaged_at_its_start_is_named_as_well(kind: str, size: int) -> None:
    assert f"a damaged {kind} image" in detail_of(encoded(IMAGE, kind)[:size])


def tiff_of_floats(bits: int) -> bytes:
    data = bytearray(encoded(IMAGE.convert("F"), "TIFF"))
    place = data.index(struct.pack("<HHI", 258, 3, 1)) + 8
    data[place : place + 2] = struct.pack("<H", bits)
    return bytes(data)


@pytest.mark.parametrize("bits", [10, 12, 14, 64])
def test_a_tiff_of_a_kind_that_is_not_read_is_not_called_damaged_alone(bits: int) -> None:
    detail = detail_of(tiff_of_floats(bits))
    assert f"a kind of TIFF that Pillow does not read (1 samples a pixel, of {bits} bits)" in detail


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_of_more_bits_is_named_as_one(bits: int) -> None:
    data = bytearray(encoded(IMAGE, "JPEG"))
    ((start, _),) = jpeg_segments(bytes(data), 0xC0)
    data[start + 4] = bits
    assert f"a JPEG image with {bits} bits for each sample" in detail_of(bytes(data))


def test_unknown_bytes_are_not_guessed_at() -> None:
    assert detail_of(bytes(range(5, 90))).startswith("not an image, or damaged at its start")


def test_svg_that_begins_with_megabytes_of_blanks_takes_no_time_to_look_at() -> None:
    assert "images are" in detail_of(b"<?xml >" * 1_000_000 + b"\n" * 10_000_000)


def test_an_image_of_pillow_that_is_none_of_aigid_s_formats_stays_shut() -> None:
    # Its size in the directory says nothing of what the frame inside claims.
    assert isinstance(Image.open(io.BytesIO(FILES["Windows icon"])), Image.Image)
    assert "Windows icon" in detail_of(FILES["Windows icon"])
