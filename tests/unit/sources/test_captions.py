"""Captions that cannot be read: the error of their row, or the end of the scan."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aigid.errors import AigidError
from aigid.manifest import ColumnChoice, open_manifest, read_segment
from aigid.records import ErrorCode, RowError
from aigid.sources import Segment, caption_errors, captions

Make = Callable[..., None]


def read(**choice: tuple[str, ...]) -> tuple[dict[int, RowError], list[dict[str, object]]]:
    """Return the errors and the rows of the folder s."""
    manifest = open_manifest(["s"], ColumnChoice(**choice))  # type: ignore[arg-type]
    (batch,) = read_segment(manifest, Segment(manifest.files[0], 0, 3))
    return caption_errors(batch), batch.select(manifest.columns.names).to_pylist()


def failing(number: int) -> Callable[[str, str], bytes]:
    def fail(path: str, folder: str) -> bytes:
        if path.endswith("b.txt"):
            raise OSError(number, os.strerror(number))
        return b"a caption"

    return fail


@pytest.fixture
def folder(make: Make) -> None:
    make("s/a.jpg", "s/b.jpg", "s/c.jpg", "s/a.txt", "s/b.txt")


# The tests may run as root, who may read everything, and no disk here has a bad sector.
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, ErrorCode.FORBIDDEN),
        (errno.EPERM, ErrorCode.FORBIDDEN),
        (errno.EIO, ErrorCode.UNDECODABLE),
        (errno.EBADMSG, ErrorCode.UNDECODABLE),
    ],
)
@pytest.mark.parametrize("keep", [(), ("txt",)])
def test_a_caption_that_cannot_be_read_is_its_row_s_error(
    folder: None,
    number: int,
    code: ErrorCode,
    keep: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captions, "_read_local", failing(number))
    errors, rows = read(keep=keep)
    assert errors == {1: RowError(code, f"its caption s/b.txt: {os.strerror(number)}")}
    assert [row["txt"] for row in rows] == ["a caption", None, None]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.ESTALE, errno.ENOTCONN])
def test_an_error_that_other_captions_would_meet_ends_the_scan(
    folder: None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captions, "_read_local", failing(number))
    with pytest.raises(AigidError, match=r"s/b.txt: cannot be read: .*; run the scan again"):
        read()


def test_links_that_lead_nowhere_are_no_captions(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.jpg", "s/c.jpg", "s/c.txt")
    (here / "s/a.txt").symlink_to("a.txt")
    (here / "s/b.txt").symlink_to("missing")
    errors, rows = read()
    assert errors == {}
    assert [row["txt"] for row in rows] == [None, None, "s/c.txt"]
