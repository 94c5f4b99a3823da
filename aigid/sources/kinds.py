"""What a file of a manifest is, by its name or by its first bytes."""

from enum import StrEnum

_ENDINGS = {
    "parquet": "parquet parq pq",
    "csv": "csv",
    "tsv": "tsv tab",
    "json lines": "jsonl ndjson jsonlines",
    "tar": "tar tgz",
    "images": "jpg jpeg jpe jfif pjpeg png apng webp gif tif tiff bmp dib avif heic heif hif jxl "
    "jp2 j2k jpx ico",
}
_MAGIC = {
    b"PAR1": "parquet",
    b"\xff\xd8\xff": "images",
    b"\x89PNG\r\n\x1a\n": "images",
    b"GIF8": "images",
    b"BM": "images",
    b"II*\x00": "images",
    b"MM\x00*": "images",
}
# Videos have the same container.
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")

MANIFESTS = (
    "a manifest is a Parquet, CSV, TSV or JSON lines file, a WebDataset tar, an image, or a folder "
    "or glob of these"
)
"""What can be scanned, for messages."""


class Kind(StrEnum):
    """What a file of a manifest is."""

    PARQUET = "parquet"
    CSV = "csv"
    """Comma-separated values, or another separator that the first line shows."""
    TSV = "tsv"
    """Tab-separated values."""
    JSON_LINES = "json lines"
    """A JSON object on each line."""
    TAR = "tar"
    """A WebDataset tar, which may be compressed: its rows are known when it was read."""
    IMAGES = "images"
    """Images of a folder or glob, or a single image."""

    @property
    def is_table(self) -> bool:
        """Whether it is a table of text."""
        return self in (Kind.CSV, Kind.TSV, Kind.JSON_LINES)


_KINDS = {ending: Kind(kind) for kind, endings in _ENDINGS.items() for ending in endings.split()}


def kind_of_name(name: str) -> Kind | None:
    """Return what a file is by the ending of its name, in any case; None if that does not tell."""
    rest, dot, ending = name.lower().rpartition(".")
    if ending == "gz" and rest.endswith(".tar"):
        return Kind.TAR
    return _KINDS.get(ending) if dot else None


def kind_of_content(head: bytes) -> Kind | None:
    """Return what a file is by its first 512 bytes; None if these do not tell."""
    if head[257:262] == b"ustar":
        return Kind.TAR
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    if is_webp or (head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS):
        return Kind.IMAGES
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return Kind.JSON_LINES
    return next((Kind(kind) for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
