"""A filter writes the manifest's own rows: in its form, in its order, and none too many or few."""

import csv
import gzip
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import HF_IMAGE
from support.scan_results import result_files, result_rows
from support.sound_results import sound_results
from support.source_forms import add_member, write_form, write_tar

from aigid.errors import AigidError, ManifestError, ResultsError, ResumeMismatchError, UsageError
from aigid.filtering import FilterConfig, FilterTotals, filter_manifest
from aigid.manifest import open_manifest
from aigid.results import RelabelConfig, relabel

ROWS = 60


def scanned(tmp_path: Path, *paths: Path, tar_rows: dict[str, int] | None = None) -> Path:
    """Results of a scan of these paths, with some errors, in shards of 7 rows or so."""
    out = tmp_path / "results"
    names = tuple(map(str, paths))
    manifest = open_manifest(names)
    sound_results(out, manifest, shard_rows=7, tar_rows=tar_rows, paths=names, seed=3)
    return out


def run(results: Path, out: Path, **conditions: object) -> FilterTotals:
    return filter_manifest(FilterConfig(str(results), str(out), **conditions))  # type: ignore[arg-type]


def kept_rows(results: Path, verdict: str = "real") -> list[int]:
    """The positions of the rows with a verdict, in the manifest's order."""
    return [
        position for position, row in enumerate(result_rows(results)) if row["verdict"] == verdict
    ]


def rich_table(rows: int, start: int = 0) -> pa.Table:
    """A manifest with nested, dictionary and other columns, and metadata of its own."""
    numbers = range(start, start + rows)
    images = [{"bytes": f"{row}".encode() * 40, "path": None} for row in numbers]
    schema = pa.schema(
        [
            pa.field("image", HF_IMAGE),
            pa.field("prompt", pa.dictionary(pa.int32(), pa.string())),
            pa.field("id", pa.int64(), nullable=False, metadata={"unit": "rows"}),
            pa.field("tags", pa.list_(pa.struct([("name", pa.large_string())]))),
            pa.field("seen", pa.timestamp("us", "UTC")),
        ],
        {"huggingface": '{"features": {}}'},
    )
    columns = [
        pa.array(images, HF_IMAGE),
        pa.array([f"prompt {row % 3}" if row % 4 else None for row in numbers]).dictionary_encode(),
        pa.array(numbers, pa.int64()),
        pa.array(
            [[{"name": str(row)}] * (row % 3) if row % 5 else None for row in numbers],
            schema.field("tags").type,
        ),
        pa.array(numbers, pa.timestamp("us", "UTC")),
    ]
    return pa.table(columns, schema=schema)


@pytest.mark.parametrize("compression", ["snappy", "none", "zstd"])
@pytest.mark.parametrize("group_rows", [1, 9, 60])
def test_parquet_rows_keep_schema_order_and_values(
    compression: str, group_rows: int, tmp_path: Path
) -> None:
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    pq.write_table(rich_table(ROWS), path, row_group_size=group_rows, compression=compression)
    results = scanned(tmp_path, path)
    totals = run(results, out, verdict=("real",))
    wanted = kept_rows(results)
    assert 10 < len(wanted) < 50
    read = pq.ParquetFile(out)
    assert read.schema_arrow.equals(pq.ParquetFile(path).schema_arrow, check_metadata=True)
    assert read.read().equals(pq.read_table(path).take(wanted))
    found = read.metadata.row_group(0).column(0).compression
    assert found == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    errors = sum(row["error"] is not None for row in result_rows(results))
    assert totals == FilterTotals(ROWS, len(wanted), errors, 0)


def test_large_row_groups_are_read_some_rows_at_a_time(tmp_path: Path) -> None:
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    noise = np.random.default_rng(0)
    table = rich_table(40).set_column(
        0, "image", pa.array([{"bytes": noise.bytes(1 << 20), "path": None}] * 40, HF_IMAGE)
    )
    pq.write_table(table, path, use_dictionary=["prompt"], compression="none")
    results = scanned(tmp_path, path)
    run(results, out, verdict=("real",))
    assert pq.read_metadata(path).num_row_groups == 1
    assert pq.read_table(out).equals(pq.read_table(path).take(kept_rows(results)))


