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
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest
from rich.console import Console

import aigid.progress_bar
from aigid.progress import ClusterState, NodeState
from aigid.progress_bar import (
    LINE_EVERY_S,
    RATE_AFTER_S,
    RATE_WINDOW_S,
    BarProgress,
    JsonProgress,
    LineProgress,
    RowRate,
    SilentProgress,
    counted,
    show_progress,
)

LINE = re.compile(
    r"scan: ([\d,]+) of ([\d,]+) rows, ([\d,]+) rows/s, ([\d,]+) errors?, ([\d,]+) s left"
)


class Clock:
    """A clock that stands still until it is told how much time passes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    stand_in = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(aigid.progress_bar, "time", stand_in)
    return clock


def numbers(line: str) -> list[int]:
    """Rows done, rows in all, rows/s, errors and seconds left, as a line has them."""
    match = LINE.fullmatch(line)
    assert match, line
    return [int(group.replace(",", "")) for group in match.groups()]


def test_a_rate_is_unknown_in_the_first_second(clock: Clock) -> None:
    rate = RowRate()
    # Batches of several threads end together: 64 rows in 160 microseconds are no 400,000 rows/s.
    rate.advance(32)
    clock.pass_s(0.000_160)
    rate.advance(32)
    assert rate.rows_per_s() is None
    assert rate.seconds_left(100) is None
    clock.pass_s(RATE_AFTER_S)
    assert rate.rows_per_s() == pytest.approx(64, rel=0.01)


def test_a_first_batch_after_a_long_wait_counts_the_wait(clock: Clock) -> None:
    rate = RowRate()
    clock.pass_s(8)
    rate.advance(32)
    rate.advance(32)
    assert rate.rows_per_s() == 8


def test_a_rate_is_of_the_last_half_minute(clock: Clock) -> None:
    rate = RowRate()
    for _ in range(100):
        clock.pass_s(1)
        rate.advance(10)
    assert rate.rows_per_s() == pytest.approx(10)
    for _ in range(int(RATE_WINDOW_S)):
        clock.pass_s(1)
        rate.advance(50)
    assert rate.rows_per_s() == pytest.approx(50)
    clock.pass_s(RATE_WINDOW_S / 2)
    assert rate.rows_per_s() == pytest.approx(25, rel=0.1), "a stall slows it at once"
    clock.pass_s(10 * RATE_WINDOW_S)
    assert rate.rows_per_s() == pytest.approx(0, abs=0.5)


def test_a_rate_holds_few_samples_however_long_it_runs(clock: Clock) -> None:
    rate = RowRate()
    for _ in range(10_000):
        clock.pass_s(0.05)
        rate.advance(1)
        rate.rows_per_s()
    assert len(rate._samples) <= RATE_WINDOW_S / RATE_AFTER_S + 2


def test_rows_that_are_taken_back_make_no_negative_rate(clock: Clock) -> None:
    rate = RowRate()
    clock.pass_s(2)
    rate.advance(-10)
    assert rate.rows_per_s() == 0
    assert rate.seconds_left(10) is None


def test_nothing_left_to_do_takes_no_time() -> None:
    assert RowRate().seconds_left(0) == 0


def test_a_log_tells_how_much_there_is_to_do_and_what_was_done_before() -> None:
    for (total, done), shown in {
        (1, 0): "scan: 1 row\n",
        (1_234_567, 0): "scan: 1,234,567 rows\n",
        (1_234_567, 1000): "scan: 1,234,567 rows, 1,000 of them done before\n",
    }.items():
        log = io.StringIO()
        with LineProgress("scan", log) as progress:
            progress.start(total, done)
        assert log.getvalue() == shown


def test_a_log_gets_a_line_every_few_seconds_and_none_for_each_batch(clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(1000, 0)
        for _ in range(100):
            progress.advance(1, 0)
        assert log.getvalue() == "scan: 1,000 rows\n"
        for _ in range(12):
            clock.pass_s(LINE_EVERY_S / 4)
            progress.advance(1, 0)
    assert [numbers(line)[0] for line in log.getvalue().splitlines()[1:]] == [104, 108, 112]
    assert 2 <= LINE_EVERY_S <= 10


def test_a_line_counts_rows_and_errors_of_all_but_the_rate_of_this_run(clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(100_000, 90_000)
        clock.pass_s(5)
        progress.advance(2_000, 3)
        clock.pass_s(5)
        progress.advance(3_000, 4)
    first, second = (numbers(line) for line in log.getvalue().splitlines()[1:])
    assert first == [92_000, 100_000, 400, 3, 20]
    assert second == [95_000, 100_000, 500, 7, 10]


def test_a_pass_that_starts_again_counts_its_own_rows_and_errors(clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        for _ in range(2):
            progress.start(20, 0)
            clock.pass_s(5)
            progress.advance(10, 3)
    assert [numbers(line) for line in log.getvalue().splitlines()[1::2]] == [[10, 20, 2, 3, 5]] * 2


def test_a_line_before_the_rate_is_known(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aigid.progress_bar, "LINE_EVERY_S", 0)
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(10, 0)
        progress.advance(4, 1)
    last = log.getvalue().splitlines()[-1]
    assert last == "scan: 4 of 10 rows, -- rows/s, 1 error, time left unknown"


@pytest.mark.parametrize("total", [0, 10])
def test_nothing_to_do_divides_by_nothing(total: int, clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(total, total)
        clock.pass_s(5)
        progress.advance(0, 0)
    last = log.getvalue().splitlines()[-1]
    assert last == f"scan: {total} of {total} rows, 0 rows/s, 0 errors, 0 s left"


def test_a_message_of_a_stranger_does_not_control_the_terminal() -> None:
    log, screen = io.StringIO(), io.StringIO()
    with LineProgress("scan", log) as lines, BarProgress("scan", Console(file=screen)) as bar:
        for progress in (lines, bar):
            progress.start(1, 0)
            progress.message("column a\x1b[2J\rb")
    for stream in (log, screen):
        assert "column a\\x1b[2J\\rb\n" in stream.getvalue()


class FullStream(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_is_full_does_not_stop_the_work() -> None:
    for progress in (LineProgress("scan", FullStream()), JsonProgress("scan", FullStream())):
        with progress:
            progress.start(10, 0)
            progress.message("a line")
            progress.advance(10, 0)


def test_a_silent_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (
        show_progress("scan", quiet=True),
        show_progress("scan", quiet=True, as_json=True),
    ):
        assert isinstance(progress, SilentProgress)
        with progress:
            progress.start(10, 0)
            progress.advance(10, 1)
            progress.cluster(CLUSTER)
            progress.message("a line")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")]
)
def test_counts_are_english(count: int, text: str) -> None:
    assert counted(count, "row") == text


def run_on_terminal(script: str, columns: int = 120) -> str:
    """What a script shows on its stderr, a terminal, control sequences included.

    Its stdout must stay empty.
    """
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
            # Linux raises this where the last writer has closed the terminal.
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
        time.sleep(0.3)
        progress.advance(100, 1)
    time.sleep(0.15)
"""


