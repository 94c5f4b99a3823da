"""Names of generators and of editors, in the fields where programs write their names."""

import re

_GENERATORS = {
    "Adobe Firefly": r"adobe firefly",
    "Google AI": r"(?:made|generated|created) with google ai|google generative ai|google imagen"
    r"|\bimagen [234]\b|google gemini|^gemini \d|nano banana",
    "OpenAI": r"openai|chatgpt|\bdall[-·.]e\b|\bdall ?e ?[23]\b|\bgpt-?4o\b|\bgpt-image\b",
    "Midjourney": r"midjourney",
    "NovelAI": r"novelai",
    "ComfyUI": r"comfyui",
    "InvokeAI": r"invokeai|invoke-ai",
    "Fooocus": r"fooocus",
    "SwarmUI": r"swarmui|stableswarm",
    "Draw Things": r"^draw things",
    "DiffusionBee": r"diffusionbee",
    "Stable Diffusion": r"stable[ -]?diffusion|automatic1111|sd\.next|stability ai",
    "Bing Image Creator": r"bing image creator|microsoft designer"
    r"|image creator from (?:microsoft|bing)",
    "Meta AI": r"imagined? with (?:meta )?ai|\bmeta ai\b",
    "Leonardo.Ai": r"leonardo\.ai",
    "Ideogram": r"ideogram(?:\.ai| ai|$)",
    "Recraft": r"recraft(?:\.ai| ai|$)",
    "Flux": r"black forest labs|\bflux\.[12]\b",
    "Grok": r"\bgrok\b|\bxai image",
    "Pollinations": r"pollinations",
    "Doubao": r"doubao|豆包",
    "Jimeng": r"jimeng|即梦|dreamina",
    "an AI": r"^(?:made|generated|created) (?:with|by|using) ai\b|^ai[- ]generated\b",
}
_EDITED_WITH_AI = re.compile(r"edited with google ai|edited with (?:galaxy )?ai\b", re.IGNORECASE)
_EDITORS = re.compile(
    r"photoshop|lightroom|\bgimp\b|affinity|capture one|darktable|rawtherapee|pixelmator|snapseed"
    r"|\bcanva\b|picsart|paint\.net|paint shop|corel|luminar|dxo|acorn|krita|photopea|vsco"
    r"|photoscape|faceapp|meitu|facetune|remini|topaz|inkscape|illustrator|indesign|polarr",
    re.IGNORECASE,
)
_PATTERNS = {name: re.compile(rule, re.IGNORECASE) for name, rule in _GENERATORS.items()}
_LONGEST_NAME = 300


def name_generator(text: str) -> str:
    """Return the generator that the text names, empty where it names none."""
    text = text[:_LONGEST_NAME].strip()
    return next((name for name, rule in _PATTERNS.items() if rule.search(text)), "")


def names_editor(text: str) -> bool:
    """Tell whether the text of a program's field names one that edits images."""
    return _EDITORS.search(text[:_LONGEST_NAME]) is not None


def says_edited_with_ai(text: str) -> bool:
    """Tell whether the text says that a model changed the image."""
    return _EDITED_WITH_AI.search(text[:_LONGEST_NAME]) is not None
