"""What many tests share: a tiny model repository from the real build, and small manifests."""

import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from support.manifests import REPOSITORY, SIDE, manifest_table
from support.shared import made_once

# A shell that starts the tests in the background makes them, and the scans that they start,
# ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No property has to hold within a time: the first example may import half of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of a tiny random model, built as real ones are: copy it to change it."""
    return made_once(tmp_path_factory, "tiny", _build_tiny) / "repository"


def _build_tiny(folder: Path) -> None:
    import torch

    from aigid.contract import ImageSpec, MissThreshold, Threshold
    from aigid.export import LIMITS, BuildConfig, Limits, build_repository
    from aigid.training.checkpoint import CheckpointInfo, new_model, save_checkpoint

    text = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text |= {"intermediate_size": 32, "max_position_embeddings": 128}
    image = {
        "model_type": "clip_vision_model",
        "image_size": SIDE,
        "patch_size": 8,
        "hidden_size": 16,
    }
    image |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(5)
    info = CheckpointInfo(
        "tiny",
        "tiny random model",
        text,
        image,
        24,
        ImageSpec(size=SIDE),
        thresholds={"0.01": Threshold(0.9, 300, 0.95)},
        miss_thresholds={"0.01": MissThreshold(0.2, 300, 0.95)},
    )
    model = new_model(info)
    with torch.no_grad():
        # Random heads answer nearly the same to all; wider ones give decisions of both kinds.
        for head in (model.fusion, model.head_a, model.head_b):
            head.weight.mul_(12)
    save_checkpoint(model, info, REPOSITORY / "tokenizer.json", folder / "checkpoint")
    calibration = folder / "calibration.parquet"
    # Without labels, so that the checkpoint's thresholds are kept.
    table = manifest_table(32, seed=900).drop_columns(["Label_A", "Label_B"])
    pq.write_table(table, calibration)
    # Never trained: INT8's small errors change some of its decisions.
    limits = LIMITS | {"int8": Limits(probability=None, equal_decisions=0.8, macro_f1_loss=None)}
    config = BuildConfig(
        str(calibration), str(calibration), calibration_rows=32, parity_rows=32, limits=limits
    )
    build_repository(folder / "checkpoint", folder / "repository", config)


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table (or a manifest of that many rows) as a Parquet file and gives its path."""

    def write(table: pa.Table | int, name: str = "manifest.parquet", **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(manifest_table(table) if isinstance(table, int) else table, path, **options)
        return path

    return write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(here: Path) -> Callable[..., None]:
    """Makes files below the current folder, each holding its own name."""

    def make_files(*names: str) -> None:
        for name in names:
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    return make_files
