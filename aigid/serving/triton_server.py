"""A Triton server on this host, as a context manager."""

import contextlib
import os
import re
import secrets
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aigid.contract import load_contract
from aigid.errors import ServerError
from aigid.serving.health import model_is_ready, own_tls, server_is_ready
from aigid.serving.parent_death import kill_tied, start_tied
from aigid.serving.ports import choose_ports
from aigid.serving.server_program import ServerProgram, cache_folder, check_path, find_program

# The memory that a server shares with its Python models is in this folder; the prefix marks ours.
_SHARED_MEMORY, _PREFIX = Path("/dev/shm"), "aigid_triton_"
_PYTHON_BACKENDS = ("python", "onnxruntime")

# What no client needs: a region of /dev/shm that a client registers is read and written for it, and
# models, logs and traces are for whoever runs the server.
RESTRICTED = "shared-memory,model-repository,logging,trace,statistics"
# The name of the header that would open them. Names in HTTP/2 are in lower case, and the server
# refuses others: nobody can send this one, also not those who see its value in the process list.
CLOSED = "CLOSED"

_POLL_S = 0.1
_STOP_S = 20.0


class Flavour(StrEnum):
    """ONNX Runtime on CPUs (`configs/cpu.pbtxt`), or TensorRT on GPUs (`config.pbtxt`)."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class ServerConfig:
    """The repository to serve, and where to listen: `host` for clients, `metrics_host` for metrics.

    A port of 0 stands for any free port. Loading may take `ready_within_s` seconds. The program is
    that in the prepared folder `server`, or else on the PATH, or else it is installed below
    `cache`. `arguments` go to it as they are.
    """

    repository: Path
    flavour: Flavour = Flavour.CPU
    host: str = "127.0.0.1"
    grpc_port: int = 0
    metrics_host: str = "127.0.0.1"
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
        contract = load_contract(config.repository)
        self.notice, self._version = contract.notice, str(contract.version)
        check_path("repository", config.repository.resolve())
        grpc, metrics = choose_ports(
            config.host,
            {"grpc_port": config.grpc_port, "metrics_port": config.metrics_port},
            {"metrics_port": config.metrics_host},
        ).values()
        self.config = replace(config, grpc_port=grpc, metrics_port=metrics)
        self._program = find_program(config.cache, on_message, folder=config.server)
        self._shared_memory = f"{_PREFIX}{os.getpid()}_{secrets.token_hex(4)}_"
        self._tls = _own_tls(config.arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def grpc_address(self) -> str:
        """HOST:PORT for gRPC clients."""
        return f"{self.config.host}:{self.config.grpc_port}"

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the Prometheus metrics."""
        return f"{self.config.metrics_host}:{self.config.metrics_port}"

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

    def ended(self) -> str | None:
        """Return how the server ended; None while it runs."""
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
        return f"it ended with status {status}: {self.reasons()}"

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server and of its models' processes so far."""
        return _session_cpu_s(self.process_id)

    def kill(self) -> None:
        """End the server and its models at once, as one that hangs needs it."""
        if self._process is not None:
            kill_tied(self._process)

    def stop(self) -> None:
        """Stop the server; kill it if it takes too long.

        Requests that it still has may fail, because Triton does not begin what its models ask for
        any more.
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
        """Return the name, version and state of every model: READY or UNAVAILABLE."""
        names = sorted(path.parent.name for path in self.config.repository.glob("*/config.pbtxt"))
        return [
            (
                name,
                self._version,
                "READY" if model_is_ready(self._local, name, tls=self._tls) else "UNAVAILABLE",
            )
            for name in names
        ]

    def reasons(self) -> str:
        """Return why models failed to load, in Triton's words, or else the end of its log."""
        assert self._log is not None
        self._log.seek(0)
        return _reasons(self._log.read().decode("utf-8", "replace").splitlines())

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self.config.ready_within_s
        while not server_is_ready(self._local, tls=self._tls):
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

    @property
    def _local(self) -> str:
        """Where this process reaches the server, which may listen on every address."""
        host = "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host
        return f"{host}:{self.config.grpc_port}"


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
    command += [
        "--allow-http=false",
        f"--grpc-address={config.host}",
        f"--grpc-port={config.grpc_port}",
        f"--grpc-restricted-protocol={RESTRICTED}:{CLOSED}={secrets.token_hex(16)}",
        f"--metrics-address={config.metrics_host}",
        f"--metrics-port={config.metrics_port}",
    ]
    return [*command, *config.arguments]


def _own_tls(arguments: Sequence[str]) -> ssl.SSLContext | None:
    """Return how to ask the server where its arguments ask for TLS."""
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    certificate, key = given.get("--grpc-server-cert"), given.get("--grpc-server-key")
    return own_tls(certificate, key) if certificate and key else None


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


def _session_cpu_s(session: int) -> float:
    """Return the CPU seconds of all processes of a session that are alive (proc(5))."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        # A process may end meanwhile.
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything; the state comes after it.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _remove_shared_memory(ours: str) -> None:
    """Remove the shared memory with our prefix, and that of processes that no longer exist."""
    for path in _SHARED_MEMORY.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).split("_")[0]
        if path.name.startswith(ours) or not Path("/proc", owner).exists():
            path.unlink(missing_ok=True)
