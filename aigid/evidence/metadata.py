"""The metadata of a file as its containers hold it: fields of text, and blocks yet to be parsed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from aigid.evidence.limits import (
    MOST_BLOCKS,
    MOST_BLOCKS_OF_A_KIND,
    MOST_C2PA_BYTES,
    MOST_JSON_MARKS,
    MOST_METADATA_BYTES,
    MOST_TEXT_BYTES,
    MOST_TEXTS,
    MOST_XML_PARTS,
)


class Budget:
    """An amount of work that reading one file may take."""

    def __init__(self, amount: int) -> None:
        self._left = amount

    def take(self, amount: int = 1) -> bool:
        """Take an amount; False, and nothing is taken, where less is left."""
        if amount > self._left:
            return False
        self._left -= amount
        return True


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
    """What a container gives: raw blocks, and texts. What exceeds the limits is left out.

    `c2pa` are the parts of the C2PA manifest store, in order. The budgets bound the work for the
    whole file.
    """

    texts: list[Text] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    c2pa: list[bytes] = field(default_factory=list)
    c2pa_bytes: int = 0
    blocks: Budget = field(default_factory=lambda: Budget(MOST_BLOCKS))
    json_marks: Budget = field(default_factory=lambda: Budget(MOST_JSON_MARKS))
    xml_parts: Budget = field(default_factory=lambda: Budget(MOST_XML_PARTS))
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

    def add_c2pa(self, part: bytes) -> None:
        """Add a part of the C2PA manifest store; what is over the limit is counted alone."""
        self.c2pa_bytes += len(part)
        if self.c2pa_bytes <= MOST_C2PA_BYTES:
            self.c2pa.append(part)

    def named(self, *names: str) -> Iterator[Text]:
        """Yield the texts of these names, whatever their place."""
        return (text for text in self.texts if text.name in names)
