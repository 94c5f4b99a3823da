"""Ctrl-C, SIGTERM and SIGHUP at any moment: a prompt end in one line, and nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from support.manifests import manifest_table
from support.object_store import CREDENTIALS, ObjectStore, Request, object_store
from support.scan_process import await_commits, start_scan, wait_until
from support.scan_results import result_files
from support.silent_server import SilentServer, silent_server

import aigid
from aigid.errors import UsageError
from aigid.results import open_results

pytestmark = pytest.mark.integration

Write = Callable[..., Path]
# A scan ends within 5 s; the hosts of this test would hold it up for a minute and more.
ENDS_WITHIN_S = 30
LINE = "aigid: scan interrupted; committed shards stay: run the same command again to continue"
NOTICES = ("aigid: the demo model was trained", "aigid: tiny random model", "scan: ")


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    with silent_server() as server:
        yield server


def assert_interrupted(process: subprocess.Popen[str], number: int, line: str = LINE) -> None:
    """Wait for the end of a process: with the signal's status, and one line about it."""
    _, told = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 128 + number, told
    others = [line for line in told.splitlines() if line and not line.startswith(NOTICES)]
    assert others == [line], told


def urls(address: str) -> pa.Table:
    return pa.table({"image_url": [f"{address}/{row}.png" for row in range(200)]})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "what",
    [
        "images on hosts",
        "images in a store",
        "the manifest on a web server",
        "the manifest in a store",
        "the results in a store",
        "a Triton server",
    ],
)
def test_what_never_answers_does_not_hold_up_the_end(
    silent: SilentServer,
    what: str,
    number: int,
    write_manifest: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent.address}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    out, options = str(tmp_path / "out"), []
    manifest = str(write_manifest(40))
    match what:
        case "images on hosts":
            manifest = str(write_manifest(urls(f"http://{silent.address}")))
            options = ["--allow-private-addresses"]
        case "images in a store":
            manifest = str(write_manifest(urls("s3://bucket")))
            options = ["--allow-outside-root"]
        case "the manifest on a web server":
            manifest = f"http://{silent.address}/manifest.parquet"
        case "the manifest in a store":
            manifest = "s3://bucket/manifest/"
        case "the results in a store":
            out = "s3://bucket/results/"
        case "a Triton server":
            options = ["--triton", silent.address]
    with start_scan(manifest, out, *options) as process:
        wait_until(lambda: bool(silent.connections), f"no connection for {what}")
        process.send_signal(number)
        assert_interrupted(process, number)
    if not out.startswith("s3:"):
        assert not list(Path(out).rglob(".*.tmp"))


