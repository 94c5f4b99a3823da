import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aigid.contract import load_contract
from aigid.export.engine_profiles import engine_profiles
from aigid.scorers import PARTS

ROOT = Path(__file__).parents[3]
DOCKERFILES = {
    name: (ROOT / f"build/{name}.Dockerfile").read_text(encoding="utf-8")
    for name in ("builder", "server")
}
PAGE = (ROOT / "build/containers.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTRACT = load_contract(ROOT / "model_repository")


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, each on one line."""
    lines = [
        line for line in DOCKERFILES[name].splitlines() if line.strip() and not line.startswith("#")
    ]
    pairs = [line.partition(" ") for line in "\n".join(lines).replace("\\\n", "").splitlines()]
    return [(word, rest) for word, _, rest in pairs]


def default_release(name: str) -> str:
    (release,) = [
        rest.removeprefix("RELEASE=") for word, rest in instructions(name) if word == "ARG"
    ]
    return release


def table_rows() -> dict[str, list[str]]:
    rows = re.findall(r"^\| (\d\d\.\d\d) \| (.+) \|$", PAGE, re.MULTILINE)
    return {release: cells.split(" | ") for release, cells in rows}


def copied(name: str) -> list[str]:
    """Return the paths that a Dockerfile copies out of the checkout."""
    copies = [
        rest.split()[:-1]
        for word, rest in instructions(name)
        if word == "COPY" and "--from=" not in rest
    ]
    return [source for sources in copies for source in sources]


def as_options(part: str) -> list[str]:
    profiles = [profile.as_trtexec() for profile in engine_profiles(CONTRACT, part)]
    return [
        " ".join(
            [f"--profile={number}", *(f"--{option}={shapes}" for option, shapes in profile.items())]
        )
        for number, profile in enumerate(profiles)
    ]


def test_builder_and_server_use_the_same_release_of_the_table() -> None:
    assert default_release("builder") == default_release("server")
    assert default_release("builder") in table_rows()
    for name, container in (("builder", "tensorrt"), ("server", "tritonserver")):
        bases = [rest.split()[0] for word, rest in instructions(name) if word == "FROM"]
        assert set(bases) == {f"nvcr.io/nvidia/{container}:${{RELEASE}}-py3"}


def test_every_command_uses_the_default_release() -> None:
    text = "".join((PAGE, *DOCKERFILES.values()))
    assert set(re.findall(r"(?:tensorrt|tritonserver|aigid-\w+):(\d\d\.\d\d)", text)) == {
        default_release("builder")
    }
    others = re.findall(r"--build-arg RELEASE=([\d.]+)", text)
    assert others
    assert set(others) <= set(table_rows())


def test_the_table_is_complete_and_marks_python_versions_that_are_too_old() -> None:
    least = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    rows = table_rows()
    assert list(rows) == sorted(rows, reverse=True)
    for release, (triton, tensorrt, cuda, python) in rows.items():
        assert re.fullmatch(r"2\.\d+\.\d+", triton), release
        assert re.fullmatch(r"1[01]\.\d+\.\d+\.\d+", tensorrt), release
        assert re.fullmatch(r"1[23]\.\d+\.\d+", cuda), release
        version, _, remark = python.partition(" ")
        assert (tuple(map(int, version.split("."))) < least) == ("too old" in remark), release
    assert "too old" not in rows[default_release("server")][3]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_copied_paths_exist_and_are_in_the_build_context(name: str) -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in rules
    assert copied(name)
    for source in copied(name):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in rules, source
    assert {
        "pyproject.toml",
        "constraints.txt",
        "aigid",
        PROJECT["readme"],
        *PROJECT["license-files"],
    } <= set(copied(name))


@pytest.mark.parametrize("text", [PAGE, *DOCKERFILES.values()], ids=["page", *DOCKERFILES])
def test_named_files_of_the_project_exist(text: str) -> None:
    named = set(re.findall(r"\bbuild/[\w./]+\.(?:py|md|Dockerfile)\b", text))
    assert named
    assert not [path for path in named if not (ROOT / path).is_file()]


def test_installed_extras_exist() -> None:
    extras = {
        extra
        for text in DOCKERFILES.values()
        for extra in re.findall(r"pip install .*\[(\w+)\]", text)
    }
    assert extras == {"serve"}
    assert extras <= set(PROJECT["optional-dependencies"])


def test_no_pip_install_adds_another_tensorrt() -> None:
    extras = PROJECT["optional-dependencies"]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [*PROJECT["dependencies"], *extras["serve"], *pinned]
    assert not [
        line
        for line in wanted
        if line.startswith("tensorrt") and not line.startswith("tensorrt_rtx")
    ]


def test_the_page_lists_the_profiles_of_clip_vision() -> None:
    shown = re.findall(r"^  (--profile=.*?)(?: \\)?$", PAGE, re.MULTILINE)
    assert shown == as_options("clip_vision")


@pytest.mark.parametrize("part", PARTS)
def test_the_shell_function_of_the_page_prints_the_profiles(part: str, tmp_path: Path) -> None:
    code = PAGE.partition("python -c '")[2].partition('\n\' "$@"')[0]
    command = [sys.executable, "-c", code, str(ROOT / "model_repository"), part]
    printed = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    assert printed.stdout.splitlines() == as_options(part)


def test_compiling_needs_no_torch_so_the_builder_has_none() -> None:
    code = (
        "import sys; sys.path.insert(0, 'build'); import onnx_to_tensorrt; "
        "print([name in sys.modules for name in ('torch', 'onnx', 'tritonclient')])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert printed.stdout == "[False, True, True]\n"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    command = [Path(sys.executable).with_name("hadolint"), ROOT / f"build/{name}.Dockerfile"]
    linted = subprocess.run(list(map(str, command)), text=True, capture_output=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
