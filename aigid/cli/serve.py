"""`aigid serve`: serve a model repository with Triton."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.installation import install_server_of, prepare_server_in, show_message
from aigid.cli.option_types import FOLDER, PORT
from aigid.cli.stdout import print_result, printing

if TYPE_CHECKING:
    from aigid.serving import TritonServer

_model = options_under("Model")
_network = options_under("Network")
_install = options_under("Installation")


@click.command("serve", cls=Command)
@_model(
    "--model",
    type=FOLDER,
    help="Model repository.  [default: the demo model, not for real decisions]",
)
@_model(
    "--gpu",
    is_flag=True,
    help="Serve TensorRT engines on this host's GPUs. Needs a tritonserver on the PATH.",
)
@_network(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. The default accepts connections from this host only.",
)
@_network("--http-port", type=PORT, default=8000, show_default=True, help="0 takes any free port.")
@_network("--grpc-port", type=PORT, default=8001, show_default=True, help="0 takes any free port.")
@_network(
    "--metrics-port", type=PORT, default=8002, show_default=True, help="0 takes any free port."
)
@_install(
    "--server",
    type=FOLDER,
    help="Use the server in this folder of --prepare, without a network.",
)
@_install(
    "--prepare",
    type=FOLDER,
    help="Install NVIDIA's server into this folder, to copy it to other hosts, and exit.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- TRITON_OPTION...]")
def command(model: Path | None, gpu: bool, prepare: Path | None, **settings: Any) -> None:
    """Serve a model repository with Triton on this host, until Ctrl-C.

    aigid starts the tritonserver on the PATH. If there is none, it installs NVIDIA's from a wheel
    on first use, for CPUs. Options after -- go to tritonserver, as in -- --log-verbose=1.

    \b
    Example:
      aigid serve --model model/
    """
    if prepare is not None:
        prepare_server_in(prepare)
        return
    from aigid.contract import find_model
    from aigid.serving import Flavour, ServerConfig, TritonServer

    config = ServerConfig(find_model(model), Flavour.GPU if gpu else Flavour.CPU, **settings)
    # Before: an installation that is interrupted is not a service that has ended.
    install_server_of(config)
    with _ended_by_signals(), TritonServer(config, show_message) as server:
        if server.notice:
            show_message(server.notice)
        _print_server(server)
        server.wait()


def _print_server(server: "TritonServer") -> None:
    with printing("the server's models"):
        for name, version, state in server.models():
            print_result(f"{name:13} {version:>3}  {state}")
        addresses = f"gRPC {server.grpc_address}   HTTP {server.http_address}"
        print_result(f"{addresses}   metrics {server.metrics_address}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End what runs inside on SIGTERM or Ctrl-C, with exit status 0.

    It may take as long as the server needs to finish its requests; a second signal kills it.
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
