"""From the bytes of an image file to findings, without decoding pixels."""

import re
from collections.abc import Iterator
from dataclasses import replace

from aigid.evidence.c2pa_manifest import read_c2pa
from aigid.evidence.containers import read_containers
from aigid.evidence.exif import read_exif
from aigid.evidence.findings import Finding, Says, Strength, strongest, strongest_first
from aigid.evidence.generator_json import read_generator_json
from aigid.evidence.labels import read_labels
from aigid.evidence.metadata import Metadata, Text
from aigid.evidence.parameters import read_parameters
from aigid.evidence.readers import Readers
from aigid.evidence.xmp import read_iptc, read_xmp

_NAME_OF_GRAPH, _START = re.compile(r"^(?:prompt|workflow): ?(?={)", re.IGNORECASE), 20


def read_evidence(
    data: bytes, trust_anchors: str = "", readers: Readers | None = None
) -> tuple[Finding, ...]:
    """Return what an image file says of its origin, the strongest finding first.

    JPEG, PNG, WebP, GIF, TIFF, AVIF and HEIC files are read. Nothing is fetched. Damaged or hostile
    metadata gives fewer findings, never an error. `trust_anchors` are PEM certificates of issuers
    whose C2PA signatures are trusted. Pixels are decoded only for `readers` that need them
    (`aigid.evidence.load_readers`).
    """
    metadata = read_metadata(data)
    found = dict.fromkeys(find_in_texts(metadata))
    for finding in read_c2pa(data, metadata, trust_anchors):
        found[finding] = None
    if readers is not None:
        found |= dict.fromkeys(readers.read(data))
    findings = list(found)
    return strongest_first((*findings, *_contradictions(findings)))


def read_metadata(data: bytes) -> Metadata:
    """Return the fields of text of a file's metadata."""
    found = read_containers(data)
    for block in found.exif:
        read_exif(block, found)
    for block in found.xmp:
        read_xmp(block, found)
    for block in found.iptc:
        read_iptc(block, found)
    return found


def find_in_texts(metadata: Metadata) -> Iterator[Finding]:
    """Yield the findings of the fields of text."""
    for text in metadata.texts:
        finding = _from_text(text, metadata)
        if finding is not None:
            yield finding
    yield from read_labels(metadata)


def _from_text(text: Text, metadata: Metadata) -> Finding | None:
    """Return the finding of a text that a generator wrote, whatever field it stands in."""
    # ComfyUI writes a graph into EXIF with its name before it.
    content = _NAME_OF_GRAPH.sub("", text.text[:_START]) + text.text[_START:]
    if content.lstrip("\ufeff \t\r\n").startswith("{"):
        return read_generator_json(replace(text, text=content), metadata)
    return read_parameters(text)


def _contradictions(findings: list[Finding]) -> Iterator[Finding]:
    """Yield a finding where a file says both that a camera and that a model made the image."""
    ai = strongest(one for one in findings if one.says is Says.AI)
    camera = strongest(one for one in findings if one.says is Says.CAMERA)
    if ai is None or camera is None:
        return
    strength = Strength(min(ai.strength, camera.strength))
    details = {
        "ai": " ".join(filter(None, (ai.kind, ai.source))),
        "camera": " ".join(filter(None, (camera.kind, camera.source))),
    }
    where = f"{ai.found_in}; {camera.found_in}"
    yield Finding("contradiction", Says.NONE, strength, where, details=details)
