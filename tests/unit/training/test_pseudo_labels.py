"""Which pairs are confident enough to be labels, and the manifest that they become."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from support.manifests import HF_IMAGE, encoded_image, manifest_table
from support.scan_results import parquet_rows, result_rows

from aigid.cli.main import main
from aigid.contract import OpenSet, load_contract, save_contract
from aigid.errors import ManifestError, ResultsError, UsageError
from aigid.manifest import open_manifest
from aigid.records import DEFAULT_LABELS
from aigid.results import ModelIdentity
from aigid.scorers import Scores
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR, read_labels
from aigid.training.pseudo_label_record import KeptCounter, PseudoLabelOrigin
from aigid.training.pseudo_selection import SelectionConfig, pseudo_labels


def answers(rows: list[tuple[float, list[float]]], known: list[float] | None = None) -> Scores:
    """Return the scores of rows of `p_ai` and the generators' fractions of it."""
    p_ai = np.array([row[0] for row in rows], np.float32)
    shares = np.array([row[1] for row in rows], np.float32)
    p_source = np.concatenate([1 - p_ai[:, None], p_ai[:, None] * shares], axis=1)
    return Scores(p_ai, p_source, np.array(known or [1.0] * len(rows), np.float32))


CONFIDENT, UNCERTAIN = [0.9, 0.1, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0]


def test_a_pair_is_kept_where_both_heads_are_confident() -> None:
    cases = [
        (0.95, CONFIDENT, True, 1),
        (0.95, UNCERTAIN, False, 1),
        (0.70, CONFIDENT, False, 1),
        (0.05, UNCERTAIN, True, 0),
        (0.30, CONFIDENT, False, 0),
        (0.95, [0, 0, 0, 0.05, 0.95], True, 5),
    ]
    found = pseudo_labels(answers([case[:2] for case in cases]), SelectionConfig())
    assert found.kept.tolist() == [case[2] for case in cases]
    assert found.label_b.tolist() == [case[3] for case in cases]
    assert found.p_generator[0] == pytest.approx(0.9)
    assert found.p_generator[3] == 1
    assert not found.other.any()


def test_a_pair_of_another_generator_is_not_kept() -> None:
    rows = [(0.95, CONFIDENT), (0.95, CONFIDENT), (0.02, CONFIDENT), (0.95, UNCERTAIN)]
    found = pseudo_labels(answers(rows, [0.3, 0.2, 0.1, 0.1]), SelectionConfig(), 0.25)
    assert found.kept.tolist() == [True, False, True, False]
    assert found.other.tolist() == [False, True, False, False]


def test_labels_are_of_any_number() -> None:
    found = pseudo_labels(answers([(0.9, [0.0] * 8 + [1.0])]), SelectionConfig())
    assert (found.kept.tolist(), found.label_b.tolist()) == ([True], [9])


def test_a_row_that_was_not_scored_is_never_kept() -> None:
    nothing = np.full((2, 6), np.nan, np.float32)
    scores = Scores(nothing[:, 0], nothing, nothing[:, 0])
    found = pseudo_labels(scores, SelectionConfig(0.5, 0.0), 0.5)
    assert not found.kept.any()
    assert not found.other.any()


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.floats(0.5, 1), st.floats(0, 1)
)
def test_higher_confidence_keeps_a_subset(
    values: list[float], min_confidence_a: float, min_confidence_b: float
) -> None:
    given = answers([(value, CONFIDENT) for value in values])
    loose = pseudo_labels(given, SelectionConfig(0.5, 0))
    strict = pseudo_labels(given, SelectionConfig(min_confidence_a, min_confidence_b))
    assert not (strict.kept & ~loose.kept).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.4, 0.8), "`min_confidence_a` must be between 0.5 and 1: got 0.4"),
        ((1.1, 0.8), "`min_confidence_a` must be between 0.5 and 1: got 1.1"),
        ((0.8, -0.1), "`min_confidence_b` must be between 0 and 1: got -0.1"),
        ((0.8, float("nan")), "`min_confidence_b` must be between 0 and 1: got nan"),
        ((0.8, 0.8, 0), "`max_per_class` must be 1 or more: got 0"),
    ],
)
def test_values_out_of_range_are_refused(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SelectionConfig(*values)


def run(repository: Path, tmp_path: Path, *words: object) -> Result:
    arguments = [
        "pseudo-label",
        *words,
        "--model",
        repository,
        "--out",
        tmp_path / "results",
        "--pseudo",
        tmp_path / "labels",
    ]
    return CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)


