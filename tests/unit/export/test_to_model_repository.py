import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import prune_versions
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from support.onnx_graphs import example_feed
from tritonclient.grpc import model_config_pb2

from aigid.contract import Threshold, load_contract
from aigid.errors import BuildError, CheckpointError, ContractError, UsageError
from aigid.export.engine_profiles import engine_profiles
from aigid.export.graph_metadata import write_graph
from aigid.export.model_configs import PYTHON_MODELS, model_configs
from aigid.export.parity_report import LIMITS, write_report
from aigid.export.pipeline import BuiltRepository
from aigid.export.repository_lock import staged_repository
from aigid.export.repository_versions import prune_versions as prune_old_versions
from aigid.export.repository_versions import versions_of
from aigid.export.to_model_repository import contract_of, write_repository
from aigid.prompts import TokenBatch
from aigid.scorers import PARTS, OnnxScorer, model_specs
from aigid.training.checkpoint import Checkpoint

TRITON_TYPES = {
    onnx.TensorProto.UINT8: model_config_pb2.TYPE_UINT8,
    onnx.TensorProto.INT32: model_config_pb2.TYPE_INT32,
    onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def parsed(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def tensors(values: Any) -> dict[str, tuple[int, list[int]]]:
    return {item.name: (item.data_type, list(item.dims)) for item in values}


def graph_tensors(values: Any) -> dict[str, tuple[int, list[int]]]:
    return {
        item.name: (
            TRITON_TYPES[item.type.tensor_type.elem_type],
            [dim.dim_value or -1 for dim in item.type.tensor_type.shape.dim][1:],
        )
        for item in values
    }


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_configs_declare_the_tensors_of_the_graphs(
    built: BuiltRepository, repository: Path, part: str, config: str
) -> None:
    found = parsed(repository / part / config)
    graph = onnx.load(repository / part / "1" / "model.int8.onnx").graph
    assert found.name == part
    assert found.max_batch_size == 256
    assert tensors(found.input) == graph_tensors(graph.input)
    assert tensors(found.output) == graph_tensors(graph.output)
    assert found.HasField("dynamic_batching")


@pytest.mark.parametrize("part", PARTS)
def test_a_gpu_serves_tensorrt_and_a_cpu_the_int8_graph(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    gpu, cpu = (
        parsed(repository / part / "config.pbtxt"),
        parsed(repository / part / "configs" / "cpu.pbtxt"),
    )
    assert (gpu.platform, gpu.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert (cpu.backend, cpu.default_model_filename) == ("onnxruntime", "model.int8.onnx")
    assert (repository / part / "1" / cpu.default_model_filename).is_file()
    kinds = model_config_pb2.ModelInstanceGroup
    assert [group.kind for group in gpu.instance_group] == [kinds.KIND_GPU]
    # Triton uses only the first profile of an engine, unless all are named.
    profiles = engine_profiles(load_contract(repository), part)
    assert list(gpu.instance_group[0].profile) == [str(number) for number in range(len(profiles))]
    assert [request.name for request in gpu.model_warmup] == [profile.name for profile in profiles]
    for request in (*gpu.model_warmup, *cpu.model_warmup):
        assert 1 <= request.batch_size <= gpu.max_batch_size
        assert set(request.inputs) == {item.name for item in gpu.input}
        for item in gpu.input:
            value = request.inputs[item.name]
            assert value.data_type == item.data_type
            assert all(
                declared in (-1, dim) for declared, dim in zip(item.dims, value.dims, strict=True)
            )
    assert [group.kind for group in cpu.instance_group] == [kinds.KIND_CPU]


@pytest.mark.parametrize("name", PYTHON_MODELS)
def test_what_clients_ask_are_python_models_on_the_cpu(
    built: BuiltRepository, repository: Path, name: str
) -> None:
    config = parsed(repository / name / "config.pbtxt")
    assert (config.backend, [group.kind for group in config.instance_group]) == (
        "python",
        [model_config_pb2.ModelInstanceGroup.KIND_CPU],
    )
    spec = model_specs(built.contract)[name]
    assert [item.name for item in config.input] == [item.name for item in spec.inputs]
    assert json.loads(config.parameters["labels"].string_value) == list(built.contract.labels)
    assert (repository / name / "1" / "model.py").is_file()


@pytest.mark.parametrize("name", [*PARTS, *PYTHON_MODELS])
def test_every_queue_refuses_overload(built: BuiltRepository, repository: Path, name: str) -> None:
    files = [repository / name / "config.pbtxt", *(repository / name).glob("configs/*.pbtxt")]
    for config in map(parsed, files):
        policy = config.dynamic_batching.default_queue_policy
        assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        assert policy.max_queue_size == 256
        # Less than a scan waits for an answer.
        assert 0 < policy.default_timeout_microseconds < 120e6


def test_a_rebuild_replaces_the_models_of_an_earlier_aigid(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    write_repository(checkpoint, {"int8": fp32}, repository)
    (repository / "preprocess" / "1").mkdir(parents=True)
    (repository / "preprocess" / "config.pbtxt").write_text("")
    for name in PYTHON_MODELS:
        (repository / name / "1" / "model.py").unlink()
    write_repository(checkpoint, {"int8": fp32}, repository)
    assert not (repository / "preprocess").exists()
    for name in PYTHON_MODELS:
        assert (repository / name / "1" / "model.py").is_file(), "the first version can be put back"


def test_the_configs_in_the_repository_are_the_generated_ones(
    built: BuiltRepository, repository: Path
) -> None:
    for name, text in model_configs(built.contract).items():
        assert (repository / name).read_text() == text
    assert load_contract(repository) == built.contract


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_embedded_scorer_runs_the_repository(
    built: BuiltRepository, repository: Path, precision: str
) -> None:
    text, image = example_feed("bert", 5), example_feed("clip_vision", 5)
    scores = OnnxScorer(repository, precision=precision).score(
        image["image"], TokenBatch(text["input_ids"], text["attention_mask"])
    )
    np.testing.assert_allclose(scores.p_source.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores.p_source[:, 0], 1 - scores.p_ai)


def test_a_rebuild_adds_a_version_and_keeps_existing_files(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    assert write_repository(checkpoint, {"fp32": fp32, "int8": fp32}, repository).version == 1
    (repository / "theirs").mkdir()
    (repository / "theirs" / "config.pbtxt").write_text("theirs")
    (repository / "bert" / "1" / "model.plan").write_text("compiled")
    first = contents(repository)
    assert write_repository(checkpoint, {"int8": fp32}, repository).version == 2
    assert load_contract(repository).version == 2
    after = contents(repository)
    assert {name: data for name, data in after.items() if name in first} == first | {
        name: after[name] for name in ("README.md", "contract.json")
    }
    assert b"version 2, and CPUs run its int8 graphs" in after["README.md"]
    added = {f"{part}/2/model.int8.onnx" for part in PARTS} | {
        f"{name}/2/model.py" for name in PYTHON_MODELS
    }
    added |= {"fusion_heads/1/contract.json"}
    assert after.keys() - first.keys() == added
    # What puts the first version back.
    assert after["fusion_heads/1/contract.json"] == first["contract.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_files_and_folders_have_the_permissions_of_the_umask(
    built: BuiltRepository, checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    repository, graphs = tmp_path / "made" / "repository", {}
    before = os.umask(0o027)
    try:
        for part, path in fp32.items():
            graphs[part] = tmp_path / "made" / f"{part}.onnx"
            write_graph(onnx.load(path), graphs[part])
        for _ in range(2):
            # The second build carries over the files of the first.
            write_repository(checkpoint, {"fp32": graphs}, repository)
        write_report(built.parity, LIMITS, repository)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


def test_old_versions_stay_until_they_are_pruned(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    for _ in range(3):
        write_repository(checkpoint, {"fp32": fp32}, repository)
    assert versions_of(repository) == [1, 2, 3]
    result = CliRunner().invoke(prune_versions.main, [str(repository), "--keep", "1"])
    assert (result.exit_code, result.stdout) == (0, f"{repository}: removed versions: 1, 2\n")
    assert versions_of(repository) == [3]
    assert OnnxScorer(repository, precision="fp32").contract.version == 3
    assert (
        CliRunner()
        .invoke(prune_versions.main, [str(repository), "--keep", "1"])
        .stdout.endswith("none\n")
    )
    refused = CliRunner().invoke(prune_versions.main, [str(tmp_path), "--keep", "1"])
    assert refused.exit_code == 2
    assert "contract.json" in refused.stderr


def test_at_least_one_version_must_stay(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`keep` must be at least 1: got 0"):
        prune_old_versions(tmp_path, 0)


def test_two_builds_at_once_are_refused(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    with staged_repository(repository) as folder:
        with pytest.raises(
            BuildError, match="another build is writing to it: wait until that one has ended"
        ):
            write_repository(checkpoint, {"int8": fp32}, repository)
        (folder / "made").write_text("by the first")
    assert contents(repository) == {"made": b"by the first"}
    write_repository(checkpoint, {"int8": fp32}, repository)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_leftovers_of_a_killed_build_are_removed(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    left = tmp_path / ".repository.building"
    (left / "bert").mkdir(parents=True)
    (left / "half.onnx").write_text("half")
    write_repository(checkpoint, {"int8": fp32}, tmp_path / "repository")
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]
    assert not list((tmp_path / "repository").glob("**/half.onnx"))


def test_graphs_whose_tensors_differ_from_the_contract_are_refused(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(fp32["bert"])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(
        ContractError,
        match=r"the graph of bert has the outputs .*7.*, but the contract asks for .*32",
    ):
        write_repository(
            checkpoint, {"int8": {**fp32, "bert": tmp_path / "wrong.onnx"}}, tmp_path / "repository"
        )


def test_graphs_of_another_model_are_refused(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path
) -> None:
    other = replace(checkpoint, fingerprint="0" * 64)
    with pytest.raises(CheckpointError, match="export the checkpoint again"):
        write_repository(other, {"fp32": fp32}, tmp_path / "repository")
    swapped = {"bert": fp32["clip_vision"]}
    with pytest.raises(
        CheckpointError, match="expected bert of model .*, got clip_vision of model"
    ):
        write_repository(checkpoint, {"fp32": swapped}, tmp_path / "repository")
    assert not list(tmp_path.iterdir())


def test_a_failed_build_does_not_change_the_repository(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    write_repository(checkpoint, {"int8": fp32}, repository)
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aigid.export.to_model_repository.save_contract", no_space)
    with pytest.raises(
        BuildError, match="cannot be built: No space left on device; the repository stays as it was"
    ):
        write_repository(checkpoint, {"fp32": fp32}, repository)
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_a_relative_path_is_relative_to_the_current_folder(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_repository(checkpoint, {"int8": fp32}, Path("here"))
    assert load_contract(tmp_path / "here") == contract_of(checkpoint)
    shutil.rmtree("here")


def test_the_contract_carries_the_settings_of_the_checkpoint(checkpoint: Checkpoint) -> None:
    contract = contract_of(checkpoint)
    assert (contract.text_features, contract.image_features) == (32, 32)
    assert contract.thresholds == {"0.01": Threshold(0.9, 300, 0.95)}
    assert json.dumps(contract.notice) == '"Random weights, for tests."'
