import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aigid.contract import Resizing, load_contract
from aigid.detector import Detector
from aigid.errors import BuildError, CheckpointError, ManifestError, UsageError
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration_rows": 0}, "`calibration_rows` must be at least 1: got 0"),
        ({"parity_rows": -1}, "`parity_rows` must be at least 1: got -1"),
        ({"precisions": ("fp32",)}, "`precisions` must include int8, which CPUs run: got fp32"),
        (
            {"precisions": ("int8", "int4")},
            "`precisions` must be among fp32, fp16, int8: got int8,",
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BuildConfig("calibration.parquet", "parity.parquet", **changes)


def test_the_command_names_its_flags_in_errors(tmp_path: Path) -> None:
    arguments = [str(tmp_path), str(tmp_path / "made"), "--calibration", "x", "--precision", "fp16"]
    result = CliRunner().invoke(pipeline.main, arguments)
    assert result.exit_code == 2
    assert result.stderr == "aigid: --precision must include int8, which CPUs run: got fp16\n"


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
    checkpoint_folder: Path,
    manifest: Path,
    fp32: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exported_before(_: object, folder: Path, precision: str) -> dict[str, Path]:
        return {part: path.with_name(f"model.{precision}.onnx") for part, path in fp32.items()}

    # The session's graphs of the same checkpoint, to save the time of another export.
    monkeypatch.setattr("aigid.export.pipeline.export_checkpoint", exported_before)
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
        r"int8: \d\d\.\d\d% of the decisions of task [AB] equal float32's; the limit is 99\.0%",
        result.stderr,
    )
    assert not list(tmp_path.iterdir())


def test_an_encoder_whose_graph_differs_from_torch_is_not_published(
    checkpoint_with_text_encoder: Callable[..., Path], build_config: BuildConfig, tmp_path: Path
) -> None:
    """DeBERTa uses the mask differently: it can be exported, but the graph gives other results."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 16,
    }
    folder = checkpoint_with_text_encoder(
        model_type="deberta-v2", max_position_embeddings=32, **sizes
    )
    with pytest.raises(
        BuildError, match=r"fp32: p_ai differs from float32's by up to 0\.\d+; the limit is 0\.0001"
    ):
        build_repository(folder, tmp_path / "made" / "repository", build_config)
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.filterwarnings("ignore::aigid.errors.ModelNoticeWarning")
def test_a_repository_with_crops_and_another_image_encoder_gives_the_results_of_torch(
    checkpoint_with_image_encoder: Callable[[str, Resizing], Path],
    build_config: BuildConfig,
    tmp_path: Path,
) -> None:
    repository = tmp_path / "made" / "repository"
    build_repository(
        checkpoint_with_image_encoder("dinov3_vit", Resizing.FOUR_NATIVE_CROPS),
        repository,
        build_config,
    )
    spec = load_contract(repository).image
    assert spec.resizing is Resizing.FOUR_NATIVE_CROPS
    dims = re.findall(r"dims: (\d+)", (repository / "clip_vision" / "config.pbtxt").read_text())
    assert tuple(map(int, dims[:3])) == spec.shape == (4 * 32, 32, 3)
    image = Image.effect_noise((90, 50), 80).convert("RGB")
    answer = Detector.load(repository).detect([image], ["a cat"])[0]
    assert answer.p_ai == pytest.approx(
        expected_p_ai(tmp_path / "other-image-encoder", image), abs=0.1
    )


def expected_p_ai(folder: Path, image: Image.Image) -> float:
    """Return torch's p_ai of an image with the prompt "a cat"."""
    checkpoint = load_checkpoint(folder)
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    batch = pad_to_bucket(prompts.token_ids(["a cat"]), 8)
    pixels = torch.from_numpy(np.array([image_pixels(image, checkpoint.info.image)]))
    with torch.no_grad():
        logits = checkpoint.model(
            pixels, torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        )
    return float(probabilities(logits, checkpoint.info.temperatures)[0])


def test_too_few_calibration_rows_are_refused_with_numbers(
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
    assert "40 of its 40 rows are usable, but 41 are needed" in result.stderr
    assert contents(repository) == {"kept.txt": b"as it was"}


def test_missing_files_are_named(
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
