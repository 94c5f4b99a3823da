"""Text in the lowest bits of pixels: every signature, every program, damage and bombs."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from support.evidence_files import A1111, GRAPH, NOVEL, png_with_text
from support.image_files import encoded, noise_image, smooth_image
from support.stealth_images import with_stealth_text

from aigid.evidence import Finding, Says, load_readers, read_evidence

READERS = load_readers(["stealth-text"])
NOVELAI = {
    **{"Title": "AI generated image", "Description": "1girl", "Software": "NovelAI"},
    **{"Source": "NovelAI Diffusion V4.5 4BDE2A90", "Comment": json.dumps(NOVEL)},
}


def found_in(image: Image.Image, kind: str = "PNG") -> tuple[Finding, ...]:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    return read_evidence(encoded(image, kind, **options), readers=READERS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("place", ["alpha", "rgb"])
def test_novelai_s_text_is_read(place: str, compressed: bool, kind: str) -> None:
    text = json.dumps(NOVELAI).encode()
    findings = found_in(with_stealth_text(text, place=place, compressed=compressed), kind)
    by_kind = {finding.kind: finding for finding in findings}
    novel = by_kind["novelai"]
    assert (novel.says, novel.source) == (Says.AI, "NovelAI")
    assert novel.details["prompt"] == "1girl"
    assert (
        novel.found_in == f"stealth text in {'alpha' if place == 'alpha' else 'colours'}: Comment"
    )
    assert {finding.says for finding in findings} == {Says.AI}


def test_pixels_are_decoded_for_the_reader_alone() -> None:
    data = encoded(with_stealth_text(json.dumps(NOVELAI).encode()), "PNG")
    assert read_evidence(data) == ()
    assert read_evidence(data, readers=load_readers([])) == ()


@pytest.mark.parametrize(
    ("text", "kind", "model"),
    [
        (A1111, "parameters", "sd_xl_base_1.0"),
        (json.dumps({"prompt": json.dumps(GRAPH)}), "comfyui", "sd15.safetensors"),
        (json.dumps(GRAPH), "comfyui", "sd15.safetensors"),
    ],
)
def test_the_texts_of_other_programs_are_read(text: str, kind: str, model: str) -> None:
    (finding,) = found_in(with_stealth_text(text.encode()))
    assert (finding.kind, finding.says) == (kind, Says.AI)
    assert finding.details["model"] == model


def test_an_image_without_the_signature_has_no_findings() -> None:
    for image in (
        smooth_image(64, 48),
        noise_image(64, 48).convert("RGBA"),
        Image.new("L", (9, 9)),
    ):
        assert found_in(image) == ()
    for mode in ("1", "P", "LA", "RGBA", "RGB", "I;16"):
        assert found_in(Image.new(mode, (3, 2))) == ()


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (7, 63), (63, 7)])
def test_the_bits_run_over_columns_of_any_height(size: tuple[int, int]) -> None:
    image = with_stealth_text(b"a short text", compressed=False, size=size)
    (finding,) = found_in(image)
    assert finding.details == {"text": "a short text"}


def test_a_text_that_nothing_is_known_of_is_shown_and_says_nothing() -> None:
    (finding,) = found_in(with_stealth_text(b"hello"))
    assert (finding.kind, finding.says) == ("stealth-text", Says.NONE)
    assert finding.details == {"text": "hello"}


def damaged() -> Iterator[Image.Image]:
    text = json.dumps(NOVELAI).encode()
    whole = with_stealth_text(text)
    yield whole.crop((0, 0, 6, 64))
    flipped = np.asarray(whole).copy()
    flipped[:, 4:8, 3] ^= 1
    yield Image.fromarray(flipped)
    yield with_stealth_text(b"", compressed=False)
    yield with_stealth_text(text, bits_of_length=0)
    yield with_stealth_text(b"\0" * 40, compressed=False)


@pytest.mark.parametrize("image", list(damaged()))
def test_a_damaged_text_says_nothing(image: Image.Image) -> None:
    (finding,) = found_in(image)
    assert (finding.kind, finding.says) == ("stealth-text", Says.NONE)
    assert finding.details == {"state": "damaged"}


def test_a_length_that_lies_gives_what_there_is() -> None:
    image = with_stealth_text(A1111.encode(), bits_of_length=0xFFFFFFFF)
    (finding,) = found_in(image)
    assert finding.details["seed"] == "4242"


def test_a_bomb_is_inflated_to_a_limit_alone() -> None:
    bomb = gzip.compress(b"a" * (200 << 20))
    image = with_stealth_text(bomb, compressed=False, size=(1200, 1400))
    bits = np.asarray(image).copy()
    # The signature of compressed text, in place of the one for plain text.
    head = np.unpackbits(np.frombuffer(b"stealth_pngcomp", np.uint8))
    bits[: len(head), 0, 3] = bits[: len(head), 0, 3] & 0xFE | head
    tracemalloc.start()
    try:
        (finding,) = READERS.read(encoded(Image.fromarray(bits), "PNG", compress_level=0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert finding.details["text"].startswith("aaa")
    assert peak < 64 << 20


def test_metadata_and_hidden_text_are_found_together() -> None:
    data = encoded(with_stealth_text(b"hello"), "PNG")
    plain = png_with_text(parameters=A1111)
    assert [finding.kind for finding in read_evidence(plain, readers=READERS)] == ["parameters"]
    assert [finding.kind for finding in read_evidence(data, readers=READERS)] == ["stealth-text"]
