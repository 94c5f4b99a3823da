import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.contract import TOKENIZER_FILE, FittedOn, load_contract
from aigid.errors import BuildError, ManifestError, UsageError
from aigid.export.pipeline import BuiltRepository
from aigid.export.recalibration import CalibrationConfig, Recalibration, recalibrate
from aigid.export.repository_lock import staged_repository
from aigid.progress_bar import SilentProgress
from aigid.prompts import PromptEncoder
from aigid.scorers import OnnxScorer
from aigid.training.datasets import LabelledManifest
from aigid.training.thresholds import fit_thresholds

WriteLabelled = Callable[[Path, list[int]], Path]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, write_labelled: WriteLabelled) -> Path:
    """A manifest of 70 real and 50 AI-generated rows."""
    return write_labelled(
        tmp_path_factory.mktemp("rows") / "mine.parquet", [0] * 70 + [1, 2, 3, 4, 5] * 10
    )


@pytest.fixture
def copied(built: BuiltRepository, repository: Path, tmp_path: Path) -> Path:
    """A repository of one's own."""
    return Path(shutil.copytree(repository, tmp_path / "copied"))


def config_of(repository: Path, manifest: Path, **settings: object) -> CalibrationConfig:
    return replace(CalibrationConfig(repository, (str(manifest),)), **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(
    built: BuiltRepository, repository: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Recalibration]:
    """A repository that was calibrated on the rows, and what was found."""
    folder = Path(shutil.copytree(repository, tmp_path_factory.mktemp("done") / "copied"))
    return folder, recalibrate(config_of(folder, rows, max_fpr=(0.2,)), SilentProgress())


def test_the_new_version_has_temperatures_and_thresholds_of_these_rows(
    done: tuple[Path, Recalibration], repository: Path
) -> None:
    folder, found = done
    before, contract = load_contract(repository), load_contract(folder)
    assert (found.before, found.contract) == (before, contract)
    assert contract.version == before.version + 1
    assert contract.temperatures.a != before.temperatures.a
    assert contract.temperatures.b != before.temperatures.b
    assert contract.fingerprint != before.fingerprint
    assert contract.fitted_on == FittedOn("mine.parquet", 120, 70, "int8")
    assert found.remarks[0].startswith(
        "labels from Label_A (1 is AI-generated) and Label_B: real 70"
    )
    # 0.2 was asked for.
    assert contract.thresholds.keys() == {"0.05", "0.2"}
    assert {item.real_rows for item in contract.thresholds.values()} == {70}
    assert found.found_by["0.2"] >= found.found_by["0.05"]
    assert found.refused.keys() == {"0.01", "0.001", "miss 0.01", "miss 0.001", "other"}
    assert "299 real rows: got 70" in found.refused["0.01"]
    same = {"temperatures", "thresholds", "fitted_on", "open_set", "version", "fingerprint"}
    assert "mine.parquet" in (folder / "README.md").read_text()
    assert replace(before, **{name: getattr(contract, name) for name in same}) == contract


def test_thresholds_alone_leave_scores_and_fingerprint(copied: Path, rows: Path) -> None:
    before = load_contract(copied)
    config = config_of(copied, rows, max_fpr=(0.2,), thresholds_only=True)
    found = recalibrate(config, SilentProgress()).contract
    assert found.version == before.version + 1
    kept = {"temperatures", "open_set", "fingerprint", "encoders_fingerprint"}
    assert {name: getattr(found, name) for name in kept} == {
        name: getattr(before, name) for name in kept
    }
    assert found.thresholds.keys() == {"0.05", "0.2"}
    assert found.thresholds["0.2"].real_rows == 70
    # The graphs carry the same fingerprint.
    assert OnnxScorer(copied).contract == found


def test_thresholds_are_fitted_on_what_the_new_version_answers(
    done: tuple[Path, Recalibration], rows: Path
) -> None:
    folder, found = done
    scorer = OnnxScorer(folder)
    prompts = PromptEncoder(folder / TOKENIZER_FILE, scorer.contract.prompt)
    manifest = LabelledManifest((str(rows),), prompts, scorer.contract.image)
    label_a, p_ai = [], []
    for batch in manifest.batches(7, None):
        label_a.append(batch.label_a)
        p_ai.append(scorer.score(batch.images, batch.tokens).p_ai)
    np.testing.assert_array_equal(np.concatenate(p_ai), found.scores.p_ai)
    fitted = fit_thresholds(np.concatenate(label_a), np.concatenate(p_ai), (0.05, 0.2))
    assert fitted.found == scorer.contract.thresholds


def test_the_same_rows_in_another_repository_give_the_same_model(
    done: tuple[Path, Recalibration], rows: Path, tmp_path: Path
) -> None:
    folder, first = done
    config = config_of(folder, rows, out=tmp_path / "mine", max_fpr=(0.2,))
    again = recalibrate(config, SilentProgress()).contract
    assert load_contract(folder) == first.contract
    assert load_contract(tmp_path / "mine") == again == replace(first.contract, version=1)


class NothingIsScored(SilentProgress):
    def start(self, total_rows: int, done_rows: int) -> None:
        raise AssertionError("rows are scored")


def test_a_rate_that_is_asked_for_and_needs_more_rows_is_refused_before_scoring(
    copied: Path, rows: Path
) -> None:
    before = load_contract(copied)
    with pytest.raises(UsageError, match=r"`max_fpr` 0\.001: needs 2,995 real rows: .* has 70"):
        recalibrate(config_of(copied, rows, max_fpr=(0.001,)), NothingIsScored())
    assert load_contract(copied) == before


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0])
def test_a_rate_that_is_none_is_refused(rate: float, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`max_fpr` must be between 0 and 1"):
        config_of(tmp_path, rows, max_fpr=(rate,))


@pytest.mark.parametrize(("label", "lacking"), [(0, "AI-generated"), (3, "real")])
def test_rows_of_one_class_are_refused_before_scoring(
    label: int, lacking: str, copied: Path, tmp_path: Path, write_labelled: WriteLabelled
) -> None:
    manifest = write_labelled(tmp_path / "one.parquet", [label] * 12)
    with pytest.raises(ManifestError, match=f"one.parquet: no {lacking} rows"):
        recalibrate(config_of(copied, manifest), NothingIsScored())
    assert load_contract(copied).version == 1


def test_a_repository_that_cannot_be_written_is_refused_before_scoring(
    copied: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    config = replace(config_of(copied, rows), out=tmp_path / "file" / "model")
    with pytest.raises(BuildError, match="cannot be built: "):
        recalibrate(config, NothingIsScored())
    with (
        staged_repository(copied),
        pytest.raises(BuildError, match="another build is writing to it"),
    ):
        recalibrate(config_of(copied, rows), NothingIsScored())


def test_predicted_labels_are_refused(copied: Path, rows: Path, tmp_path: Path) -> None:
    table = pq.read_table(rows)
    predicted = table.append_column("p_generator", [[0.9] * len(table)])
    pq.write_table(predicted, tmp_path / "predicted.parquet")
    with pytest.raises(UsageError, match="pseudo-labels"):
        recalibrate(config_of(copied, tmp_path / "predicted.parquet"), NothingIsScored())


def test_images_that_cannot_be_decoded_are_told_of(
    copied: Path, rows: Path, tmp_path: Path
) -> None:
    table = pq.read_table(rows)
    images = [
        b"no image" if row < 3 else image for row, image in enumerate(table["image"].to_pylist())
    ]
    table = table.set_column(table.schema.names.index("image"), "image", pa.array(images))
    pq.write_table(table, tmp_path / "damaged.parquet")
    found = recalibrate(config_of(copied, tmp_path / "damaged.parquet"), SilentProgress())
    assert found.remarks[1:] == ("3 rows are left out: the image could not be decoded",)
    assert found.contract.fitted_on == FittedOn("damaged.parquet", 117, 67, "int8")


def test_rates_that_the_model_has_are_fitted_again(
    done: tuple[Path, Recalibration], rows: Path, tmp_path: Path
) -> None:
    assert "0.2" in done[1].contract.thresholds
    config = replace(config_of(done[0], rows), out=tmp_path / "again")
    again = recalibrate(config, SilentProgress())
    assert again.contract.thresholds == done[1].contract.thresholds


def test_too_few_rows_for_a_temperature_keep_it(
    copied: Path, tmp_path: Path, write_labelled: WriteLabelled
) -> None:
    manifest = write_labelled(tmp_path / "few.parquet", [0] * 4 + [1, 2] * 6)
    before = load_contract(copied).temperatures
    after = recalibrate(config_of(copied, manifest), SilentProgress()).contract.temperatures
    assert after.a == before.a
    assert after.b != before.b