def handles_signals(process: subprocess.Popen[str]) -> bool:
    """Whether a process has a handler of SIGTERM, as the command line's first lines set it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def loaded_libraries(process: subprocess.Popen[str]) -> int:
    lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return len({line.split()[-1] for line in lines if ".so" in line})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("libraries", [0, 20, 45, 70, 95, 110])
def test_a_scan_that_is_starting_ends_without_a_traceback(
    number: int, libraries: int, write_manifest: Write, tmp_path: Path
) -> None:
    """A start loads some 140 libraries: their number tells how far it is."""
    with start_scan(write_manifest(2000), tmp_path / "out", "--threads", 1) as process:
        wait_until(lambda: handles_signals(process), "no handler", pause_s=0.0005)
        wait_until(
            lambda: loaded_libraries(process) >= libraries, "too few libraries", pause_s=0.0005
        )
        process.send_signal(number)
        _, told = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 128 + number, told
    others = [line for line in told.splitlines() if line and not line.startswith(NOTICES)]
    assert others in ([LINE], ["aigid: interrupted"])


def test_interrupted_again_and_again_the_results_are_byte_identical(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(1600, row_group_size=100)
    options = ["--model", tiny_repository, "--shard-rows", 100]
    whole, out = tmp_path / "whole", tmp_path / "out"
    with start_scan(manifest, whole, *options) as process:
        process.communicate(timeout=300)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM)
    for turn, number in enumerate(numbers):
        kept = {path: path.read_bytes() for path in result_files(out)}
        # With one thread, so that it lasts.
        with start_scan(manifest, out, *options, "--threads", 1) as process:
            assert await_commits(process, out, len(kept) + 1)
            process.send_signal(number)
            if turn % 2:
                process.send_signal(number)
            assert_interrupted(process, number)
        assert all(path.read_bytes() == data for path, data in kept.items())
        with open_results(str(out)).open():
            # Nothing holds the folder any more.
            assert not list(out.rglob(".*.tmp"))
    assert len(result_files(out)) < 16
    with start_scan(manifest, out, *options) as process:
        process.communicate(timeout=300)
    assert process.returncode == 0
    assert [path.read_bytes() for path in result_files(out)] == [
        path.read_bytes() for path in result_files(whole)
    ]
    assert not list(out.rglob(".*.tmp"))


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


def test_a_commit_that_hangs_is_given_up_and_made_again_by_the_next_scan(
    store: ObjectStore,
    tiny_repository: Path,
    write_manifest: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    manifest = write_manifest(300, row_group_size=100)
    options = ["--model", tiny_repository, "--shard-rows", 100]
    hangs, goes_on = threading.Event(), threading.Event()

    def hang_at_the_second(request: Request) -> None:
        if request.method == "PUT" and "part-000001" in request.path:
            hangs.set()
            goes_on.wait()

    store.faults = hang_at_the_second
    try:
        with start_scan(manifest, store.uri("out"), *options) as process:
            assert hangs.wait(60)
            process.send_signal(signal.SIGTERM)
            assert_interrupted(process, signal.SIGTERM)
    finally:
        goes_on.set()
    assert "detections/part-000002.parquet" not in store.contents("out")
    for out in (store.uri("out"), tmp_path / "local"):
        with start_scan(manifest, out, *options) as process:
            process.communicate(timeout=300)
        assert process.returncode == 0
    found = store.contents("out")
    for path in result_files(tmp_path / "local"):
        assert found[f"detections/{path.name}"] == path.read_bytes()


def test_an_interrupted_scan_in_python_leaves_no_lock_and_no_thread_that_computes(
    silent: SilentServer, tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    manifest, out = write_manifest(urls(f"http://{silent.address}")), tmp_path / "out"
    handler = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        wait_until(lambda: bool(silent.connections), "no connection")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        aigid.scan(
            manifest, out=out, model=tiny_repository, allow_private_addresses=True, progress=False
        )
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handler
    names = [one.name for one in threading.enumerate()]
    assert not [name for name in names if name.startswith("scan")]
    # It did not wait for the image that the first thread was about to decode.
    assert "fetch now" in names
    with open_results(str(out)).open(), pytest.raises(UsageError, match="another scan is writing"):
        aigid.scan(
            manifest, out=out, model=tiny_repository, allow_private_addresses=True, progress=False
        )


def test_worker_processes_of_a_simulation_print_no_tracebacks(tmp_path: Path) -> None:
    words = ["simulate", str(tmp_path / "out"), "--rows", "6000", "--workers", "2"]
    # In a session of its own, whose processes all get the signal, as on a terminal.
    process = subprocess.Popen(
        [sys.executable, "-m", "aigid", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        wait_until(
            lambda: any(file.stat().st_size > 4 for file in (tmp_path / "out").glob(".*.tmp")),
            "no row group is written",
            seconds=120,
        )
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 130
    assert [line for line in told.splitlines() if not line.startswith("simulate: ")] == [
        "aigid: simulate interrupted"
    ]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["evaluate", "train", "audit"])
def test_commands_on_labelled_manifests_end_in_one_line(
    command: str, write_manifest: Write, tmp_path: Path
) -> None:
    write_manifest(manifest_table(2000), "train.parquet")
    write_manifest(manifest_table(60, seed=9000), "validation.parquet")
    words = [command, "train.parquet"]
    if command == "train":
        words += ["--validation", "validation.parquet", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aigid", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    with process:
        # The first batches need this library: by then it is past its imports.
        wait_until(lambda: loaded_libraries(process) >= 120, "it does not start")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 143, told
    assert told.splitlines()[-1].startswith(f"aigid: {command} interrupted")
    assert "Traceback" not in told
