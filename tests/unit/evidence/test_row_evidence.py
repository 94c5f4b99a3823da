"""The evidence of a row: bounded, and text that every reader of Parquet takes."""

import json

import pytest
from support.c2pa_files import created, make_issuer, signed
from support.evidence_files import A1111, png, png_with_text

from aigid.errors import UsageError
from aigid.evidence import EvidenceReader, Finding, RowEvidence, Says, Strength


def finding(text: str, says: Says = Says.AI) -> Finding:
    return Finding("parameters", says, Strength.METADATA, "PNG text", details={"prompt": text})


def test_a_file_with_a_prompt_says_ai_with_its_findings_as_json() -> None:
    row = RowEvidence.of(EvidenceReader().read(png_with_text(parameters=A1111)))
    assert row.says is Says.AI
    (found,) = json.loads(row.detail or "")
    assert (found["kind"], found["details"]["seed"]) == ("parameters", "4242")


def test_a_file_without_metadata_says_none_and_has_no_detail() -> None:
    assert RowEvidence.of(EvidenceReader().read(png())) == RowEvidence(Says.NONE, None)
    assert RowEvidence.of(EvidenceReader().read(b"no image")) == RowEvidence(Says.NONE, None)


def test_findings_that_say_nothing_are_still_in_the_detail() -> None:
    row = RowEvidence.of([finding("", Says.NONE)])
    assert row.says is Says.NONE
    assert len(json.loads(row.detail or "")) == 1


def test_what_does_not_fit_is_counted_and_the_strongest_stays() -> None:
    row = RowEvidence.of([finding(f"{number}" * 3000) for number in range(9)])
    found = json.loads(row.detail or "")
    assert [one["kind"] for one in found] == ["parameters"] * 5 + ["left-out"]
    assert found[-1]["details"] == {"findings": "4"}
    assert len((row.detail or "").encode()) < 17 << 10


def test_a_finding_that_is_too_large_alone_loses_its_details() -> None:
    row = RowEvidence.of([finding("é" * 20_000), finding("b")])
    assert [one["details"] for one in json.loads(row.detail or "")] == [{}, {"prompt": "b"}]


@pytest.mark.parametrize("text", ["half \ud83d", "\udc80", "nul \0", "\u2028", "漢字 😀", '"}]\\'])
def test_any_text_is_valid_unicode_and_valid_json(text: str) -> None:
    detail = RowEvidence.of([finding(text)]).detail or ""
    detail.encode()
    expected = text.encode("utf-8", "replace").decode()
    assert json.loads(detail)[0]["details"]["prompt"] == expected


def test_signatures_of_trusted_issuers_are_stronger() -> None:
    issuer = make_issuer()
    image = signed(issuer, created("trainedAlgorithmicMedia"))
    for reader, strength in (
        (EvidenceReader(), "signed_untrusted"),
        (EvidenceReader(issuer.root), "signed_trusted"),
    ):
        assert (
            json.loads(RowEvidence.of(reader.read(image)).detail or "")[0]["strength"] == strength
        )


@pytest.mark.parametrize("anchors", ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA"])
def test_anchors_that_are_no_certificates_are_refused(anchors: str) -> None:
    with pytest.raises(UsageError, match="^`trust_anchors`: "):
        EvidenceReader(anchors)
