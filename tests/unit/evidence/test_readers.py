"""Readers by name: built in, plug-ins of other distributions, and those that misbehave."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.evidence_files import A1111, png, png_with_text
from support.image_files import encoded, exif_of, smooth_image

from aigid.errors import UsageError
from aigid.evidence import (
    Cost,
    Finding,
    Reader,
    Readers,
    Says,
    Strength,
    Takes,
    load_readers,
    read_evidence,
    strongest,
)
from aigid.evidence.limits import MOST_DETAIL_CHARACTERS, MOST_READER_FINDINGS

MARK = Finding("test-mark", Says.AI, Strength.METADATA, "end of file", "Test Generator")


def reader(read: Callable[[Any], Iterable[Finding]], takes: Takes = Takes.FILE) -> Reader:
    return Reader("test-mark", takes, Cost.LOW, read)


def read_with(read: Callable[[Any], Iterable[Finding]], data: bytes = b"") -> tuple[Finding, ...]:
    return read_evidence(data or png(), readers=Readers([reader(read)]))


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str, str], None]]:
    """Install a distribution of one module, with an entry point."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(name: str, module: str, code: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        entry = f"[aigid.evidence]\n{name} = {module}:READER\n"
        (folder / "entry_points.txt").write_text(entry)

    yield installed


PLUG_IN = """
from aigid.evidence import Cost, Finding, Reader, Says, Strength, Takes

def read(data):
    yield Finding("m", Says.AI, Strength.SIGNED_UNTRUSTED, "end of file", "A Generator")

READER = Reader("mark-of-{0}", Takes.FILE, Cost.HIGH, read)
"""


def test_a_plug_in_is_found_by_the_name_of_its_entry_point(
    install: Callable[[str, str, str], None],
) -> None:
    install("mark-of-first", "first_marks", PLUG_IN.format("first"))
    install("mark-of-second", "second_marks", PLUG_IN.format("second"))
    findings = read_evidence(
        png_with_text(parameters=A1111), readers=load_readers(["mark-of-first"])
    )
    assert [finding.kind for finding in findings] == ["m", "parameters"]
    assert strongest(findings) == findings[0]
    with pytest.raises(UsageError, match="there are dwt-dct, mark-of-first, mark-of-second, stea"):
        load_readers(["mark-of-third"])


