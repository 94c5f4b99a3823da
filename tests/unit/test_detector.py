"""Detector: every form of an image, bad items, bad arguments, order, the model's notice."""

import base64
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from support.c2pa_files import created, make_issuer, signed
from support.evidence_files import A1111, jpeg_with_exif, png_with_text
from support.manifests import CAPTIONS, encoded_image, manifest_table
from support.scan_results import result_rows, summary_of

import aigid.detector
from aigid import Detection, Detector, ModelNoticeWarning
from aigid.cli.main import main
from aigid.contract import MissThreshold, OpenSet, Threshold, load_contract, save_contract
from aigid.errors import ContractError, UsageError
from aigid.records import ErrorCode, RowError


@pytest.fixture(scope="module")
def detector(tiny_repository: Path) -> Detector:
    return Detector.load(tiny_repository)


def test_an_impossible_address_is_refused(tiny_repository: Path) -> None:
    with pytest.raises(UsageError, match="'localhost' is not an address: give the HOST:PORT"):
        Detector.load("triton://localhost")
    with pytest.raises(UsageError, match="`repository` belongs to Triton servers"):
        Detector.load(tiny_repository, repository=tiny_repository)
    with pytest.raises(ContractError, match="`repository` nothing: no such folder"):
        Detector.load("triton://localhost:9", repository="nothing")


def test_a_detector_tells_its_model(tiny_repository: Path, detector: Detector) -> None:
    assert (detector.name, detector.notice) == ("tiny", "tiny random model")
    assert detector.labels == ("real", "sd21", "sdxl", "sd3", "dalle3", "midjourney")
    assert detector.threshold == 0.5
    assert Detector.load(tiny_repository, threshold=np.float32(0.25)).threshold == 0.25


def test_the_notice_is_a_warning_once_a_process_at_the_caller_s_line(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aigid.detector, "_warned_notices", set())
    with pytest.warns(ModelNoticeWarning, match="^tiny random model$") as caught:
        Detector.load(tiny_repository)
        Detector.load(tiny_repository)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    "threshold", [2, -0.1, float("nan"), "x", "0.5", None, True, [0.5], (t for t in [0.5])]
)
def test_a_bad_threshold_is_refused(tiny_repository: Path, threshold: object) -> None:
    message = r"^`threshold` must be a number between 0 and 1: got "
    with pytest.raises(UsageError, match=message + re.escape(repr(threshold))):
        Detector.load(tiny_repository, threshold=threshold)


@pytest.mark.parametrize("mode", ["best", "", None, 1, "BALANCED"])
def test_a_bad_mode_is_refused(tiny_repository: Path, mode: object) -> None:
    message = "^`mode` must be one of best-guess, balanced, high-precision: got "
    with pytest.raises(UsageError, match=message + re.escape(repr(mode))):
        Detector.load(tiny_repository, mode=mode)


def test_a_mode_decides_the_verdict_alone(tiny_repository: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_repository, tmp_path / "model")
    images = [encoded_image(seed) for seed in range(12)]
    plain = Detector.load(folder).detect(images)
    assert [one.verdict for one in plain] == ["ai" if one.is_ai else "real" for one in plain]
    low, high = np.quantile([one.p_ai for one in plain if one.p_ai is not None], [0.3, 0.7])
    contract = replace(
        load_contract(folder),
        thresholds={"0.001": Threshold(float(np.float32(high)), 3000, 0.95)},
        miss_thresholds={"0.001": MissThreshold(float(np.float32(low)), 3000, 0.95)},
    )
    save_contract(contract, folder)
    detector = Detector.load(folder, mode="high-precision")
    assert detector.mode == "high-precision"
    found = detector.detect(images)
    assert [replace(one, verdict=None) for one in found] == [
        replace(one, verdict=None) for one in plain
    ]
    assert {one.verdict for one in found} == {"ai", "real", "unsure"}
    for one in found:
        assert one.p_ai is not None
        bounds = (one.p_ai >= np.float32(high), one.p_ai < np.float32(low))
        assert (one.verdict == "ai", one.verdict == "real") == bounds
    with pytest.raises(ContractError, match="^`mode` balanced: .* 299 real rows"):
        Detector.load(folder, mode="balanced")


