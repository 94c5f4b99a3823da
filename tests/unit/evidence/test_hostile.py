"""Metadata of strangers: bombs, nesting, lengths that lie, mutations; no crash, bounded work."""

import json
import random
import struct
import sys
import tracemalloc
import zlib

import pytest
from PIL import Image
from support.c2pa_files import created, make_issuer, signed
from support.evidence_files import (
    A1111,
    exif_block,
    jpeg_with,
    jpeg_with_exif,
    jpeg_with_extended_xmp,
    jpeg_with_iptc,
    jpeg_with_xmp,
    png,
    png_with_text,
    segment,
    webp_with,
    xmp_block,
)
from support.image_files import encoded, png_chunk, smooth_image, with_chunks
from support.stealth_images import with_stealth_text

from aigid.evidence import Finding, Says, load_readers, read_evidence
from aigid.evidence.limits import (
    MOST_DETAIL_CHARACTERS,
    MOST_METADATA_BYTES,
    MOST_TEXT_BYTES,
    MOST_TEXTS,
)
from aigid.evidence.read import read_metadata

JSON = json.dumps({"prompt": "a", "seed": 1, "steps": 2, "3": {"class_type": "x", "inputs": {}}})
EXIF = Image.Exif()
EXIF[0x010F], EXIF[0x010E] = "Canon", A1111
SEEDS = [
    png_with_text(parameters=A1111, prompt=JSON, AIGC='{"Label": "1"}'),
    png_with_text(kind="zTXt", parameters=A1111),
    png_with_text(kind="iTXt, compressed", Comment=JSON),
    jpeg_with_exif(Make="Canon", UserComment=b"UNICODE\0" + A1111.encode("utf-16-be")),
    jpeg_with_exif(">", Model="X", Software="GIMP", ImageDescription=JSON),
    jpeg_with_xmp('xmp:CreatorTool="a"', "<dc:description>b</dc:description>"),
    jpeg_with_extended_xmp(xmp_block('xmp:CreatorTool="Midjourney"')),
    jpeg_with_iptc(credit="Made with Google AI", caption=A1111),
    webp_with(b"EXIF", exif_block(UserComment=A1111.encode())),
    webp_with(b"XMP ", xmp_block('xmp:CreatorTool="Midjourney"')),
    *(
        encoded(smooth_image(64, 48), kind, exif=EXIF.tobytes(), xmp=xmp_block())
        for kind in ("AVIF", "HEIF")
    ),
    encoded(smooth_image(24, 16), "TIFF", exif=EXIF),
    encoded(smooth_image(24, 16), "GIF", comment=A1111.encode()),
    encoded(with_stealth_text(json.dumps({"Comment": A1111}).encode()), "PNG"),
]
READERS = load_readers(["stealth-text", "dwt-dct"])


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with one to eight of them changed, moved, doubled or left out."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            changed[at : at + 4] = rng.choice(
                [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\1"]
            )
        elif kind == 2:
            del changed[at : at + rng.randint(1, 40)]
        else:
            changed[at:at] = changed[at : at + rng.randint(1, 200)]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged TIFF files, for the readers
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_a_hundred_mutations_of_each_file_are_read(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        findings = read_evidence(mutated(rng, SEEDS[seed]), readers=READERS)
        assert all(isinstance(finding, Finding) for finding in findings)
        json.dumps([finding.to_json() for finding in findings], allow_nan=False)


def test_mutations_of_a_c2pa_manifest_are_read() -> None:
    rng, data = random.Random(1), signed(make_issuer(), created("trainedAlgorithmicMedia"))
    start = data.index(b"jumb")
    for _ in range(60):
        place = rng.randrange(start, start + 12_000)
        broken = data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place + 4 :]
        assert read_evidence(broken) is not None


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"a":' * 100_000,
        '{"nodes": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"' + '\\"' * 500_000,
        '{"seed": ' + "9" * 10_000 + ', "prompt": "a", "steps": 1}',
        '{"prompt": "\\ud800", "seed": NaN, "steps": Infinity}',
        '{"nodes": [1, null, {"widgets_values": {}}], "links": []}',
        '{"1": {"class_type": "x", "inputs": {"positive": ["1", 0], "negative": [[], {}]}}}',
        '{"AIGC": []}',
        '{"AIGC": "{\\"Label\\": []}"}',
        '{"sui_image_params": {"model": {}, "prompt": []}}',
        '{"prompt": {"a": 1}, "seed": [], "steps": {}}',
        "[]",
        "Steps: 1, " * 100_000 + "Seed: 1",
        "Steps: 1, Seed: " + '"' * 100_000,
        "a" * 1000 + "\0" * 1000,
    ],
    ids=lambda text: text[:20],
)
def test_hostile_text_is_read_in_every_place(text: str) -> None:
    files = [
        png_with_text(parameters=text),
        jpeg_with(segment(0xFE, text.encode("utf-8", "replace")[:65_000])),
        webp_with(b"EXIF", exif_block(UserComment=text.encode("utf-8", "replace"))),
    ]
    for data in files:
        for finding in read_evidence(data):
            json.dumps(finding.to_json(), allow_nan=False)
            assert all(len(value) <= MOST_DETAIL_CHARACTERS for value in finding.details.values())


