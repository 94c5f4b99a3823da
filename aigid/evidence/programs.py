"""Names of generators and of editors, in the fields where programs write their names."""

import re

# Where programs write their names.
_GENERATORS = {
    "Adobe Firefly": r"adobe firefly",
    "Google AI": r"google generative ai|google imagen|^imagen [234](?:$|[ .]\d|[ -](?:fast|ultra))"
    r"|google gemini|^gemini \d(?:\.\d)?(?:$|[ -](?:flash|pro|ultra))|nano banana",
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
    "Meta AI": r"^meta ai\b",
    "Leonardo.Ai": r"leonardo\.ai",
    "Ideogram": r"ideogram(?:\.ai| ai|$)",
    "Recraft": r"recraft(?:\.ai| ai|$)",
    "Flux": r"black forest labs|\bflux\.[12]\b",
    "Grok": r"^grok(?:$|[ -]\d| imagine)|\bxai image",
    "Pollinations": r"pollinations",
    "Doubao": r"doubao|豆包",
    "Jimeng": r"jimeng|即梦|dreamina",
}
# In credits, which name people, agencies and companies as well: what can be nobody else. OpenAI's
# own photographs bear its name, and smart glasses are by "Meta AI".
_IN_CREDITS = {
    "Adobe Firefly": r"adobe firefly",
    "Google AI": r"google imagen(?: \d)?|google gemini|gemini nano banana",
    "OpenAI": r"(?:openai[ /]+)?(?:chatgpt|dall[-·. ]?e(?: ?[23])?|gpt-?4o|gpt-image(?:-\d)?)",
    "Midjourney": r"midjourney(?: ai)?(?: v ?\d(?:\.\d)?)?",
    "Stable Diffusion": r"stable diffusion(?: xl| \d(?:\.\d)?)?",
    "Bing Image Creator": r"bing image creator|microsoft bing image creator",
    "Meta AI": r"imagined with (?:meta )?ai",
    "Flux": r"flux\.[12](?: \[?(?:dev|pro|schnell|ultra|kontext)\]?)?",
    "an AI": r"ai[- ]generated(?: image)?",
}
_MADE = r"(?:made|created|generated|produced)"
# Ai Weiwei and other people called Ai make images too.
_BY_AN_AI = re.compile(
    rf"^(?i:{_MADE} (?:with|by|using)(?: an| the help of)?) AI(?i: tools?| model| generator)?[.!]?$"
)
_BY_GOOGLE = re.compile(rf"{_MADE} with google ai", re.IGNORECASE)
_EDITED_WITH_AI = re.compile(r"edited with google ai|edited with (?:galaxy )?ai\b", re.IGNORECASE)
_EDITORS = re.compile(
    r"photoshop|lightroom|\bgimp\b|affinity|capture one|darktable|rawtherapee|pixelmator|snapseed"
    r"|\bcanva\b|picsart|paint\.net|paint shop|corel|luminar|dxo|acorn|krita|photopea|vsco"
    r"|photoscape|faceapp|meitu|facetune|remini|topaz|inkscape|illustrator|indesign|polarr",
    re.IGNORECASE,
)
_PATTERNS = {name: re.compile(rule, re.IGNORECASE) for name, rule in _GENERATORS.items()}
_CREDITS = {
    name: re.compile(rf"(?:(?:image )?{_MADE} (?:with|by|using|in) )?(?:{rule})\W*", re.IGNORECASE)
    for name, rule in _IN_CREDITS.items()
}
_LONGEST_NAME = 300


def name_generator(text: str) -> str:
    """Return the generator that a program's field names, empty where it names none."""
    text = text[:_LONGEST_NAME].strip()
    found = next((name for name, rule in _PATTERNS.items() if rule.search(text)), "")
    return found or generator_of_credit(text)


def generator_of_credit(text: str) -> str:
    """Return the generator that a credit names, empty where it names none, or somebody else too."""
    text = text[:_LONGEST_NAME].strip()
    if _BY_GOOGLE.search(text):
        return "Google AI"
    if _BY_AN_AI.match(text):
        return "an AI"
    return next((name for name, rule in _CREDITS.items() if rule.fullmatch(text)), "")


def names_editor(text: str) -> bool:
    """Tell whether the text of a program's field names one that edits images."""
    return _EDITORS.search(text[:_LONGEST_NAME]) is not None


def says_edited_with_ai(text: str) -> bool:
    """Tell whether the text says that a model changed the image."""
    return _EDITED_WITH_AI.search(text[:_LONGEST_NAME]) is not None
