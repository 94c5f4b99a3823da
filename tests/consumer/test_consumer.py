"""A user's own program: it runs, and mypy --strict and pyright see aigid's types."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image

import aigid

pytestmark = pytest.mark.integration

FILES = Path(__file__).parent
CONSUMER, MISTAKES = "consumer.py", "mistakes.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a user's files, which has none of this project's settings."""
    for name in (CONSUMER, MISTAKES):
        shutil.copy(FILES / name, tmp_path)
    return tmp_path


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )


def mistakes() -> set[int]:
    """Return the numbers of the lines with a mistake."""
    lines = (FILES / MISTAKES).read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}


def test_mypy_strict_accepts_the_program_and_finds_the_mistakes(project: Path) -> None:
    done = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
        *(f"--cache-dir={project / 'cache'}", CONSUMER, MISTAKES),
        folder=project,
    )
    found = re.findall(r"^(.+?):(\d+): error:", done.stdout, re.MULTILINE)
    assert {name for name, _ in found} == {MISTAKES}, done.stdout + done.stderr
    assert {int(line) for _, line in found} == mistakes(), done.stdout


def test_pyright_accepts_the_program_and_finds_the_mistakes(project: Path) -> None:
    done = run(
        *(sys.executable, "-m", "pyright", "--outputjson"),
        *("--pythonpath", sys.executable, CONSUMER, MISTAKES),
        folder=project,
    )
    found = [
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
        for item in json.loads(done.stdout)["generalDiagnostics"]
    ]
    assert {name for name, _ in found} == {MISTAKES}, done.stdout
    assert {line for _, line in found} == mistakes(), done.stdout


def test_the_program_detects_scans_and_catches_errors(project: Path) -> None:
    images = [encoded_image(number) for number in range(3)] + [b"not an image"]
    table = pa.table({"image": images, "prompt": ["a", "b", None, "d"]})
    pq.write_table(table, project / "manifest.parquet")
    done = run(sys.executable, CONSUMER, project, folder=project)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch("aigid-demo: the demo model was trained on .*", lines[0])
    # Twelve forms of an image, of which one is missing; three generated ones; one from a glob.
    answers, rest = lines[1:17], lines[17:]
    assert [bool(re.match(r"[01]\.\d{3} \w+ [01]\.\d{3}$", line)) for line in answers] == [
        *[True] * 11,
        False,
        *[True] * 4,
    ]
    assert answers[11].startswith("missing: ")
    assert re.fullmatch(r"\d of 3 of 4, 1 shards", rest[0])
    assert re.fullmatch(r"aigid-demo [0-9a-f]{8} at 0\.5", rest[1])
    assert rest[2] == "{'undecodable': 1} 0.25 True"
    assert re.match(r"undecodable: .*manifest\.parquet, row 3: not an image", rest[3])
    assert re.fullmatch(r"\d of 3 of 4, 2 shards", rest[4])
    assert rest[8].startswith("manifest: ") and "no such file or folder" in rest[8]
    assert rest[9].startswith("model: `model` ") and rest[9].endswith(": no such folder")
    assert rest[10].startswith("usage: `addresses` names a server twice")
    assert rest[11] == f"aigid {aigid.__version__}"
    # The scan with a progress bar; without a terminal it prints lines.
    assert "scan: 2 rows" in done.stderr
    assert "scan: 4 rows" not in done.stderr
