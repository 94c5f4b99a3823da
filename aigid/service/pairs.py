"""From the body of a request to pairs: JSON with base64, or multipart files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import repeat
from typing import Any

from starlette.datastructures import Headers

from aigid.fetch import ImageReference, decoded_text
from aigid.records import ErrorCode, RowError
from aigid.service.config import ServiceLimits
from aigid.service.form import FORM_REMEDY, parse_form
from aigid.service.problems import Problem, invalid, malformed, too_large

# Values of JSON need up to 60 times the memory of their text. No real request has so many.
MOST_JSON_MARKS = 500_000
_JSON_MARKS = (b"[", b"{", b",", b'"')

_PAIRS_REMEDY = (
    'Send {"pairs": [{"image": "BASE64", "prompt": "TEXT"}]}; /docs has the form of requests.'
)


@dataclass(frozen=True)
class Pair:
    """An image and its prompt, as a client sent them."""

    image: ImageReference
    prompt: str | None


@dataclass(frozen=True)
class Question:
    """What a request asks for: the pairs, and whether evidence is wanted."""

    pairs: tuple[Pair, ...]
    evidence: bool


def parse_question(body: bytes, headers: Headers, limits: ServiceLimits) -> Question:
    """Return what a body asks for. Raises Problem: 400, 413, 415 or 422."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        question = _from_json(body)
    elif kind == "multipart/form-data":
        question = _from_form(body, headers["content-type"], limits)
    else:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            f"the content type {kind[:60]!r} is not read",
            "Send application/json or multipart/form-data.",
        )
    if not question.pairs:
        raise invalid("there is no pair", "Send at least one image.")
    if len(question.pairs) > limits.max_pairs:
        raise too_large(
            f"{len(question.pairs)} pairs; at most {limits.max_pairs} in a request",
            "Send the pairs in several requests.",
        )
    return question


def _from_json(body: bytes) -> Question:
    if sum(map(body.count, _JSON_MARKS)) > MOST_JSON_MARKS:
        raise too_large(
            f"the JSON has more than {MOST_JSON_MARKS} brackets, commas and quotation marks",
            _PAIRS_REMEDY,
        )
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 at byte {error.start}", _PAIRS_REMEDY) from error
    except RecursionError as error:
        raise malformed("the JSON is nested too deeply", _PAIRS_REMEDY) from error
    except ValueError as error:
        raise malformed(f"the body is not JSON: {error}", _PAIRS_REMEDY) from error
    fields = _fields(document, "the body", {"pairs", "evidence"})
    pairs, evidence = fields.get("pairs"), fields.get("evidence", True)
    if not isinstance(pairs, list):
        raise invalid("pairs must be a list", _PAIRS_REMEDY)
    if not isinstance(evidence, bool):
        raise invalid("evidence must be true or false", _PAIRS_REMEDY)
    return Question(tuple(_pair(pair, f"pairs[{n}]") for n, pair in enumerate(pairs)), evidence)


def _fields(value: object, where: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where} must be an object", _PAIRS_REMEDY)
    for name in value:
        if name not in known:
            fields = ", ".join(sorted(known))
            raise invalid(
                f"{where} has the unknown field {name[:60]!r}; its fields are {fields}",
                _PAIRS_REMEDY,
            )
    return value


def _pair(value: object, where: str) -> Pair:
    fields = _fields(value, where, {"image", "url", "prompt"})
    image, url, prompt = (fields.get(name) for name in ("image", "url", "prompt"))
    for name, text in (("image", image), ("url", url), ("prompt", prompt)):
        if not isinstance(text, str | None):
            raise invalid(f"{where}.{name} must be a string or null", _PAIRS_REMEDY)
    if image is not None and url is not None:
        raise invalid(f"{where} has an image and a url: give one of them", _PAIRS_REMEDY)
    if url is not None:
        return Pair(ImageReference(None, url), prompt)
    return Pair(_encoded_image(image), prompt)


def _encoded_image(text: str | None) -> ImageReference:
    """Return the image in base64 or a data: URI. A text that is neither is an error of its pair."""
    if text is None:
        return ImageReference(None, None)
    data = decoded_text(text)
    if data is None:
        detail = "the image is neither base64 nor a data: URI"
        return ImageReference(None, None, error=RowError(ErrorCode.UNDECODABLE, detail))
    return ImageReference(data, None)


def _from_form(body: bytes, content_type: str, limits: ServiceLimits) -> Question:
    images, prompts, evidence = list[bytes](), list[str | None](), True
    # One part more than may be: the count of pairs has an error of its own.
    for part in parse_form(body, content_type, 2 * limits.max_pairs + 3):
        if part.name == "image" and part.is_file:
            images.append(part.data)
        elif part.name == "prompt" and not part.is_file:
            prompts.append(part.text())
        elif part.name == "evidence" and part.data in (b"true", b"false"):
            evidence = part.data == b"true"
        else:
            kind = "file" if part.is_file else "text"
            raise invalid(
                f"the form has a part {part.name[:60]!r} ({kind}) that is not known", FORM_REMEDY
            )
    if prompts and len(prompts) != len(images):
        raise invalid(f"{len(images)} images, but {len(prompts)} prompts", FORM_REMEDY)
    references = [ImageReference(data, None) for data in images]
    return Question(tuple(map(Pair, references, prompts or repeat(None))), evidence)
