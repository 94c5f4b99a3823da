import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import checkpoint_to_onnx
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from support.onnx_graphs import example_feed, run_graph

from aigid.contract import Temperatures
from aigid.errors import BuildError
from aigid.export.checkpoint_to_onnx import export_part
from aigid.export.graph_metadata import GraphFacts
from aigid.export.pipeline import BuiltRepository
from aigid.export.token_guard import ENCODED, SAFE_MASK
from aigid.scorers import PARTS
from aigid.training.checkpoint import Checkpoint, load_checkpoint

DECLARED = {
    "bert": {
        "input_ids": (onnx.TensorProto.INT32, 2),
        "attention_mask": (onnx.TensorProto.INT32, 2),
    },
    "clip_vision": {"image": (onnx.TensorProto.UINT8, 4)},
    "fusion_heads": {
        "text_features": (onnx.TensorProto.FLOAT, 2),
        "image_features": (onnx.TensorProto.FLOAT, 2),
    },
}


def torch_scores(
    checkpoint: Checkpoint, text: dict, image: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, mask, pixels = (
        torch.from_numpy(value)
        for value in (text["input_ids"], text["attention_mask"], image["image"])
    )
    with torch.no_grad():
        logits = checkpoint.model(pixels, ids, mask)
    temperatures = checkpoint.info.temperatures
    p_ai = torch.sigmoid(logits.a / temperatures.a)[:, None]
    share = torch.softmax(logits.b[:, 1:] / temperatures.b, dim=1)
    p_source = torch.cat([1 - p_ai, p_ai * share], dim=1)
    with torch.no_grad():
        known_score = checkpoint.model.known_score(logits, p_source)
    return p_ai.numpy(), known_score[:, None].numpy(), p_source.numpy()


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 1e-2)])
@pytest.mark.parametrize(("rows", "tokens"), [(1, 2), (1, 8), (2, 16), (7, 32), (33, 16)])
def test_the_graphs_together_give_the_scores_of_torch(
    fp32: dict[str, Path],
    checkpoint: Checkpoint,
    precision: str,
    limit: float,
    rows: int,
    tokens: int,
) -> None:
    text, image = example_feed("bert", rows, tokens), example_feed("clip_vision", rows)
    graphs = {part: path.with_name(f"model.{precision}.onnx") for part, path in fp32.items()}
    features = {
        "text_features": run_graph(graphs["bert"], text)[0],
        "image_features": run_graph(graphs["clip_vision"], image)[0],
    }
    found = run_graph(graphs["fusion_heads"], features)
    assert [scores.shape for scores in found] == [(rows, 1), (rows, 1), (rows, 6)]
    for scores, expected in zip(found, torch_scores(checkpoint, text, image), strict=True):
        np.testing.assert_allclose(scores, expected, atol=limit)


@pytest.mark.parametrize("part", ["bert", "clip_vision"])
def test_fp16_graphs_compute_in_half_precision_with_float32_inputs_and_outputs(
    fp32: dict[str, Path], part: str
) -> None:
    graph = onnx.shape_inference.infer_shapes(
        onnx.load(fp32[part].with_name("model.fp16.onnx"))
    ).graph
    kinds = {item.name: item.type.tensor_type.elem_type for item in graph.value_info}
    products = [kinds[node.output[0]] for node in graph.node if node.op_type == "MatMul"]
    assert len(products) >= 12
    assert set(products) == {onnx.TensorProto.FLOAT16}
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    weights = [item for item in graph.initializer if len(item.dims) == 2]
    assert onnx.TensorProto.FLOAT not in {item.data_type for item in weights}


@pytest.mark.parametrize("part", PARTS)
def test_only_shapes_and_indices_are_int64(fp32: dict[str, Path], part: str) -> None:
    graph = onnx.load(fp32[part]).graph
    wide = {
        item.name: item for item in graph.initializer if item.data_type == onnx.TensorProto.INT64
    }
    assert all(onnx.numpy_helper.to_array(item).size <= 6 for item in wide.values())
    users = {node.op_type for node in graph.node if set(node.input) & wide.keys()}
    assert users <= {
        "Concat",
        "Equal",
        "Gather",
        "Max",
        "Min",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "Reshape",
        "Slice",
        "Unsqueeze",
        "Expand",
    }


def test_outputs_differ_between_rows(fp32: dict[str, Path]) -> None:
    """Otherwise the other tests would compare constants."""
    for part, spread in (("bert", 0.1), ("clip_vision", 0.1)):
        assert run_graph(fp32[part], example_feed(part, 8))[0].std(axis=0).mean() > spread
    assert np.ptp(run_graph(fp32["fusion_heads"], example_feed("fusion_heads", 8))[0]) > 0.05


