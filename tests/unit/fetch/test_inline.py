"""Images inside texts: `data:` URIs and base64, and paths that look like it."""

import base64
import io
import textwrap
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from aigid.fetch import inline
from aigid.fetch.inline import INLINE_STARTS, LONGEST_PATH, inline_image
from aigid.memory_budget import MemoryBudget


def encoded(kind: str, side: int = 2) -> bytes:
    """Return a small image file; noise, if it is large."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
WAYS = {
    "standard": as_base64,
    "URL-safe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "without padding": lambda data: as_base64(data).rstrip("="),
    "in lines": lambda data: "\r\n".join(textwrap.wrap(as_base64(data), 76)),
    "a data URI": lambda data: f"data:image/any;base64,{as_base64(data)}",
    "a data URI with parameters": lambda data: (
        f"DATA:image/svg+xml;name=a.png;BASE64,{as_base64(data)}"
    ),
    "a data URI without a type": lambda data: f"data:;base64,{as_base64(data)}",
    "a data URI, URL-safe without padding": lambda data: (
        f"data:image/png;base64,{base64.urlsafe_b64encode(data).decode().rstrip('=')}"
    ),
    "a data URI, escaped": lambda data: f"data:image/png;base64,{quote(as_base64(data), safe='')}",
    "a data URI in percent encoding": lambda data: f"data:image/png,{quote(data)}",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [2, 60])
def test_an_image_of_each_format_and_size_is_found_in_each_way(
    way: str, kind: str, side: int
) -> None:
    data = encoded(kind, side)
    text = WAYS[way](data)
    assert inline_image(text) == data
    assert text[:3].lower() in INLINE_STARTS


PATHS = (
    "iVBORw0KGgo",
    "iVBORw0KGgoAAAANSUhEUgAA",
    "iVBORw0KGgoAAAANSUhEUgAA/" + "a" * 200,
    "/9j/4AAQSkZJRgABAQ",
    "/9j/4AAQSkZJRg/" * 20,
    "_9j_4AAQSkZJRgABAQ",
    "R0lGODlh",
    "R0lGODlhAQABAIAAAAAAAP",
    "UklGRiQAAABXRUJQ",
    "UklGRiQAAABXRUJQVlA4",
    "Qk1234/photos",
    "SUkqAAgAAAA",
    "TU0AKgAAAAg",
    "AAAAIGZ0eXBhdmlm",
    "AAAAAAAAAAAAAAAA",
    "AAABAAEAEBAAAAEAIABo",
    "data",
    "data/1.png",
    "dataset/photos",
    "data:1.png",
    "data:,",
    "data:a/b",
    "image.png",
    "a" * 100,
    "x" * 2 * LONGEST_PATH,
    "",
)


@pytest.mark.parametrize("text", PATHS)
def test_a_path_of_base64_characters_stays_a_path(text: str) -> None:
    assert inline_image(text) is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_beginning_of_a_file_is_taken_for_it_unless_it_is_longer_than_any_path(
    kind: str,
) -> None:
    whole = as_base64(encoded(kind))
    for length in range(0, min(len(whole) - 4, 160), 4):
        assert inline_image(whole[:length]) is None
    large = as_base64(encoded(kind, 90))
    cut = large[: LONGEST_PATH + 4]
    assert len(cut) > LONGEST_PATH
    assert inline_image(cut) == base64.b64decode(cut)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:image/png;base64,@@not base64@@", b"@@not base64@@"),
        ("data:image/png;base64,", b""),
        ("data:text/html,<b>no%20image</b>", b"<b>no image</b>"),
    ],
)
def test_a_damaged_data_uri_is_still_no_path(text: str, expected: bytes) -> None:
    assert inline_image(text) == expected


def test_a_long_text_with_a_damaged_middle_is_still_no_path() -> None:
    whole = as_base64(encoded("PNG", 60))
    damaged = f"{whole[:2000]}?{whole[2000:]}"
    assert inline_image(damaged) == damaged.encode()


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_a_large_text_waits_for_the_memory_that_images_use(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = b"\x89PNG\r\n\x1a\n" + bytes(9_000_000)
    text, budget = start + base64.b64encode(image).decode(), MemoryBudget(100_000_000)
    monkeypatch.setattr(inline, "LARGE_ROWS", budget)
    with ThreadPoolExecutor(1) as pool:
        with budget.reserve(100_000_000):
            found = pool.submit(inline_image, text)
            while not budget._waiting:
                assert not found.done()
        assert found.result(timeout=30) == image
