"""The parts of a multipart form (RFC 7578), in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from aigid.service.problems import malformed, too_large

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM_REMEDY = (
    "Send files as parts named image, and for each a part named prompt, or none; /docs has "
    "examples."
)


@dataclass(frozen=True)
class Part:
    """A part of a form: a file where its header has a file name, else a text."""

    name: str
    is_file: bool
    data: bytes

    def text(self) -> str:
        """Return the part as text. Raises Problem (400) where it is not UTF-8."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed(
                f"the part {self.name!r} is not UTF-8 at byte {error.start}", FORM_REMEDY
            ) from error


def parse_form(body: bytes, content_type: str, max_parts: int) -> list[Part]:
    """Return the parts of a form, in order. Raises Problem: 400, or 413 for too many parts."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise malformed("the content type of the form has no boundary", FORM_REMEDY)
    collector = _Collector(max_parts)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise malformed(f"the form cannot be read: {error}", FORM_REMEDY) from error
    if not collector.has_ended:
        raise malformed("the form ends before its last boundary", FORM_REMEDY)
    return collector.parts


class _Collector:
    """What the parser's callbacks put together."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.has_ended = False
        self._max_parts = max_parts
        self._header, self._value, self._disposition = b"", b"", b""
        self._data: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        """Return the functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise too_large(
                f"the form has more than {self._max_parts} parts",
                "Send the pairs in several requests.",
            )
        self._disposition, self._data = b"", []

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise malformed("a part of the form has no name", FORM_REMEDY)
        name = options[b"name"].decode("utf-8", "replace")
        self.parts.append(Part(name, b"filename" in options, b"".join(self._data)))
        self._data = []

    def _end_form(self) -> None:
        self.has_ended = True
