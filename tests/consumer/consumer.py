# pyright: strict
"""A user's own program. It is clean under mypy --strict and pyright.

`python consumer.py FOLDER` detects images, and scans `manifest.parquet` in the folder.
"""

import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt
from PIL import Image

import aigid


def image(number: int) -> npt.NDArray[np.uint8]:
    """Return a small image of noise."""
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(number: int) -> bytes:
    """Return the image as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image(number)).save(stream, "PNG")
    return stream.getvalue()


def describe(detection: aigid.Detection) -> str:
    """Return one line about an answer."""
    if detection.error is not None:
        assert_type(detection.error, aigid.RowError)
        assert_type(detection.error.code, aigid.ErrorCode)
        return f"{detection.error.code.value}: {detection.error.detail}"
    assert_type(detection.p_ai, float | None)
    assert_type(detection.evidence, str | None)
    assert_type(detection.findings, tuple[aigid.Finding, ...])
    assert detection.p_ai is not None and detection.p_source is not None
    return f"{detection.p_ai:.3f} {detection.source} {max(detection.p_source):.3f}"


def detect(folder: Path) -> list[aigid.Detection]:
    """Detect images in every form."""
    path = folder / "image.png"
    path.write_bytes(encoded(0))
    with aigid.Detector.load(threshold=0.6) as detector, path.open("rb") as file:
        assert_type(detector.name, str)
        assert_type(detector.labels, tuple[str, ...])
        assert_type(detector.threshold, float)
        print(f"{detector.name}: {detector.notice}")
        data = encoded(0)
        hugging_face: dict[str, bytes | str | None] = {"bytes": data, "path": None}
        detections = detector.detect(
            [
                path,
                str(path),
                data,
                bytearray(data),
                memoryview(data),
                io.BytesIO(data),
                file,
                Image.open(path),
                image(0),
                image(0)[:, :, 0],
                hugging_face,
                folder / "missing.png",
            ],
            ["a red car", None] * 6,
        )

        def generated() -> Iterator[bytes]:
            for number in range(3):
                yield encoded(number)

        detections += detector.detect(generated())
        detections += detector.detect(list(folder.glob("*.png")))
    assert_type(detections, list[aigid.Detection])
    (finding, *_) = (*aigid.read_evidence(encoded(0)), *detections[0].findings, None)
    if finding is not None:
        assert_type(finding.says, aigid.Says)
        assert_type(finding.strength, aigid.Strength)
    return detections


def report(summary: aigid.ScanSummary) -> None:
    """Print the fields of a summary."""
    assert_type(summary.rows, int)
    assert_type(summary.sources, dict[str, int])
    assert_type(summary.error_rate, float)
    print(f"{summary.ai} of {summary.scored} of {summary.rows}, {summary.shards} shards")
    print(f"{summary.model.name} {summary.model.fingerprint[:8]} at {summary.threshold}")
    print(f"{summary.errors} {summary.error_rate:.2f} {summary.run.seconds >= 0}")
    for code, example in summary.error_examples.items():
        print(f"{code}: {example.manifest}, row {example.row}: {example.detail}")


def scan(folder: Path) -> None:
    """Scan in each way that `aigid.scan` can be called."""
    manifest = folder / "manifest.parquet"
    summary = aigid.scan(manifest, out=folder / "one", progress=False)
    assert_type(summary, aigid.ScanSummary)
    report(summary)
    aigid.scan([str(manifest)], out=str(folder / "two"), threshold=0.9, keep=["prompt"], limit=2)
    config = aigid.ScanConfig((str(manifest),), str(folder / "three"), shard_rows=2)
    report(aigid.scan(config, progress=False))


def errors(folder: Path) -> None:
    """Catch errors by their classes."""
    try:
        aigid.scan(folder / "missing.parquet", out=folder / "four")
    except aigid.ManifestError as error:
        print(f"manifest: {error}")
    try:
        aigid.Detector.load(folder / "missing")
    except aigid.ContractError as error:
        assert_type(error.exit_status, int)
        print(f"model: {error}")
    try:
        aigid.Detector.load("triton://localhost:1,localhost:1")
    except aigid.UsageError as error:
        print(f"usage: {error}")
    except aigid.AigidError as error:
        print(f"other: {error}")


def main(folder: Path) -> None:
    """Do all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", aigid.ModelNoticeWarning)
        for detection in detect(folder):
            print(describe(detection))
        scan(folder)
        errors(folder)
    print(f"aigid {aigid.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
