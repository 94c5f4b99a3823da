import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import aigid.export.pipeline as pipeline
from aigid.contract import Resizing, load_contract
from aigid.detector import Detector
from aigid.errors import BuildError, CheckpointError, ManifestError
from aigid.export.pipeline import BuildConfig, BuiltRepository, build_repository
from aigid.pixels import image_pixels
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.training.calibration import probabilities
from aigid.training.checkpoint import load_checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_build_makes_all_files_of_the_repository(
    built: BuiltRepository, repository: Path
) -> None:
    graphs = {
        f"{part}/1/model.{kind}.onnx"
        for part in ("bert", "clip_vision", "fusion_heads")
        for kind in ("fp16", "fp32", "int8")
    }
    assert built.graph_bytes.keys() == graphs
    assert (
        built.graph_bytes["clip_vision/1/model.int8.onnx"]
        < built.graph_bytes["clip_vision/1/model.fp32.onnx"]
    )
    assert {
        "contract.json",
        "tokenizer.json",
        "aigid/config.pbtxt",
        "bert/configs/cpu.pbtxt",
    } <= contents(repository).keys()


def test_two_builds_of_one_checkpoint_are_the_same_bytes(
    built: BuiltRepository,
    repository: Path,
    checkpoint_folder: Path,
    build_config: BuildConfig,
    tmp_path: Path,
) -> None:
    build_repository(checkpoint_folder, tmp_path / "again", build_config)
    assert contents(tmp_path / "again") == contents(repository)


def test_an_artifact_too_far_from_float32_is_not_published(
    checkpoint_folder: Path, manifest: Path, tmp_path: Path
) -> None:
    arguments = [
        str(checkpoint_folder),
        str(tmp_path / "made"),
        "--calibration",
        str(manifest),
        "--rows",
        "24",
    ]
    result = CliRunner().invoke(pipeline.main, [*arguments, "--parity-rows", "40"])
    assert result.exit_code == 1
    assert re.search(
        r"int8: \d\d\.\d\d% of task [AB]'s decisions are float32's; the limit is 99\.0%",
        result.stderr,
    )
    assert not list(tmp_path.iterdir())


def test_an_encoder_whose_graph_answers_otherwise_is_not_published(
    checkpoint_reading_with: Callable[..., Path], build_config: BuildConfig, tmp_path: Path
) -> None:
    """DeBERTa reads the mask in a way of its own: it exports, and the graph does not say what torch says."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 16,
    }
    folder = checkpoint_reading_with(model_type="deberta-v2", max_position_embeddings=32, **sizes)
    with pytest.raises(
        BuildError, match=r"fp32: p_ai is up to 0\.\d+ from float32's; the limit is 0\.0001"
    ):
        build_repository(folder, tmp_path / "made" / "repository", build_config)
    assert not list((tmp_path / "made").iterdir())


def test_crops_and_another_vision_encoder_become_a_repository_that_answers_as_torch_does(
    checkpoint_seeing_with: Callable[[str, Resizing], Path],
    build_config: BuildConfig,
    tmp_path: Path,
) -> None:
    repository = tmp_path / "made" / "repository"
    build_repository(
        checkpoint_seeing_with("dinov3_vit", Resizing.FOUR_NATIVE_CROPS), repository, build_config
    )
    image = load_contract(repository).image
    assert image.resizing is Resizing.FOUR_NATIVE_CROPS
    dims = re.findall(r"dims: (\d+)", (repository / "clip_vision" / "config.pbtxt").read_text())
    assert tuple(map(int, dims[:3])) == image.shape == (4 * 32, 32, 3)
    picture = Image.effect_noise((90, 50), 80).convert("RGB")
    answer = Detector.load(repository).detect([picture], ["a cat"])[0]
    assert answer.p_ai == pytest.approx(expected_p_ai(tmp_path / "seeing", picture), abs=0.1)


def expected_p_ai(folder: Path, picture: Image.Image) -> float:
    """What torch says of a picture with the prompt "a cat"."""
    checkpoint = load_checkpoint(folder)
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    batch = pad_to_bucket(prompts.token_ids(["a cat"]), 8)
    pixels = torch.from_numpy(np.array([image_pixels(picture, checkpoint.info.image)]))
    with torch.no_grad():
        logits = checkpoint.model(
            pixels, torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        )
    return float(probabilities(logits, checkpoint.info.temperatures)[0])


def test_too_few_calibration_rows_are_said_with_numbers_and_nothing_changes(
    checkpoint_folder: Path, manifest: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "made"
    repository.mkdir()
    (repository / "kept.txt").write_text("as it was")
    arguments = [
        str(checkpoint_folder),
        str(repository),
        "--calibration",
        str(manifest),
        "--rows",
        "41",
    ]
    result = CliRunner().invoke(pipeline.main, arguments)
    assert result.exit_code == 2
    assert "40 of its 40 rows can be used, but 41 were asked for" in result.stderr
    assert contents(repository) == {"kept.txt": b"as it was"}


def test_what_is_missing_is_named(
    checkpoint_folder: Path, build_config: BuildConfig, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        build_repository(
            checkpoint_folder,
            tmp_path / "made",
            replace(build_config, calibration=str(tmp_path / "absent.parquet")),
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        build_repository(tmp_path / "empty", tmp_path / "made", build_config)
    assert not (tmp_path / "made").exists()
