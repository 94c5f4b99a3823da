"""`aigid serve` is killed or interrupted: its server and its models end with it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.manifests import REPOSITORY

from aigid.serving import ServerConfig, TritonServer

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "aigid", "serve"]
COMMAND += ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


@pytest.fixture
def serving(cache: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "aigid").symlink_to(cache)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        COMMAND,
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert any("gRPC " in line for line in process.stdout)


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    """Wait for the server, which is a shell at first."""
    while True:
        assert process.poll() is None
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if child.name() == "tritonserver":
                    return child
        threading.Event().wait(0.02)


def shared_memory(process: subprocess.Popen[str]) -> list[Path]:
    return list(Path("/dev/shm").glob(f"aigid_triton_{process.pid}_*"))


def assert_ended(processes: list[psutil.Process]) -> None:
    """Wait until all have ended; their parent may be one that does not reap them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                threading.Event().wait(0.02)


def test_a_killed_command_leaves_no_server_and_no_model_that_runs(
    serving: subprocess.Popen[str], cache: Path
) -> None:
    wait_until_ready(serving)
    server = server_of(serving)
    processes = [server, *server.children()]
    assert len(processes) >= 5
    # A model that hangs does not notice the end of its server.
    processes[-1].suspend()
    serving.kill()
    serving.wait()
    assert_ended(processes)
    assert shared_memory(serving)
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)):
        pass
    assert not shared_memory(serving)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_while_its_server_starts_leaves_none(
    serving: subprocess.Popen[str], number: int
) -> None:
    server = server_of(serving)
    processes = [server, *server.children()]
    serving.send_signal(number)
    assert serving.wait(60) == (-number if number == signal.SIGKILL else 0)
    assert_ended(processes)
    assert number == signal.SIGKILL or not shared_memory(serving)


def test_a_second_signal_kills_a_server_that_does_not_end(serving: subprocess.Popen[str]) -> None:
    wait_until_ready(serving)
    server = server_of(serving)
    processes = [server, *server.children()]
    server.suspend()
    serving.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        serving.wait(1)
    serving.send_signal(signal.SIGINT)
    assert serving.wait(15) == 0
    assert_ended(processes)
    assert not shared_memory(serving)
