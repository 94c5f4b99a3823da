"""ComfyUI's graphs: `prompt`, which was run, and `workflow`, which the user drew."""

import re
from collections.abc import Iterator
from typing import Any

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail, details_of
from aigid.evidence.metadata import Text

_MOST_NODES = 2000
_MOST_LINKS = 16
# The inputs of nodes that hold what the details tell, in the order of preference.
_MODEL_KEYS = ("ckpt_name", "unet_name", "model_name", "model", "base_ckpt_name")
_SEED_KEYS, _STEPS_KEYS = ("seed", "noise_seed"), ("steps",)
_PROMPT_KEYS = ("text", "prompt", "text_g", "clip_l", "t5xxl", "string", "value", "positive")
# Nodes that load a diffusion model, unlike those that load a VAE or a text encoder.
_LOADERS = re.compile(r"(?:Checkpoint|UNET|Unet|UnetLoader|Efficient|DiffusionModel|ImageOnly)")
_SAMPLER_KEYS = ("sampler_name",)
# How nodes begin, in a text that is too long to parse.
_NODES = re.compile(r'"class_type": ?"\w|"last_node_id": ?\d|"widgets_values": ?[\[{]')
_STARTS_WITHIN = 65_536


def read_graph(text: Text, values: dict[str, Any]) -> Finding | None:
    """Return the finding of a graph in either form."""
    nodes = list(_nodes_that_ran(values))
    if nodes:
        return _finding(text, _details(values, nodes))
    if _is_workflow(values):
        return _finding(text, _details_of_workflow(values["nodes"]))
    return None


def _is_workflow(values: dict[str, Any]) -> bool:
    """Tell a workflow from the nodes and links of other graphs, by its widgets or its counter."""
    nodes = values.get("nodes")
    if not isinstance(nodes, list) or not isinstance(values.get("links"), list):
        return False
    return "last_node_id" in values or any(
        isinstance(node, dict) and "widgets_values" in node for node in nodes[:_MOST_NODES]
    )


def read_long_graph(text: Text) -> Finding | None:
    """Return the finding of a graph that is too long to parse, by how its nodes begin."""
    return _finding(text, {}) if _NODES.search(text.text[:_STARTS_WITHIN]) else None


def _finding(text: Text, details: dict[str, str]) -> Finding:
    found = ("comfyui", Says.AI, Strength.METADATA, text.found_in)
    return Finding(*found, source="ComfyUI", details=details)


def _nodes_that_ran(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for _, node in zip(range(_MOST_NODES), values.values(), strict=False):
        if isinstance(node, dict) and isinstance(node.get("class_type"), str):
            yield _inputs(node)


def _details(graph: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Return the details of the inputs; the prompt is what the sampler's `positive` leads to."""
    found: dict[str, str] = {}
    names = {"model": _MODEL_KEYS, "seed": _SEED_KEYS, "steps": _STEPS_KEYS}
    for inputs in nodes:
        own = details_of(inputs, **names, sampler=_SAMPLER_KEYS)
        found = {**own, **found}
    for role, name in (("positive", "prompt"), ("negative", "negative_prompt")):
        start = next((inputs[role] for inputs in nodes if role in inputs), None)
        prompt = _linked_text(graph, start, role)
        if prompt:
            found[name] = prompt
    if "prompt" not in found:
        texts = (details_of(inputs, prompt=_PROMPT_KEYS[:4]) for inputs in nodes)
        found |= next(filter(None, texts), {})
    return found


def _linked_text(graph: dict[str, Any], link: object, role: str) -> str:
    """Follow links, such as ["6", 0], to the first node that holds a text.

    A node with inputs of both roles, such as a ControlNet's, is followed by the one of `role`.
    """
    seen: set[str] = set()
    waiting = [link]
    while waiting and len(seen) < _MOST_LINKS:
        link = waiting.pop()
        if isinstance(link, str):
            return detail(link)
        key = str(link[0]) if isinstance(link, list) and link else ""
        inputs = _inputs(graph.get(key))
        if key in seen or not inputs:
            continue
        seen.add(key)
        text = details_of(inputs, text=_PROMPT_KEYS).get("text", "")
        if text:
            return text
        own = [inputs[role]] if role in inputs else list(inputs.values())[:_MOST_LINKS]
        waiting += [value for value in reversed(own) if isinstance(value, list)]
    return ""


def _inputs(node: object) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _details_of_workflow(nodes: list[Any]) -> dict[str, str]:
    """Return the model's name: a workflow has its values by position, without names."""
    for node in nodes[:_MOST_NODES]:
        if not isinstance(node, dict) or not _LOADERS.match(str(node.get("type"))[:100]):
            continue
        values = node.get("widgets_values")
        for value in values[:32] if isinstance(values, list) else ():
            if isinstance(value, str) and value.endswith((".safetensors", ".ckpt", ".gguf")):
                return {"model": detail(value)}
    return {}
