"""IPTC's digital source types, as C2PA, XMP and IPTC name them.

The list: https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from aigid.evidence.findings import Says

_SAYS = {
    "trainedAlgorithmicMedia": Says.AI,
    "trainedAlgorithmicData": Says.AI,
    "compositeWithTrainedAlgorithmicMedia": Says.EDITED,
    "compositeSynthetic": Says.EDITED,
    "composite": Says.EDITED,
    "compositeCapture": Says.EDITED,
    "algorithmicallyEnhanced": Says.EDITED,
    "minorHumanEdits": Says.EDITED,
    "humanEdits": Says.EDITED,
    "digitalCapture": Says.CAMERA,
    "computationalCapture": Says.CAMERA,
    "negativeFilm": Says.CAMERA,
    "positiveFilm": Says.CAMERA,
    "print": Says.CAMERA,
    # Made by rules or by hand: neither a trained model nor a camera.
    "algorithmicMedia": Says.NONE,
    "dataDrivenMedia": Says.NONE,
    "digitalArt": Says.NONE,
    "digitalCreation": Says.NONE,
    "screenCapture": Says.NONE,
    "virtualRecording": Says.NONE,
}
_BY_LOWER_NAME = {name.lower(): name for name in _SAYS}


def name_source_type(value: str) -> str:
    """Return the type's name, of its URL or name; empty for a type that is not on the list."""
    last = value.strip().rstrip("/").replace(":", "/").rpartition("/")[2]
    return _BY_LOWER_NAME.get(last.lower(), "")


def source_type_says(name: str) -> Says:
    """Return what a type says, `none` for an unknown one."""
    return _SAYS.get(name, Says.NONE)
