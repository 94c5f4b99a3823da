import json
from pathlib import Path

import pytest

from aigid.contract import ImageSpec, Resizing
from aigid.errors import CheckpointError
from aigid.training.encoders import image_encoder_from_config
from aigid.training.preprocessing import image_spec_of

TINY_IMAGE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SQUARE = {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("kind", "preprocessor", "size"),
    [
        ("clip_vision_model", {"crop_size": {"height": 64, "width": 64}}, 32),
        ("siglip_vision_model", {"size": {"height": 48, "width": 48}}, 32),
        ("dinov2", {"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 48}}, 48),
        ("dinov3_vit", {"size": {"height": 64, "width": 64}}, 64),
        ("dinov2", {"size": 40}, 40),
        ("dinov3_vit", {}, 32),
    ],
)
def test_an_encoder_comes_with_its_size_mean_and_std(
    kind: str, preprocessor: dict[str, object], size: int, tmp_path: Path
) -> None:
    encoder = image_encoder_from_config({"model_type": kind, **TINY_IMAGE})
    values = {**preprocessor, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    spec = image_spec_of(encoder, str(tmp_path), Resizing.NATIVE_CROP)
    assert spec == ImageSpec(size, Resizing.NATIVE_CROP, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_without_a_preprocessor_config_clip_s_mean_and_std_are_used(tmp_path: Path) -> None:
    encoder = image_encoder_from_config(TINY_IMAGE)
    assert image_spec_of(encoder, None, None) == ImageSpec(size=32)
    assert image_spec_of(encoder, str(tmp_path), None) == ImageSpec(size=32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "expected an object"),
        ('{"image_mean": [1, 2]}', "three"),
        ('{"image_std": 3}', "iter"),
    ],
)
def test_a_damaged_preprocessor_config_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as refused:
        image_spec_of(image_encoder_from_config(TINY_IMAGE), str(tmp_path), Resizing.SHORTER_SIDE)
    assert f"{tmp_path}: preprocessor_config.json" in str(refused.value)


@pytest.mark.parametrize(
    ("preprocessor", "resizing"),
    [
        ({"size": {"shortest_edge": 32}, "crop_size": SQUARE, "resample": 3}, "shorter_side"),
        ({"size": 32, "resample": 3}, "shorter_side"),
        ({"size": SQUARE, "resample": 3}, "squash_bicubic"),
        ({"size": SQUARE, "resample": 2}, "squash"),
        ({"size": SQUARE, "resample": 2, "do_center_crop": None, "crop_size": None}, "squash"),
    ],
)
def test_images_are_resized_as_the_encoder_s_processor_does_it_unless_told_otherwise(
    preprocessor: dict[str, object], resizing: str, tmp_path: Path
) -> None:
    encoder = image_encoder_from_config(TINY_IMAGE)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    assert image_spec_of(encoder, str(tmp_path), None).resizing == resizing
    native = image_spec_of(encoder, str(tmp_path), Resizing.NATIVE_CROP)
    assert native.resizing is Resizing.NATIVE_CROP


@pytest.mark.parametrize("kind", ["SiglipImageProcessorPil", "CLIPImageProcessorPil"])
def test_what_transformers_saves_is_read(kind: str, tmp_path: Path) -> None:
    import transformers

    processor = getattr(transformers, kind)(image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    spec = image_spec_of(image_encoder_from_config(TINY_IMAGE), str(tmp_path), None)
    squashed = kind.startswith("Siglip")
    assert spec.resizing == ("squash_bicubic" if squashed else "shorter_side")
    assert spec.mean == (0.1, 0.2, 0.3)


def test_a_processor_s_file_is_read_where_there_is_no_preprocessor_s(tmp_path: Path) -> None:
    whole = {"image_processor": {"size": SQUARE, "resample": 2, "image_mean": [0.1, 0.2, 0.3]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    spec = image_spec_of(image_encoder_from_config(TINY_IMAGE), str(tmp_path), None)
    assert spec == ImageSpec(32, Resizing.SQUASH, mean=(0.1, 0.2, 0.3))


def test_perception_encoder_s_images_are_squashed(tmp_path: Path) -> None:
    encoder = image_encoder_from_config({**TINY_IMAGE, "model_type": "perception_encoder"})
    half = (0.5, 0.5, 0.5)
    for name in (None, str(tmp_path)):
        assert image_spec_of(encoder, name, None) == ImageSpec(32, Resizing.SQUASH, half, half)
