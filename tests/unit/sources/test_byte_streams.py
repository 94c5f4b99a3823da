"""Compressed bytes that are undone piece by piece."""

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from aigid.sources.byte_streams import COMPRESSIONS, PIECE_BYTES, ByteStream, decompressed

CONTENTS = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(300_000),
    "one byte again and again": bytes(3 * PIECE_BYTES),
    "words": b"".join(b"word %d and %x " % (n, n * 7919) for n in range(90_000)),
    "noise between runs": random.Random(2).randbytes(70_000) + b"ab" * 90_000 + b"end",
}


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def compressed(data: bytes, compression: str) -> bytes:
    if compression == "UNCOMPRESSED":
        return data
    return bytes(pa.Codec(compression.lower()).compress(data, asbytes=True))


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("size", [997, PIECE_BYTES])
def test_the_content_comes_out_whole_in_pieces_of_bounded_size(
    compression: str, name: str, size: int
) -> None:
    stored = compressed(CONTENTS[name], compression)
    found = list(decompressed(compression, pieces_of(stored, size)))
    assert b"".join(found) == CONTENTS[name]
    assert max(map(len, found), default=0) <= 2 * PIECE_BYTES
    assert all(found)


def test_no_more_is_read_than_the_content_needs() -> None:
    stored, taken = compressed(CONTENTS["one byte again and again"] * 20, "SNAPPY"), 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        for piece in pieces_of(stored, 1000):
            taken += len(piece)
            yield piece

    next(decompressed("SNAPPY", counted()))
    assert taken < len(stored) / 10


@pytest.mark.parametrize("size", [1, 2, 3, 6, 64])
def test_elements_of_snappy_may_be_cut_anywhere(size: int) -> None:
    data = CONTENTS["noise between runs"][69_000:72_000] + CONTENTS["words"][:5_000]
    stored = compressed(data, "SNAPPY")
    assert b"".join(decompressed("SNAPPY", pieces_of(stored, size))) == data


DAMAGED = {
    "no element after the length": b"\x05",
    "a literal that is cut off": b"\x05\x10abc",
    "more bytes than the length says": b"\x02\x10abcde",
    "a copy from before the start": b"\x05\x00a\x01\x09",
    "a copy with offset 0": b"\x05\x00a\x01\x00",
    "a copy without its offset": b"\x05\x00a\x02\x01",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error(name: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match="a (compressed )?page "):
        list(decompressed("SNAPPY", iter([DAMAGED[name]])))


def test_a_stream_gives_numbers_and_runs_across_pieces() -> None:
    stream = ByteStream(iter([b"\x01\xac", b"\x02abc", b"defg"]))
    assert (stream.byte(), stream.varint()) == (1, 300)
    assert stream.read(5) == b"abcde"
    assert b"".join(map(bytes, stream.parts(1))) == b"f"
    assert stream.some(9) == b"g"
    assert stream.some(9) == b""
    with pytest.raises(pa.ArrowInvalid, match="a page ends too early"):
        stream.read(1)
