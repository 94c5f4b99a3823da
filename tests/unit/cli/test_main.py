"""The group: its help, its commands loaded one by one, its versions."""

import ast
import inspect
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.command_line import command_of, invoke, run_without

import aigid
from aigid.cli.main import COMMANDS, main

HEAVY = {"numpy", "pyarrow", "onnxruntime", "PIL", "rich", "tokenizers", "urllib3"}
OPTIONAL = ("torch", "ray", "transformers", "sklearn", "matplotlib", "safetensors", "onnx")
OPTIONAL += ("onnxscript", "tritonclient", "grpc")


def modules_after(*words: object) -> set[str]:
    """The modules that a command line has imported in a process of its own."""
    arguments = [str(word) for word in words]
    script = (
        f"import sys; from aigid.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False); print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_help_of_aigid_lists_every_command_with_what_it_does_and_an_example() -> None:
    for word in ("--help", "-h"):
        result = invoke(word)
        assert result.exit_code == 0
        assert "aigid scan manifest.parquet --out results/" in result.output
        listed = result.output[result.output.index("Commands:") :]
        for name in COMMANDS:
            assert re.search(rf"^  {name} +[A-Z]\w+ .", listed, re.MULTILINE), name


def test_every_module_of_a_command_is_in_the_table() -> None:
    folder = Path(inspect.getfile(main.__class__)).parent
    with_command = {
        path.stem.replace("_", "-")
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "command" and node.decorator_list
    }
    assert with_command == set(COMMANDS)


@pytest.mark.parametrize(("name", "line"), COMMANDS.items())
def test_the_line_of_a_command_is_the_first_sentence_of_its_help(name: str, line: str) -> None:
    command = command_of(name)
    assert command.name == name
    assert command.get_short_help_str(limit=1000).removesuffix(".") == line.removesuffix(".")
    assert inspect.cleandoc(command.help or "").splitlines()[0] == line


def test_help_imports_no_command_and_no_heavy_package() -> None:
    imported = modules_after("--help")
    assert imported.isdisjoint(HEAVY | set(OPTIONAL))
    own = {name for name in imported if name.startswith("aigid")}
    assert own <= {
        "aigid",
        "aigid.version",
        "aigid.errors",
        "aigid.records",
        *map(
            "aigid.cli{}".format,
            [
                "",
                ".main",
                ".command",
                ".errors",
                ".signals",
                ".stdout",
                ".verbosity",
            ],
        ),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_no_heavy_package_and_no_other_command(name: str) -> None:
    imported = modules_after(name, "--help")
    assert imported.isdisjoint(HEAVY | set(OPTIONAL))
    others = {f"aigid.cli.{other.replace('-', '_')}" for other in COMMANDS if other != name}
    # Pseudo-labelling begins with a scan.
    allowed = {"aigid.cli.scan"} if name == "pseudo-label" else set()
    assert imported.isdisjoint(others - allowed)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_that_its_own_options_accept(name: str) -> None:
    text = invoke(name, "--help").output
    examples = re.findall(rf"^ +aigid {name} (.+)$", text, re.MULTILINE)
    assert examples, text
    for example in examples:
        words = shlex.split(example)
        with command_of(name).make_context(name, words, **main.context_settings) as context:
            assert context.args == []
    assert invoke(name, "-h").output == text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_every_command_are_under_headings(name: str) -> None:
    text = invoke(name, "--help").output
    headings = re.findall(r"^(\w[\w -]*):$", text, re.MULTILINE)
    assert "Options" not in headings
    assert headings[-1] == "General"
    general = text[text.index("General:") :]
    assert re.findall(r"--[\w-]+", general) == ["--verbose", "--quiet", "--log-level", "--help"]


def test_the_headings_of_a_scan() -> None:
    text = invoke("scan", "--help").output
    headings = re.findall(r"^(\w[\w -]*):$", text, re.MULTILINE)
    assert headings == [
        *("Input", "Output", "Model", "Evidence", "Images", "Speed and limits"),
        *("Metrics", "Triton servers", "Ray cluster", "General"),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_out_is_o_too(name: str) -> None:
    for option in command_of(name).params:
        if "--out" in option.opts:
            assert option.opts == ["-o", "--out"]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_share_a_flag(name: str) -> None:
    flags = [flag for option in command_of(name).params for flag in option.opts]
    assert len(flags) == len(set(flags))


def test_version_has_the_versions_of_everything_that_decides_what_is_computed() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    shown = dict(line.split(" ", 1) for line in result.output.splitlines())
    assert next(iter(shown)) == "aigid"
    assert shown["aigid"] == aigid.__version__
    assert shown["python"] == platform.python_version()
    for name in ("numpy", "onnxruntime", "pyarrow", "pillow", "tokenizers"):
        assert shown[name] == version(name)
    for name in ("c2pa-python", "torch", "ray", "tritonclient", "transformers"):
        assert shown[name] == version(name), "an extra that is installed here"


def test_version_imports_none_of_what_it_names() -> None:
    script = (
        "import sys; from aigid.cli.main import main\n"
        "main(['--version'], standalone_mode=False); print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()[-1].split()).isdisjoint(HEAVY | set(OPTIONAL))


def test_python_dash_m_aigid_is_the_command_line() -> None:
    command = [sys.executable, "-m", "aigid", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == invoke("--version").output


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_status_2_and_named(name: str) -> None:
    result = invoke(name, "--no-such-option")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--no-such-option" in result.stderr
    assert result.stdout == ""


def test_an_unknown_command_is_status_2_and_named() -> None:
    result = invoke("no-such-command")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no-such-command" in result.stderr


def test_without_a_command_there_is_help() -> None:
    assert "Commands:" in invoke().output


def test_a_base_install_has_the_help_of_every_command() -> None:
    for name in COMMANDS:
        done = run_without(OPTIONAL, name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: ")
