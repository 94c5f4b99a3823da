"""docs/python.md: it is up to date, complete, and its examples run."""

import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
from support.manifests import REPOSITORY, encoded_image, manifest_table

import aigid

DOCS = REPOSITORY.parent / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = DOCS / "generate_python.py"
    spec = importlib.util.spec_from_file_location("generate_python", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "python.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_generator_writes(generator: ModuleType, page: str) -> None:
    assert page == generator.render(), "run `make docs`"


def test_every_public_name_is_described(page: str) -> None:
    for name in aigid.__all__:
        pattern = rf"^#{{2,4}} `(aigid\.)?{name}`$|^ *- `{name}`: "
        assert re.search(pattern, page, re.MULTILINE), name


def test_signatures_name_no_modules_and_no_objects(page: str) -> None:
    for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL):
        assert not re.search(r"<|\w\.[A-Z]|typing|numpy", block), block


def test_the_examples_run(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (("one.jpg", "JPEG"), ("two.png", "PNG")):
        (here / name).write_bytes(encoded_image(1, 64, kind))
    pq.write_table(manifest_table(5), here / "manifest.parquet")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", aigid.ModelNoticeWarning)
        for block in blocks:
            exec(block, names)
    printed = capsys.readouterr().out
    assert re.search(r"^\d of 5 images are AI-generated$", printed, re.MULTILINE)
    assert "another scan is in that folder: " in printed
    assert re.search(r"^0\.\d+ \w+$", printed, re.MULTILINE)
