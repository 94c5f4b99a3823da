"""The options of a scan, for the commands that begin with one, and the frozen config that they become."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aigid.cli.option_types import FOLDER, MANY, SHARE, Command, with_options
from aigid.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)
_SECONDS = click.FloatRange(min=0, min_open=True)
_AMOUNT = click.FloatRange(min=0)

_OPTIONS = (
    click.argument("paths", nargs=-1, required=True, metavar="MANIFEST..."),
    click.option(
        "--out",
        required=True,
        help="Folder or URI for the results; the same command goes on where it stopped.",
    ),
    click.option(
        "--model",
        type=FOLDER,
        help="Model repository.  [default: the demo model, not for real decisions]",
    ),
    click.option(
        "--triton",
        metavar="HOST:PORT,...",
        help="Score on these Triton servers (gRPC), which serve that model.",
    ),
    click.option(
        "--triton-in-flight",
        type=MANY,
        default=8,
        show_default=True,
        help="Requests with one server at a time.",
    ),
    click.option(
        "--triton-deadline",
        type=_SECONDS,
        default=120,
        show_default=True,
        help="Seconds until a request is tried again.",
    ),
    click.option(
        "--triton-patience",
        type=_SECONDS,
        default=120,
        show_default=True,
        help="Seconds to wait for any server.",
    ),
    click.option(
        "--triton-tls",
        is_flag=True,
        help="Speak TLS with the servers, and trust the authorities of the system.",
    ),
    click.option(
        "--triton-ca", type=_FILE, help="Speak TLS, and trust the authorities in this PEM file."
    ),
    click.option(
        "--triton-cert", type=_FILE, help="Speak TLS, with this certificate chain (PEM) of ours ..."
    ),
    click.option("--triton-key", type=_FILE, help="... and its private key."),
    click.option(
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[ADDRESS]",
        help="Scan on a Ray cluster: HOST:PORT, the one that this machine is in (no address), or local, one of its own.",
    ),
    click.option(
        "--min-workers",
        type=MANY,
        default=1,
        show_default=True,
        help="On Ray: begin with so many processes.",
    ),
    click.option(
        "--max-workers",
        type=MANY,
        help="On Ray: at most so many.  [default: as many as the cluster has room for]",
    ),
    click.option(
        "--worker-cpus",
        type=MANY,
        default=1,
        show_default=True,
        help="On Ray: cores, and threads, of each worker.",
    ),
    click.option(
        "--worker-gpus",
        type=_AMOUNT,
        default=0,
        show_default=True,
        help="On Ray: GPUs of each worker.",
    ),
    click.option(
        "--worker-memory",
        type=_SECONDS,
        metavar="GIB",
        help="On Ray: memory reserved for each worker.",
    ),
    click.option(
        "--worker-resources",
        multiple=True,
        metavar="NAME=AMOUNT",
        help="On Ray: what else is reserved; repeatable.",
    ),
    click.option(
        "--shard-attempts",
        type=MANY,
        default=3,
        show_default=True,
        help="On Ray: how often a shard is tried.",
    ),
    click.option(
        "--worker-start",
        type=_SECONDS,
        default=600,
        show_default=True,
        help="On Ray: seconds to wait for --min-workers.",
    ),
    click.option("--image-column", help="Column of images.  [default: found by its usual names]"),
    click.option(
        "--prompt-column",
        help="Column of prompts.  [default: found by its usual names; may be absent]",
    ),
    click.option(
        "--image-root",
        metavar="DIR",
        help="Folder or URI of relative image paths.  [default: the manifest's]",
    ),
    click.option(
        "--allow-outside-root", is_flag=True, help="Read image paths outside the image root too."
    ),
    click.option(
        "--allow-private-addresses",
        is_flag=True,
        help="Fetch images over http(s) from private addresses too.",
    ),
    click.option(
        "--keep",
        multiple=True,
        metavar="COLUMN",
        help="Column that rides along to the results; repeatable.",
    ),
    click.option(
        "--threshold",
        type=SHARE,
        help="Call an image AI-generated from this p_ai on.  [default: 0.5]",
    ),
    click.option(
        "--max-fpr",
        type=SHARE,
        help="Use the model's stored threshold for this false-positive rate instead.",
    ),
    click.option("--limit", type=MANY, help="Scan the first rows only."),
    click.option(
        "--threads",
        type=MANY,
        help="Threads that decode and score.  [default: one for each core; not on Ray]",
    ),
    click.option(
        "--batch-size",
        type=MANY,
        default=32,
        show_default=True,
        help="Pairs scored at a time by a thread.",
    ),
    click.option(
        "--shard-rows",
        type=MANY,
        default=10_000,
        show_default=True,
        help="About how many rows to commit at once.",
    ),
    click.option(
        "--max-error-rate",
        type=SHARE,
        default=0.05,
        show_default=True,
        help="End with status 3 above this share.",
    ),
)


def scan_options(command: Command) -> Command:
    """Give a command the options of a scan."""
    return with_options(command, _OPTIONS)


def scan_config(paths: tuple[str, ...], options: dict[str, Any]) -> Any:
    """The ScanConfig of what was given; raises UsageError where options contradict each other."""
    from aigid.config import ScanConfig
    from aigid.cores import available_cores

    if options["ray"] is not None and options["threads"] is not None:
        raise UsageError(
            "--threads is for scans without --ray: say --max-workers and --worker-cpus"
        )
    threads = options.pop("threads") or available_cores()
    settings = {
        "threads": threads,
        "batch_rows": options.pop("batch_size"),
        "triton": _triton_config(options),
    }
    return ScanConfig(paths, ray=_ray_config(options), **settings, **options)


# What of the options is about Ray, and the field of RayConfig that it becomes.
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


def _ray_config(options: dict[str, Any]) -> Any:
    """What the options about Ray say, which it takes out of `options`; None without --ray."""
    from aigid.config import RayConfig

    ours = {field: options.pop(option) for option, field in _RAY_FIELDS.items()}
    if ours["address"] is None:
        source = click.get_current_context().get_parameter_source
        given = [
            option
            for option in _RAY_FIELDS
            if source(option) == click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for scans on a Ray cluster: say --ray too"
            )
        return None
    ours["worker_resources"] = tuple(map(_resource, ours["worker_resources"]))
    return RayConfig(**ours)


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError as error:
        raise UsageError(
            f"--worker-resources {text}: give NAME=AMOUNT, as in fast_disk=1"
        ) from error


def _triton_config(options: dict[str, Any]) -> Any:
    """What the options about servers say, which it takes out of `options`; None without --triton."""
    from aigid.scorers.triton_config import TlsConfig, TritonConfig

    ours = {name: options.pop(name) for name in list(options) if name.startswith("triton")}
    files = ours["triton_ca"], ours["triton_cert"], ours["triton_key"]
    if ours["triton"] is None:
        if ours["triton_tls"] or any(files):
            raise UsageError("TLS is for Triton servers: name them with --triton")
        return None
    tls = TlsConfig(*files) if ours["triton_tls"] or any(files) else None
    names = {
        "in_flight": "triton_in_flight",
        "deadline_s": "triton_deadline",
        "patience_s": "triton_patience",
    }
    return replace(
        TritonConfig.parse(ours["triton"]),
        tls=tls,
        **{name: ours[option] for name, option in names.items()},
    )
