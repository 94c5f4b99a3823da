"""A1111's parameters text, which Forge, SD.Next, Fooocus and others write as well."""

import re

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail
from aigid.evidence.metadata import Text

_STEPS = re.compile(r"(?:^|\n|, )Steps: ?(\d{1,6})\b")
_OTHER_FIELDS = re.compile(r"\b(Sampler|CFG scale|Seed|Model hash|Schedule type): ?\S")
_LEAST_FIELDS = 2
_FIELD = re.compile(r'(?:^|, |\n)([A-Z][\w ]{1,30}): ?("(?:[^"\\]|\\.){0,500}"|[^,\n]{0,200})')
_MOST_FIELDS, _MOST_CHARACTERS, _LONGEST_TEXT = 100, 20_000, 200_000
_NEGATIVE = "Negative prompt:"
_DETAILS = {
    "Steps": "steps",
    "Seed": "seed",
    "Sampler": "sampler",
    "CFG scale": "cfg_scale",
    "Size": "size",
    "Model": "model",
    "Model hash": "model_hash",
}


def read_parameters(text: Text) -> Finding | None:
    """Return the finding of a parameters text: prompt, then "Steps: 20, Sampler: ..."."""
    content = text.text[:_LONGEST_TEXT]
    steps = _STEPS.search(content) if "Steps:" in content else None
    # Captions count steps too, and name models.
    if steps is None or len(set(_OTHER_FIELDS.findall(content, steps.end()))) < _LEAST_FIELDS:
        return None
    before = content[: steps.start()]
    prompt, _, negative = before.partition(_NEGATIVE)
    settings = content[steps.start() :][:_MOST_CHARACTERS]
    fields: dict[str, str] = {}
    for _, match in zip(range(_MOST_FIELDS), _FIELD.finditer(settings), strict=False):
        fields.setdefault(match[1].strip(), match[2].strip('" '))
    values = {"prompt": prompt, "negative_prompt": negative}
    values |= {name: fields.get(key, "") for key, name in _DETAILS.items()}
    details = {name: detail(value) for name, value in values.items() if detail(value)}
    return Finding(
        "parameters",
        Says.AI,
        Strength.METADATA,
        text.found_in,
        source=_generator(fields.get("Version", "")),
        details=details,
    )


def _generator(version: str) -> str:
    """Return the program that the text's version is one of."""
    low = version.lower()
    if "comfy" in low:
        return "ComfyUI"
    if "fooocus" in low:
        return "Fooocus"
    if "neo" in low or low.startswith("f"):
        return "Forge"
    return "Stable Diffusion web UI"
