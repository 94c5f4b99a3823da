"""The boundary: errors of the library as one line with the running command's flags, one status."""

import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from support.command_line import command_of

from aigid.cli.command import CONTEXT_SETTINGS, Command, options_under
from aigid.cli.errors import PARAMETERS, error_boundary, with_flags
from aigid.cli.main import COMMANDS, main
from aigid.config import RayConfig, ScanConfig
from aigid.errors import AigidError, ServerError, UsageError
from aigid.scorers import TlsConfig, TritonConfig
from aigid.simulation import SimulationConfig, Split

# Fields that no option sets, so that no message about them can come from the command line.
NO_OPTION = {
    "simulate": {"rows_per_file", "rows_per_group"},
    "train": {"loss", "training", "weight_b", "without"},
    "serve": {"cache", "flavour", "limits", "ready_within_s"},
    "build": {"limits"},
}
WORDS = {
    "scan": ["m.parquet", "--out", "results/"],
    "pseudo-label": ["m.parquet", "--out", "results/", "--pseudo", "labels/"],
    "simulate": ["out"],
    "train": ["m.parquet", "--validation", "v.parquet", "--out", "run/"],
    "serve": [],
    "build": ["best/", "model/", "--calibration", "m.parquet", "--validation", "v.parquet"],
    "calibrate": ["model/", "m.parquet"],
    "adapt": ["model/", "m.parquet", "--out", "adapted/"],
}


def context_of(name: str) -> click.Context:
    return command_of(name).make_context(
        name, list(WORDS[name]), parent=click.Context(main, **CONTEXT_SETTINGS)
    )


def configs_of(name: str) -> list[Any]:
    """Valid configs of what a command calls."""
    if name == "scan":
        tls = TlsConfig()
        return [ScanConfig(("m",), "out"), RayConfig(), TritonConfig(("a:1",)), tls]
    if name == "simulate":
        return [SimulationConfig(rows=6, split=Split.TEST)]
    if name == "pseudo-label":
        from aigid.training.pseudo_selection import SelectionConfig

        return [SelectionConfig()]
    if name == "build":
        from aigid.export import BuildConfig

        return [BuildConfig("m", "v")]
    if name == "calibrate":
        from aigid.export import CalibrationConfig

        return [CalibrationConfig(Path("model"), ("m",))]
    if name == "adapt":
        from aigid.export import AdaptationConfig

        return [AdaptationConfig(Path("model"), ("m",), Path("adapted"))]
    if name == "serve":
        from aigid.service import ServiceConfig
        from aigid.serving import ServerConfig

        return [ServerConfig(Path("model")), ServiceConfig()]
    from aigid.training.config import TrainingConfig
    from aigid.training.image_changes import Augmentation
    from aigid.training.losses import LossConfig
    from aigid.training.run import RunConfig

    run = RunConfig(("m",), ("v",), "text", "image", Path("run"))
    return [run, TrainingConfig(), LossConfig(), Augmentation()]


def refusals(config: Any) -> Iterator[str]:
    """What a config says of a wrong value of each of its fields."""
    for field in dataclasses.fields(config):
        for value in (-1, 0, 2, math.nan, "no such", "", (), ("x", "x"), Path("gone"), object()):
            try:
                dataclasses.replace(config, **{field.name: value})
            except UsageError as error:
                yield str(error)
            except Exception:  # noqa: BLE001 - of another type, which no option can give
                continue


@pytest.mark.parametrize("name", WORDS)
def test_every_field_of_a_command_s_config_has_a_flag(name: str) -> None:
    with context_of(name):
        for config in configs_of(name):
            for field in dataclasses.fields(config):
                if field.name not in NO_OPTION.get(name, ()):
                    shown = with_flags(f"`{field.name}`")
                    assert re.fullmatch(r"--[a-z-]+|\[?[A-Z_. -]+\]?", shown), field.name


@pytest.mark.parametrize("name", WORDS)
def test_what_a_config_refuses_is_told_with_flags_and_without_parameters(name: str) -> None:
    told = []
    with context_of(name):
        for config in configs_of(name):
            for message in refusals(config):
                told.append(with_flags(message))
                left = set(re.findall("`([a-z_]+)`", told[-1]))
                assert left <= NO_OPTION.get(name, set()), told[-1]
    assert told or name in ("serve", "calibrate", "adapt")
    assert not [line for line in told if "_s must" in line or "None" in line]