REFUSED = {
    "raise ImportError('no module of that kind')": r"cannot be loaded: ImportError: no module of",
    "1/0": "cannot be loaded: ZeroDivisionError",
    "OTHER = 1": "cannot be loaded: AttributeError",
    "READER = print": "its entry point is not an aigid.evidence.Reader: got builtin_function_or_",
    PLUG_IN.format("other"): "the reader calls itself 'mark-of-other'",
    PLUG_IN.format("me").replace("Takes.FILE", "'file'"): "`takes` must be a Takes, and `cost` a C",
    PLUG_IN.format("me").replace("Cost.HIGH", "5"): "`takes` must be a Takes, and `cost` a Cost",
    PLUG_IN.format("me").replace("HIGH, read", "HIGH, 5"): "`read` is not a function",
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_no_reader_is_refused_by_its_name(
    code: str, install: Callable[[str, str, str], None], request: pytest.FixtureRequest
) -> None:
    module = f"refused_marks_{list(REFUSED).index(code)}"
    install("mark-of-me", module, code)
    with pytest.raises(UsageError, match=f"^`readers` mark-of-me: .*{REFUSED[code]}"):
        load_readers(["mark-of-me"])


def test_a_name_of_two_readers_is_refused(install: Callable[[str, str, str], None]) -> None:
    install("mark-of-twins", "twin_marks", PLUG_IN.format("twins"))
    install("mark-of-twins", "other_twin_marks", PLUG_IN.format("twins"))
    install("dwt-dct", "shadow_marks", PLUG_IN.format("dwt-dct"))
    for name, place in (("mark-of-twins", "twin_marks:READER"), ("dwt-dct", "aigid.evidence.dwt")):
        message = f"^`readers` {name}: several readers have this name: .*{place}"
        with pytest.raises(UsageError, match=message):
            load_readers([name])
    assert load_readers(["stealth-text", "stealth-text"])


def failing(content: object) -> Iterator[Finding]:
    yield MARK
    raise RuntimeError("no such model")


MISBEHAVING: list[Callable[[Any], Any]] = [
    failing,
    lambda content: 1 / 0,
    lambda content: None,
    lambda content: 5,
    lambda content: [None],
    lambda content: ["ai"],
    lambda content: [{"says": "ai"}],
    lambda content: [Finding("m", "maybe", Strength.METADATA, "")],  # type: ignore[arg-type]
    lambda content: [Finding("m", Says.AI, 9, "")],  # type: ignore[arg-type]
    lambda content: [Finding("m", Says.AI, Strength.METADATA, "", details=5)],  # type: ignore[arg-type]
    lambda content: content.no_such_attribute,
    lambda content: (_ for _ in ()).throw(MemoryError()),
    lambda content: exit(3),
]


@pytest.mark.parametrize("read", MISBEHAVING)
def test_a_reader_that_misbehaves_has_no_findings_and_a_line_in_the_log(
    read: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = png_with_text(parameters=A1111)
    assert [finding.kind for finding in read_with(read, data)] == ["parameters"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the reader test-mark has failed 1 times: ")


def test_a_reader_that_always_fails_is_logged_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    readers = Readers([reader(failing)])
    for _ in range(1000):
        assert list(readers.read(b"")) == []
    counts = [record.getMessage().split()[5] for record in caplog.records]
    assert counts == ["1", "10", "100", "1000"]


def test_what_a_reader_returns_is_bounded() -> None:
    long = "x" * 100_000
    endless = Finding(
        long, Says.AI, Strength.METADATA, long, long, {f"a{n}": long for n in range(99)}
    )

    def read(content: object) -> Iterator[Finding]:
        while True:
            yield endless

    findings = list(Readers([reader(read)]).read(b""))
    assert len(findings) == MOST_READER_FINDINGS
    (finding,) = set(findings)
    assert (len(finding.kind), len(finding.found_in), len(finding.source)) == (60, 100, 200)
    assert len(finding.details) == 32
    assert set(map(len, finding.details.values())) == {MOST_DETAIL_CHARACTERS}


def test_readers_of_pixels_share_one_image_as_it_lies_in_the_file() -> None:
    seen: list[Image.Image] = []

    def read(image: Image.Image) -> list[Finding]:
        seen.append(image)
        return []

    data = encoded(smooth_image(40, 20).convert("RGBA"), "PNG", exif=exif_of(6))
    names = ("a", "b")
    readers = [Reader(name, Takes.PIXELS, Cost.LOW, read) for name in names]
    assert list(Readers(readers).read(data)) == []
    assert seen[0] is seen[1]
    assert (seen[0].mode, seen[0].size) == ("RGBA", (40, 20))


@pytest.mark.parametrize("data", [b"", b"no image", png()[:60]])
def test_an_image_that_does_not_decode_has_no_findings_of_pixels(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    readers = [reader(lambda image: [MARK], Takes.PIXELS)]
    assert list(Readers(readers).read(data)) == []
    assert caplog.records == []
    assert list(Readers([reader(lambda image: [MARK])]).read(data)) == [MARK]


def test_an_image_over_the_limit_of_pixels_has_no_findings_of_them() -> None:
    large = encoded(Image.new("1", (8192, 4097)), "PNG")
    assert list(Readers([reader(lambda image: [MARK], Takes.PIXELS)]).read(large)) == []


def test_the_cheapest_readers_run_first() -> None:
    ran: list[Cost] = []

    def of(cost: Cost) -> Reader:
        return Reader(cost.value, Takes.FILE, cost, lambda data: ran.append(cost) or [])

    list(Readers([of(Cost.HIGH), of(Cost.LOW), of(Cost.MEDIUM)]).read(b""))
    assert ran == [Cost.LOW, Cost.MEDIUM, Cost.HIGH]
