"""The options and metrics in jobs/README.md and jobs/triton/, checked on a real server."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
import yaml
from support.manifests import REPOSITORY, encoded_image
from support.scan_process import wait_until

from aigid.export.model_configs import PYTHON_MODELS
from aigid.scorers import PAIRS_MODEL, TENSORS_MODEL
from aigid.serving import ServerConfig, TritonServer, find_program

pytestmark = pytest.mark.integration

JOBS = Path(__file__).parents[2] / "jobs"
PAGE = (JOBS / "README.md").read_text(encoding="utf-8")
ADAPTER = (JOBS / "triton/prometheus-adapter.values.yaml").read_text(encoding="utf-8")
CONTAINERS = [
    next(yaml.safe_load_all((JOBS / f"triton/{flavour}.yaml").read_text(encoding="utf-8")))["spec"][
        "template"
    ]["spec"]["containers"][0]
    for flavour in ("gpu", "cpu")
]

# Names from Triton's documentation; a server without a GPU does not have these.
GPU_METRICS = {"nv_gpu_utilization"}


def score(server: TritonServer, for_seconds: float = 0) -> None:
    """Score a pair with the model that uses every graph, once or again and again."""
    inputs = []
    for name, value in (("image_bytes", encoded_image(1)), ("prompt", b"a red car")):
        inputs.append(triton.InferInput(name, [1, 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([[value]], dtype=object))
    with triton.InferenceServerClient(server.grpc_address) as client:
        end = time.monotonic() + for_seconds
        client.infer(PAIRS_MODEL, inputs)
        while time.monotonic() < end:
            client.infer(PAIRS_MODEL, inputs)


def metrics_of(server: TritonServer) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_tritonserver_has_every_option(cache: Path) -> None:
    program = find_program(cache, print)
    # Its status is 1 after the help.
    shown = subprocess.run(
        [program.executable, "--help"],
        env=dict(program.environment),
        text=True,
        capture_output=True,
        check=False,
    )
    real = set(re.findall(r"^  (--[\w-]+)", shown.stdout + shown.stderr, re.MULTILINE))
    used = {
        word.partition("=")[0]
        for container in CONTAINERS
        for word in container["args"]
        if word.startswith("--")
    }
    documented = set(re.findall(r"--(?:grpc|http|metrics|exit)-[\w-]+", PAGE))
    assert {"--model-config-name", "--exit-timeout-secs"} <= used
    assert {
        "--grpc-use-ssl",
        "--grpc-use-ssl-mutual",
        "--grpc-server-cert",
        "--grpc-server-key",
        "--grpc-root-cert",
    } <= documented
    assert used | documented <= real


def test_the_server_has_every_metric(server: TritonServer) -> None:
    score(server)
    text = metrics_of(server)
    real = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    used = set(re.findall(r"\bnv_\w+", PAGE + ADAPTER))
    assert len(used) >= 9
    assert used - real == GPU_METRICS
    assert f'model=~"{TENSORS_MODEL}|{PAIRS_MODEL}"' in PAGE
    reasons = re.search(
        r"why: (\w+) by a queue, (\w+) by the client, (\w+), (\w+)$", PAGE, re.MULTILINE
    ).groups()
    assert set(re.findall(r'reason="(\w+)"', text)) == set(reasons)


def test_the_liveness_probe_notices_the_death_of_a_model_when_health_does_not(
    cache: Path,
) -> None:
    shell, option, script = CONTAINERS[0]["livenessProbe"]["exec"]["command"]
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        stubs = [
            child
            for child in psutil.Process(server.process_id).children()
            if any(f"/{model}/" in word for word in child.cmdline() for model in PYTHON_MODELS)
        ]
        # Only here, not in a container, are there processes of other servers and models.
        there = {
            "localhost:8001": server.grpc_address,
            "python3": sys.executable,
            "/proc/[0-9]*/cmdline": " ".join(f"/proc/{stub.pid}/cmdline" for stub in stubs),
        }
        for old, new in there.items():
            assert old in script
            script = script.replace(old, new)
        command = [shell, option, script]
        score(server)
        assert subprocess.run(command, check=False).returncode == 0
        os.kill(stubs[0].pid, signal.SIGKILL)
        wait_until(lambda: stubs[0].status() == psutil.STATUS_ZOMBIE, "the stub is alive", 30)
        assert subprocess.run(command, check=False).returncode == 1
        # Otherwise it would wait for the dead process.
        os.kill(server.process_id, signal.SIGKILL)


def test_clients_that_must_reconnect_all_the_time_lose_no_request(cache: Path) -> None:
    age = "--grpc-max-connection-age"
    assert f"{age}=300000" in CONTAINERS[0]["args"]
    with TritonServer(
        ServerConfig(REPOSITORY, cache=cache, arguments=(f"{age}=100", f"{age}-grace=60000"))
    ) as server:
        score(server, for_seconds=2)
