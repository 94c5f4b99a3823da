"""The structure that CONTRIBUTING.md promises: layers, no circles, sizes, the glossary's words."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aigid"
CODE = ("aigid", "build", "jobs")
MOST_LAYERS, MOST_FILES_AT_THE_TOP = 12, 25
MOST_FUNCTION_LINES, MOST_MODULE_LINES = 40, 400
# Words that the glossary replaces, where a person reads them.
OLD_WORDS = re.compile("picture|sureness", re.IGNORECASE)
READ_BY_PEOPLE = (*CODE, "docs", "README.md", "CONTRIBUTING.md")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("aigid", exclude_type_checking_imports=True, cache_dir=None)


def test_no_module_imports_itself_by_way_of_others(graph: grimp.ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_imports_go_down_through_at_most_12_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    assert len(contract["layers"]) <= MOST_LAYERS
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_package_itself_holds_few_files() -> None:
    files = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= MOST_FILES_AT_THE_TOP, sorted(files)


def python_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_fit_on_a_screen_and_modules_are_one_noun(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert not long
    assert len(text.splitlines()) <= MOST_MODULE_LINES


def test_what_people_read_has_the_glossary_s_words() -> None:
    command = ["git", "ls-files", "-z", "--", *READ_BY_PEOPLE]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".safetensors"} or path.name == "tokenizer.json":
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{name}:{number}: {line.strip()}"
            for number, line in enumerate(lines, 1)
            if OLD_WORDS.search(line)
        ]
    assert not found


def test_git_and_the_checks_see_build_as_source() -> None:
    """`build/` is a name that many tools take for a folder of products."""
    ignored = subprocess.run(
        ["git", "check-ignore", "build/pipeline.py"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode == 1
    command = [Path(sys.executable).with_name("ruff"), "check", "--show-files"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(ROOT / "build/pipeline.py") in shown
