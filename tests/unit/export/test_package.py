"""The package aigid.export as a whole: its public names, and what importing it needs."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aigid.export
from aigid.errors import MissingExtraError

FOLDER = Path(aigid.export.__file__).parent
MODULES = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]))
BUILD = Path(__file__).parents[3] / "build"

# Modules that work without torch: compiling engines needs only these.
WITHOUT_TORCH = {
    "engine_profiles",
    "graph_metadata",
    "model_configs",
    "onnx_to_tensorrt",
    "parity_report",
    "repository_lock",
    "repository_versions",
    "tensorrt_compiler",
    "token_guard",
}


def imported_names(module: str) -> set[str]:
    """Return the top-level packages that a module's source imports."""
    names = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).partition(".")[0])
    return names


def loaded_by(code: str, folder: Path) -> list[str]:
    """Return the modules that code loads in a new process, started in another folder."""
    code += "; import sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=True
    ).stdout.split()


def test_every_public_name_is_loaded_from_its_module() -> None:
    assert set(aigid.export.__all__) == set(aigid.export._MODULES)
    for name in aigid.export.__all__:
        module = import_module(f"aigid.export.{aigid.export._MODULES[name]}")
        assert getattr(aigid.export, name) is getattr(module, name)
    # A name that is also a module's would change its meaning once the module is imported.
    assert not set(aigid.export.__all__) & set(MODULES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'build_everything'"):
        aigid.export.build_everything  # noqa: B018 # the access is the test


def test_a_missing_package_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="onnx")

    monkeypatch.setattr(aigid.export, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"building models needs onnx: .*\[build\]"):
        aigid.export.build_repository  # noqa: B018 # the access is the test


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_click_or_the_commands(module: str) -> None:
    commands = {path.stem for path in BUILD.glob("*.py")}
    assert not imported_names(module) & {"click", *commands}


def test_importing_the_package_loads_no_torch_and_no_onnx(tmp_path: Path) -> None:
    assert not {"torch", "onnx"} & set(loaded_by("import aigid.export", tmp_path))


def test_modules_that_need_no_torch_do_not_load_it(tmp_path: Path) -> None:
    names = ", ".join(f"aigid.export.{name}" for name in sorted(WITHOUT_TORCH))
    assert "torch" not in loaded_by(f"import {names}", tmp_path)
