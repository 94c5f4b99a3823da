"""The summary as a person reads it: a table, and a last line that tools may read too."""

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest

from aigid.cli.summary_table import print_summary

OUT = "/data/a folder with quite a long name/results of the scan of the first of March"
LAST = f"{OUT}: 12,345 rows, 8,000 AI-generated, 345 errors, 1,234 rows/s"


def summary(**changes: Any) -> dict[str, Any]:
    found = {
        "model": {"name": "aigid-demo"},
        "threshold": 0.5,
        "rows": 12_345,
        "scored": 12_000,
        "ai": 8_000,
        "sources": {
            "real": 4_000,
            "sd21": 8_000,
            "sdxl": 0,
            "sd3": 0,
            "dalle3": 0,
            "midjourney": 0,
        },
        "errors": {"missing": 300, "undecodable": 45},
        "run": {"rows_per_s": 1234.4},
    }
    return found | changes


def test_the_table_has_every_source_and_error_with_rows_and_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(summary(), "out")
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert lines[0].strip() == "model: aigid-demo, threshold 0.5"
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


def test_the_last_line_is_the_folders_summary_on_one_line_when_piped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(summary(), OUT)
    assert capsys.readouterr().out.splitlines()[-1] == LAST


def test_a_scan_with_nothing_left_to_do_has_no_speed_to_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(summary(run={"rows_per_s": None}), "out")
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "out: 12,345 rows, 8,000 AI-generated, 345 errors"
    )


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "[/]", "a=1"])
def test_names_are_printed_as_they_are_and_not_as_markup(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    print_summary(summary(model={"name": name}), f"out/{name}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == f"model: {name}, threshold 0.5"
    assert lines[-1] == f"out/{name}: 12,345 rows, 8,000 AI-generated, 345 errors, 1,234 rows/s"


PRINT = f"""
import json, sys
from aigid.cli.summary_table import print_summary
print_summary(json.loads(sys.argv[1]), {OUT!r})
"""


@pytest.mark.parametrize("columns", [40, 200])
def test_the_last_line_is_whole_on_a_terminal_of_any_width(columns: int) -> None:
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    words = [sys.executable, "-c", PRINT, json.dumps(summary())]
    with os.fdopen(controller, "rb") as shown:
        # The little that is printed fits into the terminal's buffer.
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        lines = os.read(shown.fileno(), 65536).decode().splitlines()
    os.close(terminal)
    assert lines[-1] == LAST
    assert max(len(line) for line in lines[:-1]) > 20
