"""`verify_results` names every kind of damage rightly, and finds none in sound folders."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.result_tables import SCORED_BY, manifest_of
from support.sound_results import manifest_with_tars, sound_results

from aigid.decisions import VerdictRule
from aigid.errors import ResumeMismatchError, UsageError
from aigid.records import Mode
from aigid.results import (
    Finding,
    FindingKind,
    Repair,
    content_sha256,
    open_results,
    repair_results,
    verify_results,
)

MANIFEST = manifest_of({"a.parquet": 4, "b.parquet": 5, "c.parquet": 2}, {"id": pa.int64()})
"""Four shards: files a, b in two pieces, and c."""

RULES = (
    SCORED_BY.verdicts,
    VerdictRule(Mode.BALANCED, 0.75, 0.25),
    VerdictRule(Mode.HIGH_PRECISION, 0.4, 0.4),
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A sound results folder of four shards."""
    sound_results(tmp_path / "out", MANIFEST)
    assert len(list((tmp_path / "out" / "detections").iterdir())) == 4
    return tmp_path / "out"


def found_in(out: Path) -> list[Finding]:
    return list(verify_results(open_results(str(out))))


def part(out: Path, index: int) -> Path:
    return out / "detections" / f"part-{index:06d}.parquet"


def rewrite(out: Path, change: Callable[[pa.Table], pa.Table], *, rehash: bool = False) -> None:
    """Change the table of shard 1; `rehash` makes its metadata fit the change."""
    path = part(out, 1)
    before = pq.read_table(path)
    table = change(before)
    metadata = dict(before.schema.metadata)
    if rehash:
        metadata[b"aigid.content_sha256"] = content_sha256(table).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True)