def test_compressed_text_is_inflated_to_a_limit_alone() -> None:
    bomb = png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(64 << 20), 9))
    data = with_chunks(png(), bomb * 50)
    tracemalloc.start()
    try:
        metadata = read_metadata(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert all(len(text.text) <= MOST_TEXT_BYTES for text in metadata.texts)
    assert sum(len(text.text) for text in metadata.texts) <= MOST_METADATA_BYTES + MOST_TEXT_BYTES


def test_many_chunks_are_read_to_a_limit() -> None:
    data = with_chunks(png(), png_chunk(b"tEXt", b"a\0b") * 20_000)
    assert len(read_metadata(data).texts) == MOST_TEXTS


def test_entries_of_exif_that_share_one_value_are_read_to_a_limit() -> None:
    size = 6 << 20
    entry = struct.pack("<HHII", 0x010E, 2, size, 8)
    directory = struct.pack("<H", 500) + entry * 500
    block = b"II*\0" + struct.pack("<I", 8 + size) + b"x" * size + directory
    metadata = read_metadata(webp_with(b"EXIF", block))
    assert sum(len(text.text) for text in metadata.texts) <= MOST_METADATA_BYTES + MOST_TEXT_BYTES


@pytest.mark.parametrize("pointer", [0, 8, 26, 0xFFFFFFFF])
def test_a_directory_of_exif_that_points_to_itself_ends(pointer: int) -> None:
    entry = struct.pack("<HHII", 0x8769, 4, 1, pointer)
    block = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    assert read_evidence(webp_with(b"EXIF", block)) == ()


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + '<!ENTITY file SYSTEM "file:///etc/passwd">]><x><CreatorTool>&i;&file;</CreatorTool></x>'
)


@pytest.mark.parametrize(
    "block",
    [
        ENTITIES,
        "<a>" * 100_000,
        '<?xml version="1.0" encoding="no-such-code"?><a b="c"/>',
        "<a " + " ".join(f'b{number}="c"' for number in range(10_000)) + "/>",
        "<a>\0</a>",
        "<",
    ],
    ids=lambda text: text[:20],
)
def test_hostile_xmp_is_bounded_and_says_nothing(block: str) -> None:
    assert read_evidence(webp_with(b"XMP ", block.encode())) == ()


def test_parts_of_extended_xmp_that_lie_about_their_offsets_are_no_crash() -> None:
    parts = [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + struct.pack(">32sII", bytes([number]) * 32, 1, 0xFFFFFFFF - number)
            + b"<a>",
        )
        for number in range(100)
    ]
    assert read_evidence(jpeg_with(*parts)) == ()


