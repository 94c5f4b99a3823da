"""Options from AIGID_* environment variables."""

from pathlib import Path

import pytest
from support.command_line import command_of, invoke

from aigid.cli.errors import long_flag, variable_of
from aigid.cli.main import COMMANDS, main


def test_a_variable_sets_an_option_and_the_command_line_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIGID_SCAN_BATCH_SIZE", "7")
    monkeypatch.setenv("AIGID_SCAN_KEEP", "id name")
    monkeypatch.setenv("AIGID_SCAN_ALLOW_OUTSIDE_ROOT", "true")
    with main.make_context("aigid", ["scan"]) as group:

        def options(*words: str) -> dict[str, object]:
            arguments = ["m.parquet", *words]
            return command_of("scan").make_context("scan", arguments, parent=group).params

        found = options("--out", "a")
        assert (found["batch_size"], found["keep"]) == (7, ("id", "name"))
        assert found["allow_outside_root"] is True
        assert options("--out", "a", "--batch-size", "9")["batch_size"] == 9
        monkeypatch.setenv("AIGID_SCAN_OUT", "from-the-environment")
        assert options()["out"] == "from-the-environment"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AIGID_SCAN_THREADS", "0", "'--threads' (environment variable AIGID_SCAN_THREADS): 0"),
        ("AIGID_SCAN_THRESHOLD", "nan", "(environment variable AIGID_SCAN_THRESHOLD): nan"),
        ("AIGID_SCAN_JSON", "perhaps", "(environment variable AIGID_SCAN_JSON)"),
        ("AIGID_SCAN_WORKER_MEMORY", "big", "(environment variable AIGID_SCAN_WORKER_MEMORY)"),
        ("AIGID_SCAN_LOG_LEVEL", "loud", "(environment variable AIGID_SCAN_LOG_LEVEL)"),
        ("AIGID_LOG_LEVEL", "loud", "(environment variable AIGID_LOG_LEVEL)"),
    ],
)
def test_a_bad_value_in_a_variable_is_a_usage_error_that_names_it(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, value)
    result = invoke("scan", "m.parquet", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIGID_SCAN_THREADS", "")
    result = invoke("scan", tmp_path / "gone.parquet", "--out", tmp_path / "out")
    assert result.stderr.endswith("gone.parquet: no such file or folder\n")


def test_variables_of_ray_without_ray_are_defaults_that_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIGID_SCAN_MAX_WORKERS", "4")
    result = invoke("scan", tmp_path / "gone.parquet", "--out", tmp_path / "out")
    assert result.stderr.endswith("gone.parquet: no such file or folder\n")


def test_no_two_options_of_all_commands_share_a_variable() -> None:
    with main.make_context("aigid", ["scan"]) as group:
        variables = [variable_of(option, group) for option in main.params]
        for name in COMMANDS:
            command = command_of(name)
            context = command.context_class(command, info_name=name, parent=group)
            variables += [variable_of(option, context) for option in command.params]
    assert len(variables) == len(set(variables))
    assert "AIGID_PSEUDO_LABEL_MIN_CONFIDENCE_A" in variables


def test_a_variable_has_its_flag_s_name() -> None:
    with main.make_context("aigid", ["scan"]) as group:
        for name in COMMANDS:
            command = command_of(name)
            context = command.context_class(command, info_name=name, parent=group)
            for option in command.params:
                if option.param_type_name == "option":
                    expected = f"AIGID_{name}_{long_flag(option)[2:]}".replace("-", "_").upper()
                    assert variable_of(option, context) == expected
