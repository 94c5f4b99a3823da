"""A Triton server on this machine: started on a model repository, ready when entered, stopped when left."""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aigid.contract import load_contract
from aigid.errors import ServerError, UsageError
from aigid.serving.server_program import ServerProgram, find_program

CACHE = Path("~/.cache/aigid")

# Where Linux keeps the memory that a server shares with its Python models, and how ours is named there.
_SHARED_MEMORY, _PREFIX = Path("/dev/shm"), "aigid_triton_"
_PYTHON_BACKENDS = ("python", "onnxruntime")

_POLL_SECONDS = 0.1
_STOP_SECONDS = 20.0


class Flavour(StrEnum):
    """Which configurations: ONNX Runtime on CPUs (`configs/cpu.pbtxt`), or TensorRT on GPUs (`config.pbtxt`)."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class ServerConfig:
    """What to serve, and where; a port of 0 is any free one.

    `ready_seconds` is how long loading may take; `arguments` are handed to tritonserver as they are.
    """

    repository: Path
    flavour: Flavour = Flavour.CPU
    host: str = "127.0.0.1"
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    ready_seconds: float = 300.0
    cache: Path = CACHE
    arguments: tuple[str, ...] = ()


class TritonServer:
    """A context manager: `with TritonServer(ServerConfig(repository)) as server: ... server.grpc_address`."""

    def __init__(
        self, config: ServerConfig, say: Callable[[str], None] = lambda line: None
    ) -> None:
        """Check the repository and find the program; raises ContractError or ServerError."""
        self.notice = load_contract(config.repository).notice
        self.config = replace(config, **_free_ports(config))
        self._program = find_program(config.cache.expanduser(), say)
        self._shared_memory = f"{_PREFIX}{os.getpid()}_{secrets.token_hex(4)}_"
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def grpc_address(self) -> str:
        """HOST:PORT for gRPC clients."""
        return f"{self.config.host}:{self.config.grpc_port}"

    @property
    def http_address(self) -> str:
        """HOST:PORT for HTTP clients."""
        return f"{self.config.host}:{self.config.http_port}"

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the Prometheus metrics."""
        return f"{self.config.host}:{self.config.metrics_port}"

    @property
    def process_id(self) -> int:
        """Of the server, once it is started."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until every model is ready; raises ServerError with Triton's own reason where not."""
        self._log = tempfile.TemporaryFile(prefix="aigid-triton-")  # noqa: SIM115 - `stop` closes it
        # A session of its own: Ctrl-C on the terminal reaches the server through `stop` alone.
        self._process = subprocess.Popen(
            _command(self._program, self.config, self._shared_memory),
            env=dict(self._program.environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait until the server ends by itself, which it should not: raises ServerError."""
        assert self._process is not None
        status = self._process.wait()
        if status == 0:
            raise ServerError("the server was told to stop by somebody else")
        raise ServerError(f"the server has ended with status {status}: {self.reasons()}")

    def stop(self) -> None:
        """End the server; after a while, kill it.

        Models finish what they are computing, but Triton begins none of an ensemble's next steps: such requests fail.
        """
        if self._process is not None:
            _end(self._process)
        _remove_shared_memory(self._shared_memory)
        if self._log is not None:
            self._log.close()
            self._log = None

    def models(self) -> list[tuple[str, str, str]]:
        """Name, version and state of every model."""
        index = json.loads(self._post("/v2/repository/index") or b"[]")
        return sorted(
            (item["name"], item.get("version", ""), item.get("state", "")) for item in index
        )

    def reasons(self) -> str:
        """Why models did not load, as Triton says it, or the last that it said."""
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        failures = [
            match[1]
            for line in lines
            if (match := re.search(r'"(failed to load .*?)(?:\\n|"$|$)', line))
        ]
        detailed = [failure for failure in failures if ":" in failure]
        errors = [line for line in lines if line.startswith(("error:", "E"))]
        return (
            "; ".join(dict.fromkeys(detailed or failures or errors[-3:] or lines[-3:]))
            or "it said nothing"
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self.config.ready_seconds
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.config.repository}: the server does not start: {self.reasons()}"
                )
            if time.monotonic() > end:
                raise ServerError(
                    f"the server is not ready after {self.config.ready_seconds:g} s: {self.reasons()}"
                )
            time.sleep(_POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://{self.http_address}/v2/health/ready", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _post(self, path: str) -> bytes:
        request = urllib.request.Request(
            f"http://{self.http_address}{path}", data=b"", method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


def _command(program: ServerProgram, config: ServerConfig, shared_memory: str) -> list[str]:
    command = [
        str(program.executable),
        f"--model-repository={config.repository.resolve()}",
        *program.arguments,
    ]
    command += [
        f"--backend-config={name},shm-region-prefix-name={shared_memory}"
        for name in _PYTHON_BACKENDS
    ]
    if config.flavour is Flavour.CPU:
        command.append("--model-config-name=cpu")
    for name in ("http", "grpc", "metrics"):
        command += [
            f"--{name}-address={config.host}",
            f"--{name}-port={getattr(config, f'{name}_port')}",
        ]
    return [*command, *config.arguments]


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and what is left of its models' processes, which in a crash may wait for it for good."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        # The session that it was started as.
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _remove_shared_memory(ours: str) -> None:
    """Remove what killed servers have left in memory: the one that is named so, and those of processes that are no more."""
    for path in _SHARED_MEMORY.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).split("_")[0]
        if path.name.startswith(ours) or not Path("/proc", owner).exists():
            path.unlink(missing_ok=True)


def _free_ports(config: ServerConfig) -> dict[str, Any]:
    """The ports of `config`, the free ones chosen; raises UsageError where a port is in use."""
    ports: dict[str, Any] = {}
    sockets = []
    try:
        for name in ("http_port", "grpc_port", "metrics_port"):
            wanted = getattr(config, name)
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((config.host, wanted))
            except OSError as error:
                option = f"--{name.replace('_', '-')} {wanted}"
                raise UsageError(
                    f"{option}: {config.host}:{wanted} cannot be used: {error.strerror}; choose another"
                ) from error
            ports[name] = one.getsockname()[1]
    finally:
        for one in sockets:
            one.close()
    return ports
