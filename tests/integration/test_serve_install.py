"""`aigid serve` installs its server, prepares it for other hosts, and is interrupted meanwhile."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from support.manifests import encoded_image
from support.shared import made_once
from support.triton_requests import pair_inputs

pytestmark = pytest.mark.integration

SERVE = [sys.executable, "-m", "aigid", "serve"]
ANY_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
# pip finds nothing, and whatever asks a network gets no answer.
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `--prepare`, and what the command said, in `log` beside it."""

    def prepare(folder: Path) -> None:
        command = [*SERVE, "--prepare", str(folder / "server")]
        with (folder / "log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)

    return made_once(tmp_path_factory, "prepared", prepare) / "server"


@contextmanager
def running(
    *words: str, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run `aigid serve` in a folder that is no checkout."""
    process = subprocess.Popen(
        [*SERVE, *words],
        cwd=folder,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_an_installation_is_never_silent(prepared: Path) -> None:
    first, *lines, last = (prepared.parent / "log").read_text().splitlines()
    shown = [re.fullmatch(r"aigid: installing tritonserver: (\d+)% after \d+ s", x) for x in lines]
    parts = [int(one[1]) for one in shown if one]
    assert len(parts) == len(lines)
    assert parts == sorted(parts)
    assert first.startswith("aigid: installing NVIDIA's server from a wheel into")
    assert re.fullmatch(
        rf"{prepared}: tritonserver for Linux on x86-64 with Python 3\.\d+\. There: aigid serve "
        "--server server",
        last,
    )


def test_a_prepared_server_that_was_copied_answers_without_a_network(
    prepared: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "another-host" / "server"
    shutil.copytree(prepared, copied)
    environment = OFFLINE | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    with running(
        *ANY_PORTS, "--server", str(copied), environment=environment, folder=tmp_path
    ) as process:
        assert process.stdout is not None
        address = next(
            found[1] for line in process.stdout if (found := re.search(r"gRPC (\S+)", line))
        )
        (server,) = psutil.Process(process.pid).children()
        assert Path(server.exe()).is_relative_to(copied)
        images = [encoded_image(seed, side=64) for seed in range(3)]
        with triton.InferenceServerClient(address) as client:
            answer = client.infer("aigid_pairs", pair_inputs(images, [b"a red car"] * 3))
        assert (answer.as_numpy("p_ai") > 0).all()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize("word", ["--prepare", "--server"])
def test_a_folder_that_does_not_do_is_one_line_of_the_command(tmp_path: Path, word: str) -> None:
    (tmp_path / "notes").write_text("")
    done = subprocess.run(
        [*SERVE, word, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aigid: {word} {tmp_path}: ")


def test_without_a_network_the_reason_and_another_way_are_given(tmp_path: Path) -> None:
    environment = os.environ | OFFLINE
    command = [*SERVE, "--prepare", str(tmp_path / "server")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "cannot be installed: ERROR: No matching distribution found for" in last
    assert "or prepare the server on a host that can, with `aigid serve --prepare`" in last
    assert not list(tmp_path.iterdir())


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*SERVE, "--prepare", str(tmp_path / "server")]
    environment = os.environ | OFFLINE | {"TERM": "xterm"}
    with subprocess.Popen(command, env=environment, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        # Linux ends a terminal that nobody writes to any more with an error.
        with suppress(OSError):
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 1
    assert re.search(r"installing tritonserver .*━.* \d+%", shown.decode())


def wait_for(process: subprocess.Popen[str], started: str) -> list[psutil.Process]:
    """Return all processes that a process has started, once one has a word in its command."""
    while True:
        children = psutil.Process(process.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            if any(started in " ".join(child.cmdline()) for child in children):
                return children
        assert process.poll() is None
        threading.Event().wait(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_installation_that_is_interrupted_leaves_nothing_that_runs_or_disturbs(
    tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "server"
    words = ["--prepare", str(folder)]
    with running(*words, environment=OFFLINE, folder=tmp_path) as process:
        started = wait_for(process, " -m venv ")
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    psutil.wait_procs(started, timeout=60)
    assert not [one for one in started if one.is_running() and one.status() != "zombie"]
    assert not folder.exists()
    if number == signal.SIGKILL:
        # What it left is removed by the next installation.
        assert list(tmp_path.iterdir())
        environment = os.environ | OFFLINE
        subprocess.run([*SERVE, *words], env=environment, capture_output=True, check=False)
    else:
        assert process.returncode == 128 + number
        assert messages.splitlines()[-1] == "aigid: serve interrupted"
    assert not list(tmp_path.iterdir())
