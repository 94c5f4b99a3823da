"""A Triton server on this host, as a context manager."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aigid.contract import load_contract
from aigid.errors import ServerError
from aigid.serving.parent_death import kill_tied, start_tied
from aigid.serving.ports import choose_ports
from aigid.serving.server_program import ServerProgram, cache_folder, check_path, find_program

# The memory that a server shares with its Python models is in this folder; the prefix marks ours.
_SHARED_MEMORY, _PREFIX = Path("/dev/shm"), "aigid_triton_"
_PYTHON_BACKENDS = ("python", "onnxruntime")
_LISTENERS = ("http", "grpc", "metrics")

_POLL_S = 0.1
_STOP_S = 20.0


class Flavour(StrEnum):
    """ONNX Runtime on CPUs (`configs/cpu.pbtxt`), or TensorRT on GPUs (`config.pbtxt`)."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class ServerConfig:
    """The repository to serve, and where to listen. A port of 0 stands for any free port.

    Loading may take `ready_within_s` seconds. The program is that in the prepared folder `server`,
    or else on the PATH, or else it is installed below `cache`. `arguments` go to it as they are.
    """

    repository: Path
    flavour: Flavour = Flavour.CPU
    host: str = "127.0.0.1"
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    ready_within_s: float = 300.0
    cache: Path = field(default_factory=cache_folder)
    server: Path | None = None
    arguments: tuple[str, ...] = ()


class TritonServer:
    """A server that runs inside a `with` block.

    Example: `with TritonServer(ServerConfig(repository)) as server: print(server.grpc_address)`.
    """

    def __init__(
        self, config: ServerConfig, on_message: Callable[[str], None] = lambda line: None
    ) -> None:
        """Check the repository and the ports, and find or install the program.

        Raises ContractError, UsageError or ServerError.
        """
        self.notice = load_contract(config.repository).notice
        check_path("repository", config.repository.resolve())
        wanted = {f"{name}_port": getattr(config, f"{name}_port") for name in _LISTENERS}
        http, grpc, metrics = choose_ports(config.host, wanted).values()
        self.config = replace(config, http_port=http, grpc_port=grpc, metrics_port=metrics)
        self._program = find_program(config.cache, on_message, folder=config.server)
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
        """The process id of the started server."""
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
        """Start the server and wait until every model is ready.

        Raises ServerError with Triton's own reason if it does not start.
        """
        self._log = tempfile.TemporaryFile(prefix="aigid-triton-")  # noqa: SIM115 - `stop` closes it
        # In a session of its own, so that Ctrl-C on the terminal reaches the server only by `stop`.
        self._process = start_tied(
            _command(self._program, self.config, self._shared_memory),
            self._program.environment,
            self._log,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait until the server ends by itself. It should not: raises ServerError when it does."""
        assert self._process is not None
        status = self._process.wait()
        if status == 0:
            raise ServerError("the server was stopped by another process")
        raise ServerError(f"the server ended with status {status}: {self.reasons()}")

    def stop(self) -> None:
        """Stop the server; kill it if it takes too long.

        Models finish their current batches. Requests for an ensemble fail if some of its models
        have not begun yet, because Triton does not begin them any more.
        """
        try:
            if self._process is not None:
                _end(self._process)
        finally:
            _remove_shared_memory(self._shared_memory)
        if self._log is not None:
            self._log.close()
            self._log = None

    def models(self) -> list[tuple[str, str, str]]:
        """Return the name, version and state of every model."""
        request = urllib.request.Request(
            f"http://{self.http_address}/v2/repository/index", data=b"", method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            index = json.loads(answer.read() or b"[]")
        return sorted(
            (item["name"], item.get("version", ""), item.get("state", "")) for item in index
        )

    def reasons(self) -> str:
        """Return why models failed to load, in Triton's words, or else the end of its log."""
        assert self._log is not None
        self._log.seek(0)
        return _reasons(self._log.read().decode("utf-8", "replace").splitlines())

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self.config.ready_within_s
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.config.repository}: the server does not start: {self.reasons()}"
                )
            if time.monotonic() > end:
                raise ServerError(
                    f"the server is not ready after {self.config.ready_within_s:g} s: "
                    f"{self.reasons()}"
                )
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://{self.http_address}/v2/health/ready", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


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
    for name in _LISTENERS:
        command += [
            f"--{name}-address={config.host}",
            f"--{name}-port={getattr(config, f'{name}_port')}",
        ]
    return [*command, *config.arguments]


def _reasons(log: list[str]) -> str:
    """Return the failures in a server's log, the most detailed ones if there are any."""
    failures = [
        match[1] for line in log if (match := re.search(r'"(failed to load .*?)(?:\\n|"$|$)', line))
    ]
    detailed = [failure for failure in failures if ":" in failure]
    errors = [line for line in log if line.startswith(("error:", "E"))]
    chosen = detailed or failures or errors[-3:] or log[-3:]
    return "; ".join(dict.fromkeys(chosen)) or "its log is empty"


def _end(server: subprocess.Popen[bytes]) -> None:
    """Stop a server and kill its models' processes, which may wait forever if it has crashed."""
    try:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_STOP_S)
    finally:
        # Also where a second Ctrl-C ends the wait.
        kill_tied(server)


def _remove_shared_memory(ours: str) -> None:
    """Remove the shared memory with our prefix, and that of processes that no longer exist."""
    for path in _SHARED_MEMORY.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).split("_")[0]
        if path.name.startswith(ours) or not Path("/proc", owner).exists():
            path.unlink(missing_ok=True)
