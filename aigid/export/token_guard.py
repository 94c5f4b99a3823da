"""Guard a text encoder, so that it never fails: wrong token ids give features of NaN.

A failing operator would fail every request that a server has put into the same batch.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IDS, MASK, FEATURES = "input_ids", "attention_mask", "text_features"

# The names that a guarded encoder reads and writes.
SAFE_IDS, SAFE_MASK, ENCODED = "safe_ids", "safe_mask", "encoded_features"


def guard_tokens(model: onnx.ModelProto, vocabulary: int, max_tokens: int) -> None:
    """Put the guard around the encoder of `bert`, in place; valid rows keep their exact features.

    A row with an id outside 0 to `vocabulary` - 1 gets features of NaN. So do all rows, if there
    are no tokens, more than `max_tokens`, or a mask of another length.
    """
    graph = model.graph
    names = {IDS: SAFE_IDS, MASK: SAFE_MASK, FEATURES: ENCODED}
    for node in graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    encoder = list(graph.node)
    del graph.node[:]
    graph.node.extend([*_before(), *encoder, *_after()])
    graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in _constants(vocabulary, max_tokens).items()
    )


def _constants(vocabulary: int, max_tokens: int) -> dict[str, np.ndarray]:
    return {
        "guard_start": np.array([0], np.int64),
        "guard_axis": np.array([1], np.int64),
        "guard_max_tokens": np.array([max_tokens], np.int64),
        "guard_one": np.array([1], np.int64),
        "guard_id_padding": np.array([0, 0, 0, 1], np.int64),
        "guard_mask_padding": np.array([0, 0, 0, max_tokens], np.int64),
        "guard_first_id": np.array(0, np.int32),
        "guard_vocabulary": np.array(vocabulary, np.int32),
        "guard_yes": np.array(1, np.int32),
        "guard_nan": np.array(np.nan, np.float32),
    }


def _before() -> list[onnx.NodeProto]:
    """Return nodes that make valid ids, at least one and not too many, and a mask as long."""
    return [
        helper.make_node("Shape", [IDS], ["tokens"], start=1, end=2),
        helper.make_node("Max", ["tokens", "guard_one"], ["tokens_or_one"]),
        helper.make_node("Min", ["tokens_or_one", "guard_max_tokens"], ["cut_tokens"]),
        helper.make_node("Pad", [IDS, "guard_id_padding"], ["padded_ids"]),
        helper.make_node(
            "Slice", ["padded_ids", "guard_start", "cut_tokens", "guard_axis"], ["cut_ids"]
        ),
        helper.make_node("GreaterOrEqual", ["cut_ids", "guard_first_id"], ["ids_from_0"]),
        helper.make_node("Less", ["cut_ids", "guard_vocabulary"], ["ids_in_vocabulary"]),
        helper.make_node("And", ["ids_from_0", "ids_in_vocabulary"], ["ids_known"]),
        helper.make_node("Where", ["ids_known", "cut_ids", "guard_first_id"], [SAFE_IDS]),
        helper.make_node("Pad", [MASK, "guard_mask_padding"], ["padded_mask"]),
        helper.make_node(
            "Slice", ["padded_mask", "guard_start", "cut_tokens", "guard_axis"], [SAFE_MASK]
        ),
    ]


def _after() -> list[onnx.NodeProto]:
    """Return nodes that pass on the features of valid rows, and NaN for all others."""
    return [
        helper.make_node("Cast", ["ids_known"], ["ids_known_01"], to=TensorProto.INT32),
        helper.make_node("ReduceMin", ["ids_known_01", "guard_axis"], ["row_known"], keepdims=1),
        helper.make_node("Shape", [MASK], ["mask_tokens"], start=1, end=2),
        helper.make_node("Equal", ["tokens", "cut_tokens"], ["tokens_fit"]),
        helper.make_node("Equal", ["tokens", "mask_tokens"], ["mask_fits"]),
        helper.make_node("And", ["tokens_fit", "mask_fits"], ["lengths_fit"]),
        helper.make_node("Equal", ["row_known", "guard_yes"], ["row_fits"]),
        helper.make_node("And", ["row_fits", "lengths_fit"], ["row_right"]),
        helper.make_node("Where", ["row_right", ENCODED, "guard_nan"], [FEATURES]),
    ]
