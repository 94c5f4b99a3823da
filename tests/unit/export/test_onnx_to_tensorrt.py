"""Engines are compiled here for real, ahead of time, by TensorRT for RTX: a machine without a GPU has no TensorRT."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import aigid.export.onnx_to_tensorrt as onnx_to_tensorrt
from aigid.contract import load_contract
from aigid.errors import BuildError, ContractError, MissingExtraError, UsageError
from aigid.export.engine_profiles import Profile, engine_profiles
from aigid.export.onnx_to_tensorrt import Compiler, EngineBuilder, EngineSettings, build_engines
from aigid.export.pipeline import BuiltRepository
from aigid.scorers.tensors import PARTS

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
        assert (facts["part"], facts["model_fingerprint"]) == (part, contract.fingerprint)
        assert (facts["compiler"], facts["gpu"]) == ("tensorrt_rtx", ["8.9"])
        profiles = engine_profiles(contract, part)
        assert [profile["name"] for profile in facts["profiles"]] == [
            profile.name for profile in profiles
        ]
        assert facts["profiles"][-1]["optShapes"] == profiles[-1].as_trtexec()["optShapes"]


def test_where_one_part_fails_no_plan_is_put_in_place(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(repository, broken)
    (broken / "fusion_heads" / "1" / "model.fp16.onnx").write_bytes(b"no graph")
    before = sorted(broken.rglob("*"))
    with pytest.raises(
        BuildError, match=r"fusion_heads/1/model\.fp16\.onnx: tensorrt_rtx cannot take this graph"
    ):
        build_engines(broken, tmp_path / "engines", RTX)
    assert sorted(broken.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_an_operator_that_the_compiler_refuses_is_named(
    fp32: dict[str, Path], builder: EngineBuilder, tmp_path: Path
) -> None:
    model = onnx.load(fp32["clip_vision"].with_name("model.fp16.onnx"))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.name = "StringNormalizer", "the_culprit"
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(
        BuildError, match=r"cannot take this graph: .*the_culprit \(StringNormalizer\)"
    ):
        builder.build(tmp_path / "graph.onnx", ())


def test_a_profile_outside_the_graphs_range_is_refused_with_the_reason(
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


def test_a_file_that_is_no_graph_is_refused(builder: EngineBuilder, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match="cannot take this graph"):
        builder.build(tmp_path / "graph.onnx", ())


def test_what_cannot_be_compiled_for_is_said(
    built: BuiltRepository, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"9\.9: this compiler knows 7\.5"):
        build_engines(repository, tmp_path, replace(RTX, compute_capabilities=("9.9",)))
    with pytest.raises(UsageError, match="not for Triton: give another folder with --out"):
        build_engines(repository, repository, RTX)
    with pytest.raises(UsageError, match="--timing-cache"):
        replace(RTX, timing_cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="--compute-capability"):
        EngineSettings(compute_capabilities=("8.9",))
    assert not list(tmp_path.iterdir())


def test_a_repository_without_fp16_graphs_is_refused(tmp_path: Path) -> None:
    demo = Path(__file__).parents[3] / "model_repository"
    with pytest.raises(
        ContractError, match=r"model\.fp16\.onnx: no such file; engines are made of fp16 graphs"
    ):
        build_engines(demo, tmp_path, RTX)


def test_tensorrt_itself_is_asked_for_where_it_is_missing(
    built: BuiltRepository, repository: Path
) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"aigid\[tensorrt\]"):
            build_engines(repository, repository, EngineSettings())
    else:
        pytest.skip("TensorRT is here: run python build/onnx_to_tensorrt.py REPOSITORY")
