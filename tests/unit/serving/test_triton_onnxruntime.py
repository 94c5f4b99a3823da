"""The backend's batching and its errors, on a real graph, with a stand-in for Triton's module."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def backend(python_backend: None) -> Any:
    return importlib.import_module("aigid.serving.triton_onnxruntime")


BATCHED = {"max_batch_size": 64, "parameters": {"slice_rows": {"string_value": "3"}}}


@pytest.fixture(params=[BATCHED, {"max_batch_size": 0}], ids=["batched", "alone"])
def model(request: pytest.FixtureRequest, backend: Any, tmp_path: Path) -> Iterator[Any]:
    """A model that looks ids up in a table of ten and sums them for each row.

    So each row has an answer of its own, and an id of 10 is refused.
    """
    table = onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32) + 0.5, "table")
    one = onnx.numpy_helper.from_array(np.array([1], np.int64), "axis")
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["found"]),
        onnx.helper.make_node("ReduceSum", ["found", "axis"], ["sum"], keepdims=1),
    ]
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT32, ["N", "T"])
    out = onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, ["N", 1])
    graph = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "sum", [ids], [out], [table, one]),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    (tmp_path / "3").mkdir()
    onnx.save(graph, tmp_path / "3" / "any.onnx")
    config = {
        "input": [{"name": "ids"}],
        "output": [{"name": "sum"}],
        "default_model_filename": "any.onnx",
    }
    config |= request.param
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(tmp_path),
            "model_version": "3",
        }
    )
    yield model
    model.finalize()


requests = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 3)).flatmap(
        lambda shape: st.lists(
            st.lists(st.integers(0, 10), min_size=shape[1], max_size=shape[1]),
            min_size=shape[0],
            max_size=shape[0],
        )
    ),
    min_size=1,
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests)
def test_every_request_has_its_own_rows_or_its_own_error(
    model: Any, ids: list[list[list[int]]]
) -> None:
    feeds = [{"ids": np.array(rows, np.int32)} for rows in ids]
    for rows, response in zip(ids, model.execute(feeds), strict=True):
        if any(one == 10 for row in rows for one in row):
            assert response.tensors == []
            assert "Gather" in response.refusal.message()
            assert response.refusal.code() == "internal"
        else:
            assert response.refusal is None
            assert response.tensors[0].name == "sum"
            np.testing.assert_allclose(
                response.tensors[0].value[:, 0], [sum(row) + 0.5 * len(row) for row in rows]
            )


def test_threads_are_set_by_the_configuration_or_a_share_of_the_cores(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    assert backend.thread_count({}) == 8
    assert backend.thread_count({"instance_group": [{"count": 2}, {"count": 1}]}) == 2
    assert backend.thread_count({"instance_group": [{"count": 20}]}) == 1
    assert (
        backend.thread_count({"parameters": {"intra_op_thread_count": {"string_value": "3"}}}) == 3
    )


def test_the_configuration_sets_the_rows_of_a_slice(backend: Any) -> None:
    assert backend.slice_rows({}) == 8
    assert backend.slice_rows({"parameters": {"slice_rows": {"string_value": "32"}}}) == 32


def test_a_batch_is_computed_in_slices_on_all_threads(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
            rows.append(len(feed["ids"]))
            return list(session.run(outputs, feed))

    session, rows = model._session, list[int]()
    monkeypatch.setattr(model, "_session", Watched())
    model.execute(
        [
            {"ids": np.ones((5, 2), np.int32)},
            {"ids": np.ones((3, 2), np.int32)},
            {"ids": np.ones((2, 1), np.int32)},
        ]
    )
    assert sorted(rows) == ([2, 2, 3, 3] if model._slice_rows else [2, 3, 5])


def test_a_request_with_nan_among_its_inputs_gets_the_error_of_the_configuration(
    backend: Any, tmp_path: Path
) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "negation", [value], [out])
    (tmp_path / "1").mkdir()
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=10),
        tmp_path / "1" / "model.onnx",
    )
    config = {"input": [{"name": "x"}], "output": [{"name": "y"}], "max_batch_size": 8}
    feeds = [{"x": np.array([[1, value]], np.float32)} for value in (2, np.nan, 3)]
    for parameters, errors in (
        ({}, [None] * 3),
        ({"nan_input_error": {"string_value": "no number"}}, [None, "no number", None]),
    ):
        model = backend.TritonPythonModel()
        args = {
            "model_config": json.dumps(config | {"parameters": parameters}),
            "model_repository": str(tmp_path),
        }
        model.initialize(args | {"model_version": "1"})
        responses = model.execute(feeds)
        model.finalize()
        assert [response.refusal and response.refusal.message() for response in responses] == errors
        assert {response.refusal.code() for response in responses if response.refusal} <= {
            "invalid argument"
        }
        np.testing.assert_array_equal(responses[2].tensors[0].value, [[-1, -3]])
