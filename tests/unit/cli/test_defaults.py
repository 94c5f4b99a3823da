"""The defaults and choices that --help shows are those of the library."""

import dataclasses
import re
from typing import Any

import click
import pytest
from support.command_line import command_of, invoke

from aigid.cli import simulate, train_options
from aigid.cli.main import COMMANDS
from aigid.config import RayConfig, ScanConfig
from aigid.cores import available_cores
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.scorers import TritonConfig
from aigid.simulation import SimulationConfig, Split


def defaults(name: str) -> dict[str, object]:
    """The defaults of a command's options that have one."""
    return {
        str(option.name): option.default
        for option in command_of(name).params
        if isinstance(option, click.Option)
        and not option.is_flag
        and not option.count
        and isinstance(option.default, int | float | str)
    }


def help_of(name: str) -> str:
    """The help with its line breaks taken out."""
    return " ".join(invoke(name, "--help").output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_shows_every_default(name: str) -> None:
    # Lines break at hyphens too.
    text = "".join(invoke(name, "--help").output.split())
    for option in command_of(name).params:
        if option.name in defaults(name) and option.default != "":
            default = re.escape(str(option.default))
            assert re.search(rf"{option.opts[-1]}[^-].*?\[default:{default}[;\]]", text), (
                option.opts
            )


def test_the_defaults_of_scan() -> None:
    config = ScanConfig(("m.parquet",), "out")
    servers, cluster = TritonConfig(("localhost:8001",)), RayConfig()
    assert defaults("scan") == {
        "mode": config.mode,
        "user_agent": config.user_agent,
        "requests_per_host": config.requests_per_host,
        "batch_size": config.batch_rows,
        "shard_rows": config.shard_rows,
        "max_error_rate": config.max_error_rate,
        "metrics_host": config.metrics_host,
        "triton_in_flight": servers.in_flight,
        "triton_deadline": servers.deadline_s,
        "triton_patience": servers.patience_s,
        "min_workers": cluster.min_workers,
        "worker_cpus": cluster.worker_cpus,
        "worker_gpus": cluster.worker_gpus,
        "shard_attempts": cluster.shard_attempts,
        "worker_start": cluster.start_within_s,
    }
    assert f"if its p_ai is at least this. [default: {DEFAULT_THRESHOLD}]" in help_of("scan")
    assert "[default: one for each core; not with --ray]" in help_of("scan")
    assert config.threads == available_cores()


def test_the_defaults_of_train() -> None:
    from aigid.training.config import TrainingConfig
    from aigid.training.losses import LossConfig
    from aigid.training.run import RunConfig

    configs: tuple[Any, ...] = (RunConfig, TrainingConfig, LossConfig)
    fields = {
        field.name: field.default for config in configs for field in dataclasses.fields(config)
    }
    shown = defaults("train")
    shown["batch_rows"] = shown.pop("batch_size")
    # The encoders have no default in Python; those of the command are the paper's.
    assert shown.pop("text_encoder") == "bert-base-uncased"
    assert shown.pop("image_encoder") == "openai/clip-vit-base-patch32"
    assert shown.pop("recipe") == "paper"
    assert shown == {name: fields[name] for name in shown}
    assert {"epochs", "learning_rate", "batch_rows", "schedule", "seed"} <= shown.keys()


def test_the_defaults_of_pseudo_label() -> None:
    from aigid.training.pseudo_selection import SelectionConfig

    known = {field.default for field in dataclasses.fields(SelectionConfig)}
    shown = defaults("pseudo-label")
    assert {shown["min_confidence_a"], shown["min_confidence_b"], None} == known


def test_the_defaults_of_simulate() -> None:
    shown = defaults("simulate")
    config = SimulationConfig(rows=int(str(shown.pop("rows"))), split=Split(shown.pop("split")))
    assert shown == {name: getattr(config, name) for name in shown}


def test_the_choices_are_the_library_s() -> None:
    from aigid.training import config, image_pooling, tracking

    for name in ("SCHEDULES", "SELECTIONS", "TUNINGS", "PRECISIONS"):
        assert getattr(train_options, name) == getattr(config, name)
    assert train_options.TRACKERS == tracking.TRACKERS
    assert tuple(image_pooling.ImagePooling) == train_options.POOLINGS
    assert tuple(Split) == simulate.SPLITS
