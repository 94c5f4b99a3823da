"""Labels of origin in EXIF, XMP, IPTC and PNG text: source types, programs, credits, cameras."""

import re
from collections.abc import Iterator

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail
from aigid.evidence.metadata import Metadata, Text
from aigid.evidence.programs import (
    generator_of_credit,
    name_generator,
    names_editor,
    says_edited_with_ai,
)
from aigid.evidence.source_types import name_source_type, source_type_says

_SOURCE_TYPE_FIELDS = ("DigitalSourceType", "DigitalSourceFileType", "digitalsourcetype")
_PROGRAM_FIELDS = (
    *("Software", "CreatorTool", "ProcessingSoftware", "OriginatingProgram"),
    *("softwareAgent", "Producer"),
)
# Names of people, agencies and brands stand here too: those of editors would be taken for them.
_CREDIT_FIELDS = ("Credit", "Source", "Make")
_AI_FIELDS = ("AISystemUsed", "AIPromptInformation")
_JOB_ID = re.compile(r"\bJob ID: ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_LONGEST_PROMPT = 20_000
_MIDJOURNEY = ("DigImageGUID", "Author")
_VERSION = re.compile(r"--v ([\d.]{1,5})")
_NOT_USED = ("none", "no", "no ai", "not used", "not applicable", "n/a", "na", "-", "false")
_CAMERA_PLACES = ("EXIF", "XMP")


def read_labels(found: Metadata) -> Iterator[Finding]:
    """Yield the findings of labels."""
    for text in found.named(*_SOURCE_TYPE_FIELDS):
        yield from _source_type(text)
    yield from _programs(found)
    for text in found.named("Description", "description", "ImageDescription", "Caption"):
        yield from _midjourney(text, found)
    yield from _iptc_of_ai(found)
    yield from _camera(found)


def _source_type(text: Text) -> Iterator[Finding]:
    name = name_source_type(text.text[:300])
    if name:
        details = {"digital_source_type": name}
        found = ("digital-source-type", source_type_says(name), Strength.METADATA, text.found_in)
        yield Finding(*found, details=details)


def _programs(found: Metadata) -> Iterator[Finding]:
    """Yield the findings of programs, each once: XMP's history names one for each save."""
    seen: set[tuple[str, str]] = set()
    for text in found.named(*_PROGRAM_FIELDS, *_CREDIT_FIELDS):
        for finding in _program(text):
            if (finding.kind, finding.source) not in seen:
                seen.add((finding.kind, finding.source))
                yield finding


def _program(text: Text) -> Iterator[Finding]:
    # In PNG, the source is the device or the program.
    is_program = text.name in _PROGRAM_FIELDS or (text.place, text.name) == ("PNG", "Source")
    generator = (name_generator if is_program else generator_of_credit)(text.text)
    kind = "credit" if text.name == "Credit" else "software"
    value = {"value": detail(text.text)}
    if generator:
        found = (kind, Says.AI, Strength.METADATA, text.found_in)
        yield Finding(*found, source=generator, details=value)
    elif says_edited_with_ai(text.text) or (is_program and names_editor(text.text)):
        found = (kind, Says.EDITED, Strength.METADATA, text.found_in)
        yield Finding(*found, source=detail(text.text)[:100], details=value)


def _midjourney(text: Text, found: Metadata) -> Iterator[Finding]:
    """Yield the finding of a prompt with Midjourney's job, as it writes into descriptions.

    Picture agencies number their jobs too: beside it stands a setting or another of its fields.
    """
    job = _JOB_ID.search(text.text[:_LONGEST_PROMPT])
    if job is None or not (" --" in text.text[: job.start()] or any(found.named(*_MIDJOURNEY))):
        return
    version = _VERSION.search(text.text)
    details = {"prompt": detail(text.text[: job.start()]), "job_id": job[1]}
    if version is not None:
        details["model"] = version[1]
    about = ("midjourney", Says.AI, Strength.METADATA, text.found_in)
    yield Finding(*about, source="Midjourney", details=details)


def _iptc_of_ai(found: Metadata) -> Iterator[Finding]:
    """Yield the finding of IPTC's fields for generated images (2025.1)."""
    fields = {
        text.name: text
        for text in found.named(*_AI_FIELDS)
        if text.place == "XMP" and text.text.strip(" .").lower() not in _NOT_USED
    }
    if fields:
        values = {name: detail(text.text) for name, text in fields.items()}
        names = {"AISystemUsed": "model", "AIPromptInformation": "prompt"}
        details = {names[name]: value for name, value in values.items() if value}
        where = ", ".join(sorted(text.found_in for text in fields.values()))
        source = values.get("AISystemUsed", "")
        yield Finding("iptc-ai", Says.AI, Strength.METADATA, where, source=source, details=details)


def _camera(found: Metadata) -> Iterator[Finding]:
    """Yield the camera of the first block that names one."""
    for place in _CAMERA_PLACES:
        fields = {text.name: text.text for text in found.texts if text.place == place}
        make, model = detail(fields.get("Make", ""))[:100], detail(fields.get("Model", ""))[:100]
        # ComfyUI writes its graphs into both fields.
        if not make + model or "{" in make + model or generator_of_credit(make):
            continue
        names = {"lens": "LensModel", "taken_at": "DateTimeOriginal", "software": "Software"}
        details = {key: detail(fields[name]) for key, name in names.items() if name in fields}
        where = " and ".join(name for name in ("Make", "Model") if name in fields)
        found_in = f"{place} {where}"
        camera = ("camera", Says.CAMERA, Strength.CAMERA_EXIF, found_in)
        yield Finding(*camera, source=_device(make, model), details=details)
        return


def _device(make: str, model: str) -> str:
    """Return the device's name, with the brand once."""
    repeated = make.lower().split()[:1] == model.lower().split()[:1]
    return model if repeated else f"{make} {model}".strip()
