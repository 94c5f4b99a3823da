"""What a file's facts reveal of its class, and what they do not."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support.manifests import HF_IMAGE

from aigid.cli.main import main
from aigid.errors import UsageError
from aigid.records import ErrorCode, RowFailure
from aigid.training.audit import audit
from aigid.training.file_facts import fact_names, file_facts
from aigid.training.labels import LabelChoice

Encode = Callable[[int, np.random.Generator], bytes]
ROWS = 180


def noise(side: int, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def alike(label: int, rng: np.random.Generator) -> bytes:
    """Encode with the same mix of sizes and qualities for all classes."""
    return encoded(noise(int(rng.choice([32, 40, 48])), rng), quality=int(rng.choice([70, 80, 90])))


def manifest(folder: Path, encode: Encode, labels: list[int] | None = None) -> Path:
    rng = np.random.default_rng(5)
    label_b = [row * 6 // ROWS for row in range(ROWS)] if labels is None else labels
    images = [{"bytes": encode(label, rng), "path": None} for label in label_b]
    table = {"image": pa.array(images, HF_IMAGE), "prompt": ["a cat"] * len(images)}
    table |= {"Label_A": [int(label > 0) for label in label_b], "Label_B": label_b}
    pq.write_table(pa.table(table), folder / "m.parquet", row_group_size=50)
    return folder / "m.parquet"


def test_rows_without_labels_are_one_clear_error(tmp_path: Path) -> None:
    path = manifest(tmp_path, alike, [0, 1, 2])
    table = pq.read_table(path).drop_columns(["Label_A", "Label_B"])
    pq.write_table(table.append_column("label", pa.nulls(3, pa.int8())), path)
    with pytest.raises(UsageError, match=r"m.parquet: no row of 3 has a label in label"):
        audit((str(path),))


def test_images_that_cannot_be_read_are_told_of_where_too_few_are_left(tmp_path: Path) -> None:
    path = manifest(tmp_path, lambda label, rng: b"no image", [0, 1] * 6)
    with pytest.raises(UsageError, match="found 0 real and 0 AI-generated rows, and 12 whose"):
        audit((str(path),))


def test_classes_with_the_same_encoding_are_not_told_apart(tmp_path: Path) -> None:
    found = audit((str(manifest(tmp_path, alike)),))
    assert (found.rows, found.unreadable) == (ROWS, 0)
    assert found.biased == {"a": [], "b": []}
    assert found.guesses["a"]["all"].chance == 0.5
    assert found.guesses["b"]["all"].chance == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("encode", "facts"),
    [
        (lambda label, rng: encoded(noise(40, rng), "JPEG" if label else "PNG"), "format"),
        (lambda label, rng: encoded(noise(32 + 2 * label, rng)), "dimensions"),
        (
            lambda label, rng: encoded(
                noise(int(rng.choice([32, 40, 48])), rng), quality=60 + 5 * label
            ),
            "JPEG tables",
        ),
        (
            lambda label, rng: encoded(
                noise(40, rng), exif=b"Exif\0\0" + b"x" * 20 if label else b""
            ),
            "metadata",
        ),
    ],
    ids=["format", "dimensions", "quality", "metadata"],
)
def test_facts_that_differ_between_classes_are_named(
    encode: Encode, facts: str, tmp_path: Path
) -> None:
    found = audit((str(manifest(tmp_path, encode)),))
    for task in ("a", "b"):
        if (task, facts) in (("b", "format"), ("b", "metadata")):
            continue
        assert facts in found.biased[task]
        assert "all" in found.biased[task]
    assert found.guesses["a"][facts].accuracy > 0.9


def test_images_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    broken = iter(range(ROWS))
    found = audit(
        (
            str(
                manifest(
                    tmp_path,
                    lambda label, rng: b"no image" if next(broken) % 9 == 0 else alike(label, rng),
                )
            ),
        )
    )
    assert (found.rows, found.unreadable) == (ROWS - 20, 20)


def test_a_limit_is_repeatable(tmp_path: Path) -> None:
    found = audit((str(manifest(tmp_path, alike, [row % 2 for row in range(400)])),), limit=100)
    assert found.rows == 100
    again = audit((str(tmp_path / "m.parquet"),), limit=100)
    assert found == again


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0] * 50, "50 real and 0 AI-generated"),
        ([0] * 50 + [3] * 4, "50 real and 4 AI-generated"),
        ([1, 2] * 30, "0 real and 60 AI-generated"),
    ],
)
def test_too_few_rows_of_real_or_generated_images_are_a_usage_error(
    labels: list[int], found: str, tmp_path: Path
) -> None:
    message = f"at least 5 readable rows of real and of AI-generated images, .*: found {found} rows"
    with pytest.raises(UsageError, match=f"{message}: add rows of the class that lacks them"):
        audit((str(manifest(tmp_path, alike, labels)),))


def test_rows_that_do_not_tell_their_generator_are_left_out_of_b(tmp_path: Path) -> None:
    path = manifest(tmp_path, alike, [0] * 20 + [1] * 20 + [2] * 20 + [3] * 20 + [4] * 3)
    table = pq.read_table(path)
    labels: list[str | None] = ["real"] * 20 + ["flux"] * 20 + ["sdxl"] * 20
    labels += ["ai"] * 10 + [None] * 10 + ["kolors"] * 3
    table = table.drop_columns(["Label_A", "Label_B"])
    pq.write_table(table.append_column("label", pa.array(labels)), path)
    found = audit((str(path),), choice=LabelChoice(labels=("real", "flux", "dalle")))
    assert (found.rows, found.unlabelled) == (73, 10)
    assert found.left_out_of_b == {"unknown generator": 10, "generator without a label": 23}
    assert found.to_json()["left_out_of_b"] == found.left_out_of_b
    assert list(found.guesses) == ["a"]
    said = invoke(path).output
    assert "10 rows have no label and are left out" in said
    assert "13 rows are left out of B (unknown generator 10, kolors 3); a class needs 5 row" in said
    # Real, flux and sdxl.
    assert "0.333" in next(line for line in said.splitlines() if "by chance" in line)


@pytest.mark.parametrize(
    "labels", [["real", "sdxl"], [False, True]], ids=["one generator", "binary"]
)
def test_b_is_left_out_where_fewer_than_two_generators_are_named(
    labels: list[object], tmp_path: Path
) -> None:
    path = manifest(tmp_path, alike, [0, 1] * 15)
    table = pq.read_table(path).drop_columns(["Label_A", "Label_B"])
    pq.write_table(table.append_column("is_ai", pa.array(labels * 15)), path)
    said = invoke(path).output
    assert "B is left out: it needs at least two generators with enough rows" in said
    assert "which generator" not in said


def test_the_real_images_schema_is_audited_with_either_generator_column(tmp_path: Path) -> None:
    path = manifest(tmp_path, alike, [0] * 12 + [1] * 18)
    table = pq.read_table(path).drop_columns("Label_B")
    label_b: list[int | None] = [0] * 12 + [2] * 6 + [5] * 6 + [None] * 6
    names = ["real"] * 12 + ["sdxl"] * 6 + ["midjourney"] * 6 + ["flux"] * 6
    table = table.append_column("Label_B", pa.array(label_b, pa.int32()))
    pq.write_table(table.append_column("generator", pa.array(names)), path)
    assert audit((str(path),)).left_out_of_b == {"unknown generator": 6}
    result = invoke(path, "--generator-column", "generator")
    assert (
        "labels from Label_A (1 is AI-generated) and generator: real 12, flux 6, " in result.stderr
    )
    assert "left out of B" not in result.stdout


def test_facts_describe_the_file_only() -> None:
    rng = np.random.default_rng(0)
    data = encoded(noise(40, rng).crop((0, 0, 40, 20)), quality=75, subsampling=2, progressive=True)
    facts = dict(zip(fact_names(), file_facts(data), strict=True))
    assert (facts["width"], facts["height"], facts["pixels"], facts["ratio"]) == (40, 20, 800, 2)
    assert (facts["bytes"], facts["bytes per pixel"]) == (len(data), len(data) / 800)
    assert (facts["subsampling"], facts["progressive"], facts["exif"]) == (2, 1, 0)
    better = dict(zip(fact_names(), file_facts(encoded(noise(40, rng), quality=95)), strict=True))
    assert 0 < better["luminance table"] < facts["luminance table"]
    png = dict(zip(fact_names(), file_facts(encoded(noise(40, rng), "PNG")), strict=True))
    assert png["luminance table"] == png["chrominance table"] == 0
    with pytest.raises(RowFailure) as caught:
        file_facts(b"no image")
    assert caught.value.error.code == ErrorCode.UNDECODABLE


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, words)], catch_exceptions=False)


def test_the_command_prints_accuracies_and_what_to_do(tmp_path: Path) -> None:
    path = manifest(tmp_path, lambda label, rng: encoded(noise(32 + 2 * label, rng)))
    result = invoke(path)
    assert result.exit_code == 0
    assert f"accuracy of guesses from file facts alone, {ROWS} rows" in result.output
    assert f"{path}: dimensions" in result.output
    assert "reveal the class: real or AI-generated (!)" in result.output
    assert "train with the unify option" in result.output
    figures = json.loads(invoke(path, "--json").stdout)
    assert figures["rows"] == ROWS
    assert figures["guesses"]["a"]["dimensions"]["biased"]


def test_a_name_of_a_stranger_does_not_control_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    path = manifest(folder, lambda label, rng: encoded(noise(32 + 2 * label, rng)))
    output = invoke(path).output
    assert "a\\x1b[2Jb/m.parquet: dimensions" in output
    assert "\x1b" not in output


def test_the_command_tells_where_facts_reveal_nothing(tmp_path: Path) -> None:
    path = manifest(tmp_path, alike)
    result = invoke(path)
    assert result.stdout.strip().splitlines()[-1] == f"{path}: file facts do not reveal the class"
    assert "!" not in result.output


def test_a_manifest_without_labels_is_a_usage_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "m.parquet")
    result = invoke(tmp_path / "m.parquet")
    assert result.exit_code == 2
    assert "no column has a usual name for labels" in result.output
    assert "name one with --label-column or --generator-column" in result.output
