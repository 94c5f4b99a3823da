"""What kind of file some bytes are, by their first bytes: so that an error can name it."""

import codecs
import re

# What each format begins with. The offset is 0 but for those below.
_BEGINNINGS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("JPEG", (b"\xff\xd8\xff",)),
    ("PNG", (b"\x89PNG\r\n\x1a\n",)),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("BigTIFF", (b"II+\0", b"MM\0+")),
    ("JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    ("JPEG 2000", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("JPEG XR", (b"II\xbc",)),
    ("JPEG XS", (b"\xff\x10\xff\x50",)),
    ("Windows icon (ICO)", (b"\0\0\1\0",)),
    ("Apple icon (ICNS)", (b"icns",)),
    ("Photoshop (PSD)", (b"8BPS",)),
    ("GIMP (XCF)", (b"gimp xcf",)),
    ("PDF", (b"%PDF-",)),
    ("PostScript", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("Canon raw (CR2)", (b"II*\0\x10\0\0\0CR",)),
    ("Fujifilm raw (RAF)", (b"FUJIFILMCCD-RAW",)),
    ("Olympus raw (ORF)", (b"IIRO", b"IIRS", b"MMOR")),
    ("Panasonic raw (RW2)", (b"IIU\0",)),
    ("Sigma raw (X3F)", (b"FOVb",)),
    ("OpenEXR", (b"v/1\x01",)),
    ("Radiance HDR", (b"#?RADIANCE", b"#?RGBE")),
    ("DirectDraw (DDS)", (b"DDS ",)),
    ("QOI", (b"qoif",)),
    ("BPG", (b"BPG\xfb",)),
    ("FLIF", (b"FLIF",)),
    ("FITS", (b"SIMPLE  =",)),
    ("DjVu", (b"AT&TFORM",)),
    ("Windows metafile (WMF)", (b"\xd7\xcd\xc6\x9a",)),
    ("Windows metafile (EMF)", (b"\1\0\0\0l\0\0\0", b"\1\0\0\0X\0\0\0")),
    ("SGI", (b"\x01\xda\0", b"\x01\xda\1")),
    ("game texture (BLP)", (b"BLP1", b"BLP2")),
    ("font", (b"\0\1\0\0\0", b"OTTO", b"wOFF", b"wOF2", b"ttcf")),
    ("Microsoft compound document, such as FlashPix", (b"\xd0\xcf\x11\xe0",)),
    ("Sun raster", (b"\x59\xa6\x6a\x95",)),
    ("PCX", (b"\n\5\1\1", b"\n\5\1\4", b"\n\5\1\x08", b"\n\3\1\1", b"\n\3\1\x08")),
    ("KTX texture", (b"\xabKTX ",)),
    ("Matroska or WebM video", (b"\x1aE\xdf\xa3",)),
    ("MPEG video", (b"\0\0\1\xba", b"\0\0\1\xb3")),
    ("Flash (SWF)", (b"FWS", b"CWS", b"ZWS")),
    ("Ogg", (b"OggS",)),
    ("FLAC audio", (b"fLaC",)),
    ("MP3 audio", (b"ID3",)),
    ("zip archive", (b"PK\3\4", b"PK\5\6")),
    ("gzip", (b"\x1f\x8b",)),
    ("bzip2", (b"BZh",)),
    ("xz", (b"\xfd7zXZ\0",)),
    ("zstd", (b"\x28\xb5\x2f\xfd",)),
    ("7z archive", (b"7z\xbc\xaf\x27\x1c",)),
    ("RAR archive", (b"Rar!\x1a\7",)),
    ("Parquet", (b"PAR1",)),
    ("Arrow", (b"ARROW1",)),
    ("HDF5", (b"\x89HDF\r\n\x1a\n",)),
    ("NumPy array", (b"\x93NUMPY",)),
    ("SQLite database", (b"SQLite format 3\0",)),
    ("Windows program", (b"MZ",)),
    ("Linux program", (b"\x7fELF",)),
    ("Git LFS pointer, whose object was not downloaded", (b"version https://git-lfs.",)),
)
_LATER = (
    (257, b"ustar", "tar archive"),
    (128, b"DICM", "DICOM"),
    (4, b"\x11\xaf", "FLI animation"),
    (4, b"\x12\xaf", "FLI animation"),
)

# Headers without letters of their own.
_HEADERS = (
    ("Windows cursor (CUR)", re.compile(rb"\x00\x00\x02\x00(?!\x00\x00)")),
    (
        "Windows bitmap without its file header (DIB)",
        re.compile(rb"[\x28\x6c\x7c]\x00{3}.{8}\x01\x00[\x01\x04\x08\x10\x18\x20]\x00", re.S),
    ),
    (
        "TGA",
        # With a colour map or without; then origin, width, height, bits a pixel.
        re.compile(
            rb".(?:\x00[\x02\x03\x0a\x0b]\x00{5}|\x01[\x01\x09].{4}[\x0f\x10\x18\x20])"
            rb".{4}(?!\x00\x00)..(?!\x00\x00)..[\x08\x0f\x10\x18\x20][\x00-\x3f]",
            re.S,
        ),
    ),
)

# RIFF and ISO containers, by the four letters that say what they hold.
_RIFF = {b"WEBP": "WEBP", b"AVI ": "AVI video", b"WAVE": "WAV audio"}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF_BRANDS = (b"avif", b"avis")
_CONTAINER_BRANDS = (b"mif1", b"mif2", b"msf1", b"mif3", b"miaf", b"MiHB", b"MiHE", b"heif")
_ISO = {
    **dict.fromkeys(_HEIF_BRANDS, "HEIC"),
    **dict.fromkeys(_AVIF_BRANDS, "AVIF"),
    b"crx ": "Canon raw (CR3)",
    b"jp2 ": "JPEG 2000",
    b"jxl ": "JPEG XL",
    b"qt  ": "QuickTime video",
}

# Texts, after blanks and a byte order mark.
_TEXTS = (
    (
        "SVG",
        re.compile(rb"(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE svg[^>]*>|\s)*<svg[\s>]", re.I | re.S),
    ),
    (
        "HTML page",
        re.compile(
            rb"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
        ),
    ),
    ("XML document", re.compile(rb"<(?:\?xml|Error>|[a-z]+:?[a-z]*[\s>])", re.I)),
    ("JSON document", re.compile(rb"[\[{]\s*[\"{\[\]}]")),
    ("Netpbm", re.compile(rb"P[1-7fF][\s#]")),
    ("X bitmap or other C source", re.compile(rb"#define\s|/\* XPM \*/")),
)
_TEXT_BYTES = 1024
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x7f]")


