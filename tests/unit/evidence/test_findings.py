"""The order of findings, and their JSON."""

from itertools import permutations

import pytest

from aigid.evidence import Finding, Says, Strength, strongest


def finding(says: Says, strength: Strength) -> Finding:
    return Finding("test", says, strength, "a field")


def test_the_stronger_one_wins_and_at_a_tie_ai_then_edited_then_camera() -> None:
    ordered = [
        finding(Says.CAMERA, Strength.SIGNED_TRUSTED),
        finding(Says.AI, Strength.SIGNED_UNTRUSTED),
        finding(Says.CAMERA, Strength.SIGNED_UNTRUSTED),
        finding(Says.AI, Strength.METADATA),
        finding(Says.EDITED, Strength.METADATA),
        finding(Says.CAMERA, Strength.METADATA),
        finding(Says.CAMERA, Strength.CAMERA_EXIF),
    ]
    for first, second in zip(ordered, ordered[1:], strict=False):
        for pair in permutations((first, second)):
            assert strongest(pair) is first


def test_what_says_nothing_is_never_the_strongest() -> None:
    silent = finding(Says.NONE, Strength.SIGNED_TRUSTED)
    weak = finding(Says.CAMERA, Strength.CAMERA_EXIF)
    assert strongest([silent, weak]) is weak
    assert strongest([silent]) is None
    assert strongest([]) is None


@pytest.mark.parametrize("strength", Strength)
def test_a_finding_as_json(strength: Strength) -> None:
    one = Finding("camera", Says.CAMERA, strength, "EXIF Make", "Canon", {"lens": "50 mm"})
    assert one.to_json() == {
        "kind": "camera",
        "says": "camera",
        "source": "Canon",
        "strength": strength.name.lower(),
        "found_in": "EXIF Make",
        "details": {"lens": "50 mm"},
    }