def test_drop_writes_all_others_and_both_together_are_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(rich_table(ROWS), path, row_group_size=9)
    results = scanned(tmp_path, path)
    kept = run(results, tmp_path / "keep.parquet", verdict=("ai",))
    others = run(results, tmp_path / "others.parquet", verdict=("ai",), drop=True)
    assert kept.written + others.written == ROWS
    assert (kept.failed_written, others.failed_written) == (0, kept.failed)
    ids = [pq.read_table(tmp_path / f"{name}.parquet")["id"] for name in ("keep", "others")]
    assert sorted(pa.concat_arrays([one.combine_chunks() for one in ids]).to_pylist()) == list(
        range(ROWS)
    )


CONDITIONS: dict[str, tuple[dict[str, object], Callable[[dict[str, object]], bool]]] = {
    "two verdicts": ({"verdict": ("ai", "real")}, lambda row: row["error"] is None),
    "sources": ({"source": ("sd21", "sdxl")}, lambda row: row["source"] in ("sd21", "sdxl")),
    "at least": (
        {"min_p_ai": 0.3},
        lambda row: row["p_ai"] is not None and row["p_ai"] >= np.float32(0.3),
    ),
    "between": (
        {"min_p_ai": 0.3, "max_p_ai": 0.6},
        lambda row: row["p_ai"] is not None and 0.3 <= row["p_ai"] <= 0.6,
    ),
    "one error": ({"error": ("missing",)}, lambda row: row["error"] == "missing"),
    "a verdict or an error": (
        {"verdict": ("ai",), "error": ("missing", "empty")},
        lambda row: row["verdict"] == "ai" or row["error"] in ("missing", "empty"),
    ),
    "a verdict and a source": (
        {"verdict": ("ai",), "source": ("sdxl",)},
        lambda row: row["source"] == "sdxl",
    ),
}


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("name", CONDITIONS)
def test_the_rows_are_those_that_meet_every_condition(
    name: str, drop: bool, tmp_path: Path
) -> None:
    conditions, is_met = CONDITIONS[name]
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    totals = run(results, out, drop=drop, **conditions)
    wanted = [row for row, found in enumerate(result_rows(results)) if is_met(found) != drop]
    assert 0 < len(wanted) < ROWS
    assert pq.read_table(out)["id"].to_pylist() == wanted
    assert totals.written == len(wanted)


def messy_csv(rows: int) -> bytes:
    """A CSV with a byte order mark, quotes, line breaks in cells, empty lines, and no last \\n."""
    cells = [
        f'"{row}.png","a ""cat""\r\n\nin, lines {row}",{row}' if row % 3 else f"{row}.png,,{row}"
        for row in range(rows)
    ]
    lines = "\n".join(f"{cell}\n" if row % 7 == 0 else cell for row, cell in enumerate(cells))
    return b"\xef\xbb\xbfimage,prompt,id\r\n" + lines.encode()


def records_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_records_of_csv_keep_their_own_bytes(tmp_path: Path) -> None:
    path, out = tmp_path / "m.csv", tmp_path / "keep.csv"
    path.write_bytes(messy_csv(ROWS))
    results = scanned(tmp_path, path)
    run(results, out, verdict=("real",))
    wanted, records = kept_rows(results), records_of(path)
    assert len(records) == ROWS
    assert records_of(out) == [records[row] for row in wanted]
    data = out.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfimage,prompt,id\r\n")
    assert all(f'"{row}.png","a ""cat""'.encode() in data for row in wanted if row % 3)


def test_lines_of_json_keep_their_own_bytes(tmp_path: Path) -> None:
    path, out = tmp_path / "m.jsonl", tmp_path / "keep.jsonl"
    lines = [f'{{"id":  {row}, "image": "é{row}.png"}}  \r\n'.encode() for row in range(ROWS)]
    path.write_bytes(b"\n".join(lines).rstrip())
    results = scanned(tmp_path, path)
    run(results, out, verdict=("ai",))
    wanted = kept_rows(results, "ai")
    assert out.read_bytes().split(b"\n") == [
        *(lines[row].rstrip(b"\n") for row in wanted if row < ROWS - 1),
        lines[-1].rstrip() if ROWS - 1 in wanted else b"",
    ]


