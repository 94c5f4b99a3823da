"""The metadata of a file as its containers hold it: fields of text, and blocks yet to be parsed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from aigid.evidence.limits import (
    MOST_BLOCKS_OF_A_KIND,
    MOST_METADATA_BYTES,
    MOST_TEXT_BYTES,
    MOST_TEXTS,
)


@dataclass(frozen=True)
class Text:
    """One field of text: `place` and `name` say where it stands, as in "EXIF" and "Make"."""

    place: str
    name: str
    text: str

    @property
    def found_in(self) -> str:
        """What a finding calls the field."""
        return f"{self.place} {self.name}".strip()[:100]


@dataclass
class Metadata:
    """What a container gives: raw blocks, and texts. What exceeds the limits is left out."""

    texts: list[Text] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    c2pa_bytes: int = 0
    _bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether a limit is reached: then nothing more is to be read."""
        return len(self.texts) >= MOST_TEXTS or self._bytes >= MOST_METADATA_BYTES

    def spend(self, size: int) -> None:
        """Count bytes that were read or decompressed."""
        self._bytes += size

    def add_text(self, place: str, name: str, text: str) -> None:
        """Add a field of text."""
        if text and not self.is_full:
            self.spend(len(text))
            self.texts.append(Text(place, name, text[:MOST_TEXT_BYTES]))

    def add_block(self, blocks: list[bytes], data: bytes) -> None:
        """Add a block to one of this object's lists."""
        if data and not self.is_full and len(blocks) < MOST_BLOCKS_OF_A_KIND:
            self.spend(len(data))
            blocks.append(data[:MOST_TEXT_BYTES])

    def named(self, *names: str) -> Iterator[Text]:
        """Yield the texts of these names, whatever their place."""
        return (text for text in self.texts if text.name in names)
