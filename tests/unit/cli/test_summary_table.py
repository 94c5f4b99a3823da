"""The summary as a person reads it: a table, errors with remedies, a last line for tools too."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from support.command_line import command_of

from aigid.cli.summary_table import REMEDIES, print_summary
from aigid.records import ErrorCode
from aigid.results import ErrorExample, ModelIdentity, RunFigures, ScanSummary

OUT = "/data/a folder with quite a long name/results of the scan of the first of March"
LAST = f"{OUT}: 12,345 rows, 8,000 AI-generated, 345 errors, 1,234 rows/s"
DEFAULT_LABELS = {"real": 4_000, "sd21": 8_000, "sdxl": 0, "sd3": 0, "dalle3": 0, "midjourney": 0}
EXAMPLES = {
    "missing": ErrorExample("data/m.parquet", 1_017, "cats/a.jpg", "cats/a.jpg: no such file"),
    "undecodable": ErrorExample("data/m.parquet", 9, "cats/b.jpg", "not an image, or damaged"),
}


def summary(**changes: Any) -> ScanSummary:
    found = {
        "format": 3,
        "model": ModelIdentity("aigid-demo", "0" * 64, ""),
        "threshold": 0.5,
        "mode": "best-guess",
        "shards": 2,
        "rows": 12_345,
        "scored": 12_000,
        "ai": 8_000,
        "verdicts": {"ai": 8_000, "real": 4_000, "unsure": 0},
        "sources": DEFAULT_LABELS,
        "errors": {"missing": 300, "undecodable": 45},
        "error_rate": 345 / 12_345,
        "error_examples": EXAMPLES,
        "evidence": None,
        "run": RunFigures(rows=12_345, seconds=10.0, rows_per_s=1234.4, peak_memory_mib=300.0),
    }
    return ScanSummary(**(found | changes))


def printed(capsys: pytest.CaptureFixture[str], found: ScanSummary, out: str = "out") -> list[str]:
    print_summary(found, out)
    return capsys.readouterr().out.splitlines()


def test_the_table_has_every_source_and_error_with_rows_and_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, summary())
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert lines[0] == "model: aigid-demo, threshold 0.5"
    assert cells == [
        ["real", "4,000", "32.4%"],
        ["sd21", "8,000", "64.8%"],
        ["sdxl", "0", "0.0%"],
        ["sd3", "0", "0.0%"],
        ["dalle3", "0", "0.0%"],
        ["midjourney", "0", "0.0%"],
        ["error: missing", "300", "2.4%"],
        ["error: undecodable", "45", "0.4%"],
    ]


def test_the_verdicts_have_a_line_with_their_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert "verdicts (best-guess): ai 8,000, real 4,000, unsure 0" in printed(capsys, summary())
    verdicts = {"ai": 7_000, "real": 1_000, "unsure": 4_000}
    lines = printed(capsys, summary(mode="balanced", verdicts=verdicts))
    assert "verdicts (balanced): ai 7,000, real 1,000, unsure 4,000" in lines


def test_each_error_has_its_count_its_first_row_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, summary(errors={"missing": 300, "undecodable": 1}))
    at = lines.index("missing: 300 rows, the first of them:")
    assert lines[at:-1] == [
        "missing: 300 rows, the first of them:",
        "  where   row 1,017 of data/m.parquet",
        "  reason  cats/a.jpg: no such file",
        "  remedy  Restore the image and run the same command with --retry-errors",
        "          missing, or name the folder that relative paths start from with",
        "          --image-root.",
        "undecodable: 1 row:",
        "  where   row 9 of data/m.parquet",
        "  image   cats/b.jpg",
        "  reason  not an image, or damaged",
        "  remedy  Open the image in another program. If that fails too, replace the",
        "          image.",
    ]


def test_every_error_code_has_a_remedy_whose_flags_a_scan_has() -> None:
    assert set(REMEDIES) == set(ErrorCode)
    known = {flag for option in command_of("scan").params for flag in option.opts}
    named = {flag for remedy in REMEDIES.values() for flag in re.findall(r"--[\w-]+", remedy)}
    assert named
    assert named <= known


def test_an_error_without_an_example_or_a_remedy_is_counted_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, summary(errors={"missing": 2, "strange": 1}, error_examples={}))
    assert "missing: 2 rows" in lines
    assert "strange: 1 row" in lines


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        (
            {"rows": 1, "scored": 0, "ai": 0, "errors": {"missing": 1}},
            "out: 1 row, 0 AI-generated, 1 error, 1,234 rows/s",
        ),
        (
            {"run": RunFigures(0, 0.1, None, 300.0)},
            "out: 12,345 rows, 8,000 AI-generated, 345 errors",
        ),
    ],
)
def test_the_last_line_counts_in_english_and_has_a_speed_only_where_there_was_work(
    changes: dict[str, Any], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(capsys, summary(**changes))[-1] == last


def test_the_last_line_is_whole_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, summary(), OUT)[-1] == LAST


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "[/]", "a=1"])
def test_names_are_printed_as_they_are_and_not_as_markup(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    example = ErrorExample(f"m/{name}", 3, f"i/{name}", f"why {name}")
    changes = {"model": ModelIdentity(name, "0", ""), "error_examples": {"missing": example}}
    lines = printed(capsys, summary(**changes), f"out/{name}")
    assert lines[0] == f"model: {name}, threshold 0.5"
    assert f"  where   row 3 of m/{name}" in lines
    assert f"  image   i/{name}" in lines
    assert f"  reason  why {name}" in lines
    assert lines[-1] == f"out/{name}: 12,345 rows, 8,000 AI-generated, 345 errors, 1,234 rows/s"


def test_control_characters_are_escaped_wherever_they_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = "\x1b[2J\n\r\x07\u202e\udcff"
    example = ErrorExample(bad, 3, bad, f"why {bad}!")
    changes = {
        "model": ModelIdentity(bad, "0", ""),
        "sources": {bad: 12_000},
        "errors": {"missing": 345},
        "error_examples": {"missing": example},
    }
    print_summary(summary(**changes), bad)
    text = capsys.readouterr().out
    assert set(text) - {"\n"} == {character for character in text if character.isprintable()}
    assert text.count("\\x1b[2J\\n\\r\\x07\\u202e\\udcff") == 5


PRINT = f"""
from aigid.cli.summary_table import print_summary
from aigid.results import ErrorExample, ModelIdentity, RunFigures, ScanSummary
print_summary({summary()!r}, {OUT!r})
"""


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_terminal_of_any_width_shows_it_without_broken_lines(columns: int) -> None:
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # Test processes of pytest-xdist have a COLUMNS of their own.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"TERM": "xterm"}
    with os.fdopen(controller, "rb") as shown:
        # The little that is printed fits into the terminal's buffer.
        done = subprocess.run(
            [sys.executable, "-c", PRINT],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        text = os.read(shown.fileno(), 65536).decode()
    os.close(terminal)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert lines[-1] == LAST
    widest = max(len(line) for line in lines[:-1])
    assert 30 < widest <= min(columns, 110)