def set_column(name: str, value: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        return table.set_column(index, table.schema.field(index), value(table))

    return change


def edit_json(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)


def flip_in_page(out: Path) -> None:
    column = pq.read_metadata(part(out, 1)).row_group(0).column(4)
    begin = column.dictionary_page_offset or column.data_page_offset
    flip(part(out, 1), begin + column.total_compressed_size - 2)


def swap(out: Path) -> None:
    part(out, 1).rename(out / "aside")
    part(out, 2).rename(part(out, 1))
    (out / "aside").rename(part(out, 2))


def put_from(out: Path, index: int = 1, **other: object) -> None:
    """Put the same shard of another scan in place of a shard."""
    manifest = other.pop("manifest", MANIFEST)
    scratch = out.with_name("scratch")
    sound_results(scratch, manifest, **other)  # type: ignore[arg-type]
    shutil.copy(part(scratch, index), part(out, index))


def shift_rows(table: pa.Table) -> pa.Array:
    return pc.add(table["row"], 1)


def first_p_ai_changed(table: pa.Table) -> pa.Array:
    return pa.array([0.123, *table["p_ai"].to_pylist()[1:]], pa.float32())


def turned_decisions(table: pa.Table) -> pa.Array:
    return pc.invert(table["is_ai"])


def unsure_verdicts(table: pa.Table) -> pa.Array:
    """A verdict for each scored row that its score contradicts."""
    scored = pc.is_null(table["error"]).to_pylist()
    return pa.array(["unsure" if one else None for one in scored]).dictionary_encode()


@dataclass(frozen=True)
class Damage:
    """What is done to a sound folder, and what must be said of it."""

    do: Callable[[Path], object]
    kind: FindingKind
    file: str = "detections/part-000001.parquet"
    repair: Repair = Repair.REMOVE
    said: str = ""
    row: int | None = None


K = FindingKind
DAMAGES = {
    "a shard is missing": Damage(lambda out: part(out, 1).unlink(), K.MISSING, repair=Repair.SCAN),
    "the last shard is missing": Damage(
        lambda out: part(out, 3).unlink(),
        K.MISSING,
        "detections/part-000003.parquet",
        repair=Repair.SCAN,
    ),
    "a shard has the rows of another": Damage(
        lambda out: shutil.copy(part(out, 2), part(out, 1)), K.DOUBLED, said="shard 2"
    ),
    "a shard is there under another name too": Damage(
        lambda out: shutil.copy(part(out, 2), out / "detections" / "part-000002 (1).parquet"),
        K.DOUBLED,
        "detections/part-000002 (1).parquet",
        Repair.NONE,
        "shard 2",
    ),
    "a shard is there as one after the last": Damage(
        lambda out: shutil.copy(part(out, 2), part(out, 9)),
        K.DOUBLED,
        "detections/part-000009.parquet",
    ),
    "a shard is cut": Damage(
        lambda out: part(out, 1).write_bytes(part(out, 1).read_bytes()[:-100]),
        K.TRUNCATED,
    ),
    "a shard is cut to its first bytes": Damage(
        lambda out: part(out, 1).write_bytes(part(out, 1).read_bytes()[:4]), K.TRUNCATED
    ),
    "a shard is empty": Damage(lambda out: part(out, 1).write_bytes(b""), K.TRUNCATED),
    "a shard is no Parquet file": Damage(
        lambda out: part(out, 1).write_text("a text file, not Parquet"), K.DAMAGED
    ),
    "a byte of a page is flipped": Damage(flip_in_page, K.DAMAGED, said="checksum", row=0),
    "the footer is zeroed": Damage(
        lambda out: part(out, 1).write_bytes(
            part(out, 1).read_bytes()[:-400] + bytes(392) + part(out, 1).read_bytes()[-8:]
        ),
        K.DAMAGED,
    ),
    "bytes are appended": Damage(
        lambda out: part(out, 1).write_bytes(part(out, 1).read_bytes() + b"more"), K.TRUNCATED
    ),
    "a probability is edited": Damage(
        lambda out: rewrite(out, set_column("p_ai", first_p_ai_changed)), K.EDITED
    ),
    "a probability and the hash are edited": Damage(
        lambda out: rewrite(
            out,
            set_column("known_score", lambda table: pa.nulls(len(table), pa.float32())),
            rehash=True,
        ),
        K.EDITED,
        said="shards.arrow",
    ),
    "decisions are turned": Damage(
        lambda out: rewrite(out, set_column("is_ai", turned_decisions), rehash=True),
        K.EDITED,
        said="contradict",
        row=0,
    ),
    "a kept column is edited": Damage(
        lambda out: rewrite(out, set_column("id", lambda table: pa.array([7] * len(table)))),
        K.EDITED,
    ),
    "a row is removed": Damage(lambda out: rewrite(out, lambda table: table.slice(1)), K.EDITED),
    "a row is removed, with the hash": Damage(
        lambda out: rewrite(out, lambda table: table.slice(0, 1), rehash=True), K.ROWS, row=1
    ),
    "a row is doubled, with the hash": Damage(
        lambda out: rewrite(
            out, lambda table: pa.concat_tables([table, table.slice(0, 1)]), rehash=True
        ),
        K.ROWS,
    ),
    "rows are in another order": Damage(
        lambda out: rewrite(out, lambda table: table.take([1, 0]), rehash=True), K.ROWS, row=0
    ),
    "rows have other numbers": Damage(
        lambda out: rewrite(out, set_column("row", shift_rows), rehash=True), K.ROWS, row=0
    ),
    "a column is dropped": Damage(
        lambda out: rewrite(out, lambda table: table.drop_columns("known_score"), rehash=True),
        K.ANOTHER_SCAN,
    ),
    "a shard is compressed otherwise": Damage(
        lambda out: pq.write_table(pq.read_table(part(out, 1)), part(out, 1)), K.DAMAGED
    ),
    "a program without aigid's metadata rewrote a shard": Damage(
        lambda out: pq.write_table(
            pq.read_table(part(out, 1)).replace_schema_metadata(None), part(out, 1)
        ),
        K.FOREIGN,
    ),
    "another model": Damage(
        lambda out: put_from(out, scored_by=replace(SCORED_BY, fingerprint="f2")),
        K.ANOTHER_MODEL,
        said="fingerprint f2",
    ),
    "another precision": Damage(
        lambda out: put_from(out, scored_by=replace(SCORED_BY, precision="fp32")),
        K.ANOTHER_MODEL,
        said="precision fp32",
    ),
    "another threshold": Damage(
        lambda out: put_from(out, scored_by=replace(SCORED_BY, threshold=0.75)),
        K.ANOTHER_MODEL,
        said="threshold 0.75",
    ),
    "another mode": Damage(
        lambda out: put_from(
            out, scored_by=replace(SCORED_BY, verdicts=VerdictRule(Mode.BALANCED, 0.75, 0.25))
        ),
        K.ANOTHER_MODEL,
        said="mode balanced",
    ),
    "a mode that there is not": Damage(
        lambda out: edit_json(
            out / "scan.json", lambda values: values["settings"].update(mode="bold")
        ),
        K.DAMAGED,
        "scan.json",
        Repair.RESTORE,
    ),
    "verdicts of other bounds": Damage(
        lambda out: rewrite(out, set_column("verdict", unsure_verdicts), rehash=True), K.EDITED
    ),
    "a shard of a scan with other scores": Damage(
        lambda out: put_from(out, seed=1), K.EDITED, said="shards.arrow"
    ),
    "a shard of another manifest": Damage(
        lambda out: put_from(
            out,
            manifest=manifest_of({"x.parquet": 4, "y.parquet": 5}, {"id": pa.int64()}),
        ),
        K.ROWS,
        said="y.parquet",
        row=0,
    ),
    "a foreign Parquet file": Damage(
        lambda out: pq.write_table(pa.table({"x": [1]}), out / "detections" / "extra.parquet"),
        K.FOREIGN,
        "detections/extra.parquet",
        Repair.NONE,
    ),
    "a foreign text file": Damage(
        lambda out: (out / "detections" / "notes.txt").write_text("mine"),
        K.FOREIGN,
        "detections/notes.txt",
        Repair.NONE,
    ),
    "a folder of older results": Damage(
        lambda out: shutil.copytree(out / "detections", out / "detections" / "old"),
        K.FOREIGN,
        "detections/old",
        Repair.NONE,
    ),
    "a killed write of a shard": Damage(
        lambda out: (out / "detections" / ".part-000001.parquet.0a1b2c3d.tmp").touch(),
        K.LEFTOVER,
        "detections/.part-000001.parquet.0a1b2c3d.tmp",
    ),
    "a killed write of a record": Damage(
        lambda out: (out / ".summary.json.0a1b2c3d.tmp").touch(),
        K.LEFTOVER,
        ".summary.json.0a1b2c3d.tmp",
    ),
    "the summary counts other rows": Damage(
        lambda out: edit_json(out / "summary.json", lambda values: values.update(scored=10)),
        K.CONTRADICTION,
        "summary.json",
        said="scored 10",
    ),
    "the summary counts other sources": Damage(
        lambda out: edit_json(
            out / "summary.json", lambda values: values["sources"].update(real=99)
        ),
        K.CONTRADICTION,
        "summary.json",
        said="sources",
    ),
    "the summary is of another model": Damage(
        lambda out: edit_json(
            out / "summary.json", lambda values: values["model"].update(fingerprint="f2")
        ),
        K.CONTRADICTION,
        "summary.json",
    ),
    "the summary is cut": Damage(
        lambda out: (out / "summary.json").write_text("{"), K.DAMAGED, "summary.json"
    ),
    "the summary is missing": Damage(
        lambda out: (out / "summary.json").unlink(), K.MISSING, "summary.json", Repair.SCAN
    ),
    "the list of shards is missing": Damage(
        lambda out: (out / "shards.arrow").unlink(), K.MISSING, "shards.arrow"
    ),
    "a byte of the list of shards is flipped": Damage(
        lambda out: flip(
            out / "shards.arrow", (out / "shards.arrow").read_bytes().index(b"ARROW1", 6) - 700
        ),
        K.DAMAGED,
        "shards.arrow",
    ),
    "the list of shards is cut": Damage(
        lambda out: (out / "shards.arrow").write_bytes((out / "shards.arrow").read_bytes()[:500]),
        K.DAMAGED,
        "shards.arrow",
    ),
    "the manifest's files are damaged": Damage(
        lambda out: flip(out / "files.arrow", 300), K.DAMAGED, "files.arrow"
    ),
    "the manifest's files are missing": Damage(
        lambda out: (out / "files.arrow").unlink(), K.MISSING, "files.arrow"
    ),
    "the record is cut": Damage(
        lambda out: (out / "scan.json").write_text("{"),
        K.DAMAGED,
        "scan.json",
        Repair.RESTORE,
    ),
    "the record is edited": Damage(
        lambda out: edit_json(
            out / "scan.json", lambda values: values["settings"].update(threshold=0.7)
        ),
        K.EDITED,
        "scan.json",
        Repair.RESTORE,
    ),
    "the record has another format": Damage(
        lambda out: edit_json(out / "scan.json", lambda values: values.update(format=4)),
        K.EDITED,
        "scan.json",
        Repair.RESTORE,
    ),
    "the record is missing": Damage(
        lambda out: (out / "scan.json").unlink(), K.MISSING, "scan.json", Repair.RESTORE
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_is_named_with_its_file_and_nothing_else(name: str, out: Path) -> None:
    damage = DAMAGES[name]
    damage.do(out)
    (finding,) = found_in(out)
    assert (finding.kind, finding.file, finding.repair) == (damage.kind, damage.file, damage.repair)
    assert damage.said in finding.detail
    if damage.row is not None:
        assert finding.row == damage.row


@pytest.mark.parametrize("name", DAMAGES)
def test_a_repair_removes_what_the_scan_makes_again_and_nothing_else(name: str, out: Path) -> None:
    damage = DAMAGES[name]
    sound = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    damage.do(out)
    results = open_results(str(out))
    (finding,) = repair_results(results)
    assert finding.repair is damage.repair
    file = out / damage.file
    match damage.repair:
        case Repair.REMOVE | Repair.SCAN:
            assert not file.exists()
        case Repair.NONE:
            assert file.exists()
        case Repair.RESTORE:
            assert file.read_bytes() == sound[file]
    for path, data in sound.items():
        if path not in (file, out / "summary.json", out / ".lock"):
            assert path.read_bytes() == data


def test_two_swapped_shards_are_both_named(out: Path) -> None:
    swap(out)
    assert [(one.kind, one.file) for one in found_in(out)] == [
        (K.SWAPPED, "detections/part-000001.parquet"),
        (K.SWAPPED, "detections/part-000002.parquet"),
    ]


def test_several_kinds_of_damage_are_all_named(out: Path) -> None:
    for name in ("a shard is missing", "a foreign text file", "the record is edited"):
        DAMAGES[name].do(out)
    shutil.copy(part(out, 0), part(out, 2))
    assert [one.kind for one in found_in(out)] == [K.EDITED, K.MISSING, K.DOUBLED, K.FOREIGN]


def test_without_the_list_of_shards_the_metadata_of_each_file_tells(out: Path) -> None:
    (out / "shards.arrow").unlink()
    rewrite(out, set_column("p_ai", first_p_ai_changed))
    part(out, 2).write_bytes(b"PAR1")
    kinds = [(one.kind, one.file) for one in found_in(out)]
    assert kinds == [
        (K.MISSING, "shards.arrow"),
        (K.EDITED, "detections/part-000001.parquet"),
        (K.TRUNCATED, "detections/part-000002.parquet"),
    ]


@pytest.mark.parametrize("record", ["scan.json", "files.arrow"])
def test_where_a_record_is_lost_for_good_a_repair_removes_nothing(record: str, out: Path) -> None:
    (out / "shards.arrow").unlink()
    (out / record).unlink()
    part(out, 1).write_bytes(b"PAR1")
    found = repair_results(open_results(str(out)))
    assert {one.kind for one in found if one.file == record} == {K.MISSING}
    assert not any(one.is_repairable for one in found)
    assert part(out, 1).exists()


def test_a_record_that_no_file_fits_is_suspected_itself(out: Path) -> None:
    (out / "shards.arrow").unlink()
    (out / "summary.json").unlink()
    edit_json(out / "scan.json", lambda values: values["model"].update(fingerprint="f2"))
    before = {path.name for path in (out / "detections").iterdir()}
    found = repair_results(open_results(str(out)))
    assert (K.CONTRADICTION, "scan.json") in [(one.kind, one.file) for one in found]
    assert {path.name for path in (out / "detections").iterdir()} == before


def test_a_scan_that_is_not_finished_is_one_finding(tmp_path: Path) -> None:
    sound_results(tmp_path, MANIFEST, finished=False)
    part(tmp_path, 1).unlink()
    part(tmp_path, 3).unlink()
    (finding,) = found_in(tmp_path)
    assert finding.kind is K.UNFINISHED
    assert "2 of 4 shards" in finding.detail


def test_a_folder_without_results_and_one_of_another_version_are_refused(
    tmp_path: Path, out: Path
) -> None:
    with pytest.raises(UsageError, match="no results of a scan there"):
        found_in(tmp_path / "none")
    with pytest.raises(UsageError, match="no results of a scan there"):
        repair_results(open_results(str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()
    (out / "shards.arrow").unlink()
    DAMAGES["the record has another format"].do(out)
    with pytest.raises(ResumeMismatchError, match="format 4"):
        found_in(out)


def test_hidden_files_and_files_beside_the_records_do_not_matter(out: Path) -> None:
    (out / "detections" / ".DS_Store").touch()
    (out / "my notes.txt").touch()
    assert found_in(out) == []


def test_rows_of_damaged_row_groups_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.results.folder._ROW_GROUP_BYTES", 2000)
    sound_results(tmp_path, manifest_of({"m.parquet": 100}), shard_rows=100)
    metadata = pq.read_metadata(part(tmp_path, 0))
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert len(groups) > 2
    column = metadata.row_group(2).column(3)
    begin = column.dictionary_page_offset or column.data_page_offset
    flip(part(tmp_path, 0), begin + column.total_compressed_size - 2)
    (finding,) = found_in(tmp_path)
    assert finding.row == sum(groups[:2])


names = st.lists(st.text("abcé /%", min_size=1, max_size=5), unique=True, max_size=4)


@pytest.mark.integration
@settings(max_examples=200)
@given(data=st.data())
def test_sound_folders_of_any_shape_have_no_findings(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = {name: data.draw(st.integers(0, 12)) for name in data.draw(names)}
    tars = {f"{name}.tar": data.draw(st.integers(0, 9)) for name in data.draw(names)}
    if not any([*files.values(), *tars.values()]):
        files["one"] = 1
    keep = data.draw(st.sampled_from([{}, {"id": pa.int64()}, {"text": pa.string()}]))
    manifest = manifest_of(files, keep) if not tars else manifest_with_tars(files, tars)
    out = tmp_path_factory.mktemp("sound")
    sound_results(
        out,
        manifest,
        shard_rows=data.draw(st.integers(1, 15)),
        limit=None if tars else data.draw(st.none() | st.integers(1, 20)),
        tar_rows=tars,
        error_share=data.draw(st.sampled_from([0, 0.3, 1])),
        seed=data.draw(st.integers(0, 99)),
        scored_by=replace(SCORED_BY, verdicts=data.draw(st.sampled_from(RULES))),
    )
    assert found_in(out) == []
    shutil.rmtree(out)


@pytest.mark.parametrize(
    "name", ["detections/part-000001.parquet", "files.arrow", "scan.json", "shards.arrow"]
)
def test_a_flipped_byte_anywhere_in_a_file_is_a_finding_of_that_file_alone(
    name: str, out: Path
) -> None:
    path, chance = out / name, random.Random(name)
    data = path.read_bytes()
    for _ in range(25):
        flip(path, chance.randrange(len(data)))
        found = [one.file for one in found_in(out)]
        # Nothing reads the padding between the columns of shards.arrow.
        assert found == [name] or (name == "shards.arrow" and not found)
        path.write_bytes(data)
