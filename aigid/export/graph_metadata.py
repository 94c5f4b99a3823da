"""The metadata of graph files, and writing them: checked, and the same bytes for the same model."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from aigid.errors import BuildError
from aigid.storage import locate, write_atomic

TOOLS = ("torch", "transformers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class GraphFacts:
    """The facts that a graph file states about itself; empty strings for those it does not state.

    `part` is bert, clip_vision or fusion_heads. `fingerprint` is the model's, or in a graph of an
    encoder the encoders'. `built_with` is a comma-separated list.
    """

    part: str
    fingerprint: str
    precision: str
    built_with: str

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "GraphFacts":
        """Return the facts of a graph."""
        stated = {item.key: item.value for item in model.metadata_props}
        names = ("part", "fingerprint", "precision", "built_with")
        return cls(*(stated.get(f"aigid.{name}", "") for name in names))

    def to_metadata(self) -> dict[str, str]:
        """Return the facts as ONNX metadata."""
        return {
            "aigid.part": self.part,
            "aigid.fingerprint": self.fingerprint,
            "aigid.precision": self.precision,
            "aigid.built_with": self.built_with,
        }


def describe_graph(model: onnx.ModelProto, part: str, fingerprint: str, precision: str) -> None:
    """Replace the metadata of `model` by GraphFacts, in place."""
    strip_origins(model)
    model.producer_name, model.producer_version = "aigid", ""
    tools = ", ".join(f"{tool} {version(tool)}" for tool in TOOLS)
    facts = GraphFacts(part, fingerprint, precision, tools)
    onnx.helper.set_model_props(model, facts.to_metadata())


def strip_origins(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on nodes and values.

    They hold source lines, stack traces and paths of the computer that exported the graph.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    _strip_graph(model.graph)
    for function in model.functions:
        _clear(function)
        for node in function.node:
            _clear(node)


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it with its weights, as deterministic bytes.

    Creates the folder if it is missing. Raises BuildError if the file cannot be written; an
    existing file stays as it was then.
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
