import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.onnx_graphs import example_feed, rows_of, run_graph

import aigid.export.onnx_to_int8 as onnx_to_int8
from aigid.errors import AigidError
from aigid.export.checkpoint_to_onnx import export_part
from aigid.export.graph_fusion import fuse_for_cpu
from aigid.export.graph_metadata import describe_graph
from aigid.export.onnx_to_int8 import (
    PAIR_MAX,
    EncoderQuantizer,
    SeenChannels,
    activation_scale,
    quantize_columns,
    rounding_error,
    see_channels,
    smoothing_factors,
)
from aigid.export.pipeline import BuiltRepository
from aigid.scorers.tensors import PARTS
from aigid.training.checkpoint import Checkpoint

LAYERS = 2
ENCODERS = ("bert", "clip_vision")


def graph_of(repository: Path, part: str, precision: str) -> Path:
    return repository / part / "1" / f"model.{precision}.onnx"


def operators(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("part", ENCODERS)
def test_the_fused_graph_says_what_the_exported_one_says(checkpoint: Checkpoint, part: str) -> None:
    exported = export_part(checkpoint, part)
    fused = ir.from_proto(exported)
    fuse_for_cpu(fused)
    feed = example_feed(part, 5, tokens=16)
    expected = run_graph(exported.SerializeToString(), feed)[0]
    np.testing.assert_allclose(
        run_graph(ir.to_proto(fused).SerializeToString(), feed)[0], expected, atol=2e-5
    )


@pytest.mark.parametrize("part", ENCODERS)
def test_the_encoders_are_made_of_integer_products_and_whole_attentions(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    found = operators(onnx.load(graph_of(repository, part, "int8")).graph)
    patches = part == "clip_vision"
    assert found["MultiHeadAttention"] == LAYERS
    assert found["MatMulIntegerToFloat"] == 6 * LAYERS + patches
    # Pixels need none; the last layer quantizes the one token of its query apart.
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
    # Of BERT's norms, the residual uses every one; of CLIP's, the last layer picks its query's token from one.
    [
        ("bert", {"Gelu": LAYERS, "LayerNormalization": 2 * LAYERS, "Gather": 1}),
        ("clip_vision", {"Mul": LAYERS, "LayerNormalization": 1, "Gather": 1}),
    ],
)
def test_smoothing_takes_no_operator_of_its_own_where_weights_before_can_take_it(
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
def test_the_last_layer_computes_only_the_token_that_leaves(
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
def test_int8_features_are_near_the_fp32_ones(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    feed = example_feed(part, 64, tokens=16)
    fp32, int8 = (
        run_graph(graph_of(repository, part, precision), feed)[0] for precision in ("fp32", "int8")
    )
    spread = np.linalg.norm(fp32 - fp32.mean(axis=0))
    assert 0 < np.linalg.norm(int8 - fp32) < 0.15 * spread


@pytest.mark.parametrize("part", ENCODERS)
def test_the_sums_of_two_products_fit_into_16_bits(
    built: BuiltRepository, repository: Path, part: str
) -> None:
    """CPUs without VNNI instructions cut off what does not fit, and their answers would be others."""
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
            # The room that there is is used.
            assert sums.max() >= PAIR_MAX - 2


@pytest.mark.parametrize("part", ENCODERS)
@pytest.mark.parametrize("rows", [1, 8, 33])
def test_int8_answers_are_those_of_exact_products(
    built: BuiltRepository, repository: Path, part: str, rows: int
) -> None:
    graph, feed = graph_of(repository, part, "int8"), example_feed(part, rows, tokens=16)
    options = ort.SessionOptions()
    # On CPUs without VNNI instructions, this has ONNX Runtime take slower products that cut nothing off.
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


def test_int8_probabilities_are_near_the_fp32_ones(
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
def test_a_rows_answer_does_not_depend_on_its_neighbours(
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


def test_padding_changes_a_prompts_features_by_rounding_only(
    built: BuiltRepository, repository: Path
) -> None:
    short = example_feed("bert", 4, tokens=8)
    longer = {name: np.pad(value, ((0, 0), (0, 24))) for name, value in short.items()}
    graph = graph_of(repository, "bert", "fp32")
    np.testing.assert_allclose(run_graph(graph, short)[0], run_graph(graph, longer)[0], atol=1e-5)


def test_an_encoder_that_saw_no_rows_is_refused(checkpoint: Checkpoint) -> None:
    fp32 = export_part(checkpoint, "bert")
    describe_graph(fp32, "bert", checkpoint.fingerprint, "fp32")
    with pytest.raises(AigidError, match="calibration rows"):
        EncoderQuantizer(fp32).quantized()


def unlike_channels() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    activation = generator.normal(size=(50, 6)).astype(np.float32) * np.float32(
        [1, 100, 1, 1, 0.01, 0]
    )
    return activation, generator.normal(size=(6, 4)).astype(np.float32)


def test_smoothing_moves_range_between_activation_and_weights_without_changing_the_product() -> (
    None
):
    activation, weight = unlike_channels()
    factors = smoothing_factors(see_channels(activation), [weight[:, :1], weight[:, 1:]])
    np.testing.assert_allclose(
        (activation / factors) @ (weight * factors[:, None]), activation @ weight, rtol=1e-3
    )
    smooth = np.abs(activation / factors).max(axis=0)[:4]
    assert smooth.max() / smooth.min() < 20
    assert factors[5] == 1


def test_smoothing_lowers_the_expected_error() -> None:
    activation, weight = unlike_channels()
    seen = see_channels(activation)
    with_smoothing = rounding_error(seen, weight, smoothing_factors(seen, [weight]))
    assert with_smoothing < 0.5 * rounding_error(seen, weight, np.ones(6, np.float32))


def test_the_expected_rounding_error_is_the_one_that_comes() -> None:
    generator = np.random.default_rng(0)
    activation = generator.normal(size=(400, 64)).astype(np.float32) * generator.uniform(
        0.1, 3, 64
    ).astype(np.float32)
    weight = generator.normal(size=(64, 48)).astype(np.float32)
    seen, factors = see_channels(activation), generator.uniform(0.5, 2, 64).astype(np.float32)
    scale, zero_point = activation_scale(seen, factors)
    codes = np.clip(np.rint(activation / factors / scale) + zero_point, 0, 255)
    weights, scales = quantize_columns(weight * factors[:, None])
    error = (codes - zero_point) * scale @ (weights * scales) - activation @ weight
    expected = rounding_error(seen, weight, factors)
    assert np.square(error).sum(axis=1).mean() == pytest.approx(expected, rel=0.1)


def test_what_is_seen_in_parts_is_what_is_seen_at_once() -> None:
    activation, _ = unlike_channels()
    parts, whole = (
        see_channels(activation[:7]).joined(see_channels(activation[7:])),
        see_channels(activation),
    )
    assert parts.tokens == whole.tokens == 50
    np.testing.assert_array_equal((parts.low, parts.high), (whole.low, whole.high))
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-5)


def test_zero_is_exact_in_every_activation_scale_and_all_that_was_seen_fits() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        seen = SeenChannels(np.float32([low]), np.float32([high]), np.float32([1]), 1)
        scale, zero_point = activation_scale(seen, np.float32([1]))
        assert 0 <= zero_point <= 255
        assert (0 - zero_point) * scale <= min(low, 0) + scale / 2
        assert (255 - zero_point) * scale >= max(high, 0) - scale / 2


def test_columns_keep_their_own_scale_and_empty_ones_stay_zero() -> None:
    weight = np.float32([[1.0, 0.001, 0.0], [-0.5, -0.0005, 0.0]])
    codes, scales = quantize_columns(weight)
    np.testing.assert_allclose(codes * scales, weight, rtol=0.01)
    assert codes[:, :2].max() == 127