def test_the_kept_pairs_are_a_labelled_manifest_with_their_images(
    tiny_repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "many").mkdir()
    for name in "ab":
        pq.write_table(manifest_table(40, seed=ord(name)), tmp_path / "many" / f"{name}.parquet")
    done = run(
        tiny_repository,
        tmp_path,
        tmp_path / "many",
        "--min-confidence-a",
        0.6,
        "--min-confidence-b",
        0.3,
        "--shard-rows",
        30,
    )
    assert done.exit_code == 0, done.output
    kept = parquet_rows(tmp_path / "labels")
    source = pq.read_table(tmp_path / "many").to_pylist()
    scanned = result_rows(tmp_path / "results")
    expected = []
    for row, answer in zip(source, scanned, strict=True):
        p_ai, shares = answer["p_ai"], answer["p_source"][1:]
        ai = p_ai > 0.5
        if max(p_ai, 1 - p_ai) >= 0.6 and (not ai or max(shares) / p_ai >= 0.3):
            label = 1 + shares.index(max(shares)) if ai else 0
            expected.append((row["Image"]["bytes"], row["Caption"], int(ai), label))
    assert 0 < len(expected) < len(source)
    assert [
        (row["image"]["bytes"], row["prompt"], row["Label_A"], row["Label_B"]) for row in kept
    ] == expected
    manifest = open_manifest([str(tmp_path / "labels")])
    read = read_labels([manifest], labels=DEFAULT_LABELS)
    assert read.counts.rows == manifest.rows == len(expected)
    assert np.concatenate(list(read.codes.values())).tolist() == [row[3] for row in expected]
    record = json.loads((tmp_path / "labels" / "pseudo_labels.json").read_text())
    assert (record["rows"], record["kept"]) == (80, len(expected))
    assert f"{len(expected)} of 80 pairs kept: real " in done.stdout


def test_images_named_by_a_path_are_written_with_their_bytes(
    tiny_repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.png").write_bytes(encoded_image(1))
    table = pa.table(
        {
            "image": pa.array([{"bytes": None, "path": "one.png"}, None], HF_IMAGE),
            "prompt": ["a cat", None],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0, "--max-error-rate", 1)
    assert run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options).exit_code == 0
    (row,) = parquet_rows(tmp_path / "labels")
    assert row["image"] == {"bytes": encoded_image(1), "path": "one.png"}


def test_pseudo_labels_of_another_selection_are_refused_and_the_same_rewritten(
    tiny_repository: Path, tmp_path: Path
) -> None:
    pq.write_table(manifest_table(20), tmp_path / "m.parquet")
    assert (
        run(
            tiny_repository,
            tmp_path,
            tmp_path / "m.parquet",
            "--min-confidence-a",
            0.6,
            "--min-confidence-b",
            0.3,
        ).exit_code
        == 0
    )
    before = {path.name: path.read_bytes() for path in (tmp_path / "labels").iterdir()}
    refused = run(tiny_repository, tmp_path, tmp_path / "m.parquet", "--min-confidence-a", 0.9)
    assert refused.exit_code == 2
    assert (
        "holds pseudo-labels of another --min-confidence-a, --min-confidence-b: " in refused.stderr
    )
    assert (
        run(
            tiny_repository,
            tmp_path,
            tmp_path / "m.parquet",
            "--min-confidence-a",
            0.6,
            "--min-confidence-b",
            0.3,
        ).exit_code
        == 0
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "labels").iterdir()} == before


def test_a_damaged_record_is_a_clear_error(tiny_repository: Path, tmp_path: Path) -> None:
    pq.write_table(manifest_table(6), tmp_path / "m.parquet")
    assert run(tiny_repository, tmp_path, tmp_path / "m.parquet").exit_code == 0
    for damaged in ("{", '{"scan": "results"}', "[]"):
        (tmp_path / "labels" / "pseudo_labels.json").write_text(damaged)
        refused = run(tiny_repository, tmp_path, tmp_path / "m.parquet")
        assert refused.exit_code == ResultsError.exit_status
        assert "pseudo_labels.json: damaged: " in refused.stderr


@pytest.mark.parametrize("truth", [None, 3])
def test_the_record_keeps_its_form(truth: int | None) -> None:
    origin = PseudoLabelOrigin("results", ModelIdentity("m", "f", ""), SelectionConfig(0.7, 0.6, 9))
    counter = KeptCounter(DEFAULT_LABELS)
    counter.add(3, truth)
    record = counter.record(origin, 10, 2).to_json()
    keys = ["scan", "model", "head_a", "head_b", "max_per_class", "rows", "kept", "classes"]
    keys.append("others")
    assert list(record) == (keys if truth is None else [*keys, "precision", "precisions"])
    assert record["others"] == 2
    assert PseudoLabelOrigin.from_json(json.loads(json.dumps(record))) == origin


