"""The Python API: every form of image, bad ones, prompts, order, and the same answers as a scan's."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from support.manifests import CAPTIONS, SIDE, encoded_image, manifest_table
from support.scan_results import result_rows

from aigid import Detector
from aigid.cli.main import main
from aigid.errors import ContractError, UsageError
from aigid.records import Detection, ErrorCode


@pytest.fixture(scope="module")
def detector(tiny_repository: Path) -> Detector:
    return Detector.load(tiny_repository)


def test_what_is_no_server_is_refused_before_it_is_asked(tiny_repository: Path) -> None:
    with pytest.raises(UsageError, match="'localhost' is no address: give the HOST:PORT"):
        Detector.load("triton://localhost")
    with pytest.raises(UsageError, match="repository= is for Triton servers"):
        Detector.load(tiny_repository, repository=tiny_repository)
    with pytest.raises(ContractError, match="nothing: not a model repository"):
        Detector.load("triton://localhost:9", repository="nothing")


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def errors(detections: list[Detection]) -> list[ErrorCode | None]:
    return [detection.error.code if detection.error else None for detection in detections]


def test_a_detection_has_all_that_a_result_row_has(detector: Detector) -> None:
    (detection,) = detector.detect([encoded_image(0)], ["a red car"])
    assert detection.error is None
    assert isinstance(detection.p_ai, float)
    assert isinstance(detection.is_ai, bool)
    assert detection.is_ai == (detection.p_ai >= 0.5)
    assert (detection.source == "real") == (not detection.is_ai)
    assert detection.p_source is not None
    assert len(detection.p_source) == 6
    assert sum(detection.p_source) == pytest.approx(1, abs=1e-5)
    assert detection.p_source[0] == pytest.approx(1 - detection.p_ai, abs=1e-6)


def test_no_images_give_no_detections(detector: Detector) -> None:
    assert detector.detect([]) == []
    assert detector.detect([], []) == []


def test_every_form_of_an_image_gives_the_same_answer(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded_image(3)
    (tmp_path / "one.png").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    picture = opened(data)
    forms = [
        data,
        str(tmp_path / "one.png"),
        tmp_path / "one.png",
        "one.png",
        Path("one.png"),
        picture,
        np.asarray(picture),
    ]
    detections = detector.detect(forms, ["a red car"] * len(forms))
    assert detections == [detections[0]] * len(forms)
    assert detections[0].error is None


def test_an_array_of_images_is_a_list_of_them(detector: Detector) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    assert detector.detect(pictures) == detector.detect(list(pictures))


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_a_pil_image_of_any_mode_is_answered_as_its_colours(detector: Detector, mode: str) -> None:
    colours = opened(encoded_image(4))
    picture = colours.convert("P").convert("PA") if mode == "PA" else colours.convert(mode)
    found = detector.detect([picture, png(picture.convert("RGB"))])
    assert found[0] == found[1]
    assert found[0].error is None


def test_a_16_bit_pil_image_is_answered_as_its_8_bit_one(detector: Detector) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    found = detector.detect([wide, Image.fromarray(grey)])
    assert found[0] == found[1]
    assert found[0].error is None


def test_transparency_is_laid_over_white(detector: Detector) -> None:
    rgba = opened(encoded_image(5)).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    palette = opened(encoded_image(6)).quantize(2)
    palette.info["transparency"] = 0
    bleached = palette.copy()
    bleached.putpalette(b"\xff\xff\xff" + bytes(palette.getpalette() or ())[3:])
    del bleached.info["transparency"]
    found = detector.detect([rgba, png(rgba), white, palette, bleached])
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert found[0] != found[3]


def test_a_pil_image_is_turned_upright_as_its_file_is(detector: Detector) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    opened(encoded_image(7, side=60)).save(stream, "JPEG", exif=exif)
    turned = opened(stream.getvalue())
    found = detector.detect([stream.getvalue(), turned, np.asarray(turned)])
    assert found[0] == found[1]
    # An array has no EXIF: it is as it is.
    assert found[0] != found[2]


def test_the_callers_pil_image_is_left_as_it_was(detector: Detector) -> None:
    stream = io.BytesIO()
    opened(encoded_image(7, side=600)).save(stream, "JPEG")
    picture = opened(stream.getvalue())
    detector.detect([picture])
    assert picture.size == (600, 600)
    assert np.array_equal(np.asarray(picture), np.asarray(opened(stream.getvalue())))


@pytest.mark.filterwarnings("ignore:.*:PIL.Image.DecompressionBombWarning")
def test_bad_images_give_detections_with_an_error_and_the_rest_is_answered(
    detector: Detector, tmp_path: Path, header_of: Callable[[int, int], bytes]
) -> None:
    (tmp_path / "notes.jpg").write_text("this is a text file")
    (tmp_path / "empty.png").write_bytes(b"")
    good, whole = encoded_image(8), encoded_image(9)
    cases = [
        (good, None),
        (tmp_path / "no-such.png", ErrorCode.MISSING),
        ("", ErrorCode.EMPTY),
        (str(tmp_path), ErrorCode.UNDECODABLE),
        (tmp_path / "notes.jpg", ErrorCode.UNDECODABLE),
        (tmp_path / "empty.png", ErrorCode.EMPTY),
        ("https://127.0.0.1/x.png", ErrorCode.FORBIDDEN),
        (b"", ErrorCode.EMPTY),
        (b"not an image", ErrorCode.UNDECODABLE),
        (whole[:-200], ErrorCode.UNDECODABLE),
        (opened(whole[:-200]), ErrorCode.UNDECODABLE),
        (header_of(12_000, 10_000), ErrorCode.TOO_LARGE),
        (opened(header_of(12_000, 10_000)), ErrorCode.TOO_LARGE),
        (Image.new("F", (40, 40)), ErrorCode.UNDECODABLE),
        (Image.new("I", (40, 40)), ErrorCode.UNDECODABLE),
        (Image.new("RGB", (0, 40)), ErrorCode.EMPTY),
        (np.zeros((0, 40, 3), np.uint8), ErrorCode.EMPTY),
        (np.zeros((40, 0, 3), np.uint8), ErrorCode.EMPTY),
        (good, None),
    ]
    detections = detector.detect([image for image, _ in cases], ["a red car"] * len(cases))
    assert errors(detections) == [code for _, code in cases]
    for detection in detections[1:-1]:
        assert detection.p_ai is detection.is_ai is detection.source is detection.p_source is None
        assert detection.error is not None
        assert detection.error.detail
    assert detections[0] == detections[-1] == detector.detect([good], ["a red car"])[0]


@pytest.fixture
def header_of() -> Callable[[int, int], bytes]:
    """Makes a PNG of which the header claims that many pixels."""

    def make(width: int, height: int) -> bytes:
        import struct
        import zlib

        data = bytearray(encoded_image(0))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    return make


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((40, 40, 3)), r"float64 \[40, 40, 3\]"),
        (np.zeros((40, 40, 3), np.float32), r"float32 \[40, 40, 3\]"),
        (np.zeros((40, 40, 3), np.uint16), r"uint16 \[40, 40, 3\]"),
        (np.zeros((40, 40), np.uint8), r"uint8 \[40, 40\]"),
        (np.zeros((40, 40, 4), np.uint8), r"uint8 \[40, 40, 4\]"),
        (np.zeros((3, 40, 40), np.uint8), r"uint8 \[3, 40, 40\]"),
        (np.zeros((1, 40, 40, 3), np.uint8), r"uint8 \[1, 40, 40, 3\]"),
        (np.zeros(40, np.uint8), r"uint8 \[40\]"),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused_with_what_is_expected(
    detector: Detector, array: np.ndarray, said: str
) -> None:
    with pytest.raises(UsageError, match=r"uint8 \[height, width, 3\]: got " + said):
        detector.detect([encoded_image(0), array])


@pytest.mark.parametrize("image", [None, 5, 0.5, ["a.png"], {"bytes": b""}])
def test_what_is_no_image_at_all_is_refused_with_its_type(
    detector: Detector, image: object
) -> None:
    with pytest.raises(UsageError, match=f"got {type(image).__name__}"):
        detector.detect([image])


@pytest.mark.parametrize("prompt", [float("nan"), 5, b"a red car", ["a red car"]])
def test_what_is_no_text_is_refused_with_its_type(detector: Detector, prompt: object) -> None:
    with pytest.raises(UsageError, match=f"got {type(prompt).__name__}"):
        detector.detect([encoded_image(0)], [prompt])


@pytest.mark.parametrize(
    "images", ["one.jpg", b"\xff\xd8", Path("one.jpg"), Image.new("RGB", (9, 9))]
)
def test_a_single_image_instead_of_a_list_is_refused(detector: Detector, images: object) -> None:
    with pytest.raises(UsageError, match="list"):
        detector.detect(images)


def test_a_single_prompt_instead_of_a_list_is_refused(detector: Detector) -> None:
    with pytest.raises(UsageError, match="list"):
        detector.detect([encoded_image(0)], "x")


def test_another_number_of_prompts_than_images_is_refused(detector: Detector) -> None:
    with pytest.raises(UsageError, match="2 images but 1 prompts"):
        detector.detect([encoded_image(0), encoded_image(1)], ["a red car"])
    with pytest.raises(UsageError, match="1 images but 0 prompts"):
        detector.detect([encoded_image(0)], [])


def test_no_prompt_is_the_empty_prompt(detector: Detector) -> None:
    data = encoded_image(2)
    assert (
        detector.detect([data]) == detector.detect([data], [None]) == detector.detect([data], [""])
    )
    assert detector.detect([data]) != detector.detect([data], ["two dogs"])


def test_half_a_surrogate_pair_in_a_prompt_is_left_out(detector: Detector) -> None:
    # What is left of an emoji where a text was cut, as JSON can hold it.
    data = encoded_image(2)
    assert detector.detect([data], ["a red car \ud83d"]) == detector.detect([data], ["a red car "])


def test_order_is_kept_with_prompts_of_all_lengths_and_errors_between(detector: Detector) -> None:
    images = [encoded_image(number) if number % 7 else b"damaged" for number in range(75)]
    prompts = ["red " * (number * 37 % 150) for number in range(75)]
    alone = [
        detector.detect([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)
    ]
    assert detector.detect(images, prompts) == alone
    assert len({detection.p_ai for detection in alone}) > 60
    assert errors(alone) == [None if number % 7 else ErrorCode.UNDECODABLE for number in range(75)]


def test_the_answers_are_those_of_a_scan(
    detector: Detector, tiny_repository: Path, write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    table = manifest_table(70)
    images = [row["bytes"] for row in table["Image"].to_pylist()]
    images[5], images[40] = b"damaged", b""
    column = pa.array(
        [{"bytes": image, "path": None} for image in images], table.schema.field("Image").type
    )
    manifest = write_manifest(
        table.set_column(table.schema.get_field_index("Image"), "Image", column)
    )
    words = ["scan", manifest, "--model", tiny_repository, "--out", tmp_path / "results"]
    assert (
        CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False).exit_code
        == 0
    )
    rows = result_rows(tmp_path / "results")
    for row, detection in zip(
        rows, detector.detect(images, table["Caption"].to_pylist()), strict=True
    ):
        assert (row["p_ai"], row["is_ai"], row["source"]) == (
            detection.p_ai,
            detection.is_ai,
            detection.source,
        )
        assert row["p_source"] == (list(detection.p_source) if detection.p_source else None)
        error = detection.error
        assert (row["error"], row["error_detail"]) == (
            (error.code, error.detail) if error else (None, None)
        )
    assert {row["is_ai"] for row in rows} == {True, False, None}


def test_the_threshold_decides(tiny_repository: Path, detector: Detector) -> None:
    images = [encoded_image(number) for number in range(12)]
    prompts = [CAPTIONS[number % 3] for number in range(12)]
    p_ai = [detection.p_ai for detection in detector.detect(images, prompts)]
    # That of one of the rows: at the threshold counts as AI.
    threshold = sorted(p for p in p_ai if p is not None)[6]
    other = Detector.load(tiny_repository, threshold=threshold)
    found = other.detect(images, prompts)
    assert [detection.p_ai for detection in found] == p_ai
    assert [detection.is_ai for detection in found] == [
        p is not None and p >= threshold for p in p_ai
    ]
    assert sum(bool(detection.is_ai) for detection in found) == 6


def test_a_model_is_loaded_by_text_or_path_or_refused_by_name(
    tiny_repository: Path, tmp_path: Path
) -> None:
    assert (
        Detector.load(str(tiny_repository)).scorer.contract
        == Detector.load(tiny_repository).scorer.contract
    )
    assert Detector.load(tiny_repository).scorer.contract.image.size == SIDE
    with pytest.raises(ContractError, match="nowhere"):
        Detector.load(tmp_path / "nowhere")
