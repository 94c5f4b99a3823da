import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.contract import FittedOn, Temperatures, load_contract
from aigid.errors import BuildError, ManifestError
from aigid.export.adaptation import Adaptation, AdaptationConfig, adapt
from aigid.export.pipeline import BuiltRepository
from aigid.progress_bar import SilentProgress
from aigid.scorers import OnnxScorer
from aigid.training.labels import LabelChoice

WriteLabelled = Callable[[Path, list[int]], Path]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, write_labelled: WriteLabelled) -> Path:
    """A manifest of 20 real rows, 16 of the generator 2 and 12 of the generator 5."""
    return write_labelled(
        tmp_path_factory.mktemp("rows") / "mine.parquet", [0] * 20 + [2] * 16 + [5] * 12
    )


@pytest.fixture(scope="module")
def adapted(
    built: BuiltRepository, repository: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Adaptation]:
    """A repository with heads adapted to the rows, and what was found."""
    out = tmp_path_factory.mktemp("adapted") / "model"
    return out, adapt(AdaptationConfig(repository, (str(rows),), out), SilentProgress())


class NothingIsScored(SilentProgress):
    def start(self, total_rows: int, done_rows: int) -> None:
        raise AssertionError("rows are scored")


def test_the_new_model_has_the_labels_of_the_rows_and_the_encoders_of_the_old_one(
    adapted: tuple[Path, Adaptation], repository: Path
) -> None:
    out, found = adapted
    before, contract = load_contract(repository), load_contract(out)
    assert found.contract == contract
    # Of the paper's labels, those that have rows.
    assert contract.labels == ("real", "sdxl", "midjourney")
    assert contract.name == "tiny-adapted"
    assert contract.notice.startswith("Adapted to 48 rows of mine.parquet")
    assert contract.temperatures == Temperatures()
    assert contract.fitted_on == FittedOn("mine.parquet", 48, 20, "int8")
    assert contract.encoders_fingerprint == before.encoders_fingerprint
    assert contract.fingerprint != before.fingerprint
    assert contract.version == 1
    for part in ("bert", "clip_vision"):
        graph = Path(part, "1", "model.int8.onnx")
        assert (out / graph).read_bytes() == (repository / graph).read_bytes()
    assert "mine.parquet" in (out / "README.md").read_text()
    assert OnnxScorer(out).contract == contract


def test_the_metrics_are_cross_validated_and_have_intervals(
    adapted: tuple[Path, Adaptation],
) -> None:
    _, found = adapted
    metrics = found.metrics
    assert metrics.rows == 48
    assert metrics.a.real_rows == 20
    accuracy = metrics.a.balanced_accuracy
    assert accuracy is not None
    low, high = metrics.a.intervals["balanced_accuracy"]
    assert low < accuracy < high
    assert metrics.constant.a.balanced_accuracy == 0.5
    # Images of noise have no class: a model that was measured on its own rows would know them.
    assert accuracy < 0.75
    rates = {"0.05", "0.01", "0.001"}
    assert found.refused.keys() == rates | {"miss 0.01", "miss 0.001", "other"}


def test_names_and_rows_without_a_generator(
    repository: Path, built: BuiltRepository, rows: Path, tmp_path: Path
) -> None:
    table = pq.read_table(rows)
    names = [[None, "flux"][row % 2] for row in range(28)]
    table = table.drop_columns(["Label_A", "Label_B"]).append_column(
        "generator", pa.array(["real"] * 20 + names)
    )
    labels = ["real"] * 20 + ["fake"] * 28
    pq.write_table(table.append_column("label", pa.array(labels)), tmp_path / "named.parquet")
    config = AdaptationConfig(
        repository,
        (str(tmp_path / "named.parquet"),),
        tmp_path / "model",
        name="mine",
        notice="",
    )
    found = adapt(config, SilentProgress())
    contract = load_contract(tmp_path / "model")
    assert (contract.name, contract.notice) == ("mine", "")
    assert contract.labels == ("real", "flux")
    assert any("14" in remark and "unknown generator" in remark for remark in found.remarks)
    assert (found.metrics.rows, found.metrics.b.rows) == (48, 34)


def test_a_manifest_without_prompts_will_do(
    repository: Path, built: BuiltRepository, rows: Path, tmp_path: Path
) -> None:
    pq.write_table(pq.read_table(rows).drop_columns(["prompt"]), tmp_path / "images.parquet")
    found = adapt(
        AdaptationConfig(repository, (str(tmp_path / "images.parquet"),), tmp_path / "model"),
        SilentProgress(),
    )
    assert not found.uses_prompts


def test_an_adapted_model_can_be_adapted_again(
    adapted: tuple[Path, Adaptation], rows: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(adapted[0], tmp_path / "copied"))
    found = adapt(AdaptationConfig(out, (str(rows),), out), SilentProgress())
    assert found.contract == replace(adapted[1].contract, version=2) == load_contract(out)


@pytest.mark.parametrize(
    ("label_b", "said"),
    [
        ([0] * 9 + [1] * 9 + [3] * 4, "few.parquet: .*: sd3 has 4: add such rows, or take these"),
        ([0] * 3 + [1] * 9, "real has 3: add such rows$"),
        ([1] * 9, "real has 0"),
        ([0] * 9, "all 9 rows are real"),
    ],
)
def test_too_few_rows_of_a_class_are_refused_before_scoring(
    label_b: list[int],
    said: str,
    repository: Path,
    built: BuiltRepository,
    tmp_path: Path,
    write_labelled: WriteLabelled,
) -> None:
    manifest = write_labelled(tmp_path / "few.parquet", label_b)
    config = AdaptationConfig(repository, (str(manifest),), tmp_path / "model")
    with pytest.raises(ManifestError, match=said):
        adapt(config, NothingIsScored())
    assert not (tmp_path / "model").exists()


def test_a_repository_that_cannot_be_written_is_refused_before_scoring(
    repository: Path, built: BuiltRepository, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    config = AdaptationConfig(repository, (str(rows),), tmp_path / "file" / "model")
    with pytest.raises(BuildError, match="cannot be built: "):
        adapt(config, NothingIsScored())


def test_a_label_that_is_asked_for_needs_rows(
    repository: Path, built: BuiltRepository, rows: Path, tmp_path: Path
) -> None:
    config = AdaptationConfig(
        repository,
        (str(rows),),
        tmp_path / "model",
        LabelChoice(labels=("real", "sd21", "sdxl", "sd3", "dalle3", "midjourney")),
    )
    with pytest.raises(ManifestError, match="sd21 has 0, sd3 has 0, dalle3 has 0"):
        adapt(config, NothingIsScored())


def test_images_that_cannot_be_read_leave_too_few_rows(
    repository: Path, built: BuiltRepository, rows: Path, tmp_path: Path
) -> None:
    table = pq.read_table(rows)
    images = [
        data if row < 44 else b"no image" for row, data in enumerate(table["image"].to_pylist())
    ]
    images[36:44] = [b"no image"] * 8
    table = table.set_column(table.schema.names.index("image"), "image", pa.array(images))
    pq.write_table(table, tmp_path / "damaged.parquet")
    config = AdaptationConfig(repository, (str(tmp_path / "damaged.parquet"),), tmp_path / "model")
    with pytest.raises(ManifestError, match="midjourney has 0"):
        adapt(config, SilentProgress())
    assert not (tmp_path / "model").exists()
