"""The plug-in of docs/evidence.md: built, installed and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.evidence_files import A1111, png_with_text

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the documented plug-in is installed into."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "READER = " in block)
    (project,) = (block for block in blocks if "entry-points" in block)
    (source / "example_mark.py").write_text(code)
    (source / "pyproject.toml").write_text(project)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", target, source],
        check=True,
    )
    return target


def inspect(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "aigid", "inspect", "--reader", "example-mark", path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": search},
    )


def test_the_documented_plug_in_is_found_and_run(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "marked.png"
    path.write_bytes(png_with_text(parameters=A1111) + b"made by Example")
    done = inspect(path, installed)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: ai"
    assert "  ai: example-mark, Example (end of file; metadata)" in lines
    assert "    seed: 4242" in lines


def test_without_it_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "marked.png"
    path.write_bytes(png_with_text(parameters=A1111))
    done = inspect(path, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    expected = "--reader example-mark: no such reader; there are dwt-dct, stealth-text"
    assert done.stderr == f"aigid: {expected}\n"