def name_format(data: bytes) -> str | None:
    """Return the name of the format that the data begins as; None where nothing is known of it."""
    if data[4:8] == b"ftyp":
        return _name_iso(data)
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12], "RIFF file")
    for name, beginnings in _BEGINNINGS:
        if data.startswith(beginnings):
            return name
    for offset, letters, name in _LATER:
        if data.startswith(letters, offset):
            return name
    return _name_short(data) or _name_text(data)


def is_heif(data: bytes) -> bool:
    """Whether the data is an HEIC or HEIF image, which Pillow's own parsers do not read."""
    return data[4:8] == b"ftyp" and _name_iso(data) == "HEIC"


def _name_iso(data: bytes) -> str:
    brands = [data[8:12]]
    if brands[0] in _CONTAINER_BRANDS:
        # A container of images says further on which coding they have.
        end = min(int.from_bytes(data[:4], "big"), 256)
        brands += [data[at : at + 4] for at in range(16, end, 4)]
        return next((_ISO[brand] for brand in brands if brand in _ISO), "HEIC")
    return _ISO.get(brands[0], "MP4 video")


def _name_short(data: bytes) -> str | None:
    """Name what has a short or a vague beginning: asked last, for it proves little."""
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    return next((name for name, header in _HEADERS if header.match(data)), None)


def _name_text(data: bytes) -> str | None:
    text = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    for name, pattern in _TEXTS:
        if pattern.match(text):
            return name
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return None
    return "text" if text and not _CONTROL.search(text) else None
