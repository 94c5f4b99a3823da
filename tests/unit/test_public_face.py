"""The public face: what aigid exports, how quickly, with which types, and `python -m aigid`."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import aigid
from aigid import errors

INIT = Path(aigid.__file__)
# What makes an import slow. `import aigid` and `aigid --help` load none of them.
HEAVY = ("numpy", "onnxruntime", "PIL", "pyarrow", "rich", "tokenizers", "torch")
EXPORTED = {
    "Detection",
    "Detector",
    "ErrorCode",
    "EvidenceReader",
    "Finding",
    "Mode",
    "RayConfig",
    "RowError",
    "Says",
    "ScanConfig",
    "ScanSummary",
    "Strength",
    "TlsConfig",
    "TritonConfig",
    "Verdict",
    "__version__",
    "read_evidence",
    "scan",
}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_package_exports_these_names_and_every_error() -> None:
    every_error = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert set(aigid.__all__) == EXPORTED | every_error
    assert aigid.__all__ == sorted(aigid.__all__, key=lambda name: (not name[0].isupper(), name))


@pytest.mark.parametrize("name", aigid.__all__)
def test_every_exported_name_is_there_and_listed(name: str) -> None:
    assert getattr(aigid, name) is not None
    assert name in dir(aigid)


def test_star_imports_give_the_exported_names() -> None:
    found: dict[str, object] = {}
    exec("from aigid import *", found)
    assert found.keys() - {"__builtins__"} == set(aigid.__all__)


def test_type_checkers_see_what_is_imported_on_first_use() -> None:
    """Type checkers read the imports of the branch that does not run."""
    (branch,) = (node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If))
    for node in branch.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.name in aigid.__all__
            module = __import__(node.module, fromlist=[alias.name])
            assert getattr(aigid, alias.name) is getattr(module, alias.name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aigid' has no attribute 'Detektor'"):
        aigid.Detektor  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Detektor'"):
        from aigid import Detektor  # noqa: F401


def test_importing_aigid_imports_nothing_heavy() -> None:
    code = f"import aigid, json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_no_module_imports_the_package_s_root() -> None:
    """The root imports the modules, so the other direction would be a circle."""
    found = [
        str(path)
        for path in INIT.parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module == "aigid")
        or (isinstance(node, ast.Import) and any(alias.name == "aigid" for alias in node.names))
    ]
    assert not found


def test_python_m_aigid_is_the_command_line() -> None:
    done = python("-m", "aigid", "--version")
    assert done.returncode == 0, done.stderr
    assert aigid.__version__ in done.stdout
    assert "scan" in python("-m", "aigid", "--help").stdout
