"""What a person sees while a scan runs: lines in a log, a bar on a real terminal."""

import dataclasses
import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

import aigid.progress_bar
from aigid.progress import ClusterState, NodeState
from aigid.progress_bar import JsonProgress, LineProgress

LINE = re.compile(
    r"scan: ([\d,]+) of ([\d,]+) rows, ([\d,]+) rows/s, ([\d,]+) errors, ([\d,]+) s left"
)


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the seconds between lines."""
    return lambda seconds: monkeypatch.setattr(aigid.progress_bar, "LINE_EVERY_S", seconds)


def numbers(line: str) -> list[int]:
    """Rows done, rows in all, rows/s, errors and seconds left, as a line says them."""
    match = LINE.fullmatch(line)
    assert match, line
    return [int(group.replace(",", "")) for group in match.groups()]


def test_a_log_says_how_much_there_is_to_do_and_what_was_done_before() -> None:
    for done, said in {
        0: "scan: 1,234,567 rows\n",
        1000: "scan: 1,234,567 rows, 1,000 of them done before\n",
    }.items():
        log = io.StringIO()
        with LineProgress("scan", log) as progress:
            progress.start(1_234_567, done)
        assert log.getvalue() == said


def test_a_log_gets_no_line_for_each_batch() -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(100, 0)
        for _ in range(100):
            progress.advance(1, 0)
    assert log.getvalue() == "scan: 100 rows\n"
    assert 2 <= aigid.progress_bar.LINE_EVERY_S <= 10


def test_a_log_gets_a_line_whenever_the_last_one_is_old_enough(
    every: Callable[[float], None],
) -> None:
    every(0.1)
    log = io.StringIO()
    started = time.perf_counter()
    advanced = 0
    with LineProgress("scan", log) as progress:
        progress.start(1000, 0)
        while log.getvalue().count("\n") < 4:
            progress.advance(1, 0)
            advanced += 1
            time.sleep(0.001)
    assert time.perf_counter() - started >= 0.3
    assert [numbers(line)[0] for line in log.getvalue().splitlines()[1:]][-1] == advanced


def test_a_line_counts_rows_and_errors_of_all_but_speed_of_this_run_alone(
    every: Callable[[float], None],
) -> None:
    every(0)
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        started = time.perf_counter()
        progress.start(100_000, 90_000)
        time.sleep(0.2)
        progress.advance(2_000, 3)
        elapsed_s = time.perf_counter() - started
        progress.advance(3_000, 4)
    first, second = (numbers(line) for line in log.getvalue().splitlines()[1:])
    done, total, rate, errors, left_s = first
    assert (done, total, errors) == (92_000, 100_000, 3)
    assert 2_000 / elapsed_s - 1 <= rate <= 2_000 / 0.2
    assert left_s == pytest.approx(8_000 / rate, abs=0.51)
    assert (second[0], second[3]) == (95_000, 7)


def test_a_pass_that_starts_again_counts_its_own_errors(every: Callable[[float], None]) -> None:
    every(0)
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        for _ in range(2):
            progress.start(10, 0)
            progress.advance(10, 3)
    assert [numbers(line)[3] for line in log.getvalue().splitlines()[1::2]] == [3, 3]


@pytest.mark.parametrize(("total", "done", "rows"), [(10, 0, 0), (10, 10, 0), (0, 0, 0)])
def test_a_line_before_any_row_is_done_divides_by_nothing(
    every: Callable[[float], None], total: int, done: int, rows: int
) -> None:
    every(0)
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(total, done)
        progress.advance(rows, 0)
    assert (
        f"scan: {done} of {total} rows, 0 rows/s, 0 errors, time left unknown\n" in log.getvalue()
    )


def run_on_terminal(script: str, columns: int = 120) -> str:
    """What a script shows on its stderr where that is a terminal, control sequences included; stdout must stay empty."""
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(controller, 65536):
                shown += data
        except OSError:
            # Linux says so where the last writer has closed the terminal.
            pass
        finally:
            os.close(controller)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 0, shown
    return shown.decode()


def text_of(shown: str) -> str:
    """What a terminal shows, without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


SHOW_BAR = """
import time
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(1000, 200)
    for _ in range(4):
        time.sleep(0.15)
        progress.advance(100, 1)
    time.sleep(0.15)
"""


def test_a_terminal_shows_a_bar_with_rows_speed_errors_and_time_left() -> None:
    last = text_of(run_on_terminal(SHOW_BAR)).splitlines()[-1]
    match = re.search(r"scan .*━.* 600/1000 (\d+) rows/s 4 errors 0:00:\d\d", last)
    assert match, last
    assert 0 < int(match[1]) <= 700


BEGIN_AGAIN = """
from aigid.progress_bar import show_progress
with show_progress("train") as progress:
    for _ in range(2):
        progress.start(10, 0)
        progress.advance(10, 3)
"""


def test_a_bar_that_starts_again_counts_its_own_errors() -> None:
    assert " 10/10 " in text_of(run_on_terminal(BEGIN_AGAIN))
    assert "3 errors" in text_of(run_on_terminal(BEGIN_AGAIN)).splitlines()[-1]


NEVER_STARTED = """
import sys
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    print("aigid: no such file", file=sys.stderr)
"""