def test_a_terminal_shows_a_bar_with_rows_speed_errors_and_time_left() -> None:
    last = text_of(run_on_terminal(SHOW_BAR)).splitlines()[-1]
    match = re.search(r"scan .*━.* 600/1000 (\d+) rows/s 4 errors 0:00:\d\d", last)
    assert match, last
    assert 0 < int(match[1]) <= 340


BATCHES_AT_ONCE = """
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(1000, 200)
    for _ in range(10):
        progress.advance(32, 0)
"""


def test_a_bar_has_no_rate_of_batches_that_end_together() -> None:
    shown = text_of(run_on_terminal(BATCHES_AT_ONCE))
    assert "520/1000 -- rows/s 0 errors -:--:--" in shown.splitlines()[-1]


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


PRINT_A_LINE = """
import sys
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(10, 0)
    print("a line for people", file=sys.stderr)
    progress.advance(10, 0)
"""


def test_a_line_printed_while_the_bar_runs_stays_a_line_of_its_own() -> None:
    assert "a line for people" in [
        line.strip() for line in text_of(run_on_terminal(PRINT_A_LINE)).splitlines()
    ]


MESSAGE_FROM_A_THREAD = """
import threading
from aigid.progress_bar import show_progress
with show_progress("scan") as progress:
    progress.start(10, 0)
    line = "aigid: a server [1:2] does not answer"
    thread = threading.Thread(target=progress.message, args=(line,))
    thread.start()
    thread.join()
    progress.advance(10, 0)
"""


