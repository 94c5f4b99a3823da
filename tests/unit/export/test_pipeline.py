import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.command_line import invoke

from aigid.contract import FittedOn, Resizing, load_contract
from aigid.detector import Detector
from aigid.errors import BuildError, CheckpointError, ManifestError, UsageError
from aigid.export.parity_report import LIMITS, Limits
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
        (
            {"precisions": ("fp16",)},
            "`precisions` must include int8 or fp32, which CPUs run: got fp16",
        ),
        (
            {"precisions": ("int8", "int4")},
            "`precisions` must be among fp32, fp16, int8: got int8,",
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BuildConfig("calibration.parquet", "validation.parquet", **changes)


def test_two_builds_of_one_checkpoint_are_the_same_bytes(
    built: BuiltRepository,
    repository: Path,
    checkpoint_folder: Path,
    build_config: BuildConfig,
    tmp_path: Path,
) -> None:
    build_repository(checkpoint_folder, tmp_path / "again", build_config)
    assert contents(tmp_path / "again") == contents(repository)


@pytest.fixture
def exported_before(fp32: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the session's graphs of the same checkpoint, to save the time of another export.

    Gives the precisions that were asked for.
    """
    asked: list[str] = []

    def exported(_: object, folder: Path, precision: str) -> dict[str, Path]:
        asked.append(str(precision))
        encoders = {part: path for part, path in fp32.items() if part != "fusion_heads"}
        return {part: path.with_name(f"model.{precision}.onnx") for part, path in encoders.items()}

    monkeypatch.setattr("aigid.export.pipeline.export_encoders", exported)
    return asked


def test_an_artifact_too_far_from_float32_is_not_published(
    checkpoint_folder: Path, manifest: Path, exported_before: list[str], tmp_path: Path
) -> None:
    words = ("build", checkpoint_folder, tmp_path / "made", "--calibration", manifest)
    words = (*words, "--validation", manifest, "--calibration-rows", 24, "--parity-rows", 16)
    # Of 16 rows, one other decision of the untrained model is allowed.
    limits = replace(LIMITS["int8"], equal_decisions=1.0, probability=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIMITS, "int8", limits)
        result = invoke(*words)
    assert result.exit_code == 1
    assert "int8: p_ai differs from float32's by up to" in result.stderr
    assert not list(tmp_path.iterdir())


def test_only_what_is_published_is_built_and_compared(
    checkpoint_folder: Path,
    build_config: BuildConfig,
    exported_before: list[str],
    tmp_path: Path,
) -> None:
    """INT8 graphs are made of float32 ones; what those and fp16 are like holds up no build."""
    impossible = Limits(probability=-1, equal_decisions=1, macro_f1_loss=None)
    limits = {**build_config.limits, "fp32": impossible, "fp16": impossible}
    config = replace(build_config, precisions=("int8",), limits=limits)
    built = build_repository(checkpoint_folder, tmp_path / "made", config)
    assert exported_before == ["fp32"]
    assert built.parity.artifacts.keys() == {"int8"}
    assert all(name.endswith("/1/model.int8.onnx") for name in built.graph_bytes)
    assert len(built.graph_bytes) == 3
    with pytest.raises(BuildError, match="fp16: p_ai differs"):
        build_repository(
            checkpoint_folder, tmp_path / "made", replace(config, precisions=("fp16", "int8"))
        )


def test_a_model_can_be_published_without_int8(
    checkpoint_folder: Path,
    build_config: BuildConfig,
    exported_before: list[str],
    tmp_path: Path,
) -> None:
    repository = tmp_path / "made"
    build_repository(checkpoint_folder, repository, replace(build_config, precisions=("fp32",)))
    assert load_contract(repository).cpu_precision == "fp32"
    assert 'default_model_filename: "model.fp32.onnx"' in (
        repository / "bert/configs/cpu.pbtxt"
    ).read_text(encoding="utf-8")
    assert Detector.load(repository).detect([noise_image()])[0].p_ai is not None


def noise_image() -> Image.Image:
    return Image.effect_noise((90, 50), 80).convert("RGB")


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
        build_repository(
            folder,
            tmp_path / "made" / "repository",
            replace(build_config, precisions=("fp32",)),
        )
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.filterwarnings("ignore::aigid.errors.ModelNoticeWarning")
def test_a_repository_with_crops_and_a_block_of_another_encoder_gives_the_results_of_torch(
    checkpoint_with_image_encoder: Callable[..., Path],
    build_config: BuildConfig,
    tmp_path: Path,
) -> None:
    repository = tmp_path / "made" / "repository"
    build_repository(
        checkpoint_with_image_encoder(
            "dinov3_vit",
            Resizing.FOUR_NATIVE_CROPS,
            image_pooling="cls+mean",
            num_register_tokens=2,
        ),
        repository,
        replace(build_config, precisions=("int8",)),
    )
    contract = load_contract(repository)
    spec = contract.image
    assert (spec.resizing, contract.image_features) == (Resizing.FOUR_NATIVE_CROPS, 2 * 32)
    dims = re.findall(r"dims: (\d+)", (repository / "clip_vision" / "config.pbtxt").read_text())
    assert tuple(map(int, dims[:3])) == spec.shape == (4 * 32, 32, 3)
    image = noise_image()
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
    words = ("build", checkpoint_folder, repository, "--calibration", manifest)
    result = invoke(*words, "--validation", manifest, "--calibration-rows", 41)
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


WriteLabelled = Callable[[Path, list[int]], Path]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, write_labelled: WriteLabelled) -> Path:
    """A validation manifest of 100 real and 50 AI-generated rows, the five generators in turn."""
    folder = tmp_path_factory.mktemp("labelled")
    return write_labelled(
        folder / "validation.parquet", [0] * 100 + [1 + row % 5 for row in range(50)]
    )


def test_temperatures_and_thresholds_are_fitted_on_the_graphs_that_are_published(
    checkpoint_folder: Path,
    build_config: BuildConfig,
    labelled: Path,
    exported_before: list[str],
    tmp_path: Path,
) -> None:
    repository = tmp_path / "made"
    config = replace(build_config, validation=str(labelled), precisions=("fp16", "int8"))
    built = build_repository(checkpoint_folder, repository, config)
    contract, before = load_contract(repository), load_checkpoint(checkpoint_folder)
    assert contract.fitted_on == FittedOn("validation.parquet", 150, 100, "int8")
    assert contract.temperatures != before.info.temperatures
    assert contract.fingerprint != before.fingerprint
    assert contract.encoders_fingerprint == before.encoders_fingerprint
    # 100 real rows are enough for 5 %, and one of them may pass; 1 % needs 299.
    assert contract.thresholds.keys() == {"0.05"}
    assert contract.thresholds["0.05"].real_rows == 100
    assert "a false-positive rate of 0.01 needs 299 real rows: got 100" in built.refused.values()
    assert passing_real_rows(repository, labelled, contract.thresholds["0.05"].p_ai) == 1


def passing_real_rows(repository: Path, labelled: Path, threshold: float) -> int:
    """Count the real rows whose p_ai reaches the threshold in a scan of the repository."""
    rows = pq.read_table(labelled).to_pylist()[:100]
    images, prompts = [row["image"] for row in rows], [row["prompt"] for row in rows]
    with Detector.load(repository, threshold=threshold) as detector:
        return sum(bool(found.is_ai) for found in detector.detect(images, prompts))


def test_without_labels_the_checkpoint_s_temperatures_and_thresholds_stay(
    checkpoint_folder: Path, manifest: Path, exported_before: list[str], tmp_path: Path
) -> None:
    words = ("build", checkpoint_folder, tmp_path / "made", "--calibration", manifest)
    words = (*words, "--validation", manifest, "--calibration-rows", 24, "--precision", "fp32")
    result = invoke(*words)
    assert result.exit_code == 0, result.stderr
    assert f"{manifest} has no labels: temperatures and thresholds stay those of" in result.stderr
    assert "no labels" in result.stdout
    contract, before = load_contract(tmp_path / "made"), load_checkpoint(checkpoint_folder)
    assert contract.temperatures == before.info.temperatures
    assert contract.thresholds == before.info.thresholds
    assert contract.fitted_on == before.info.fitted_on


@pytest.mark.parametrize(("label", "lacking"), [(0, "AI-generated"), (3, "real")])
def test_validation_of_one_class_is_refused_before_the_export(
    label: int,
    lacking: str,
    checkpoint_folder: Path,
    build_config: BuildConfig,
    tmp_path: Path,
    write_labelled: WriteLabelled,
    exported_before: list[str],
) -> None:
    path = write_labelled(tmp_path / "one.parquet", [label] * 12)
    config = replace(build_config, validation=str(path))
    with pytest.raises(ManifestError, match=f"one.parquet: no {lacking} rows"):
        build_repository(checkpoint_folder, tmp_path / "made", config)
    assert exported_before == []


def test_pseudo_labels_fit_no_thresholds(
    checkpoint_folder: Path, build_config: BuildConfig, labelled: Path, tmp_path: Path
) -> None:
    table = pq.read_table(labelled)
    path = tmp_path / "pseudo.parquet"
    pq.write_table(table.append_column("p_generator", pa.array([0.9] * len(table))), path)
    with pytest.raises(UsageError, match="its labels are pseudo-labels"):
        build_repository(
            checkpoint_folder, tmp_path / "made", replace(build_config, validation=str(path))
        )