def test_a_terminal_shows_no_bar_where_nothing_was_started() -> None:
    assert text_of(run_on_terminal(NEVER_STARTED)).strip() == "aigid: no such file"


SAY_SOMETHING = """
import sys
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(10, 0)
    print("a line for people", file=sys.stderr)
    progress.advance(10, 0)
"""


def test_a_line_printed_while_the_bar_runs_stays_a_line_of_its_own() -> None:
    assert "a line for people" in [
        line.strip() for line in text_of(run_on_terminal(SAY_SOMETHING)).splitlines()
    ]


SAY_FROM_A_THREAD = """
import threading
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(10, 0)
    thread = threading.Thread(target=progress.message, args=("aigid: a server [1:2] does not answer",))
    thread.start()
    thread.join()
    progress.advance(10, 0)
"""


def test_what_another_thread_says_is_a_line_of_its_own_on_a_terminal_and_in_a_log() -> None:
    lines = [line.strip() for line in text_of(run_on_terminal(SAY_FROM_A_THREAD)).splitlines()]
    assert "aigid: a server [1:2] does not answer" in lines
    done = subprocess.run(
        [sys.executable, "-c", SAY_FROM_A_THREAD], capture_output=True, text=True, check=True
    )
    assert done.stderr == "scan: 10 rows\naigid: a server [1:2] does not answer\n"


def test_off_a_terminal_there_are_lines_on_stderr_and_no_control_sequences() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_BAR], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "scan: 1,000 rows, 200 of them done before\n")


CLUSTER = ClusterState(
    40, 12, 4, 1, (7,), {"10.0.0.1": NodeState(2, 30.4), "10.0.0.2": NodeState(2, 28.0)}
)
CLUSTER_LINES = [
    "shards: 12 of 40 done, 4 running, 1 failed, slow: 7",
    "10.0.0.1: 2 workers, 30 rows/s",
    "10.0.0.2: 2 workers, 28 rows/s",
]


def test_a_log_tells_of_shards_and_machines_with_its_lines(every: Callable[[float], None]) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(1000, 0)
        progress.cluster(CLUSTER)
        assert log.getvalue() == "scan: 1,000 rows\n"
        every(0)
        progress.advance(10, 0)
    assert log.getvalue().splitlines()[2:] == [f"scan: {line}" for line in CLUSTER_LINES]


def test_many_machines_are_added_up() -> None:
    many = replace(CLUSTER, nodes={f"10.0.0.{number}": NodeState(2, 10.0) for number in range(40)})
    lines = list(aigid.progress_bar._cluster_lines(many))
    assert len(lines) == 14
    assert lines[-1] == "28 more machines: 56 workers, 280 rows/s"


SHOW_CLUSTER = f"""
from aigid.progress_bar import show_progress
from aigid.progress import ClusterState, NodeState
with show_progress("scan") as progress:
    progress.start(1000, 0)
    progress.cluster({CLUSTER!r})
    progress.advance(100, 1)
"""


def test_a_terminal_shows_shards_and_machines_below_the_bar() -> None:
    lines = [line.strip() for line in text_of(run_on_terminal(SHOW_CLUSTER)).splitlines()]
    at = lines.index(CLUSTER_LINES[0])
    assert "100/1000" in lines[at - 1]
    assert lines[at : at + 3] == CLUSTER_LINES


def test_rows_that_were_lost_with_a_worker_are_taken_back(every: Callable[[float], None]) -> None:
    every(0)
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(100, 0)
        progress.advance(50, 2)
        progress.advance(-20, -1)
    done, _, _, errors, _ = numbers(log.getvalue().splitlines()[-1])
    assert (done, errors) == (30, 1)


def test_json_lines_are_objects_of_their_own_with_all_the_numbers(
    every: Callable[[float], None],
) -> None:
    every(0)
    log = io.StringIO()
    with JsonProgress("scan", log) as progress:
        progress.start(1000, 200)
        time.sleep(0.1)
        progress.advance(300, 4)
        progress.message("a line\nfor people")
        progress.cluster(CLUSTER)
    start, first, message, last, end = map(json.loads, log.getvalue().splitlines())
    assert start | {"time": ""} == {
        "event": "start",
        "label": "scan",
        "time": "",
        "rows_total": 1000,
        "rows": 200,
    }
    assert (first["event"], first["rows"], first["rows_total"], first["errors"]) == (
        "progress",
        500,
        1000,
        4,
    )
    assert 0 < first["rows_per_s"] <= 3000
    assert first["seconds_left"] == pytest.approx(500 / first["rows_per_s"], abs=0.06)
    assert "cluster" not in first
    assert (message["event"], message["text"]) == ("message", "a line\nfor people")
    assert last["cluster"] == json.loads(json.dumps(dataclasses.asdict(CLUSTER)))
    assert (end["event"], end["rows"]) == ("progress", 500)
    assert all(
        datetime.fromisoformat(line["time"]).utcoffset() is not None for line in (start, first, end)
    )


def test_json_lines_end_with_the_last_state_and_come_only_every_few_seconds() -> None:
    log = io.StringIO()
    with JsonProgress("scan", log) as progress:
        progress.start(10, 0)
        for _ in range(10):
            progress.advance(1, 0)
        assert log.getvalue().count("\n") == 1
    assert json.loads(log.getvalue().splitlines()[-1])["rows"] == 10