def test_a_message_of_another_thread_is_a_line_of_its_own_on_a_terminal_and_in_a_log() -> None:
    lines = [line.strip() for line in text_of(run_on_terminal(MESSAGE_FROM_A_THREAD)).splitlines()]
    assert "aigid: a server [1:2] does not answer" in lines
    done = subprocess.run(
        [sys.executable, "-c", MESSAGE_FROM_A_THREAD], capture_output=True, text=True, check=True
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


def test_a_log_has_shards_and_nodes_below_its_lines(clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(1000, 0)
        progress.cluster(CLUSTER)
        assert log.getvalue() == "scan: 1,000 rows\n"
        clock.pass_s(5)
        progress.advance(10, 0)
    assert log.getvalue().splitlines()[2:] == [f"scan: {line}" for line in CLUSTER_LINES]


def test_many_nodes_are_added_up() -> None:
    many = replace(CLUSTER, nodes={f"10.0.0.{number}": NodeState(2, 10.0) for number in range(40)})
    lines = list(aigid.progress_bar._cluster_lines(many))
    assert len(lines) == 14
    assert lines[-1] == "28 more nodes: 56 workers, 280 rows/s"


SHOW_CLUSTER = f"""
from aigid.progress_bar import show_progress
from aigid.progress import ClusterState, NodeState
with show_progress("scan") as progress:
    progress.start(1000, 0)
    progress.cluster({CLUSTER!r})
    progress.advance(100, 1)
"""


def test_a_terminal_shows_shards_and_nodes_below_the_bar() -> None:
    lines = [line.strip() for line in text_of(run_on_terminal(SHOW_CLUSTER)).splitlines()]
    at = lines.index(CLUSTER_LINES[0])
    assert "100/1000" in lines[at - 1]
    assert lines[at : at + 3] == CLUSTER_LINES


def test_one_node_and_one_worker_are_singular() -> None:
    one = replace(CLUSTER, nodes={f"10.0.0.{number}": NodeState(1, 10.0) for number in range(13)})
    lines = list(aigid.progress_bar._cluster_lines(one))
    assert lines[1] == "10.0.0.0: 1 worker, 10 rows/s"
    assert lines[-1] == "1 more node: 1 worker, 10 rows/s"


def test_rows_that_were_lost_with_a_worker_are_taken_back(clock: Clock) -> None:
    log = io.StringIO()
    with LineProgress("scan", log) as progress:
        progress.start(100, 0)
        clock.pass_s(5)
        progress.advance(50, 2)
        clock.pass_s(5)
        progress.advance(-20, -1)
    assert numbers(log.getvalue().splitlines()[-1]) == [30, 100, 3, 1, 23]


def test_json_lines_are_objects_of_their_own_with_all_the_numbers(clock: Clock) -> None:
    log = io.StringIO()
    with JsonProgress("scan", log) as progress:
        progress.start(1000, 200)
        clock.pass_s(5)
        progress.advance(300, 4)
        progress.message("a line\nfor people")
        clock.pass_s(5)
        progress.cluster(CLUSTER)
    start, first, message, last, end = map(json.loads, log.getvalue().splitlines())
    about_start = {"event": "start", "label": "scan", "rows_total": 1000, "rows": 200}
    assert start == {**about_start, "time": start["time"]}
    assert first == {
        "event": "progress",
        "label": "scan",
        "time": first["time"],
        "rows_total": 1000,
        "rows": 500,
        "errors": 4,
        "rows_per_s": 60.0,
        "seconds_left": 8.3,
    }
    assert (message["event"], message["text"]) == ("message", "a line\nfor people")
    assert last["cluster"] == json.loads(json.dumps(dataclasses.asdict(CLUSTER)))
    assert (last["rows_per_s"], end["event"], end["rows"]) == (30.0, "progress", 500)
    for line in (start, first, end):
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None


def test_json_lines_end_with_the_last_state_and_come_only_every_few_seconds(clock: Clock) -> None:
    log = io.StringIO()
    with JsonProgress("scan", log) as progress:
        progress.start(10, 0)
        for _ in range(10):
            progress.advance(1, 0)
        assert log.getvalue().count("\n") == 1
    last = json.loads(log.getvalue().splitlines()[-1])
    assert (last["rows"], last["rows_per_s"], last["seconds_left"]) == (10, None, 0.0)
