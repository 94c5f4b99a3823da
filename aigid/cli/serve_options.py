"""The options of `aigid serve`."""

import click

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.evidence_options import TRUST_LIST
from aigid.cli.option_types import FILE, FOLDER, FRACTION, PORT
from aigid.cli.scan_options import VERDICT_MODE

_model = options_under("Model")
_MODEL = (
    _model(
        "--model",
        type=FOLDER,
        help="Model repository.  [default: the demo model, not for real decisions]",
    ),
    _model(
        "--engine",
        type=click.Choice(["triton", "embedded"]),
        default="triton",
        show_default=True,
        help="What computes the answers: a Triton server that is started for it, or this process.",
    ),
    _model(
        "--gpu",
        is_flag=True,
        help="Serve TensorRT engines on this host's GPUs. Needs a tritonserver on the PATH.",
    ),
    _model(
        "--threshold",
        type=FRACTION,
        default=0.5,
        show_default=True,
        help="Call an image AI-generated if its p_ai is at least this.",
    ),
    VERDICT_MODE,
)

_network = options_under("Network")
_NETWORK = (
    _network(
        "--host",
        default="127.0.0.1",
        show_default=True,
        help="Address that HTTP listens on. The default accepts connections from this host only.",
    ),
    _network(
        "--http-port", type=PORT, default=8000, show_default=True, help="0 takes any free port."
    ),
    _network(
        "--grpc-host",
        default="127.0.0.1",
        show_default=True,
        metavar="HOST",
        help="Address that Triton's gRPC listens on. It knows no keys.",
    ),
    _network(
        "--grpc-port", type=PORT, default=8001, show_default=True, help="0 takes any free port."
    ),
    _network(
        "--metrics-host",
        default="127.0.0.1",
        show_default=True,
        metavar="HOST",
        help="Address of Triton's own metrics, which tell strangers how busy the server is.",
    ),
    _network(
        "--metrics-port",
        type=PORT,
        default=8002,
        show_default=True,
        help="Port of Triton's own metrics; 0 takes any free port.",
    ),
)

_access = options_under("Access")
_ACCESS = (
    _access(
        "--api-key-file",
        type=FILE,
        help="Answer only requests with one of the keys in this file, one a line.",
    ),
    _access(
        "--no-auth",
        is_flag=True,
        help="Answer everybody, also on a --host that other machines reach.",
    ),
    _access("--tls-cert", type=FILE, help="Speak https with this certificate chain (PEM)."),
    _access("--tls-key", type=FILE, help="Private key (PEM) of --tls-cert."),
    _access("--allow-fetch", is_flag=True, help="Fetch the images of requests that give URLs."),
    _access(
        "--allow-private-addresses",
        is_flag=True,
        help="Also fetch them from private addresses.",
    ),
)

_installation = options_under("Installation")
_INSTALLATION = (
    _installation(
        "--server",
        type=FOLDER,
        help="Use the Triton server in this folder of --prepare, without a network.",
    ),
    _installation(
        "--prepare",
        type=FOLDER,
        help="Install NVIDIA's server into this folder, to copy it to other hosts, and exit.",
    ),
)

TRITON_ALONE = (
    "gpu",
    "grpc_host",
    "grpc_port",
    "metrics_host",
    "metrics_port",
    "server",
    "prepare",
)
"""The parameters that mean nothing without a Triton server."""


def serve_options(function: Function) -> Function:
    """Give the command its options."""
    return with_options(function, (*_MODEL, TRUST_LIST, *_NETWORK, *_ACCESS, *_INSTALLATION))
