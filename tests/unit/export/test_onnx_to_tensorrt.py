"""Compile engines ahead of time with TensorRT for RTX, which needs no GPU."""

import hashlib
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import onnx_to_tensorrt
import pytest
from click.testing import CliRunner

from aigid.contract import load_contract
from aigid.errors import BuildError, ContractError, MissingExtraError, UsageError
from aigid.export.engine_profiles import Profile, engine_profiles
from aigid.export.onnx_to_tensorrt import EngineBuilder, EngineSettings, build_engines
from aigid.export.pipeline import BuiltRepository
from aigid.export.tensorrt_compiler import Compiler
from aigid.scorers import PARTS

RTX = EngineSettings(Compiler.TENSORRT_RTX, compute_capabilities=("8.9",))


@pytest.fixture(scope="module")
def builder() -> EngineBuilder:
    return EngineBuilder(RTX)


def test_every_part_is_compiled_with_every_profile(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    arguments = [
        str(repository),
        "--out",
        str(tmp_path),
        "--compiler",
        "tensorrt_rtx",
        "--compute-capability",
        "8.9",
    ]
    result = CliRunner().invoke(onnx_to_tensorrt.main, arguments)
    assert result.exit_code == 0, result.output
    contract = load_contract(repository)
    for part in PARTS:
        plan = tmp_path / part / "1" / "model.plan"
        facts = json.loads(plan.with_name("model.plan.json").read_text())
        graph = repository / part / "1" / "model.fp16.onnx"
        assert plan.stat().st_size > graph.stat().st_size / 2
        assert facts["plan_sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
        assert facts["graph_sha256"] == hashlib.sha256(graph.read_bytes()).hexdigest()
        assert facts["part"] == part
        assert facts["model_fingerprint"] == contract.graph_fingerprint(part)
        assert (facts["compiler"], facts["gpu"]) == ("tensorrt_rtx", ["8.9"])
        profiles = engine_profiles(contract, part)
        assert [profile["name"] for profile in facts["profiles"]] == [
            profile.name for profile in profiles
        ]
        assert facts["profiles"][-1]["optShapes"] == profiles[-1].as_trtexec()["optShapes"]


def test_if_one_part_fails_no_plan_is_put_in_place(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(repository, broken)
    (broken / "fusion_heads" / "1" / "model.fp16.onnx").write_bytes(b"no graph")
    before = sorted(broken.rglob("*"))
    with pytest.raises(
        BuildError, match=r"fusion_heads/1/model\.fp16\.onnx: tensorrt_rtx cannot parse it"
    ):
        build_engines(broken, tmp_path / "engines", RTX)
    assert sorted(broken.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_an_unsupported_operator_is_named(
    fp32: dict[str, Path], builder: EngineBuilder, tmp_path: Path
) -> None:
    model = onnx.load(fp32["clip_vision"].with_name("model.fp16.onnx"))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.name = "StringNormalizer", "the_culprit"
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(BuildError, match=r"cannot parse it: .*the_culprit \(StringNormalizer\)"):
        builder.build(tmp_path / "graph.onnx", ())


def test_a_profile_outside_the_range_of_the_graph_is_refused_with_the_reason(
    fp32: dict[str, Path], builder: EngineBuilder
) -> None:
    shape = (1, 100, 32, 3)
    with pytest.raises(
        BuildError, match=r"image.* has min=100, opt=100, max=100 but tensor has 32"
    ):
        builder.build(
            fp32["clip_vision"].with_name("model.fp16.onnx"),
            [Profile("wrong", {"image": (shape, shape, shape)})],
        )


def test_a_file_without_a_graph_is_refused(builder: EngineBuilder, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match="cannot parse it"):
        builder.build(tmp_path / "graph.onnx", ())


def test_an_unknown_gpu_and_the_repository_as_output_are_refused(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"`compute_capabilities` must be among 7\.5, .*got 9\.9"):
        build_engines(repository, tmp_path, replace(RTX, compute_capabilities=("9.9",)))
    with pytest.raises(UsageError, match="`out` must be a folder other than the repository"):
        build_engines(repository, repository, RTX)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compiler": "tvm"}, "`compiler` must be tensorrt or tensorrt_rtx: got tvm"),
        (
            {"compute_capabilities": ("8.9",)},
            "`compute_capabilities` needs the compiler tensorrt_rtx",
        ),
        (
            {"compiler": Compiler.TENSORRT_RTX, "timing_cache": Path("cache")},
            "`timing_cache` needs the compiler tensorrt:",
        ),
        ({"workspace_mib": 0}, "`workspace_mib` must be at least 1: got 0"),
        ({"optimisation_level": 6}, "`optimisation_level` must be from 0 to 5: got 6"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EngineSettings(**settings)


def test_the_command_names_its_flags_in_errors(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    arguments = [str(repository), "--out", str(tmp_path), "--compute-capability", "8.9"]
    result = CliRunner().invoke(onnx_to_tensorrt.main, arguments)
    assert result.exit_code == 2
    assert result.stderr == (
        "aigid: --compute-capability needs the compiler tensorrt_rtx: "
        "tensorrt compiles for the GPU of this host\n"
    )


def test_a_repository_without_fp16_graphs_is_refused(tiny_repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_repository, copy)
    (copy / "bert/1/model.fp16.onnx").unlink()
    with pytest.raises(
        ContractError,
        match=r"model\.fp16\.onnx: no such file; .*build them with: aigid build",
    ):
        build_engines(copy, tmp_path / "engines", RTX)


@pytest.mark.skipif(
    find_spec("tensorrt") is not None,
    reason="TensorRT is installed: run python build/onnx_to_tensorrt.py REPOSITORY",
)
def test_a_missing_tensorrt_is_an_error_that_names_the_extra(
    built: BuiltRepository, repository: Path
) -> None:
    with pytest.raises(
        MissingExtraError, match=r"compiling engines with tensorrt needs tensorrt: .*\[tensorrt\]"
    ):
        build_engines(repository, repository, EngineSettings())
