"""`aigid inspect`: findings as text and as JSON, trust lists, and files that cannot be read."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from references.watermarks import watermarked
from support.c2pa_files import created, make_issuer, signed
from support.command_line import invoke, run_without
from support.evidence_files import A1111, jpeg, jpeg_with_exif, jpeg_with_xmp, png_with_text
from support.image_files import encoded

from aigid.detector import Detector
from aigid.pixels import DecodeLimits


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    path = tmp_path / "generated.png"
    path.write_bytes(png_with_text(parameters=A1111))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg_with_exif(Make="Canon", Model="Canon EOS 70D"))
    return path


def test_the_findings_of_files_are_printed_in_their_order(generated: Path, photo: Path) -> None:
    result = invoke("inspect", photo, generated)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:4] == [
        f"{photo}: camera",
        "  camera: camera, Canon EOS 70D (EXIF Make and Model; camera exif)",
        f"{generated}: ai",
        "  ai: parameters, Stable Diffusion web UI (PNG parameters; metadata)",
    ]
    assert "    seed: 4242" in result.stdout.splitlines()


def test_json_is_one_object_for_each_image(generated: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(jpeg())
    result = invoke("inspect", "--json", generated, plain)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["image"], first["evidence"]) == (str(generated), "ai")
    assert first["findings"][0]["details"]["model"] == "sd_xl_base_1.0"
    assert second == {"image": str(plain), "evidence": "none", "findings": [], "error": None}


def test_a_trust_list_makes_a_signature_trusted(tmp_path: Path) -> None:
    issuer, path, trusted = make_issuer(), tmp_path / "signed.jpg", tmp_path / "trust.pem"
    path.write_bytes(signed(issuer, created("digitalCapture")))
    trusted.write_text(issuer.root)
    assert "signed untrusted" in invoke("inspect", path).stdout
    result = invoke("inspect", path, "--trust-list", trusted)
    assert "camera: c2pa, Test Generator 2.0 (C2PA manifest; signed trusted)" in result.stdout


def test_a_trust_list_that_does_not_parse_is_named_by_its_option(
    generated: Path, tmp_path: Path
) -> None:
    trusted = tmp_path / "trust.pem"
    trusted.write_text("nothing")
    result = invoke("inspect", generated, "--trust-list", trusted)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"aigid: --trust-list {trusted}: no PEM certificate in it\n"


@pytest.mark.parametrize("name", ["gone.jpg", "."])
def test_a_file_that_is_none_is_wrong_usage(name: str, tmp_path: Path) -> None:
    result = invoke("inspect", tmp_path / name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(tmp_path / name) in result.stderr


def test_the_other_images_are_inspected_beside_one_that_cannot_be_read(
    generated: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.png"
    result = invoke("inspect", gone, generated)
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{generated}: ai\n")
    assert result.stderr == f"aigid: {gone}: No such file or directory\n"


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(DecodeLimits().max_bytes + 1)
    result = invoke("inspect", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"aigid: {path}: more than 64 MiB, which is the limit for an image\n"


def test_control_characters_of_strangers_are_printed_as_escapes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with_text(parameters="\x1b[31mred\n" + A1111))
    text = invoke("inspect", path).stdout
    assert "\x1b" not in text
    assert r"prompt: \x1b[31mred\na lighthouse" in text


def test_a_base_install_inspects(generated: Path, tmp_path: Path) -> None:
    copy = shutil.copy(generated, tmp_path / "copy.png")
    done = run_without(("c2pa", "torch", "ray"), "inspect", copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{copy}: ai\n")


def test_named_readers_run_on_pixels(tmp_path: Path) -> None:
    path = tmp_path / "marked.png"
    path.write_bytes(encoded(Image.fromarray(watermarked("SDXL")), "PNG"))
    assert invoke("inspect", path).stdout == f"{path}: no evidence\n"
    result = invoke("inspect", "--reader", "stealth-text", "--reader", "dwt-dct", path)
    assert result.stdout.splitlines() == [
        f"{path}: ai",
        "  ai: dwt-dct, Stable Diffusion XL (pixels; metadata)",
        "    mark: SDXL",
        "    matching_bits: 48 of 48",
    ]


def test_a_reader_that_there_is_not_is_named_by_its_option(generated: Path) -> None:
    result = invoke("inspect", "--reader", "synthid", generated)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "aigid: --reader synthid: no such reader; there are dwt-dct, stealth-text\n"
    )


def test_findings_that_say_nothing_are_notes(tmp_path: Path) -> None:
    path = tmp_path / "remote.jpg"
    path.write_bytes(jpeg_with_xmp('dcterms:provenance="https://example.com/a.c2pa"'))
    assert invoke("inspect", path).stdout.splitlines() == [
        f"{path}: no evidence",
        "  note: c2pa-remote (XMP provenance; metadata)",
        "    state: remote, not fetched",
        "    url: https://example.com/a.c2pa",
    ]
    (line,) = invoke("inspect", "--json", path).stdout.splitlines()
    assert json.loads(line)["findings"][0]["says"] == "none"


NO_IMAGES = {
    b"just text": "no evidence: not an image that aigid reads, but: text; images are JPEG, PNG, ",
    b"\0\1\2\3": "no evidence: not an image, or damaged at its start; images are JPEG, PNG, ",
    b"%PDF-1.7 ": "no evidence: not an image that aigid reads, but: PDF",
    b"": "no evidence: zero bytes",
    jpeg()[:20]: "no evidence: a damaged JPEG image",
}


@pytest.mark.parametrize("data", NO_IMAGES)
def test_a_file_that_is_no_image_is_told_to_be_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    result = invoke("inspect", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{path}: {NO_IMAGES[data]}")
    (line,) = invoke("inspect", "--json", path).stdout.splitlines()
    assert NO_IMAGES[data].removeprefix("no evidence: ") in json.loads(line)["error"]


def test_a_damaged_image_with_evidence_has_both(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    whole = png_with_text(parameters=A1111)
    path.write_bytes(whole[: whole.index(b"IDAT") - 8])
    assert invoke("inspect", path).stdout.startswith(f"{path}: ai\n")
    (line,) = invoke("inspect", "--json", path).stdout.splitlines()
    assert json.loads(line)["evidence"] == "ai"


def test_images_are_scored_only_where_asked(generated: Path, tiny_repository: Path) -> None:
    words = ("inspect", "--json", generated)
    assert "score" not in json.loads(invoke(*words).stdout)
    options = ("--score", "--model", tiny_repository, "--prompt", "a lighthouse")
    found = json.loads(invoke(*words, *options).stdout)
    (expected,) = Detector.load(tiny_repository).detect([generated], ["a lighthouse"])
    assert found["evidence"] == "ai"
    assert found["score"]["p_ai"] == expected.p_ai
    assert found["score"]["verdict"] == expected.verdict
    assert found["score"]["p_source"] == list(expected.p_source or ())
    shown = invoke("inspect", generated, *options).stdout
    assert f"  score: {expected.verdict}, p_ai {expected.p_ai:.3f}, source " in shown


def test_the_notice_of_the_model_is_on_stderr_beside_scores(generated: Path) -> None:
    result = invoke("inspect", "--score", generated)
    assert "not for real decisions" in result.stderr
    assert "not for real decisions" not in result.stdout


def test_an_image_that_cannot_be_decoded_has_no_score(generated: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(generated.read_bytes()[:-40])
    found = json.loads(invoke("inspect", "--score", "--json", cut).stdout)
    assert found["evidence"] == "ai"
    assert found["score"]["p_ai"] is None
    assert found["error"]
    assert "score:" not in invoke("inspect", "--score", cut).stdout


@pytest.mark.parametrize("option", [("--prompt", "a cat"), ("--model", ".")])
def test_options_of_the_score_need_the_score(generated: Path, option: tuple[str, str]) -> None:
    result = invoke("inspect", generated, *option)
    assert result.exit_code == 2
    assert f"{option[0]} is for --score: give --score too" in result.stderr