def test_a_generator_that_is_not_stated_refutes_real_only() -> None:
    origin = PseudoLabelOrigin("results", ModelIdentity("m", "f", ""), SelectionConfig())
    counter = KeptCounter(("real", "flux", "sdxl"))
    for label, truth in [(0, UNKNOWN_GENERATOR), (0, 0), (1, UNKNOWN_GENERATOR), (2, None)]:
        counter.add(label, truth)
    for label, truth in [(1, 1), (1, OTHER_GENERATOR), (1, 2), (1, 1)]:
        counter.add(label, truth)
    record = counter.record(origin, 10, 0)
    assert record.classes == {"real": 2, "flux": 5, "sdxl": 1}
    assert record.precisions == {"real": 0.5, "flux": 0.5}


def test_an_image_deleted_since_the_scan_is_an_error(tiny_repository: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded_image(1))
    pq.write_table(pa.table({"image": ["one.png"], "prompt": ["a cat"]}), tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0)
    assert run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options).exit_code == 0
    (tmp_path / "one.png").unlink()
    again = run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options)
    assert again.exit_code == ResultsError.exit_status
    assert "can no longer be read: missing: one.png" in again.stderr


def test_at_most_the_given_number_of_each_class_is_kept_the_most_confident(
    tiny_repository: Path, tmp_path: Path
) -> None:
    pq.write_table(manifest_table(120), tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0, "--shard-rows", 25)
    assert run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options).exit_code == 0
    everything = parquet_rows(tmp_path / "labels")
    assert len(everything) == 120
    shutil.rmtree(tmp_path / "labels")
    assert (
        run(
            tiny_repository, tmp_path, tmp_path / "m.parquet", *options, "--max-per-class", 7
        ).exit_code
        == 0
    )
    kept = parquet_rows(tmp_path / "labels")
    for label in range(6):
        wanted = sorted(
            (confidence(row) for row in everything if row["Label_B"] == label), reverse=True
        )[:7]
        assert (
            sorted((confidence(row) for row in kept if row["Label_B"] == label), reverse=True)
            == wanted
        )
    # They keep the manifest's order.
    images = [row["image"]["bytes"] for row in everything]
    positions = [images.index(row["image"]["bytes"]) for row in kept]
    assert positions == sorted(positions)


def test_chosen_label_columns_are_checked_before_the_scan(
    tiny_repository: Path, tmp_path: Path
) -> None:
    pq.write_table(manifest_table(6), tmp_path / "m.parquet")
    cases = {
        ("--label-column", "wrong"): "m.parquet: no column named wrong",
        ("--generator-column", "Caption"): "column Caption",
    }
    for words, message in cases.items():
        refused = run(tiny_repository, tmp_path, tmp_path / "m.parquet", *words)
        assert refused.exit_code == ManifestError.exit_status, refused.output
        assert message in refused.stderr
        assert not (tmp_path / "results").exists()


def confidence(row: dict[str, float]) -> float:
    return max(row["p_ai"], 1 - row["p_ai"]) * row["p_generator"]


def test_precision_is_recorded_where_labels_are_known(
    tiny_repository: Path, tmp_path: Path
) -> None:
    table = manifest_table(60)
    pq.write_table(table, tmp_path / "m.parquet")
    done = run(
        tiny_repository,
        tmp_path,
        tmp_path / "m.parquet",
        "--min-confidence-a",
        0.5,
        "--min-confidence-b",
        0,
    )
    kept = parquet_rows(tmp_path / "labels")
    right = [
        row["Label_B"] == truth
        for row, truth in zip(kept, table.column("Label_B").to_pylist(), strict=True)
    ]
    record = json.loads((tmp_path / "labels" / "pseudo_labels.json").read_text())
    assert record["precision"] == pytest.approx(sum(right) / 60)
    for name, value in record["precisions"].items():
        of_class = [
            one
            for one, row in zip(right, kept, strict=True)
            if DEFAULT_LABELS[row["Label_B"]] == name
        ]
        assert value == pytest.approx(sum(of_class) / len(of_class))
    assert f"{sum(right) / 60:.1%} of their pseudo-labels are right" in done.stdout
    # Pseudo-labels do not count as known labels.
    (tmp_path / "labels").rename(tmp_path / "pseudo")
    (tmp_path / "results").rename(tmp_path / "before")
    assert (
        run(
            tiny_repository,
            tmp_path,
            tmp_path / "pseudo",
            "--min-confidence-a",
            0.5,
            "--min-confidence-b",
            0,
        ).exit_code
        == 0
    )
    assert "precision" not in json.loads((tmp_path / "labels" / "pseudo_labels.json").read_text())


