"""A tiny model with random weights and its built repository, shared by the export tests."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from aigid.contract import ImageSpec, PromptSpec, Resizing, Temperatures, Threshold
from aigid.export.parity_report import LIMITS
from aigid.export.pipeline import BuildConfig, BuiltRepository, build_repository
from aigid.scorers import PARTS
from aigid.training.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    new_model,
    save_checkpoint,
)

WORDS = ("a", "photo", "of", "cat", "dog", "the", "sea", "red", "at", "night")
SIDE = 32


def tiny_info(side: int = SIDE) -> CheckpointInfo:
    width = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return CheckpointInfo(
        name="tiny",
        notice="Random weights, for tests.",
        text_config={
            "model_type": "bert",
            "vocab_size": 16,
            "max_position_embeddings": 32,
            **width,
        },
        image_config={"image_size": side, "patch_size": 8, **width},
        fusion_hidden=24,
        image=ImageSpec(size=side),
        prompt=PromptSpec(max_tokens=32, buckets=(8, 16, 32)),
        temperatures=Temperatures(a=1.7, b=0.6),
        thresholds={"0.01": Threshold(0.9, 300, 0.95)},
    )


def write_tokenizer(path: Path) -> None:
    vocabulary = {
        word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))
    }
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def jpeg(generator: np.random.Generator) -> bytes:
    pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


def write_manifest(path: Path, rows: int) -> Path:
    generator = np.random.default_rng(0)
    images = [jpeg(generator) for _ in range(rows)]
    prompts = [" ".join(generator.choice(WORDS, generator.integers(1, 20))) for _ in range(rows)]
    pq.write_table(pa.table({"image": images, "prompt": prompts}), path, row_group_size=10)
    return path


def make_checkpoint(folder: Path, info: CheckpointInfo, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = new_model(info)
    with torch.no_grad():
        for name, values in model.named_parameters():
            # Default random weights give almost the same answer for every input; these do not.
            if values.ndim > 1 and not name.startswith("head"):
                values.mul_(6.0)
            elif "norm" not in name.lower():
                values.uniform_(-0.3, 0.3)
        # The constants of the open-set score, which are 0 before they are fitted.
        model.get_buffer("known_projection").uniform_(-0.3, 0.3)
        model.get_buffer("known_means").uniform_(-1, 1)
    tokenizer = folder.parent / "tiny-tokenizer.json"
    write_tokenizer(tokenizer)
    save_checkpoint(model, info, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny", tiny_info())


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_folder)


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[[int], Path]:
    """Make a checkpoint like the tiny one for images of another side."""
    return lambda side: make_checkpoint(tmp_path / f"side-{side}", tiny_info(side))


@pytest.fixture
def checkpoint_with_image_encoder(tmp_path: Path) -> Callable[..., Path]:
    """Make a checkpoint like the tiny one with another image encoder or resizing.

    More values of the image encoder's config can be given by their names.
    """

    def make(model_type: str, resizing: Resizing, **values: object) -> Path:
        info = tiny_info()
        config = {**info.image_config, "model_type": model_type, **values}
        image = replace(info.image, resizing=resizing)
        return make_checkpoint(
            tmp_path / "other-image-encoder", replace(info, image=image, image_config=config)
        )

    return make


@pytest.fixture
def checkpoint_with_text_encoder(tmp_path: Path) -> Callable[..., Path]:
    """Make a checkpoint like the tiny one with another text encoder, given by its config."""
    return lambda **text_config: make_checkpoint(
        tmp_path / "other-text-encoder", replace(tiny_info(), text_config=text_config)
    )


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("manifest") / "rows.parquet", 40)


@pytest.fixture(scope="session")
def write_labelled() -> Callable[[Path, list[int]], Path]:
    """Write a manifest with a row for each Label_B."""

    def write(path: Path, label_b: list[int]) -> Path:
        table = pq.read_table(write_manifest(path, len(label_b)))
        label_a = pa.array([int(label > 0) for label in label_b], pa.int32())
        table = table.append_column("Label_A", label_a)
        pq.write_table(table.append_column("Label_B", pa.array(label_b, pa.int32())), path)
        return path

    return write


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository") / "model_repository"


@pytest.fixture(scope="session")
def build_config(manifest: Path) -> BuildConfig:
    # The tiny model is untrained: small errors change many of its decisions.
    limits = LIMITS | {"int8": replace(LIMITS["int8"], equal_decisions=0.7)}
    return BuildConfig(
        str(manifest), str(manifest), calibration_rows=24, parity_rows=40, limits=limits
    )


@pytest.fixture(scope="session")
def built(checkpoint_folder: Path, repository: Path, build_config: BuildConfig) -> BuiltRepository:
    return build_repository(checkpoint_folder, repository, build_config)


@pytest.fixture(scope="session")
def fp32(built: BuiltRepository, repository: Path) -> dict[str, Path]:
    """Return the exported fp32 graphs by part."""
    return {part: repository / part / "1" / "model.fp32.onnx" for part in PARTS}
