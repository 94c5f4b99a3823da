"""`aigid build`: its options are the library's, and what it prints."""

from pathlib import Path

import pytest
from support.command_line import command_of, invoke, run_without

from aigid.cli import build
from aigid.extras import install_command

MANIFESTS = ("--calibration", "c.parquet", "--validation", "v.parquet")


def test_its_defaults_and_choices_are_the_library_s() -> None:
    from aigid.export import CALIBRATION_ROWS, PARITY_ROWS, PRECISIONS, BuildConfig

    assert build.PRECISIONS == PRECISIONS
    assert (build.CALIBRATION_ROWS, build.PARITY_ROWS) == (CALIBRATION_ROWS, PARITY_ROWS)
    config = BuildConfig("c", "v")
    shown = {option.name: option.default for option in command_of("build").params}
    assert shown["calibration_rows"] == config.calibration_rows
    assert shown["parity_rows"] == config.parity_rows


def test_every_option_has_a_help_text() -> None:
    text = invoke("build", "--help").output
    for name in ("--calibration", "--validation", "--parity-rows", "--precision", "--label-column"):
        assert f"  {name}" in text


@pytest.mark.parametrize("given", [("fp16",), ("fp16", "fp16")])
def test_precisions_that_no_cpu_runs_are_refused_by_the_flag(given: tuple[str, ...]) -> None:
    precisions = [word for name in given for word in ("--precision", name)]
    result = invoke("build", "best", "model", *MANIFESTS, *precisions)
    assert result.exit_code == 2
    got = ", ".join(given)
    expected = f"aigid: --precision must include int8 or fp32, which CPUs run: got {got}\n"
    assert result.stderr == expected


def test_a_folder_that_is_no_checkpoint_is_named(here: Path) -> None:
    (here / "best").mkdir()
    result = invoke("build", "best", "model", *MANIFESTS)
    assert result.exit_code == 2
    assert result.stderr.startswith("aigid: best: not a whole checkpoint")
    assert not (here / "model").exists()


def test_without_the_extra_it_names_the_package_and_how_to_install_it(here: Path) -> None:
    done = run_without(("torch",), "build", "best", "model", *MANIFESTS)
    assert done.returncode == 2
    expected = f"aigid: building models needs torch: {install_command('build')}\n"
    assert done.stderr == expected