def test_many_blocks_of_text_are_cut_at_the_right_records(tmp_path: Path) -> None:
    path, out = tmp_path / "m.csv", tmp_path / "keep.csv"
    path.write_bytes(messy_csv(3_000))
    results = tmp_path / "results"
    manifest = open_manifest((str(path),))
    assert len(manifest.files[0].row_groups) > 2
    sound_results(results, manifest, shard_rows=400, paths=(str(path),))
    run(results, out, verdict=("real",))
    assert [int(one["id"]) for one in records_of(out)] == kept_rows(results)


def members_of(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [
            (member.name, tar.extractfile(member).read())  # type: ignore[union-attr]
            for member in tar.getmembers()
            if member.isfile()
        ]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_samples_of_tars_stay_whole_and_their_bytes_too(ending: str, tmp_path: Path) -> None:
    path, out = tmp_path / f"m.{ending}", tmp_path / f"keep.{ending}"
    pairs = [(f"{row:03}.png", bytes([row]) * 700, f"caption {row}") for row in range(20)]
    write_tar(path, pairs, mode="w:gz" if ending == "tar.gz" else "w")
    results = scanned(tmp_path, path, tar_rows={str(path): 20})
    run(results, out, verdict=("real",))
    wanted = kept_rows(results)
    assert 3 < len(wanted) < 17
    members = members_of(path)
    assert members_of(out) == [one for one in members if int(one[0].partition(".")[0]) in wanted]
    data = out.read_bytes()
    assert data[:2] != b"\x1f\x8b" or gzip.decompress(data)
    again = tmp_path / f"again.{ending}"
    run(results, again, verdict=("real",))
    assert again.read_bytes() == data
    assert open_manifest((str(out),)).files[0].kind == "tar"


def test_a_sample_with_several_images_is_kept_for_any_of_them(tmp_path: Path) -> None:
    path, out = tmp_path / "m.tar", tmp_path / "keep.tar"
    long_name = "folder/" + "x" * 150
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for row in range(12):
            add_member(tar, f"{long_name}{row}.png", b"one")
            add_member(tar, f"{long_name}{row}.b.png", b"two")
            add_member(tar, f"{long_name}{row}.json", json.dumps({"é": row}).encode())
            add_member(tar, f"alone{row}.txt", b"no image")
    results = scanned(tmp_path, path, tar_rows={str(path): 24})
    run(results, out, verdict=("ai",))
    samples = sorted({row // 2 for row in kept_rows(results, "ai")})
    assert 0 < len(samples) < 12
    assert [name for name, _ in members_of(out)] == [
        f"{long_name}{row}.{ending}" for row in samples for ending in ("png", "b.png", "json")
    ]


@pytest.mark.parametrize("form", ["folder", "folder with metadata"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_folder_of_images_becomes_a_table_of_names_and_captions(
    form: str, ending: str, tmp_path: Path
) -> None:
    folder, out = write_form(form, tmp_path, 21), tmp_path / f"keep.{ending}"
    results = scanned(tmp_path, folder)
    run(results, out, verdict=("real",))
    wanted = kept_rows(results)
    rows: Sequence[dict[str, object]]
    if ending == "parquet":
        rows = pq.read_table(out).to_pylist()
    elif ending == "csv":
        rows = list(records_of(out))
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["file_name"] for row in rows] == [f"{row:05}.png" for row in wanted]
    texts = [row["text"] or None for row in rows]
    assert texts == [f"a cat, number {row}\nin two lines" if row % 3 else None for row in wanted]
    again = open_manifest((str(out),))
    assert (again.columns.image, again.columns.prompt) == ("file_name", "text")


def test_several_files_become_one_where_they_have_the_same_columns(tmp_path: Path) -> None:
    paths = [tmp_path / "data" / name for name in ("b.parquet", "a.parquet")]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        pq.write_table(rich_table(20, 100 * number), path, row_group_size=6)
    results, out = scanned(tmp_path, *paths), tmp_path / "keep.parquet"
    run(results, out, verdict=("real",))
    both = pa.concat_tables([pq.read_table(path) for path in paths]).unify_dictionaries()
    assert pq.read_table(out)["id"].to_pylist() == both["id"].take(kept_rows(results)).to_pylist()


def test_a_folder_gets_a_file_for_each_that_has_rows(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "year=2024").mkdir(parents=True)
    pq.write_table(rich_table(20), data / "a.parquet")
    pq.write_table(rich_table(5, 20).drop_columns("tags"), data / "year=2024" / "b.parquet")
    results, out = scanned(tmp_path, data), tmp_path / "keep"
    run(results, out, source=("sd21", "sdxl", "sd3", "dalle3", "midjourney", "real"))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.parquet")) == [
        "a.parquet",
        "year=2024/b.parquet",
    ]
    assert pq.ParquetFile(out / "year=2024" / "b.parquet").schema_arrow.names[-1] == "seen"
    found = [pq.ParquetFile(path).read()["id"] for path in sorted(out.rglob("*.parquet"))]
    scored = [row for row, one in enumerate(result_rows(results)) if one["error"] is None]
    assert [row for column in found for row in column.to_pylist()] == scored
    first = pq.read_table(data / "a.parquet")["id"][0].as_py()
    least = min(row["p_ai"] for row in result_rows(results) if row["p_ai"] is not None)  # type: ignore[type-var]
    run(results, tmp_path / "few", max_p_ai=float(least))
    assert first == 0
    assert len(list((tmp_path / "few").rglob("*.parquet"))) == 1


@pytest.mark.parametrize("kind", ["columns", "kinds", "tars"])
def test_files_that_cannot_be_one_need_a_folder(kind: str, tmp_path: Path) -> None:
    tar_rows: dict[str, int] = {}
    if kind == "tars":
        paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
        for path in paths:
            write_tar(path, [(f"{row}.png", b"image", None) for row in range(9)])
            tar_rows[str(path)] = 9
    else:
        other = "b.parquet" if kind == "columns" else "b.csv"
        paths = [tmp_path / "a.parquet", tmp_path / other]
        pq.write_table(rich_table(9), paths[0])
        if kind == "columns":
            pq.write_table(rich_table(9).drop_columns("seen"), paths[1])
        else:
            paths[1].write_bytes(messy_csv(9))
    results = scanned(tmp_path, *paths, tar_rows=tar_rows)
    out = tmp_path / f"keep.{'tar' if kind == 'tars' else 'parquet'}"
    with pytest.raises(UsageError, match="`out`.* give a folder, which gets a"):
        run(results, out, verdict=("ai", "real"))
    assert not list(tmp_path.glob("*keep*"))
    run(results, tmp_path / "keep", verdict=("ai", "real"))
    assert len(list((tmp_path / "keep").iterdir())) == 2


def test_no_rows_give_an_empty_file_of_the_form(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    run(results, tmp_path / "none.parquet", verdict=("unsure",))
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_rows_beyond_the_limit_of_the_scan_are_not_written(tmp_path: Path) -> None:
    path, results = tmp_path / "m.parquet", tmp_path / "results"
    pq.write_table(rich_table(ROWS), path, row_group_size=9)
    names = (str(path),)
    sound_results(results, open_manifest(names), shard_rows=7, limit=20, paths=names)
    totals = run(results, tmp_path / "others.parquet", verdict=("unsure",), drop=True)
    assert totals.rows == totals.written == 20
    assert pq.read_table(tmp_path / "others.parquet")["id"].to_pylist() == list(range(20))


CHANGES: dict[str, Callable[[Path], object]] = {
    "another row": lambda path: pq.write_table(rich_table(ROWS, 1), path),
    "fewer rows": lambda path: pq.write_table(rich_table(ROWS - 1), path),
    "no Parquet": lambda path: path.write_bytes(b"something else"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_manifest_that_changed_is_refused(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    CHANGES[name](path)
    with pytest.raises(AigidError, match=r"m\.parquet: (has changed since|cannot be read)"):
        run(results, out, verdict=("real",))
    assert not list(tmp_path.glob("*keep*"))


@pytest.mark.parametrize("form", ["csv", "json lines", "tars", "folder"])
def test_other_forms_that_changed_are_refused(form: str, tmp_path: Path) -> None:
    path = write_form(form, tmp_path, 10)
    tars = {str(one): 10 for one in path.glob("*.tar")} if path.is_dir() else {}
    results = scanned(tmp_path, path, tar_rows=tars)
    if form == "folder":
        (path / "00003.png").unlink()
    else:
        file = next(path.glob("*.tar")) if form == "tars" else path
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(AigidError, match="changed since"):
        run(results, tmp_path / ("keep" if form == "tars" else "keep.csv"), verdict=("real",))
    assert not list(tmp_path.glob("*keep*"))


def test_a_manifest_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    path.unlink()
    with pytest.raises(ManifestError, match=r"m\.parquet: gone since the scan"):
        run(results, tmp_path / "keep.parquet", verdict=("real",))


def test_damaged_unfinished_and_half_relabelled_results_are_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    part = result_files(results)[2]
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    with pytest.raises(ResultsError, match="1 result file changed since the scan finished"):
        run(results, out, verdict=("real",))
    part.write_bytes(whole)
    (results / "relabel.json").write_text("{")
    with pytest.raises(ResultsError, match="relabel.json: damaged"):
        run(results, out, verdict=("real",))
    (results / "relabel.json").unlink()
    (results / "summary.json").unlink()
    with pytest.raises(UsageError, match="its scan is not finished"):
        run(results, out, verdict=("real",))
    scan = results / "scan.json"
    scan.write_text(json.dumps(json.loads(scan.read_text()) | {"format": 5}))
    with pytest.raises(ResumeMismatchError, match="another version of aigid"):
        run(results, out, verdict=("real",))
    with pytest.raises(UsageError, match="no results of a scan there"):
        run(tmp_path / "none", out, verdict=("real",))
    assert not out.exists()


def test_a_relabelled_folder_filters_by_its_new_verdicts(tmp_path: Path) -> None:
    from aigid.progress_bar import SilentProgress

    path = tmp_path / "m.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    relabel(RelabelConfig(str(results), threshold=0.9), SilentProgress())
    run(results, tmp_path / "keep.parquet", verdict=("ai",))
    ids = pq.read_table(tmp_path / "keep.parquet")["id"].to_pylist()
    p_ai = [row["p_ai"] for row in result_rows(results)]
    assert ids == [row for row, value in enumerate(p_ai) if value is not None and value >= 0.9]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["there.parquet", "results/x.parquet", "data/x.parquet", "there"])
def test_places_where_nothing_may_be_written_are_refused(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pq.write_table(rich_table(ROWS), data / "m.parquet")
    (tmp_path / "there.parquet").write_bytes(b"mine")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").touch()
    results = scanned(tmp_path, data)
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(UsageError, match=r"`out` .*: (already there|is inside the)"):
        run(results, tmp_path / name, verdict=("real",))
    assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert (tmp_path / "there.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({}, "give a condition: `verdict`, `evidence`"),
        ({"drop": True}, "give a condition"),
        ({"verdict": ("maybe",)}, "`verdict` must be among ai, real, unsure: got 'maybe'"),
        ({"error": ("broken",)}, "`error` must be among empty, missing"),
        ({"min_p_ai": 2}, "`min_p_ai` must be from 0 to 1"),
        ({"source": ("dall-e",)}, "`source` must be among real, sd21, .*, other: got 'dall-e'"),
        ({"evidence": ("none",)}, "`evidence`: the scan in .* read no evidence"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(
    conditions: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(rich_table(ROWS), path)
    results = scanned(tmp_path, path)
    with pytest.raises(UsageError, match=said):
        run(results, tmp_path / "keep.parquet", **conditions)


def test_a_table_as_pandas_and_others_write_it_is_not_changed(tmp_path: Path) -> None:
    """INT96 times, LZ4, and a file without Arrow's schema in its metadata."""
    path, out = tmp_path / "m.parquet", tmp_path / "keep.parquet"
    table = rich_table(ROWS).drop_columns("tags")
    pq.write_table(
        table, path, store_schema=False, use_deprecated_int96_timestamps=True, compression="lz4"
    )
    results = scanned(tmp_path, path)
    run(results, out, verdict=("real",))
    expected = pq.read_table(path).take(kept_rows(results))
    assert pq.read_table(out).to_pylist() == expected.to_pylist()