def test_the_table_of_other_names_leads_to_parameters_that_there_are() -> None:
    known = {str(option.name) for name in COMMANDS for option in command_of(name).params}
    assert {candidate for names in PARAMETERS.values() for candidate in names} <= known


@pytest.mark.parametrize(
    ("name", "message", "shown"),
    [
        ("scan", "give one of `threshold` and `max_fpr`", "give one of --threshold and --max-fpr"),
        ("scan", "`batch_rows` must be 1 or more", "--batch-size must be 1 or more"),
        ("scan", "`out` x: not a folder", "--out x: not a folder"),
        ("scan", "`paths` must not be empty", "MANIFEST... must not be empty"),
        ("scan", "`deadline_s` must be more than 0", "--triton-deadline must be more than 0"),
        (
            "scan",
            "run `az login` or `ray job submit -- x`",
            "run `az login` or `ray job submit -- x`",
        ),
        ("scan", "the column `Caption` is `null`", "the column `Caption` is `null`"),
        ("train", "`folder` holds another run", "--out holds another run"),
        ("train", "`train` must name manifests", "MANIFEST... must name manifests"),
        ("train", "`jpeg` must be a probability", "--augment must be a probability"),
        ("simulate", "`out` is a file", "DIR is a file"),
    ],
)
def test_parameters_in_backticks_become_the_command_s_flags(
    name: str, message: str, shown: str
) -> None:
    with context_of(name):
        assert with_flags(message) == shown


def test_without_a_command_a_message_stays_as_it_is() -> None:
    assert with_flags("`threshold` must be 0 to 1") == "`threshold` must be 0 to 1"


_option = options_under("Input")


def run_command(
    error: BaseException, *words: str, environment: dict[str, str] | None = None
) -> Any:
    """Run a command of its own that raises an error."""

    @click.command("scan", cls=Command, after_interrupt="run it again")
    @_option("--batch-size", type=int)
    def command(batch_size: int | None) -> None:
        raise error

    settings = {**CONTEXT_SETTINGS, "auto_envvar_prefix": "AIGID_SCAN"}
    return CliRunner(env=environment).invoke(command, words, prog_name="aigid scan", **settings)


def test_an_error_is_one_line_on_stderr_and_its_status() -> None:
    for error in (UsageError, ServerError):
        result = run_command(error("`batch_rows` is wrong"))
        assert (result.exit_code, result.stdout) == (error.exit_status, "")
        assert result.stderr == "aigid: --batch-size is wrong\n"


def test_an_error_about_a_variable_s_value_names_the_variable() -> None:
    variable = {"AIGID_SCAN_BATCH_SIZE": "7"}
    result = run_command(UsageError("`batch_rows` is wrong"), environment=variable)
    assert result.stderr == "aigid: --batch-size (from AIGID_SCAN_BATCH_SIZE) is wrong\n"


def test_what_strangers_wrote_cannot_control_the_terminal_or_add_lines() -> None:
    result = run_command(AigidError("no column \x1b[2J\naigid: all is well\u202e"))
    assert result.stderr == "aigid: no column \\x1b[2J\\naigid: all is well\\u202e\n"


def test_ctrl_c_is_status_130_and_tells_what_to_do() -> None:
    result = run_command(KeyboardInterrupt())
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "aigid: scan interrupted; run it again\n"


def test_an_error_of_the_program_itself_is_no_one_liner() -> None:
    with pytest.raises(ZeroDivisionError):
        raise run_command(ZeroDivisionError()).exception


def test_the_boundary_works_without_click() -> None:
    with pytest.raises(SystemExit) as ended, error_boundary():
        raise ServerError("no server")
    assert ended.value.code == 1


BUILD = """
import click
from command_line import shown_errors
from aigid.errors import UsageError
@click.command()
@click.option("--rows", "calibration_rows", type=int)
@click.argument("repository")
def main(calibration_rows, repository):
    with shown_errors():
        raise UsageError("`calibration_rows` must be at least 1; see `repository`")
main()
"""


def test_the_commands_of_build_have_the_same_boundary() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'build'}{os.pathsep}{root}"}
    command = [sys.executable, "-c", BUILD, "model/", "--rows", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "aigid: --rows must be at least 1; see REPOSITORY\n"


def test_ctrl_c_on_a_real_command_is_status_130(tmp_path: Path) -> None:
    words = ["simulate", str(tmp_path / "out"), "--rows", "6000", "--workers", "1"]
    command = [sys.executable, "-m", "aigid", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "simulate: 6,000 rows\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert (process.returncode, rest) == (130, "aigid: simulate interrupted\n")
