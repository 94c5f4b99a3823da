"""The properties of XMP blocks, and of IPTC's older records."""

from xml.parsers import expat

from aigid.evidence.limits import MOST_DEPTH, MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata

# Elements of RDF that are no property of their own.
_WRAPPERS = {"RDF", "Description", "li", "Alt", "Bag", "Seq", "xmpmeta", "xapmeta", "value"}
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC_NAMES = {
    5: "ObjectName",
    40: "SpecialInstructions",
    65: "OriginatingProgram",
    80: "Byline",
    110: "Credit",
    115: "Source",
    116: "Copyright",
    120: "Caption",
}
_IPTC_RECORD = b"\x1c\x02"
_MOST_RECORDS = 512


class _RefusedError(Exception):
    """The XML has what an XMP block never needs: a DTD, very deep nesting, or too many parts."""


class _Properties:
    """Handlers of the XML parser, which pass a text to `found` for each property's value."""

    def __init__(self, found: Metadata) -> None:
        self._found = found
        self._path: list[str] = []
        self._text: list[str] = []
        self._left = MOST_TEXT_BYTES

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element; its attributes are properties too."""
        if len(self._path) >= MOST_DEPTH or not self._found.xml_parts.take(1 + len(attributes)):
            raise _RefusedError
        self._path.append(tag.rpartition(" ")[2])
        self._text = []
        for name, value in attributes.items():
            namespace, _, local = name.rpartition(" ")
            if namespace == _RDF and local == "resource":
                self._add(value)
            elif namespace != _RDF and local != "lang":
                self._found.add_text("XMP", local, value)

    def end(self, tag: str) -> None:
        """Close an element; its text is the value of the nearest property."""
        self._add("".join(self._text).strip())
        self._text = []
        self._path.pop()

    def characters(self, text: str) -> None:
        """Take text, up to a limit."""
        if self._left > 0:
            self._text.append(text)
            self._left -= len(text)

    def _add(self, value: str) -> None:
        name = next((part for part in reversed(self._path) if part not in _WRAPPERS), "")
        if value and name:
            self._found.add_text("XMP", name, value)


def read_xmp(block: bytes, found: Metadata) -> None:
    """Add the properties of an XMP block; a damaged one gives what stands before the damage."""
    properties = _Properties(found)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = properties.start
    parser.EndElementHandler = properties.end
    parser.CharacterDataHandler = properties.characters
    parser.StartDoctypeDeclHandler = _refuse
    parser.buffer_text = True
    try:
        parser.Parse(block.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, _RefusedError, ValueError, LookupError):
        return


def _refuse(*declaration: object) -> None:
    """Refuse a DTD, and with it every entity."""
    raise _RefusedError


def read_iptc(block: bytes, found: Metadata) -> None:
    """Add the fields of IPTC's application record."""
    at = 0
    for _ in range(_MOST_RECORDS):
        at = block.find(b"\x1c", at)
        if at < 0 or at + 5 > len(block):
            return
        size = int.from_bytes(block[at + 3 : at + 5], "big")
        if block[at : at + 2] == _IPTC_RECORD and block[at + 2] in _IPTC_NAMES:
            text = block[at + 5 : at + 5 + size].decode("utf-8", "replace")
            found.add_text("IPTC", _IPTC_NAMES[block[at + 2]], text)
        at += 5 + size
