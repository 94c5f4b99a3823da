"""The JSON that other generators write: InvokeAI, NovelAI, Fooocus, SwarmUI, Draw Things, ..."""

from collections.abc import Callable
from typing import Any

from aigid.evidence.aigc_label import read_aigc
from aigid.evidence.comfyui import read_graph, read_long_graph
from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import count_marks, details_of, parse_object
from aigid.evidence.limits import MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata, Text

_NAMES: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_name", "base_model", "sd_model_name", "Model", "base_model_name"),
    "prompt": ("prompt", "positive_prompt", "Prompt", "originalPrompt", "c", "raw_prompt"),
    "negative_prompt": ("negative_prompt", "negativeprompt", "negativePrompt", "uc"),
    "seed": ("seed", "Seed", "image_seed"),
    "steps": ("steps", "Steps", "num_inference_steps"),
    "sampler": ("sampler", "scheduler", "Sampler", "sampler_name"),
    "cfg_scale": ("cfg_scale", "cfgscale", "guidance_scale", "scale", "cfg"),
}
_PROMPTS = ("prompt", "positive_prompt", "Prompt")
_INVOKEAI_FIELDS = ("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata")
_SETTINGS = ("seed", "steps", "sampler", "cfg_scale", "model")


def read_generator_json(text: Text, found: Metadata) -> Finding | None:
    """Return the finding of a text that is JSON of a known form."""
    is_short = len(text.text) < MOST_TEXT_BYTES and found.json_marks.take(count_marks(text.text))
    values = parse_object(text.text) if is_short else None
    if values is None:
        return None if is_short else read_long_graph(text)
    label = read_aigc(text, values)
    if label is not None:
        return label
    for kind, generator, is_its, inner in _FORMS:
        if is_its(text, values, found):
            return _finding(text, kind, generator, _inner(values, inner))
    return read_graph(text, values) or _unnamed(text, values)


def _finding(text: Text, kind: str, generator: str, values: dict[str, Any]) -> Finding:
    model = values.get("model")
    if isinstance(model, dict):
        # InvokeAI's model is an object with a name.
        values = {**values, "model": model.get("name") or model.get("model_name")}
    found = (kind, Says.AI, Strength.METADATA, text.found_in)
    return Finding(*found, source=generator, details=details_of(values, **_NAMES))


def _unnamed(text: Text, values: dict[str, Any]) -> Finding | None:
    """Return the finding of a prompt with two settings or more, by a program without a name."""
    details = details_of(values, **{**_NAMES, "prompt": _PROMPTS})
    if "prompt" not in details or sum(name in details for name in _SETTINGS) < 2:
        return None
    found = ("generation-json", Says.AI, Strength.METADATA, text.found_in)
    return Finding(*found, details=details)


def _inner(values: dict[str, Any], key: str) -> dict[str, Any]:
    inner = values.get(key) if key else values
    return inner if isinstance(inner, dict) else values


def _is_swarmui(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    return isinstance(values.get("sui_image_params"), dict)


def _is_invokeai(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    return text.name in _INVOKEAI_FIELDS or "generation_mode" in values and "app_version" in values


def _is_novelai(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    if not {"uc", "sampler", "steps"} <= values.keys():
        return False
    return "signed_hash" in values or any(
        "novelai" in other.text[:100].lower() for other in found.named("Software", "Source")
    )


def _is_fooocus(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    version = values.get("version", values.get("Version"))
    named = isinstance(version, str) and version.lower().startswith("fooocus")
    return named or any(found.named("fooocus_scheme")) and "prompt" in values


def _is_draw_things(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    if not {"c", "seed", "steps"} <= values.keys():
        return False
    return "v2" in values or any("Draw Things" in tool.text for tool in found.named("CreatorTool"))


def _is_pollinations(text: Text, values: dict[str, Any], found: Metadata) -> bool:
    own = {"nologo", "nofeed", "isMature", "isChild", "originalPrompt", "wasTransformed"}
    return "prompt" in values and len(own & values.keys()) > 1


_FORMS: tuple[tuple[str, str, Callable[[Text, dict[str, Any], Metadata], bool], str], ...] = (
    ("swarmui", "SwarmUI", _is_swarmui, "sui_image_params"),
    ("invokeai", "InvokeAI", _is_invokeai, "image"),
    ("novelai", "NovelAI", _is_novelai, ""),
    ("fooocus", "Fooocus", _is_fooocus, ""),
    ("draw-things", "Draw Things", _is_draw_things, ""),
    ("pollinations", "Pollinations", _is_pollinations, ""),
)
