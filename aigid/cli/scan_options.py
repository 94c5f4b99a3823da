"""The options of a scan, for the commands that begin with one, and the config that they become."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.evidence_options import SCAN_EVIDENCE, trust_anchors
from aigid.cli.option_types import (
    ALL_ERRORS,
    ERROR_CODES,
    FILE,
    FOLDER,
    FRACTION,
    MEMORY,
    NON_NEGATIVE_NUMBER,
    POSITIVE_INT,
    POSITIVE_NUMBER,
)
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.config import RayConfig, ScanConfig
    from aigid.scorers import TritonConfig

_input = options_under("Input")
_INPUT = (
    click.argument("paths", nargs=-1, required=True, metavar="MANIFEST..."),
    _input(
        "--image-column",
        metavar="NAME",
        help="Column of the images.  [default: found by its usual names]",
    ),
    _input(
        "--prompt-column",
        metavar="NAME",
        help="Column of the prompts.  [default: found by its usual names; may be absent]",
    ),
    _input(
        "--no-prompts",
        is_flag=True,
        help="Score the images without their prompts; no column of prompts is looked for.",
    ),
    _input("--limit", type=POSITIVE_INT, help="Scan only this many rows, the first ones."),
)

_output = options_under("Output")
_OUTPUT = (
    _output(
        "-o",
        "--out",
        required=True,
        metavar="DIR",
        help="Folder or URI for the results. Run the same command again to resume a scan.",
    ),
    _output(
        "--retry-errors",
        is_flag=False,
        flag_value=ALL_ERRORS,
        default=None,
        type=ERROR_CODES,
        metavar="[CODES]",
        help="Also scan again the rows in DIR that failed: those with these error codes, as in "
        "timeout,missing, or all. Nothing else in DIR changes.",
    ),
    _output(
        "--keep",
        multiple=True,
        metavar="COLUMN",
        help="Copy this column of the manifest to the results; repeatable.",
    ),
)

_model = options_under("Model")
_MODEL = (
    _model(
        "--model",
        type=FOLDER,
        help="Model repository.  [default: the demo model, not for real decisions]",
    ),
    _model(
        "--threshold",
        type=FRACTION,
        help="Call an image AI-generated if its p_ai is at least this.  [default: 0.5]",
    ),
    _model(
        "--max-fpr",
        type=FRACTION,
        help="Use the threshold that the model stores for this false-positive rate.",
    ),
)

_images = options_under("Images")
_IMAGES = (
    _images(
        "--image-root",
        metavar="DIR",
        help="Folder or URI that relative image paths start from.  [default: the manifest's]",
    ),
    _images(
        "--allow-outside-root",
        is_flag=True,
        help="Also read image paths that lead out of the image root.",
    ),
    _images(
        "--allow-private-addresses",
        is_flag=True,
        help="Also fetch images over http(s) from private addresses.",
    ),
    _images(
        "--respect-opt-out",
        is_flag=True,
        help="Do not score images whose X-Robots-Tag says noai or noimageai.",
    ),
    _images(
        "--user-agent",
        metavar="TEXT",
        default="aigid",
        show_default=True,
        help="Name yourself to web servers.",
    ),
    _images(
        "--header",
        multiple=True,
        metavar="HOST=NAME:VALUE",
        help="Send this header to this host (or HOST:PORT) alone; VALUE may be env:VARIABLE, whose "
        "value is sent; repeatable.",
    ),
    _images(
        "--requests-per-host",
        type=POSITIVE_INT,
        default=8,
        show_default=True,
        help="Images that each process fetches at a time from one web server.",
    ),
)

_triton = options_under("Triton servers")
_TRITON = (
    _triton(
        "--triton",
        metavar="HOST:PORT,...",
        help="Score on these Triton servers (gRPC), which serve the model.",
    ),
    _triton(
        "--triton-in-flight",
        type=POSITIVE_INT,
        default=8,
        show_default=True,
        help="Concurrent requests to each server.",
    ),
    _triton(
        "--triton-deadline",
        type=POSITIVE_NUMBER,
        default=120,
        show_default=True,
        help="Seconds to wait for an answer before the request is tried again.",
    ),
    _triton(
        "--triton-patience",
        type=POSITIVE_NUMBER,
        default=120,
        show_default=True,
        help="Seconds without an answer from any server before the scan stops.",
    ),
    _triton(
        "--triton-tls",
        is_flag=True,
        help="Use TLS, and trust the system's certificate authorities.",
    ),
    _triton("--triton-ca", type=FILE, help="Use TLS, and trust the authorities in this PEM file."),
    _triton(
        "--triton-cert",
        type=FILE,
        help="Use TLS with this client certificate chain (PEM). Needs --triton-key.",
    ),
    _triton("--triton-key", type=FILE, help="Private key (PEM) of --triton-cert."),
)

_ray = options_under("Ray cluster")
_RAY = (
    _ray(
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[ADDRESS]",
        help="Scan on a Ray cluster: HOST:PORT of its head; the cluster of this node (no address); "
        "or local, a cluster started on this host for the scan.",
    ),
    _ray(
        "--min-workers",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="Workers (processes) that must be ready before the scan starts.",
    ),
    _ray(
        "--max-workers",
        type=POSITIVE_INT,
        help="Most workers.  [default: as many as fit on the cluster]",
    ),
    _ray(
        "--worker-cpus",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="CPU cores, and threads, of each worker.",
    ),
    _ray(
        "--worker-gpus",
        type=NON_NEGATIVE_NUMBER,
        default=0,
        show_default=True,
        help="GPUs of each worker.",
    ),
    _ray(
        "--worker-memory",
        type=MEMORY,
        help="Memory reserved for each worker: GiB as a number, or with a unit, as in 512MiB.",
    ),
    _ray(
        "--worker-resources",
        multiple=True,
        metavar="NAME=AMOUNT",
        help="Custom Ray resource reserved for each worker; repeatable.",
    ),
    _ray(
        "--shard-attempts",
        type=POSITIVE_INT,
        default=3,
        show_default=True,
        help="Attempts at a shard before it is given up.",
    ),
    _ray(
        "--worker-start",
        type=POSITIVE_NUMBER,
        default=600,
        show_default=True,
        help="Seconds to wait for --min-workers.",
    ),
)

_speed = options_under("Speed and limits")
_SPEED = (
    _speed(
        "--reuse-answers",
        is_flag=True,
        help="Decode and score images with identical bytes once for each prompt. Answers stay the "
        "same; a set without duplicates takes a little longer.",
    ),
    _speed(
        "--threads",
        type=POSITIVE_INT,
        help="Threads that decode and score.  [default: one for each core; not with --ray]",
    ),
    _speed(
        "--batch-size",
        type=POSITIVE_INT,
        default=32,
        show_default=True,
        help="Pairs that a thread scores at once.",
    ),
    _speed(
        "--shard-rows",
        type=POSITIVE_INT,
        default=10_000,
        show_default=True,
        help="Rows of a shard, about. Results are committed shard by shard.",
    ),
    _speed(
        "--max-error-rate",
        type=FRACTION,
        default=0.05,
        show_default=True,
        help="Exit with status 3 if a larger share of the rows has an error.",
    ),
)

# All but --out and --retry-errors, which come first, --max-error-rate and those about Ray.
PLAN_OPTIONS = (*_INPUT, *_OUTPUT[2:], *_MODEL, *SCAN_EVIDENCE, *_IMAGES, *_SPEED[:-1], *_TRITON)
"""The options of a scan that its plan has too."""

_OPTIONS = (*_INPUT, *_OUTPUT, *_MODEL, *SCAN_EVIDENCE, *_IMAGES, *_SPEED, *_TRITON, *_RAY)


def scan_options(function: Function) -> Function:
    """Give a command the options of a scan."""
    return with_options(function, _OPTIONS)


def scan_config(paths: tuple[str, ...], options: dict[str, Any]) -> "ScanConfig":
    """Return the ScanConfig of these options; raises UsageError where they contradict each other.

    Removes from `options` what the config does not take by the same name.
    """
    from aigid.config import ScanConfig
    from aigid.cores import available_cores

    if options["ray"] is not None and options["threads"] is not None:
        raise UsageError(
            "`threads` is for scans without `ray`: give `max_workers` and `worker_cpus` instead"
        )
    threads = options.pop("threads") or available_cores()
    batch_rows = options.pop("batch_size")
    triton, ray = _triton_config(options), _ray_config(options)
    options["trust_anchors"] = trust_anchors(options.pop("trust_list"))
    options["headers"] = tuple(map(_header, options.pop("header")))
    options["retry_errors"] = options.pop("retry_errors", None) or False
    return ScanConfig(
        paths, threads=threads, batch_rows=batch_rows, triton=triton, ray=ray, **options
    )


def plan_config(paths: tuple[str, ...], options: dict[str, Any]) -> "ScanConfig":
    """Return the ScanConfig of PLAN_OPTIONS, whose `out` is empty."""
    return scan_config(paths, {**options, **dict.fromkeys(_RAY_FIELDS), "out": ""})


def _header(text: str) -> tuple[str, str, str]:
    """Return the host, the name and the value of a header. Errors do not show its value."""
    host, _, header = text.partition("=")
    name, colon, value = header.partition(":")
    if not colon:
        raise UsageError("`headers`: give HOST=NAME:VALUE, as in cdn.example=Authorization:env:KEY")
    value = value.strip()
    if value.startswith("env:"):
        variable = value.removeprefix("env:")
        found = os.environ.get(variable)
        if found is None:
            raise UsageError(f"`headers` {host}={name}: no environment variable {variable} is set")
        value = found.strip()
    return host, name.strip(), value


_RAY_FIELDS = {
    "ray": "address",
    "min_workers": "min_workers",
    "max_workers": "max_workers",
    "worker_cpus": "worker_cpus",
    "worker_gpus": "worker_gpus",
    "worker_memory": "worker_memory_gib",
    "worker_resources": "worker_resources",
    "worker_start": "start_within_s",
    "shard_attempts": "shard_attempts",
}
"""The options about Ray, and the fields of RayConfig that they become."""


def _ray_config(options: dict[str, Any]) -> "RayConfig | None":
    """Return the RayConfig, and remove its options from `options`; None without --ray."""
    from aigid.config import RayConfig

    settings = {field: options.pop(option) for option, field in _RAY_FIELDS.items()}
    if settings["address"] is None:
        context = click.get_current_context()
        for option in _RAY_FIELDS:
            if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
                raise UsageError(f"`{option}` is for scans on a Ray cluster: give `ray` too")
        return None
    resources = tuple(map(_resource, settings.pop("worker_resources")))
    return RayConfig(worker_resources=resources, **settings)


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError as error:
        raise UsageError(
            f"`worker_resources` {text}: give NAME=AMOUNT, as in fast_disk=1"
        ) from error


def _triton_config(options: dict[str, Any]) -> "TritonConfig | None":
    """Return the TritonConfig, and remove its options from `options`; None without --triton."""
    from aigid.scorers import TlsConfig, TritonConfig

    settings = {name: options.pop(name) for name in list(options) if name.startswith("triton")}
    files = [settings[name] for name in ("triton_ca", "triton_cert", "triton_key")]
    with_tls = settings["triton_tls"] or any(files)
    if settings["triton"] is None:
        if with_tls:
            raise UsageError("TLS is for Triton servers: name them with `triton`")
        return None
    return replace(
        TritonConfig.parse(settings["triton"]),
        tls=TlsConfig(*files) if with_tls else None,
        in_flight=settings["triton_in_flight"],
        deadline_s=settings["triton_deadline"],
        patience_s=settings["triton_patience"],
    )
