"""From bodies to pairs: what is read, and what is refused with which problem."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from aigid.records import ErrorCode
from aigid.service.config import ServiceLimits
from aigid.service.pairs import MOST_JSON_MARKS, Question, parse_question
from aigid.service.problems import Problem

LIMITS = ServiceLimits()
IMAGE = b"\xff\xd8\xff\x00 an image"
TEXT = base64.b64encode(IMAGE).decode()


def from_json(document: object) -> Question:
    return parse(json.dumps(document).encode(), "application/json")


def parse(body: bytes, content_type: str) -> Question:
    return parse_question(body, Headers({"content-type": content_type}), LIMITS)


def form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """Return a form of parts: the rest of each header, and the content."""
    heads = [(f"Content-Disposition: form-data; {head}".encode(), data) for head, data in parts]
    return b"".join(b"--b\r\n%s\r\n\r\n%s\r\n" % part for part in heads) + end


def from_form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> Question:
    return parse(form(*parts, end=end), "multipart/form-data; boundary=b")


FILE = 'name="image"; filename="a.jpg"'


@pytest.mark.parametrize(
    "text", [TEXT, f"data:image/jpeg;base64,{TEXT}", f"{TEXT[:4]}\n{TEXT[4:]}"]
)
def test_json_has_images_in_base64_or_data_uris(text: str) -> None:
    (pair,) = from_json({"pairs": [{"image": text, "prompt": "a red car"}]}).pairs
    assert (pair.image.data, pair.prompt) == (IMAGE, "a red car")


def test_fields_of_json_may_be_absent_or_null() -> None:
    question = from_json({"pairs": [{}, {"image": None, "prompt": None}, {"url": "http://a/b"}]})
    assert [pair.image.data for pair in question.pairs] == [None] * 3
    assert [pair.image.path for pair in question.pairs] == [None, None, "http://a/b"]
    assert question.evidence
    assert not from_json({"pairs": [{}], "evidence": False}).evidence


def test_an_image_that_is_no_base64_is_an_error_of_its_pair() -> None:
    bad, good = from_json({"pairs": [{"image": "%%%"}, {"image": TEXT}]}).pairs
    assert bad.image.error is not None
    assert bad.image.error.code is ErrorCode.UNDECODABLE
    assert good.image.data == IMAGE


def test_a_form_has_files_and_prompts_in_order() -> None:
    parts = [(FILE, IMAGE), ('name="prompt"', "eine Möwe".encode()), (FILE, b"two")]
    parts += [('name="prompt"', b""), ('name="evidence"', b"false")]
    question = from_form(*parts)
    assert [pair.image.data for pair in question.pairs] == [IMAGE, b"two"]
    assert [pair.prompt for pair in question.pairs] == ["eine Möwe", ""]
    assert not question.evidence


def test_a_form_without_prompts_has_none() -> None:
    assert [pair.prompt for pair in from_form((FILE, IMAGE), (FILE, IMAGE)).pairs] == [None, None]


def test_a_file_may_hold_what_looks_like_a_boundary() -> None:
    data = b"--b\r\n--b--\r\n\r\n--bb\r\n-"
    (pair,) = from_form((FILE, data.replace(b"\r\n--b", b"\r\n--c"))).pairs
    assert pair.image.data == data.replace(b"\r\n--b", b"\r\n--c")


BAD_JSON: list[tuple[bytes, int, str]] = [
    (b"", 400, "the body is not JSON"),
    (b"{", 400, "the body is not JSON"),
    (b'{"pairs": [{"image": "\xff"}]}', 400, "not UTF-8 at byte 22"),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b'{"pairs": ' + b"1" * 5000 + b"}", 400, "the body is not JSON"),
    (b"[" + b"0," * MOST_JSON_MARKS + b"0]", 413, "more than 500000 brackets"),
    (b"[]", 422, "the body must be an object"),
    (b"null", 422, "the body must be an object"),
    (b"{}", 422, "pairs must be a list"),
    (b'{"pairs": {}}', 422, "pairs must be a list"),
    (b'{"pairs": []}', 422, "there is no pair"),
    (b'{"pairs": [1]}', 422, "pairs[0] must be an object"),
    (b'{"pairs": [{}, {"image": 7}]}', 422, "pairs[1].image must be a string"),
    (b'{"pairs": [{"prompt": ["a"]}]}', 422, "pairs[0].prompt must be a string"),
    (b'{"pairs": [{"image": "QQ==", "url": "http://a"}]}', 422, "has an image and a url"),
    (b'{"pairs": [{"imgae": "QQ=="}]}', 422, "unknown field 'imgae'"),
    (b'{"pairs": [{}], "threshold": 0.1}', 422, "unknown field 'threshold'"),
    (b'{"pairs": [{}], "evidence": 1}', 422, "evidence must be true or false"),
    (json.dumps({"pairs": [{}] * 257}).encode(), 413, "257 pairs; at most 256"),
]


@pytest.mark.parametrize(("body", "status", "detail"), BAD_JSON)
def test_bad_json_is_a_problem_with_a_remedy(body: bytes, status: int, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(body, "application/json")
    assert caught.value.status == status
    assert detail in caught.value.detail
    assert caught.value.remedy


BAD_FORMS: list[tuple[bytes, int, str]] = [
    (b"", 400, "ends before its last boundary"),
    (b"no form", 400, "the form cannot be read"),
    (form((FILE, IMAGE), end=b""), 400, "ends before its last boundary"),
    (form(("filename=a", IMAGE)), 400, "has no name"),
    (form(('name="prompt"', b"\xff")), 400, "'prompt' is not UTF-8 at byte 0"),
    (form(), 422, "there is no pair"),
    (form(('name="image"', IMAGE)), 422, "'image' (text) that is not known"),
    (form(('name="prompt"; filename="p"', b"a")), 422, "'prompt' (file) that is not known"),
    (form((FILE, IMAGE), ('name="evidence"', b"maybe")), 422, "'evidence' (text)"),
    (form((FILE, IMAGE), (FILE, IMAGE), ('name="prompt"', b"a")), 422, "2 images, but 1 prompts"),
    (form(*[(FILE, IMAGE)] * 257), 413, "257 pairs; at most 256"),
    (form(*[(FILE, IMAGE)] * 600), 413, "more than 515 parts"),
]


@pytest.mark.parametrize(("body", "status", "detail"), BAD_FORMS)
def test_a_bad_form_is_a_problem_with_a_remedy(body: bytes, status: int, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(body, "multipart/form-data; boundary=b")
    assert caught.value.status == status
    assert detail in caught.value.detail
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("text/plain", 415),
        ("image/jpeg", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 400),
        (f"multipart/form-data; boundary={'b' * 300}", 400),
    ],
)
def test_other_content_types_are_refused(content_type: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parse(b"{}", content_type)
    assert caught.value.status == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["pairs", "image", "prompt", "url", "evidence"]), inner)
    ),
)


@given(JSON)
def test_any_json_is_a_question_or_a_problem(document: Any) -> None:
    try:
        assert from_json(document).pairs
    except Problem as problem:
        assert problem.status in (400, 413, 422)


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"--b", b"--b--", b"\r\n", FILE.encode()]))
)
def test_any_bytes_are_a_question_or_a_problem(parts: list[bytes]) -> None:
    for content_type in ("multipart/form-data; boundary=b", "application/json"):
        try:
            assert parse(b"".join(parts), content_type).pairs
        except Problem as problem:
            assert problem.status in (400, 413, 422)
