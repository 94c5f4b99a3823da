"""aigid: tell which images are AI-generated, and by which model, at scale."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load `Detector` and `Detection` when asked for, so that `aigid --help` stays quick."""
    if name == "Detector":
        from aigid.detector import Detector

        return Detector
    if name == "Detection":
        from aigid.records import Detection

        return Detection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
