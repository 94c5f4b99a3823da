"""The config of a scan, from the options of a command."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aigid.cli.evidence_options import trust_anchors
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.config import RayConfig, ScanConfig
    from aigid.scorers import TritonConfig


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
    options["readers"] = options.pop("reader")
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