def test_p_source_is_a_distribution_that_agrees_with_p_ai(fp32: dict[str, Path]) -> None:
    p_ai, _, p_source = run_graph(fp32["fusion_heads"], example_feed("fusion_heads", 50))
    np.testing.assert_allclose(p_source.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(p_source[:, 0], 1 - p_ai[:, 0])
    assert p_source.min() >= 0


def test_temperatures_change_probabilities_but_not_their_order(
    checkpoint: Checkpoint,
) -> None:
    feed = example_feed("fusion_heads", 20)
    cold = replace(
        checkpoint, info=replace(checkpoint.info, temperatures=Temperatures(a=0.5, b=0.3))
    )
    usual, sharper = (
        run_graph(export_part(one, "fusion_heads").SerializeToString(), feed)
        for one in (checkpoint, cold)
    )
    assert np.all(np.abs(sharper[0] - 0.5) > np.abs(usual[0] - 0.5))
    np.testing.assert_array_equal(usual[2][:, 1:].argmax(axis=1), sharper[2][:, 1:].argmax(axis=1))


@pytest.mark.parametrize("part", PARTS)
def test_inputs_are_those_of_the_contract_with_any_number_of_rows(
    fp32: dict[str, Path], part: str
) -> None:
    inputs = onnx.load(fp32[part]).graph.input
    found = {
        item.name: (item.type.tensor_type.elem_type, len(item.type.tensor_type.shape.dim))
        for item in inputs
    }
    assert found == DECLARED[part]
    assert all(item.type.tensor_type.shape.dim[0].dim_param == "N" for item in inputs)


def test_pixels_are_cast_before_anything_else(fp32: dict[str, Path]) -> None:
    nodes = [node for node in onnx.load(fp32["clip_vision"]).graph.node if "image" in node.input]
    assert {node.op_type for node in nodes} <= {"Cast", "Shape"}
    assert any(node.op_type == "Cast" for node in nodes)


def test_the_mask_is_made_without_general_indexing(fp32: dict[str, Path]) -> None:
    """The encoder's own construction of masks would leave GatherND and int64 indices."""
    nodes = onnx.load(fp32["bert"]).graph.node
    first, last = (
        next(i for i, node in enumerate(nodes) if name in node.output)
        for name in (SAFE_MASK, ENCODED)
    )
    assert 0 < first < last
    assert not {node.op_type for node in nodes[first : last + 1]} & {
        "GatherND",
        "Where",
        "And",
        "Range",
    }


def test_each_graph_states_its_facts(built: BuiltRepository, repository: Path) -> None:
    for name in built.graph_bytes:
        facts = GraphFacts.of(onnx.load(repository / name))
        assert facts.part == name.split("/")[0]
        assert facts.precision == name.split(".")[-2]
        assert facts.fingerprint == built.contract.graph_fingerprint(facts.part)
        assert "torch " in facts.built_with


def test_no_file_contains_paths_of_the_building_host(
    built: BuiltRepository, repository: Path, manifest: Path
) -> None:
    places = (
        Path(torch.__file__).parent,
        Path(__file__).parents[3],
        Path.home(),
        manifest.parent,
        repository,
    )
    files = [path for path in repository.rglob("*") if path.is_file()]
    assert len(files) > len(built.graph_bytes)
    for path in files:
        data = path.read_bytes()
        assert not [str(place) for place in places if str(place).encode() in data], path
        assert b".py" not in data, path


def test_exporting_does_not_change_the_model(checkpoint: Checkpoint) -> None:
    before = checkpoint.model.text_encoder.config._attn_implementation
    export_part(checkpoint, "bert")
    assert checkpoint.model.text_encoder.config._attn_implementation == before


def test_an_architecture_that_torch_cannot_export_is_refused_with_the_reason(
    checkpoint_with_text_encoder: Callable[..., Path],
) -> None:
    folder = checkpoint_with_text_encoder(
        model_type="xlnet", d_model=32, n_layer=2, n_head=2, d_inner=64, vocab_size=16
    )
    with pytest.raises(
        BuildError,
        match=r"cannot export the graph of text_features: \w+: .+; encoders .* BertModel",
    ):
        export_part(load_checkpoint(folder), "bert")


def test_a_full_disk_is_reported_and_existing_files_stay(
    checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bert.fp32.onnx").write_text("as it was")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = CliRunner().invoke(checkpoint_to_onnx.main, [str(checkpoint_folder), str(tmp_path)])
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"aigid: {tmp_path}/bert.fp32.onnx: cannot be written: No space left on device\n"
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]
