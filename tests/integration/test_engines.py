"""Compile engines of the demo model and of the paper's encoders at full size, with every profile.

TensorRT for RTX compiles them ahead of time. Running an engine needs a GPU.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from time_engines import main

from aigid.contract import load_contract
from aigid.export import (
    Compiler,
    EngineSettings,
    Precision,
    build_engines,
    export_checkpoint,
    time_engines,
)
from aigid.export.engine_profiles import engine_profiles
from aigid.export.to_model_repository import write_repository
from aigid.scorers import PARTS
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint, new_model, save_checkpoint

pytestmark = pytest.mark.integration

CLONE = Path(__file__).parents[2]
GPUS = ("8.6", "8.9")
PAPER_SIZES = CheckpointInfo(
    name="paper-sizes",
    notice="random weights, for tests",
    text_config={"model_type": "bert"},
    image_config={"model_type": "clip_vision_model"},
    fusion_hidden=512,
)


def repository_of(checkpoint: Path, folder: Path) -> Path:
    loaded = load_checkpoint(checkpoint)
    precisions = {
        str(precision): export_checkpoint(loaded, folder / "graphs", precision)
        for precision in (Precision.FP32, Precision.FP16)
    }
    write_repository(loaded, precisions, folder / "repository")
    return folder / "repository"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository_of(CLONE / "build/demo/checkpoint", tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    torch.manual_seed(0)
    # The defaults of transformers' BertConfig and CLIPVisionConfig are BERT-base and CLIP B/32.
    save_checkpoint(
        new_model(PAPER_SIZES),
        PAPER_SIZES,
        CLONE / "model_repository/tokenizer.json",
        folder / "checkpoint",
    )
    return repository_of(folder / "checkpoint", folder)


@pytest.mark.parametrize("which", ["demo", pytest.param("full_size", marks=pytest.mark.soak)])
def test_every_part_is_compiled_for_every_profile_and_gpu(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    repository: Path = request.getfixturevalue(which)
    sizes = build_engines(
        repository, tmp_path, EngineSettings(Compiler.TENSORRT_RTX, compute_capabilities=GPUS)
    )
    contract = load_contract(repository)
    for part in PARTS:
        plan, graph = tmp_path / part / "1/model.plan", repository / part / "1/model.fp16.onnx"
        # The plan holds half-precision weights and kernels.
        assert sizes[str(plan)] == plan.stat().st_size > 0.9 * graph.stat().st_size
        facts = json.loads(plan.with_name("model.plan.json").read_text())
        assert facts["gpu"] == list(GPUS)
        assert [profile["name"] for profile in facts["profiles"]] == [
            one.name for one in engine_profiles(contract, part)
        ]


@pytest.mark.skipif(
    not (find_spec("tensorrt") and torch.cuda.is_available()),
    reason="needs a GPU and TensorRT; run on such a host: "
    "python build/onnx_to_tensorrt.py model/; python build/time_engines.py model/",
)
def test_engines_on_a_gpu_give_the_results_of_their_graphs(demo: Path) -> None:
    build_engines(demo, demo, EngineSettings())
    timings = time_engines(demo, demo)
    assert {timing.part for timing in timings} == set(PARTS)
    assert max(timing.delta for timing in timings) < 0.05


def test_a_missing_plan_is_reported_with_the_command_that_compiles_it(
    demo: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, [str(demo), "--engines", str(tmp_path)])
    assert result.exit_code == 2
    assert "model.plan: no such file: compile the engines first" in result.stderr