def test_pairs_whose_source_is_other_are_counted_and_left_out(
    tiny_repository: Path, tmp_path: Path
) -> None:
    pq.write_table(manifest_table(40), tmp_path / "m.parquet")
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository)
    contract = load_contract(repository)
    # Above the score of any image.
    save_contract(replace(contract, open_set=OpenSet(2.0, 0.9, 100)), repository)
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0)
    done = run(repository, tmp_path, tmp_path / "m.parquet", *options)
    assert done.exit_code == 0
    sources = [row["source"] for row in result_rows(tmp_path / "results")]
    others = sources.count("other")
    assert 0 < others < 40
    kept = parquet_rows(tmp_path / "labels")
    named = [source for source in sources if source != "other"]
    assert [DEFAULT_LABELS[row["Label_B"]] for row in kept] == named
    record = json.loads((tmp_path / "labels" / "pseudo_labels.json").read_text())
    assert (record["kept"], record["others"]) == (40 - others, others)
    assert f"; {others} pairs of other generators left out" in done.stdout


def test_pseudo_labels_carry_the_names_of_the_model_s_labels(
    tiny_repository: Path, tmp_path: Path
) -> None:
    pq.write_table(manifest_table(30), tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0)
    assert run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options).exit_code == 0
    (file,) = (tmp_path / "labels").glob("*.parquet")
    features = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache")).features
    assert features["Label_B"] == datasets.ClassLabel(names=list(DEFAULT_LABELS))
    assert features["Label_A"] == datasets.ClassLabel(names=["real", "ai"])
    # They mean the same for a model with other labels.
    found = read_labels([open_manifest([str(file)])], labels=("real", "midjourney", "sdxl"))
    indexes = {0: 0, 2: 2, 5: 1}
    assert found.codes[str(file)].tolist() == [
        indexes.get(row["Label_B"], OTHER_GENERATOR) for row in parquet_rows(tmp_path / "labels")
    ]


def test_known_labels_in_other_columns_are_compared(tiny_repository: Path, tmp_path: Path) -> None:
    table = manifest_table(40)
    names = [DEFAULT_LABELS[label].upper() for label in table.column("Label_B").to_pylist()]
    table = table.drop_columns(["Label_A", "Label_B"]).append_column("made_by", pa.array(names))
    pq.write_table(table, tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0, "--generator-column", "made_by")
    done = run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options)
    assert done.exit_code == 0
    kept = [row["Label_B"] for row in parquet_rows(tmp_path / "labels")]
    right = [DEFAULT_LABELS[label].upper() == name for label, name in zip(kept, names, strict=True)]
    assert f"{sum(right) / 40:.1%} of their pseudo-labels are right" in done.stdout


def test_a_found_column_that_holds_no_labels_does_not_stop_pseudo_labels(
    tiny_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = manifest_table(8).drop_columns(["Label_A", "Label_B"])
    table = table.append_column("label", pa.array(["cat", "dog"] * 4))
    pq.write_table(table, tmp_path / "m.parquet")
    options = ("--min-confidence-a", 0.5, "--min-confidence-b", 0)
    done = run(tiny_repository, tmp_path, tmp_path / "m.parquet", *options)
    assert done.exit_code == 0
    assert "not compared with known labels: " in caplog.text
    assert "column label: no rule fits the 2 values 'cat', 'dog'" in caplog.text
    shutil.rmtree(tmp_path / "labels")
    chosen = (*options, "--label-column", "label")
    refused = run(tiny_repository, tmp_path, tmp_path / "m.parquet", *chosen)
    assert refused.exit_code == 2
    assert "no rule fits" in refused.stderr
    assert not (tmp_path / "labels").exists()


def test_pseudo_labels_neither_validate_nor_test(tiny_repository: Path, tmp_path: Path) -> None:
    pq.write_table(manifest_table(20), tmp_path / "m.parquet")
    assert (
        run(
            tiny_repository,
            tmp_path,
            tmp_path / "m.parquet",
            "--min-confidence-a",
            0.5,
            "--min-confidence-b",
            0,
        ).exit_code
        == 0
    )
    build = Path(__file__).parents[3] / "build/demo"
    words = [
        "train",
        tmp_path / "m.parquet",
        "--validation",
        tmp_path / "labels",
        "--out",
        tmp_path / "run",
    ]
    words += [
        "--text-encoder",
        build / "text_encoder.json",
        "--image-encoder",
        build / "image_encoder.json",
    ]
    words += ["--tokenizer", tiny_repository / "tokenizer.json"]
    evaluate = ["evaluate", tmp_path / "labels", "--model", tiny_repository]
    for command in (
        words,
        evaluate,
        [*evaluate[:2], "--checkpoint", tiny_repository.parent / "checkpoint"],
    ):
        done = CliRunner().invoke(main, [str(word) for word in command], catch_exceptions=False)
        assert done.exit_code == 2
        assert (
            "its labels are pseudo-labels, a model's predictions: use them for training only"
            in done.stderr
        )
