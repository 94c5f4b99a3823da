"""Results on a stdout that is full, closed or ASCII only: by real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image, manifest_table

from aigid.cli.stdout import OutputError, printing

Write = Callable[..., Path]
FULL = Path("/dev/full")


def aigid(
    *words: object,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run aigid in a process of its own."""
    command = [sys.executable, "-m", "aigid", *map(str, words)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "", **variables}
    return subprocess.run(
        command, stdout=stdout, stderr=stderr, text=True, env=environment, check=False
    )


@pytest.fixture
def scan(write_manifest: Write, tiny_repository: Path, tmp_path: Path) -> tuple[object, ...]:
    out = tmp_path / "out"
    return ("scan", write_manifest(6), "--out", out, "--model", tiny_repository)


@pytest.mark.parametrize(("words", "unbuffered"), [((), ""), ((), "1"), (("--json",), "")])
def test_a_full_stdout_after_a_finished_scan_is_one_line_and_the_results_are_whole(
    words: tuple[str, ...], unbuffered: str, scan: tuple[object, ...], tmp_path: Path
) -> None:
    with FULL.open("w") as full:
        done = aigid(*scan, *words, stdout=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "aigid: cannot print the summary: No space left on device; "
        f"the scan is finished and its results are in {tmp_path / 'out'}"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["scored"] == 6
    again = aigid(*scan, *words)
    assert again.returncode == 0
    assert again.stdout


@pytest.mark.parametrize("words", [("--help",), ("scan", "--help"), ("--version",)])
def test_a_full_stdout_is_one_line_for_the_help_too(words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = aigid(*words, stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "aigid: cannot print the help: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_error(scan: tuple[object, ...]) -> None:
    script = f"set -o pipefail; {{ {shell(*scan)}; echo $? >&2; }} | head -c 0; echo end"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "end\n"
    assert done.stderr.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("words", [("--help",), ("scan", "--help"), ("--version",)])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_of_the_help_is_no_error(
    words: tuple[str, ...], unbuffered: str
) -> None:
    script = f"{{ {shell(*words)}; echo $? >&2; }} | head -c 0"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = ["bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("", "0\n")


def shell(*words: object) -> str:
    # The reader is gone before anything is printed.
    command = " ".join(f"'{word}'" for word in (sys.executable, "-m", "aigid", *words))
    return f"sleep 0.3; {command}"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stderr_does_not_stop_a_scan(scan: tuple[object, ...], unbuffered: str) -> None:
    with FULL.open("w") as full:
        done = aigid(*scan, stderr=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0
    assert "6 rows" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_error_on_a_full_stderr_still_has_its_status(tmp_path: Path, unbuffered: str) -> None:
    words = ("scan", tmp_path / "gone", "--out", "out")
    with FULL.open("w") as full:
        done = aigid(*words, stderr=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2


def test_an_ascii_terminal_gets_escapes(tmp_path: Path, tiny_repository: Path) -> None:
    folder = tmp_path / "Bildér \U0001f431"
    folder.mkdir()
    table = manifest_table(6).append_column("é", pa.array(["ü"] * 6))
    pq.write_table(table, folder / "m.parquet")
    out = folder / "out"
    words = ("scan", folder / "m.parquet", "--out", out, "--model", tiny_repository)
    done = aigid(*words, "--keep", "é", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert done.stdout.splitlines()[-1].startswith(rf"{tmp_path}/Bild\xe9r \U0001f431/out: 6 rows")
    refused = aigid(*words, "--keep", "ö", PYTHONIOENCODING="ascii")
    assert refused.returncode == 2
    assert r"\xf6" in refused.stderr
    assert refused.stderr.isascii()


def test_the_errors_of_rows_are_shown_on_an_ascii_terminal(
    tmp_path: Path, tiny_repository: Path
) -> None:
    images = [{"bytes": encoded_image(0), "path": None}, {"bytes": None, "path": "é\x1b[2J.jpg"}]
    pq.write_table(pa.table({"image": images}), tmp_path / "m.parquet")
    words = ("scan", tmp_path / "m.parquet", "--out", tmp_path / "out", "--model", tiny_repository)
    done = aigid(*words, "--max-error-rate", 1, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "missing: 1 row:" in done.stdout
    assert r"\xe9\x1b[2J.jpg" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_name_that_is_no_text_is_shown_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.parquet")
    done = aigid("scan", tmp_path / name, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert r"caf\udce9.parquet" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_fails_for_another_reason_is_not_taken_for_printing() -> None:
    with pytest.raises(ZeroDivisionError), printing("the summary"):
        raise ZeroDivisionError


def test_the_error_says_what_is_done_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError) as raised, printing("x", done="y is written"):
        raise OSError(28, "No space left on device")
    assert str(raised.value) == "cannot print x: No space left on device; y is written"