def test_text_that_is_no_unicode_is_read() -> None:
    data = with_chunks(png(), png_chunk(b"tEXt", b"parameters\0\xe9\xff " + A1111.encode()))
    (finding,) = read_evidence(data)
    assert finding.details["prompt"].startswith("\xe9\xff a lighthouse")


@pytest.mark.parametrize("start", [b"<x:xmpmeta", b"II*\0\x08\0\0\0", b"jumbc2pa"])
def test_a_box_file_full_of_beginnings_is_searched_once(start: bytes) -> None:
    data = b"\0\0\0\x18ftypavif" + start * (16 << 20 >> 3)
    assert all(finding.kind == "c2pa" for finding in read_evidence(data))


# Work that a file asks for, which is far more than its bytes seem to tell. Each took seconds once.
COSTLY = {
    "objects": with_chunks(
        png(),
        png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b'{"a":[' + b"{}," * 10**6)) * 20,
    ),
    "elements": webp_with(b"XMP ", xmp_block("", "<a/>" * 10**6)),
    "fill bytes": b"\xff\xd8" + b"\xff" * (20 << 20),
    "resources": jpeg_with(
        *[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x05\0\0\0\0\0\0" * 5400)] * 200
    ),
    "comments": jpeg_with(*[segment(0xFE, b'{"a":[' + b"{}," * 21_000 + b"0]}")] * 200),
    "extended XMP": jpeg_with(
        *[
            segment(
                0xE1,
                b"http://ns.adobe.com/xmp/extension/\0"
                + struct.pack(">32sII", b"0" * 32, 1, number)
                + b"<a/>" * 16_000,
            )
            for number in range(200)
        ]
    ),
    "boxes": b"\0\0\0\x18ftypavif" + bytes(16) + b"\0\0\0\x08free" * (2 << 20),
    "items": b"\0\0\0\x18ftypavif"
    + bytes(16)
    + b"\xff\xff\xff\xff"
    + b"meta"
    + bytes(4)
    + b"\0\0\0\x08iloc" * 10**5,
    "TIFF entries": b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x10E, 2, 9, 8) * 65_535,
    "GIF extensions": b"GIF89a" + bytes(7) + b"!\xfe\1a\0" * 10**6,
    "GIF XMP": b"GIF89a" + bytes(7) + b"!\xff\x0bXMP DataXMP" + b"<a>" * 10**6,
}


@pytest.mark.parametrize("kind", COSTLY)
def test_the_work_for_one_file_is_bounded(kind: str) -> None:
    """A profiler counts the calls of functions: a measure of work that no clock disturbs."""
    calls = 0

    def count(*event: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        findings = read_evidence(COSTLY[kind])
    finally:
        sys.setprofile(None)
    assert all(finding.says is Says.NONE for finding in findings)
    assert calls < 500_000


def test_a_graph_that_is_too_long_to_parse_is_found() -> None:
    node = {"class_type": "KSampler", "inputs": {"seed": 1}}
    graph = json.dumps({str(number): node for number in range(20_000)})
    workflow = json.dumps(
        {"nodes": [{"type": "KSampler", "widgets_values": [1]}] * 50_000, "links": []}
    )
    for text in (graph, workflow):
        (finding,) = read_evidence(png_with_text(kind="zTXt", prompt=text))
        assert (finding.kind, finding.says, finding.details) == ("comfyui", Says.AI, {})
    other = json.dumps({"title": "a photo", "points": [{"x": 1}] * 100_000})
    assert read_evidence(png_with_text(kind="zTXt", prompt=other)) == ()


@pytest.mark.parametrize("text", ["", "\nexif\n", "\nexif\n 4\nzz", "a " * 500_000])
def test_blocks_as_digits_that_are_none_are_left_out(text: str) -> None:
    assert read_evidence(png_with_text(kind="zTXt", **{"Raw profile type exif": text})) == ()
