"""`aigid serve` over Triton: a server that dies or hangs is started again; answers stay right."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from support.http_service import pair
from support.manifests import CAPTIONS, encoded_image

import aigid
from aigid.detection import Detection

pytestmark = pytest.mark.integration

ROWS = 24
IMAGES = [encoded_image(seed, side=64) for seed in range(ROWS)]
PROMPTS = [CAPTIONS[seed % len(CAPTIONS)] for seed in range(ROWS)]
BODY = {"pairs": list(map(pair, IMAGES, PROMPTS))}


@pytest.fixture(scope="module")
def expected() -> list[Detection]:
    with aigid.Detector.load() as detector:
        return detector.detect(IMAGES, PROMPTS)


@dataclass(frozen=True)
class Serving:
    """The command that runs: its process, its address, and the file of its stderr."""

    process: subprocess.Popen[str]
    url: str
    messages: Path

    @property
    def triton(self) -> psutil.Process:
        """The server's process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        (found,) = [child for child in children if child.name() == "tritonserver"]
        return found

    def ask(self) -> httpx.Response:
        """Send all pairs."""
        return httpx.post(f"{self.url}/v1/detect", json=BODY, timeout=100)

    def wait_for_answer(self) -> httpx.Response:
        """Ask until there is an answer; until then the service says that its engine is away."""
        end = time.monotonic() + 120
        while (answer := self.ask()).status_code != 200:
            assert answer.json()["type"] in ("/docs#engine-away", "/docs#timeout")
            assert time.monotonic() < end
            time.sleep(0.2)
        return answer


@contextmanager
def serving(cache: Path, folder: Path) -> Iterator[Serving]:
    """Run the command on the server that the fixture installed."""
    (folder / ".cache").mkdir()
    (folder / ".cache" / "aigid").symlink_to(cache)
    environment = os.environ | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    ports = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    messages = folder / "messages"
    with messages.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "aigid", "serve", *ports],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        assert process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("http")).strip()
        yield Serving(process, url, messages)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def check(answer: httpx.Response, expected: list[Detection]) -> None:
    assert answer.status_code == 200
    for one, wanted in zip(answer.json()["detections"], expected, strict=True):
        np.testing.assert_allclose(one["p_ai"], wanted.p_ai, atol=1e-5)
        assert (one["verdict"], one["source"]) == (wanted.verdict, wanted.source)


def test_a_server_that_dies_or_hangs_is_started_again(
    cache: Path, tmp_path: Path, expected: list[Detection]
) -> None:
    with serving(cache, tmp_path) as one:
        check(one.ask(), expected)
        before = one.triton
        before.kill()
        check(one.wait_for_answer(), expected)
        assert one.triton.pid != before.pid
        models = one.triton.children()
        next(child for child in models if "fusion_heads" in str(child.cmdline())).suspend()
        check(one.wait_for_answer(), expected)
        hung = one.triton
        hung.suspend()
        check(one.wait_for_answer(), expected)
        assert one.triton.pid != hung.pid
        lines = one.messages.read_text().splitlines()
    assert any(re.search("started again: it was ended by SIGKILL", line) for line in lines)
    assert sum("started again: it answers no probe within" in line for line in lines) == 2
    assert one.process.returncode == 0
    assert not psutil.pid_exists(hung.pid)


def test_a_server_that_dies_again_and_again_ends_the_command(cache: Path, tmp_path: Path) -> None:
    with serving(cache, tmp_path) as one:
        killed = set[int]()
        while one.process.poll() is None:
            children = psutil.Process(one.process.pid).children()
            for child in children:
                if child.name() == "tritonserver" and child.pid not in killed:
                    killed.add(child.pid)
                    child.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        assert one.process.returncode == 1
        assert len(killed) == 5
        assert "died 5 times within 60 s, the last time: " in one.messages.read_text()