def test_an_image_with_an_error_has_no_verdict(detector: Detector) -> None:
    assert [one.verdict for one in detector.detect([b"", encoded_image(1)])][0] is None


@pytest.mark.parametrize("model", [5, b"model", ["model"], True])
def test_a_model_that_is_not_a_path_is_refused(model: object) -> None:
    with pytest.raises(UsageError, match="^`model` must be a path or None: got "):
        Detector.load(model)
    with pytest.raises(UsageError, match="^`repository` must be a path or None: got "):
        Detector.load("triton://localhost:9", repository=model)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def errors(detections: list[Detection]) -> list[ErrorCode | None]:
    return [detection.error.code if detection.error else None for detection in detections]


def test_a_detection_has_what_a_result_row_has(detector: Detector) -> None:
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
    assert isinstance(detection.known_score, float)
    assert 0 <= detection.known_score <= 1


def test_no_images_give_no_detections(detector: Detector) -> None:
    assert detector.detect([]) == []
    assert detector.detect([], []) == []


def test_every_form_of_an_image_gives_the_same_answer(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded_image(3)
    (tmp_path / "one.png").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    image = opened(data)
    at_its_end = io.BytesIO()
    at_its_end.write(data)
    with open("one.png", "rb") as file, open("one.png", "rb", buffering=0) as raw:  # noqa: PTH123
        forms = [
            data,
            bytearray(data),
            memoryview(data),
            str(tmp_path / "one.png"),
            tmp_path / "one.png",
            "one.png",
            Path("one.png"),
            f"data:image/png;base64,{base64.b64encode(data).decode()}",
            io.BytesIO(data),
            at_its_end,
            file,
            raw,
            OnlyRead(data),
            {"bytes": data, "path": None},
            {"bytes": data, "path": "another.png"},
            {"bytes": None, "path": "one.png"},
            {"path": "one.png"},
            {"bytes": bytearray(data)},
            image,
            np.asarray(image),
            np.dstack([np.asarray(image), np.full(image.size[::-1], 255, np.uint8)]),
        ]
        detections = detector.detect(forms, ["a red car"] * len(forms))
    assert detections == [detections[0]] * len(forms)
    assert detections[0].error is None


class OnlyRead:
    """A file object that cannot seek, and returns a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1000))


@pytest.mark.parametrize("channels", [3, 4, 1])
def test_an_array_of_images_is_a_list_of_them(detector: Detector, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, channels), dtype=np.uint8)
    detections = detector.detect(images)
    assert len(detections) == 3
    assert detections == detector.detect(list(images))


def test_a_grey_array_is_answered_as_its_grey_image(detector: Detector) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    found = detector.detect([grey, grey[:, :, None], Image.fromarray(grey), np.dstack([grey] * 3)])
    assert found == [found[0]] * 4
    assert found[0].error is None


def test_a_transparent_array_is_composited_over_white(detector: Detector) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    found = detector.detect([samples, Image.fromarray(samples), samples[:, :, :3]])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    "make",
    [
        iter,
        tuple,
        lambda items: (item for item in items),
        lambda items: dict.fromkeys(items).keys(),
        lambda items: dict(enumerate(items)).values(),
        lambda items: np.array(items, object),
    ],
    ids=["iterator", "tuple", "generator", "keys", "values", "array of objects"],
)
def test_images_and_prompts_may_come_from_any_iterable(
    detector: Detector, make: Callable[[list[object]], Iterable[object]]
) -> None:
    images = [encoded_image(number) for number in range(40)]
    prompts = [f"prompt {number}" for number in range(40)]
    expected = detector.detect(images, prompts)
    assert len(expected) == 40
    assert detector.detect(make(images), make(prompts)) == expected
    assert detector.detect(make(images), prompts) == expected
    assert detector.detect(images, make(prompts)) == expected


def test_a_generator_is_read_in_batches(detector: Detector) -> None:
    read: list[int] = []
    scored: list[int] = []

    def images() -> Iterator[bytes]:
        for number in range(320):
            read.append(number)
            yield encoded_image(number % 4)

    score = detector._scorer.score

    class Watched:
        contract = detector._scorer.contract

        def score(self, pixels: np.ndarray, tokens: object) -> object:
            scored.append(len(read))
            return score(pixels, tokens)

    assert len(Detector(Watched(), detector._prompts).detect(images())) == 320
    assert scored[0] <= 64


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_a_pil_image_of_any_mode_is_answered_as_its_colours(detector: Detector, mode: str) -> None:
    colours = opened(encoded_image(4))
    image = colours.convert("P").convert("PA") if mode == "PA" else colours.convert(mode)
    found = detector.detect([image, png(image.convert("RGB"))])
    assert found[0] == found[1]
    assert found[0].error is None


def test_a_16_bit_pil_image_is_answered_as_its_8_bit_one(detector: Detector) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    found = detector.detect([wide, Image.fromarray(grey)])
    assert found[0] == found[1]
    assert found[0].error is None


def test_transparent_pixels_are_composited_over_white(detector: Detector) -> None:
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
    # An array has no EXIF orientation.
    assert found[0] != found[2]


def test_the_callers_pil_image_is_left_as_it_was(detector: Detector) -> None:
    stream = io.BytesIO()
    opened(encoded_image(7, side=600)).save(stream, "JPEG")
    image = opened(stream.getvalue())
    detector.detect([image])
    assert image.size == (600, 600)
    assert np.array_equal(np.asarray(image), np.asarray(opened(stream.getvalue())))


@pytest.mark.filterwarnings("ignore:.*:PIL.Image.DecompressionBombWarning")
def test_bad_images_give_detections_with_an_error_and_the_others_are_scored(
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
    """Return a function that makes a PNG whose header claims a number of pixels."""

    def make(width: int, height: int) -> bytes:
        import struct
        import zlib

        data = bytearray(encoded_image(0))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    return make


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((40, 40, 3)), "float64 [40, 40, 3]"),
        (np.zeros((40, 40, 3), np.float32), "float32 [40, 40, 3]"),
        (np.zeros((40, 40, 3), np.uint16), "uint16 [40, 40, 3]"),
        (np.zeros((40, 40), bool), "bool [40, 40]"),
        (np.zeros((40, 40, 2), np.uint8), "uint8 [40, 40, 2]"),
        (np.zeros((3, 40, 40), np.uint8), "uint8 [3, 40, 40]"),
        (np.zeros((1, 40, 40, 3), np.uint8), "uint8 [1, 40, 40, 3]"),
        (np.zeros(40, np.uint8), "uint8 [40]"),
        (np.zeros((), np.uint8), "uint8 []"),
        (np.array("a.png"), "<U5 []"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_array_of_another_type_or_shape_is_that_item_s_error(
    detector: Detector, array: np.ndarray, found: str
) -> None:
    detections = detector.detect([encoded_image(0), array])
    assert errors(detections) == [None, ErrorCode.UNDECODABLE]
    assert detections[1].error is not None
    assert detections[1].error.detail == (
        "an image array must be uint8 [height, width] or [height, width, channels] with 1, 3 or 4 "
        f"channels: got {found}"
    )


def test_a_file_that_is_not_open_for_reading_bytes_is_that_item_s_error(
    detector: Detector, tmp_path: Path
) -> None:
    with (tmp_path / "a").open("w+") as text, (tmp_path / "b").open("wb") as written:
        found = detector.detect([text, written])
    assert [detection.error for detection in found] == [
        RowError(ErrorCode.UNDECODABLE, "the file object is in text mode: open it in binary mode"),
        RowError(ErrorCode.UNDECODABLE, "the file object cannot be read: read"),
    ]


def closed_file() -> io.BytesIO:
    file = io.BytesIO(encoded_image(0))
    file.close()
    return file


def closed_temporary_file() -> object:
    with tempfile.NamedTemporaryFile() as file:
        return file


def released_view() -> memoryview:
    view = memoryview(encoded_image(0))
    view.release()
    return view


class Untyped:
    def read(self, size: int) -> str:
        return "text"


@pytest.mark.parametrize(
    ("image", "code", "detail"),
    [
        (None, "empty", "the image is null"),
        ({"bytes": None, "path": None}, "empty", "the image is null"),
        ({"bytes": b""}, "empty", "zero bytes"),
        (io.BytesIO(), "empty", "zero bytes"),
        (bytearray(), "empty", "zero bytes"),
        (5, "undecodable", "int is not an image: an image is a PIL image, a path or URI, "),
        (0.5, "undecodable", "float is not an image: "),
        (["a.png"], "undecodable", "list is not an image: "),
        (object(), "undecodable", "object is not an image: "),
        (PIL.Image, "undecodable", "module is not an image: "),
        ({}, "undecodable", "a dict is not an image without a key bytes or path"),
        ({"image": b""}, "undecodable", "a dict is not an image without a key bytes or path"),
        ({"bytes": 5}, "undecodable", "bytes or path of an image dict is int"),
        ({"path": ["a.png"]}, "undecodable", "bytes or path of an image dict is list"),
        (closed_file(), "undecodable", "the file object is closed"),
        (closed_temporary_file(), "undecodable", "the file object is closed"),
        (Untyped(), "undecodable", "the file object cannot be read: "),
        (released_view(), "undecodable", "the memoryview cannot be read: "),
        (io.StringIO("text"), "undecodable", "the file object is in text mode"),
    ],
)
def test_a_bad_item_is_that_item_s_error_with_its_reason(
    detector: Detector, image: object, code: str, detail: str
) -> None:
    good = encoded_image(0)
    found = detector.detect([good, image, good])
    assert found[0] == found[2] == detector.detect([good])[0]
    assert found[1].error is not None
    assert found[1].error.code == code
    assert found[1].error.detail.startswith(detail)


@pytest.mark.parametrize("prompt", [float("nan"), 5, b"a red car", ["a red car"]])
def test_a_prompt_that_is_not_text_is_that_item_s_error(detector: Detector, prompt: object) -> None:
    found = detector.detect([encoded_image(0)] * 2, ["a red car", prompt])
    assert found[0].error is None
    assert found[1].error == RowError(
        ErrorCode.UNDECODABLE, f"the prompt is not text or None: got {type(prompt).__name__}"
    )


@pytest.mark.parametrize(
    "images",
    [
        "one.jpg",
        b"\xff\xd8",
        bytearray(b"\xff\xd8"),
        memoryview(b"\xff\xd8"),
        Path("one.jpg"),
        Image.new("RGB", (9, 9)),
        io.BytesIO(b"\xff\xd8"),
        {"bytes": b"\xff\xd8", "path": None},
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 3), np.uint8),
    ],
    ids=lambda image: type(image).__name__,
)
def test_a_single_image_instead_of_a_list_is_refused(detector: Detector, images: object) -> None:
    with pytest.raises(UsageError, match="^`images` must be a list: put a single .* brackets"):
        detector.detect(images)


@pytest.mark.parametrize("images", [None, 5, 0.5, np.zeros(()), {b"one", b"two"}, frozenset()])
def test_what_has_no_order_or_no_items_is_refused(detector: Detector, images: object) -> None:
    with pytest.raises(UsageError, match="^`images` must be a list: "):
        detector.detect(images)


@pytest.mark.parametrize("prompts", ["x", b"x", 5, {"a red car"}, {"a": "b"}])
def test_prompts_that_are_not_a_list_are_refused(detector: Detector, prompts: object) -> None:
    with pytest.raises(UsageError, match="^`prompts` must be a list: "):
        detector.detect([encoded_image(0)], prompts)


@pytest.mark.parametrize(
    ("images", "prompts", "counts"),
    [
        ([b"", b""], ["a red car"], "2 images but 1 prompts"),
        ([b""], [], "1 images but 0 prompts"),
        ([], ["a red car"], "0 images but 1 prompts"),
        (iter([b"", b""]), ["a red car"], "1 prompts but more images"),
        ([b"", b""], iter(["a"] * 3), "2 images but more prompts"),
        (iter([b""]), repeat("a red car"), "1 images but more prompts"),
    ],
)
def test_another_number_of_prompts_than_images_is_refused(
    detector: Detector, images: object, prompts: object, counts: str
) -> None:
    message = f"^`images` and `prompts` must have the same length: got {counts}; give one prompt"
    with pytest.raises(UsageError, match=message):
        detector.detect(images, prompts)


def test_no_prompt_is_the_empty_prompt(detector: Detector) -> None:
    data = encoded_image(2)
    assert (
        detector.detect([data]) == detector.detect([data], [None]) == detector.detect([data], [""])
    )
    assert detector.detect([data]) != detector.detect([data], ["two dogs"])


def test_half_a_surrogate_pair_in_a_prompt_is_removed(detector: Detector) -> None:
    # What is left of an emoji in a truncated text. JSON can hold it.
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


def with_open_set(repository: Path, folder: Path, threshold: float) -> Path:
    """Return a copy of a model repository whose contract has an open set with this threshold."""
    shutil.copytree(repository, folder)
    contract = load_contract(folder)
    save_contract(replace(contract, open_set=OpenSet(threshold, 0.95, 100)), folder)
    return folder


@pytest.mark.parametrize("open_set", [False, True])
def test_the_answers_are_those_of_a_scan(
    tiny_repository: Path, write_manifest: Callable[..., Path], tmp_path: Path, open_set: bool
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
    model, prompts = tiny_repository, table["Caption"].to_pylist()
    if open_set:
        found = Detector.load(model).detect(images, prompts)
        scores = [one.known_score for one in found if one.is_ai and one.known_score is not None]
        model = with_open_set(model, tmp_path / "model", max(scores))
    words = ["scan", manifest, "--model", model, "--out", tmp_path / "results"]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    rows = result_rows(tmp_path / "results")
    detections = Detector.load(model).detect(images, prompts)
    for row, detection in zip(rows, detections, strict=True):
        for name in ("p_ai", "is_ai", "source", "known_score"):
            assert row[name] == getattr(detection, name)
        assert row["p_source"] == (list(detection.p_source) if detection.p_source else None)
        error = detection.error
        assert (row["error"], row["error_detail"]) == (
            (error.code, error.detail) if error else (None, None)
        )
    assert {row["is_ai"] for row in rows} == {True, False, None}
    sources = [row["source"] for row in rows]
    counts = summary_of(tmp_path / "results")["sources"]
    assert counts == {name: sources.count(name) for name in load_contract(model).sources}
    assert ("other" in sources) == open_set


def test_the_threshold_decides(tiny_repository: Path, detector: Detector) -> None:
    images = [encoded_image(number) for number in range(12)]
    prompts = [CAPTIONS[number % 3] for number in range(12)]
    p_ai = [detection.p_ai for detection in detector.detect(images, prompts)]
    # The p_ai of one row: an image at the threshold is AI-generated.
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
    assert Detector.load(str(tiny_repository)).name == Detector.load(tiny_repository).name == "tiny"
    with pytest.raises(ContractError, match="`model` .*nowhere: no such folder"):
        Detector.load(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def reader(tiny_repository: Path) -> Detector:
    return Detector.load(tiny_repository, evidence=True)


GENERATED = png_with_text(parameters=A1111)


def test_every_form_of_a_file_has_its_evidence_and_the_same_score(
    reader: Detector, detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(GENERATED)
    with path.open("rb") as file:
        forms: list[object] = [
            *(GENERATED, bytearray(GENERATED), memoryview(GENERATED), io.BytesIO(GENERATED), file),
            *(path, str(path), path.as_uri(), {"bytes": GENERATED}, {"path": str(path)}),
            "data:image/png;base64," + base64.b64encode(GENERATED).decode(),
        ]
        detections = reader.detect(forms)
        plain = detector.detect(forms)
    for detection, without in zip(detections, plain, strict=True):
        assert detection.evidence == "ai"
        (finding,) = detection.findings
        assert (finding.kind, finding.details["seed"]) == ("parameters", "4242")
        assert (without.evidence, without.findings) == (None, ())
        assert replace(detection, evidence=None, findings=()) == without


def test_each_image_has_its_own_evidence_whatever_its_batch(reader: Detector) -> None:
    photo = jpeg_with_exif(Make="Canon", Model="Canon EOS 70D")
    images = [encoded_image(0), photo, GENERATED] * 20
    prompts = ["a red car " * (position % 7) for position in range(60)]
    detections = reader.detect(images, prompts)
    assert [one.evidence for one in detections] == ["none", "camera", "ai"] * 20
    assert [len(one.findings) for one in detections] == [0, 1, 1] * 20


def test_what_has_no_file_has_no_evidence(reader: Detector, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(GENERATED)
    array = np.zeros((8, 8, 3), np.uint8)
    detections = reader.detect([Image.open(path), opened(GENERATED), array, tmp_path / "gone.png"])
    assert [one.evidence for one in detections] == [None] * 4
    assert errors(detections) == [None, None, None, ErrorCode.MISSING]


def test_an_image_that_does_not_decode_has_its_evidence(reader: Detector) -> None:
    cut = GENERATED[: GENERATED.index(b"IDAT")]
    text = b"not an image"
    broken, other = reader.detect([cut, text])
    assert errors([broken, other]) == [ErrorCode.UNDECODABLE] * 2
    assert (broken.evidence, broken.findings[0].source) == ("ai", "Stable Diffusion web UI")
    assert (other.evidence, other.findings) == ("none", ())


def test_a_file_object_is_read_once(reader: Detector) -> None:
    class Counting(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            part = super().read(size)
            self.given += len(part)
            return part

    file = Counting(GENERATED)
    (detection,) = reader.detect([file])
    assert detection.evidence == "ai"
    assert file.given == len(GENERATED)


def test_a_reader_with_trust_anchors_trusts_signatures(tiny_repository: Path) -> None:
    issuer = make_issuer()
    image = signed(issuer, created("digitalCapture"))
    trusting = Detector.load(tiny_repository, evidence=aigid.EvidenceReader(issuer.root))
    for detector, strength in (
        (trusting, aigid.Strength.SIGNED_TRUSTED),
        (Detector.load(tiny_repository, evidence=True), aigid.Strength.SIGNED_UNTRUSTED),
    ):
        (detection,) = detector.detect([image])
        assert detection.evidence == "camera"
        assert [finding.strength for finding in detection.findings] == [strength]


def test_evidence_is_a_flag_or_a_reader(tiny_repository: Path) -> None:
    with pytest.raises(UsageError, match="^`evidence` must be a bool or an EvidenceReader: got st"):
        Detector.load(tiny_repository, evidence="yes")
    with pytest.raises(UsageError, match="^`readers` tea-leaves: no such reader"):
        aigid.EvidenceReader(readers=["tea-leaves"])
