"""`aigid serve`: an HTTP service for a model, over Triton or in this process."""

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aigid.cli.command import Command
from aigid.cli.evidence_options import trust_anchors
from aigid.cli.installation import install_server_of, prepare_server_in, show_message
from aigid.cli.serve_options import TRITON_ALONE, serve_options
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import is_quiet
from aigid.errors import UsageError
from aigid.records import Mode

if TYPE_CHECKING:
    from aigid.scorers import Scorer
    from aigid.service import Engine, ServiceConfig, ServiceMetrics
    from aigid.serving import ServerConfig, TritonServer

_BATCH_ROWS = 32
_FIRST_PROBE_S = 60.0


@click.command("serve", cls=Command, extra="serve")
@serve_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- TRITON_OPTION...]")
def command(model: Path | None, engine: str, arguments: tuple[str, ...], **settings: Any) -> None:
    """Serve a model over HTTP, and a page to drop images on, until Ctrl-C.

    A Triton server computes the answers; clients of its own use gRPC. aigid starts the tritonserver
    on the PATH. If there is none, it installs NVIDIA's from a wheel on first use, for CPUs. Options
    after -- go to tritonserver, as in -- --log-verbose=1. With --engine embedded, this process
    computes the answers, and nothing is installed.

    \b
    Example:
      aigid serve
      aigid serve --engine embedded --model model/
      curl -F image=@photo.jpg -F "prompt=a red car" http://localhost:8000/v1/detect
    """
    if engine == "embedded":
        _refuse_triton_options(arguments)
    prepared = settings.pop("prepare")
    if prepared is not None:
        prepare_server_in(prepared)
        return
    from aigid.contract import find_model
    from aigid.service import listening

    config, repository = _service_config(settings), find_model(model)
    if engine == "embedded":
        with _ended_by_signals(), listening(config) as listener:
            _serve_embedded(repository, config, listener)
        return
    triton = _triton_config(repository, settings | {"arguments": arguments})
    # Before: an installation that is interrupted is not a service that has ended.
    install_server_of(triton)
    with _ended_by_signals(), listening(config) as listener:
        _serve_over_triton(triton, config, listener)


def _refuse_triton_options(arguments: tuple[str, ...]) -> None:
    context = click.get_current_context()
    given = [
        f"`{name}`"
        for name in TRITON_ALONE
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    given += arguments
    if given:
        raise UsageError(f"{given[0]} is for Triton, and `engine` is embedded: leave out one")


def _service_config(settings: dict[str, Any]) -> "ServiceConfig":
    from aigid.fetch import FetchPolicy
    from aigid.service import ServiceConfig, read_api_keys

    private, key_file = settings["allow_private_addresses"], settings["api_key_file"]
    if private and not settings["allow_fetch"]:
        raise UsageError("`allow_private_addresses` is for fetching: give `allow_fetch` too")
    policy = FetchPolicy(None, allow_private_addresses=private)
    return ServiceConfig(
        host=settings["host"],
        http_port=settings["http_port"],
        threshold=settings["threshold"],
        mode=Mode(settings["mode"]),
        api_keys=read_api_keys(key_file) if key_file else frozenset(),
        no_auth=settings["no_auth"],
        tls_cert=settings["tls_cert"],
        tls_key=settings["tls_key"],
        fetch=policy if settings["allow_fetch"] else None,
        trust_anchors=trust_anchors(settings["trust_list"]),
    )


def _serve_embedded(repository: Path, config: "ServiceConfig", listener: socket) -> None:
    from aigid.scorers import OnnxScorer

    with _engine(repository, OnnxScorer(repository), config) as (engine, metrics):
        _serve(engine, config, metrics, listener)


def _triton_config(repository: Path, settings: dict[str, Any]) -> "ServerConfig":
    from aigid.serving import Flavour, ServerConfig

    return ServerConfig(
        repository,
        Flavour.GPU if settings["gpu"] else Flavour.CPU,
        host=settings["grpc_host"],
        grpc_port=settings["grpc_port"],
        metrics_host=settings["metrics_host"],
        metrics_port=settings["metrics_port"],
        server=settings["server"],
        arguments=settings["arguments"],
    )


def _serve_over_triton(triton: "ServerConfig", config: "ServiceConfig", listener: socket) -> None:
    from aigid.scorers import TritonConfig
    from aigid.scorers.triton_grpc import TritonScorer
    from aigid.serving import Supervisor, TritonServer

    with TritonServer(triton, show_message) as server:
        _print_server(server)
        # The supervisor's patience counts, not the client's.
        client = TritonConfig((server.grpc_address,), patience_s=math.inf)
        scorer = TritonScorer(triton.repository, client, _BATCH_ROWS)
        with _engine(triton.repository, scorer, config) as (engine, metrics):
            supervisor = Supervisor(server, engine.probe_now, scorer.check_now, show_message)
            engine.why_away = lambda: supervisor.away
            with supervisor:
                _serve(engine, config, metrics, listener, supervisor.has_given_up)
            if supervisor.failure is not None:
                raise supervisor.failure


@contextmanager
def _engine(
    repository: Path, scorer: "Scorer", config: "ServiceConfig"
) -> "Iterator[tuple[Engine, ServiceMetrics]]":
    from aigid.service import Engine, ServiceMetrics

    metrics = ServiceMetrics(scorer.contract)
    engine = Engine(repository, scorer, config, metrics)
    try:
        if scorer.contract.notice:
            show_message(scorer.contract.notice)
        yield engine, metrics
    finally:
        engine.close()


def _serve(
    engine: "Engine",
    config: "ServiceConfig",
    metrics: "ServiceMetrics",
    listener: socket,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    from aigid.service import serve

    engine.probe_now(_FIRST_PROBE_S)
    with printing("the service's address"):
        host = f"[{config.host}]" if ":" in config.host else config.host
        print_result(f"{config.scheme}://{host}:{listener.getsockname()[1]}")
    serve(engine, config, metrics, listener, log=_log_request, is_over=is_over)


def _log_request(line: str) -> None:
    """Write the line of a request as it is, for programs. A closed stderr changes nothing."""
    if not is_quiet():
        with suppress(OSError):
            sys.stderr.write(f"{line}\n")


def _print_server(server: "TritonServer") -> None:
    with printing("the server's models"):
        for name, version, state in server.models():
            print_result(f"{name:13} {version:>3}  {state}")
        print_result(f"gRPC {server.grpc_address}   metrics {server.metrics_address}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End what runs inside on SIGTERM or Ctrl-C, with exit status 0.

    It may take as long as the requests in work need; a second signal kills the server.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    # `StopSignals` does not hear of them: it would end this process, and leave the server running.
    told = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number, handler in before.items():
            signal.signal(number, handler)
