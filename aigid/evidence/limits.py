"""The bounds of reading metadata, which strangers write."""

MOST_BLOCKS = 8192
"""Segments, chunks, boxes and resources of a file, all together."""

MOST_BLOCKS_OF_A_KIND = 8
"""EXIF, XMP and IPTC blocks of a file; a sound file has one of each, or two."""

MOST_TEXTS = 256
"""Fields of text that the readers look at, for one file."""

MOST_TEXT_BYTES = 1 << 20
"""Bytes of one field, after decompression; longer ones are cut."""

MOST_METADATA_BYTES = 2 << 20
"""Bytes of all fields of a file together; what follows is left out."""

MOST_JSON_MARKS = 100_000
"""Brackets, commas and quotation marks of the JSON of a file; more is not parsed."""

MOST_XML_PARTS = 10_000
"""Elements and attributes of the XMP of a file; what follows is left out."""

MOST_C2PA_BYTES = 50 << 20
"""Bytes of a C2PA manifest store; a larger one is reported and not read."""

MOST_C2PA_BOXES = 4096
"""Boxes of a C2PA manifest store; one with more is reported and not read."""

MOST_C2PA_CLAIM_BYTES = 256 << 10
"""Bytes of a store's claims and assertions, without thumbnails and signatures: as above."""

MOST_READER_FINDINGS = 16
"""Findings of one reader that was asked for by its name; further ones are left out."""

MOST_READER_PIXELS = 1 << 25
"""Pixels of an image that is decoded for such a reader; the pixels of a larger one are not read."""

MOST_DEPTH = 64
"""Nested brackets of JSON, nested elements of XML."""

MOST_DETAIL_CHARACTERS = 2000
"""Characters of a detail, such as a prompt."""

MOST_ROW_BYTES = 16 << 10
"""Bytes of all findings in a result row, as JSON."""
