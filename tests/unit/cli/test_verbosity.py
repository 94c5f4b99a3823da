"""-v, -q and --log-level: before the command or after it."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import Result
from support.command_line import invoke
from support.manifests import manifest_table

from aigid.cli.verbosity import Verbosity

Write = Callable[..., Path]
NOTICE, PROGRESS = "aigid: tiny random model\n", "scan: 6 rows\n"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("aigid")
    before = root.level, own.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    own.setLevel(before[1])
    root.handlers[:] = before[2]


@pytest.fixture
def scan(write_manifest: Write, tiny_repository: Path, tmp_path: Path) -> Callable[..., Result]:
    words = (write_manifest(6), "--out", tmp_path / "out", "--model", tiny_repository)

    def run(*after: str, before: tuple[str, ...] = ()) -> Result:
        result = invoke(*before, "scan", *words, *after)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_the_summary_goes_to_stdout_and_everything_else_to_stderr(
    scan: Callable[..., Result],
) -> None:
    result = scan()
    assert result.stdout.startswith("model: ")
    assert result.stderr == NOTICE + PROGRESS


@pytest.mark.parametrize(("before", "after"), [(("-q",), ()), ((), ("-q",)), ((), ("--quiet",))])
def test_quiet_shows_no_progress_and_no_notice_but_the_results(
    before: tuple[str, ...], after: tuple[str, ...], scan: Callable[..., Result]
) -> None:
    result = scan("--json", *after, before=before)
    assert json.loads(result.stdout)["scored"] == 6
    assert result.stderr == ""


def test_quiet_shows_errors(tmp_path: Path) -> None:
    result = invoke("-q", "scan", tmp_path / "gone", "--out", tmp_path / "out")
    assert result.stderr == f"aigid: {tmp_path}/gone: no such file or folder\n"


def test_quiet_holds_for_progress_as_json_too(scan: Callable[..., Result]) -> None:
    assert scan("-q", "--progress-json").stderr == ""


@pytest.mark.parametrize(("before", "after"), [(("-v",), ()), ((), ("-v",)), ((), ("--verbose",))])
def test_verbose_logs_what_is_done(
    before: tuple[str, ...], after: tuple[str, ...], scan: Callable[..., Result]
) -> None:
    shown = scan(*after, before=before).stderr
    assert NOTICE in shown
    assert "aigid: scanning on " in shown
    assert "peak memory" in shown
    assert "batch size" not in shown


@pytest.mark.parametrize(
    ("before", "after"),
    [(("-vv",), ()), (("-v",), ("-v",)), ((), ("--log-level", "debug")), ((), ("-v", "-v"))],
)
def test_more_verbose_logs_details(
    before: tuple[str, ...], after: tuple[str, ...], scan: Callable[..., Result]
) -> None:
    assert "aigid: batch size 32" in scan(*after, before=before).stderr


def test_messages_of_other_packages_are_shown_from_warnings_on(
    scan: Callable[..., Result],
) -> None:
    scan("-vv")
    assert not logging.getLogger("another.package").isEnabledFor(logging.INFO)
    assert logging.getLogger("another.package").isEnabledFor(logging.WARNING)
    assert logging.getLogger("aigid.something").isEnabledFor(logging.DEBUG)


def test_a_message_that_is_logged_names_flags(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    rows = manifest_table(4).drop_columns(["Label_A", "Label_B"])
    rows = rows.append_column("label", pa.array(["cat", "dog", "cow", "emu"]))
    words = ("--model", tiny_repository, "--out", tmp_path / "out", "--pseudo", tmp_path / "p")
    result = invoke("pseudo-label", write_manifest(rows), *words)
    assert result.exit_code == 0, result.output
    assert "aigid: not compared with known labels: " in result.stderr
    assert "name the right one with --label-column" in result.stderr


def test_the_level_that_is_named_wins() -> None:
    assert Verbosity().level == logging.WARNING
    assert Verbosity(verbose=7).level == logging.DEBUG
    assert Verbosity(quiet=True).level == logging.ERROR
    assert Verbosity(verbose=2, log_level="critical").level == logging.CRITICAL


def test_a_second_command_in_one_process_logs_each_line_once(
    scan: Callable[..., Result],
) -> None:
    scan("-v")
    assert scan("-v").stderr.count("aigid: scanning on ") == 1
