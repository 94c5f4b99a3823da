"""The competition's own folders, as they are distributed."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from openpyxl import Workbook
from support.manifests import encoded_image

from aigid.cli.main import main
from aigid.contract import ImageSpec
from aigid.errors import ManifestError
from aigid.prompts import PromptEncoder, PromptSpec
from aigid.training.competition import write_competition_manifests
from aigid.training.datasets import LabelledManifest

FOLDERS = ("coco_image", "sd21_image", "sdxl_image", "sd3_image", "dalle_image", "midjourney_image")
ROOT = Path(__file__).parents[3]


def write_captions(folder: Path, rows: list[list[object]]) -> None:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "Train" / "captions.xlsx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two captions with six images each, one of them missing, and three validation images."""
    for name in FOLDERS:
        (tmp_path / "Train" / name).mkdir(parents=True)
        for index in (4, 17):
            (tmp_path / "Train" / name / f"image_{index}.jpg").write_bytes(
                encoded_image(index, kind="JPEG")
            )
    (tmp_path / "Train/sd3_image/image_17.jpg").unlink()
    write_captions(tmp_path, [["Index", "Caption"], [4, "a red car"], [17, "two dogs"]])
    (tmp_path / "Validation").mkdir()
    lines = [
        "Index,Caption,Label_A,Label_B",
        '0,"a cat, asleep",0,0',
        "1,a boat,1,5",
        "2,a tree,1,3",
    ]
    (tmp_path / "Validation/val_shuffle.csv").write_text("\n".join(lines))
    for index in range(3):
        (tmp_path / f"Validation/image_{index}.jpg").write_bytes(encoded_image(index, kind="JPEG"))
    return tmp_path


def test_every_image_is_a_row_with_its_caption_and_labels(folder: Path) -> None:
    train, validation = write_competition_manifests(folder)
    assert [(one.path, one.rows, one.missing) for one in (train, validation)] == [
        (folder / "train.parquet", 11, 1),
        (folder / "validation.parquet", 3, 0),
    ]
    rows = pq.read_table(train.path).to_pylist()
    assert rows[3] == {
        "image": "Train/sd3_image/image_4.jpg",
        "prompt": "a red car",
        "Label_A": 1,
        "Label_B": 3,
    }
    assert [row["Label_B"] for row in rows] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 4, 5]
    assert [row["Label_A"] for row in rows] == [int(row["Label_B"] > 0) for row in rows]
    rows = pq.read_table(validation.path).to_pylist()
    assert rows[0] == {
        "image": "Validation/image_0.jpg",
        "prompt": "a cat, asleep",
        "Label_A": 0,
        "Label_B": 0,
    }


def test_training_reads_them_as_they_are(folder: Path) -> None:
    train, _ = write_competition_manifests(folder)
    prompts = PromptEncoder(ROOT / "model_repository/tokenizer.json", PromptSpec())
    (batch,) = LabelledManifest((str(train.path),), prompts, ImageSpec(size=32)).batches(32, None)
    assert (len(batch.label_b), batch.undecodable) == (11, 0)


def test_the_command_prints_rows_and_missing_images(folder: Path) -> None:
    result = CliRunner().invoke(main, ["competition", str(folder)], catch_exceptions=False)
    assert result.output.splitlines() == [
        f"{folder}/train.parquet: 11 rows, 1 image missing",
        f"{folder}/validation.parquet: 3 rows",
    ]


@pytest.mark.parametrize("name", ["Train/captions.xlsx", "Validation/val_shuffle.csv"])
def test_a_list_that_is_missing_or_damaged_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfenothing of the kind")
    with pytest.raises(ManifestError, match=f"{name}: not a list of Index"):
        write_competition_manifests(folder)
    (folder / name).unlink()
    with pytest.raises(ManifestError, match=f"{name}: no such file"):
        write_competition_manifests(folder)


def test_other_columns_and_contradicting_labels_are_named(folder: Path) -> None:
    write_captions(folder, [["Number", "Caption"], [4, "a red car"]])
    with pytest.raises(
        ManifestError,
        match="captions.xlsx: not a list of Index and Caption: 'Index' is not in list",
    ):
        write_competition_manifests(folder)
    write_captions(folder, [["Caption", "Index"], ["a red car", 4]])
    (folder / "Validation/val_shuffle.csv").write_text(
        "Index,Caption,Label_A,Label_B\n0,a,0,0\n1,b,0,4\n"
    )
    with pytest.raises(
        ManifestError,
        match="val_shuffle.csv, line 3: Label_A 0 and Label_B 4 contradict each other",
    ):
        write_competition_manifests(folder)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["competition", str(tmp_path / "gone")], catch_exceptions=False
    )
    assert result.exit_code == 2
    assert "gone/Train/captions.xlsx: no such file" in result.output


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    for path in folder.glob("Train/*/*.jpg"):
        path.unlink()
    with pytest.raises(ManifestError, match="none of the train images exists"):
        write_competition_manifests(folder)
