"""The scorer for a configuration, a missing client, and names that are imported on first use."""

import subprocess
import sys
from pathlib import Path

import pytest

from aigid import runners, scorers, serving
from aigid.errors import MissingExtraError
from aigid.scorers import OnnxScorer, TritonConfig, load_scorer


def test_without_triton_the_scorer_is_embedded(tiny_repository: Path) -> None:
    assert isinstance(load_scorer(tiny_repository, None, 32), OnnxScorer)


def test_a_missing_client_of_triton_is_named_with_its_extra(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("client", "grpc", "model", "pool"):
        monkeypatch.delitem(sys.modules, f"aigid.scorers.triton_{name}", raising=False)
    for name in ("tritonclient", "tritonclient.grpc", "tritonclient.grpc.aio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"scoring on Triton servers needs .*\[serve\]"):
        load_scorer(tiny_repository, TritonConfig(("a:1",)), 32)


@pytest.mark.parametrize(
    "package", [runners, scorers, serving], ids=lambda package: package.__name__
)
def test_every_public_name_can_be_imported_and_no_other(package: object) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_settings_need_neither_a_runtime_nor_a_client() -> None:
    code = (
        "import sys, aigid.runners, aigid.serving; from aigid.scorers import TritonConfig; "
        "print({'numpy', 'onnxruntime', 'ray', 'tritonclient', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
