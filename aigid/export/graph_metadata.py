"""What a graph file says of itself, and how it is written: checked, and the same bytes for the same model anywhere."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from aigid.errors import BuildError
from aigid.records import SOURCES
from aigid.storage import locate, write_atomic

TOOLS = ("torch", "transformers", "onnx", "onnxruntime")


def describe_graph(model: onnx.ModelProto, part: str, fingerprint: str, precision: str) -> None:
    """Replace the metadata of `model` by what its users need: part, model fingerprint, precision, labels, tool versions."""
    strip_origins(model)
    model.producer_name, model.producer_version = "aigid", ""
    facts = {
        "aigid.part": part,
        "aigid.fingerprint": fingerprint,
        "aigid.precision": precision,
        "aigid.labels": ",".join(SOURCES),
        "aigid.built_with": ", ".join(f"{tool} {version(tool)}" for tool in TOOLS),
    }
    onnx.helper.set_model_props(model, facts)


def strip_origins(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes on each node and value: source lines, stack traces and paths of the building machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    _strip_graph(model.graph)
    for function in model.functions:
        _clear(function)
        for node in function.node:
            _clear(node)


def graph_facts(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a graph as a mapping."""
    return {item.key: item.value for item in model.metadata_props}


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check the graph and write it, weights included, in deterministic bytes; makes the folder where it is missing.

    Raises BuildError where it cannot be written; then there is no file, or the one that was there.
    """
    onnx.checker.check_model(model, full_check=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(locate(str(path)), model.SerializeToString(deterministic=True))
    except OSError as error:
        raise BuildError(f"{path}: cannot be written: {error.strerror or error}") from error


def _strip_graph(graph: onnx.GraphProto) -> None:
    _clear(graph)
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        _clear(item)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _strip_graph(attribute.g)


def _clear(item: Any) -> None:
    del item.metadata_props[:]
    item.doc_string = ""
