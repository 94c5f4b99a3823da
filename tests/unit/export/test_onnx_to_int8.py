import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_to_int8
import onnxruntime as ort
import pytest
from support.onnx_graphs import example_feed, rows_of, run_graph

from aigid.errors import AigidError
from aigid.export.graph_fusion import fuse_for_cpu
from aigid.export.int8_scales import PAIR_MAX
from aigid.export.onnx_to_int8 import EncoderQuantizer
from aigid.export.pipeline import BuiltRepository
from aigid.scorers import PARTS

LAYERS = 2
ENCODERS = ("bert", "clip_vision")


def graph_of(repository: Path, part: str, precision: str) -> Path:
    return repository / part / "1" / f"model.{precision}.onnx"


def operators(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("part", ENCODERS)
def test_the_fused_graph_computes_the_same_as_the_exported_one(
    fp32: dict[str, Path], part: str
) -> None:
    exported = onnx.load(fp32[part])
    fused = ir.from_proto(exported)
    fuse_for_cpu(fused)
    feed = example_feed(part, 5, tokens=16)
    expected = run_graph(exported.SerializeToString(), feed)[0]
    np.testing.assert_allclose(
        run_graph(ir.to_proto(fused).SerializeToString(), feed)[0], expected, atol=1e-4
    )


@pytest.mark.parametrize("part", ENCODERS)
def test_encoders_consist_of_integer_products_and_fused_attentions(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    found = operators(onnx.load(graph_of(repository, part, "int8")).graph)
    patches = part == "clip_vision"
    assert found["MultiHeadAttention"] == LAYERS
    assert found["MatMulIntegerToFloat"] == 6 * LAYERS + patches
    # Pixels need none; the last layer quantizes the only token of its query separately.
    assert found["QuantizeLinear"] == 4 * LAYERS + 1
    assert not found.keys() & {
        "MatMul",
        "Gemm",
        "Conv",
        "Softmax",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    # The residual reads every norm of BERT; of CLIP's norms, the last layer picks its query's token
    # from one.
    [
        ("bert", {"Gelu": LAYERS, "LayerNormalization": 2 * LAYERS, "Gather": 1}),
        ("clip_vision", {"Mul": LAYERS, "LayerNormalization": 1, "Gather": 1}),
    ],
)
def test_smoothing_goes_into_earlier_weights_wherever_they_can_take_it(
    built: BuiltRepository, repository: Path, part: str, expected: dict[str, int]
) -> None:
    graph = onnx.load(graph_of(repository, part, "int8")).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    smoothed = [
        node for node in graph.node if any(name.endswith("_smoothing") for name in node.input)
    ]
    found = Counter(makers[node.input[0]] for node in smoothed)
    assert found.keys() <= expected.keys()
    assert all(found[maker] <= expected[maker] for maker in found)
    assert any("_of_" in item.name for item in graph.initializer)


@pytest.mark.parametrize("part", ENCODERS)
def test_the_last_layer_computes_only_the_first_token(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    model = onnx.load(graph_of(repository, part, "int8"))
    final = [node for node in model.graph.node if node.op_type == "MultiHeadAttention"][-1]
    product = next(node for node in model.graph.node if final.input[0] in node.output)
    probe = onnx.helper.make_tensor_value_info(product.output[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(probe)
    answers = run_graph(model.SerializeToString(), example_feed(part, 3, tokens=16))
    assert answers[-1].shape[:2] == (3, 1)


@pytest.mark.parametrize("part", ENCODERS)
def test_int8_features_are_close_to_fp32_features(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    feed = example_feed(part, 64, tokens=16)
    fp32, int8 = (
        run_graph(graph_of(repository, part, precision), feed)[0] for precision in ("fp32", "int8")
    )
    spread = np.linalg.norm(fp32 - fp32.mean(axis=0))
    assert 0 < np.linalg.norm(int8 - fp32) < 0.15 * spread


@pytest.mark.parametrize("part", ENCODERS)
def test_sums_of_two_products_fit_into_16_bits(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    """CPUs without VNNI saturate larger sums, and would give other results."""
    graph = onnx.load(graph_of(repository, part, "int8")).graph
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    products = [
        weights[node.input[1]] for node in graph.node if node.op_type == "MatMulIntegerToFloat"
    ]
    assert {weight.dtype for weight in products} == {np.dtype(np.int8)}
    for weight in products:
        pairs = weight.astype(np.int32).reshape(-1, 2, weight.shape[1])
        for sums in (np.clip(pairs, 0, None).sum(axis=1), np.clip(-pairs, 0, None).sum(axis=1)):
            assert np.iinfo(np.uint8).max * sums.max() <= np.iinfo(np.int16).max
            # The whole range is used.
            assert sums.max() >= PAIR_MAX - 2


@pytest.mark.parametrize("part", ENCODERS)
@pytest.mark.parametrize("rows", [1, 8, 33])
def test_int8_results_equal_those_of_exact_products(
    built: BuiltRepository, repository: Path, part: str, rows: int
) -> None:
    graph, feed = graph_of(repository, part, "int8"), example_feed(part, rows, tokens=16)
    options = ort.SessionOptions()
    # On CPUs without VNNI, ONNX Runtime then uses slower products that do not saturate.
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = ort.InferenceSession(graph, options, ["CPUExecutionProvider"]).run(None, feed)
    np.testing.assert_array_equal(run_graph(graph, feed)[0], exact[0])


def test_the_command_works_in_a_process_of_its_own(
    fp32: dict[str, Path], checkpoint_folder: Path, manifest: Path, tmp_path: Path
) -> None:
    for part, path in fp32.items():
        shutil.copy(path, tmp_path / f"{part}.fp32.onnx")
    command = [
        sys.executable,
        onnx_to_int8.__file__,
        checkpoint_folder,
        tmp_path,
        tmp_path / "made",
    ]
    command += ["--calibration", manifest, "--rows", 4]
    done = subprocess.run(
        [str(item) for item in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        f"{part}.int8.onnx" for part in PARTS
    ]


def test_int8_probabilities_are_close_to_fp32_probabilities(
    built: BuiltRepository, repository: Path
) -> None:
    answers = {}
    for precision in ("fp32", "int8"):
        features = {
            "text_features": run_graph(
                graph_of(repository, "bert", precision), example_feed("bert", 64)
            )[0],
            "image_features": run_graph(
                graph_of(repository, "clip_vision", precision), example_feed("clip_vision", 64)
            )[0],
        }
        answers[precision] = run_graph(graph_of(repository, "fusion_heads", precision), features)[0]
    assert np.abs(answers["fp32"] - answers["int8"]).mean() < 0.02


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("part", PARTS)
def test_the_result_of_a_row_does_not_depend_on_its_batch(
    built: BuiltRepository, repository: Path, part: str, precision: str, threads: int
) -> None:
    graph = graph_of(repository, part, precision)
    feed, others = example_feed(part, 32, tokens=16), example_feed(part, 32, tokens=16, seed=2)
    whole = run_graph(graph, feed, threads)
    for rows in ([0], [31], [3, 17], list(range(7)), list(range(31, -1, -1))):
        for answer, expected in zip(
            run_graph(graph, rows_of(feed, rows), threads), whole, strict=True
        ):
            np.testing.assert_array_equal(answer, expected[rows])
    mixed = {name: np.concatenate([value[:5], others[name]]) for name, value in feed.items()}
    for answer, expected in zip(run_graph(graph, mixed, threads), whole, strict=True):
        np.testing.assert_array_equal(answer[:5], expected[:5])


def test_padding_changes_the_features_of_a_prompt_by_rounding_only(
    built: BuiltRepository, repository: Path
) -> None:
    short = example_feed("bert", 4, tokens=8)
    longer = {name: np.pad(value, ((0, 0), (0, 24))) for name, value in short.items()}
    graph = graph_of(repository, "bert", "fp32")
    np.testing.assert_allclose(run_graph(graph, short)[0], run_graph(graph, longer)[0], atol=1e-5)


def test_quantizing_without_calibration_rows_is_refused(fp32: dict[str, Path]) -> None:
    with pytest.raises(AigidError, match="calibration rows"):
        EncoderQuantizer(onnx.load(fp32["bert"])).quantized()
