"""A relabel makes of a scan's results what a scan with the new settings makes, without scoring."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.result_tables import SCORED_BY, manifest_of
from support.scan_results import result_files
from support.sound_results import manifest_with_tars, sound_results

from aigid.contract import MissThreshold, ModelContract, Threshold, save_contract
from aigid.decisions import VerdictRule
from aigid.errors import ContractError, ResultsError, ResumeMismatchError, UsageError
from aigid.manifest import Manifest
from aigid.progress_bar import SilentProgress
from aigid.records import Mode
from aigid.results import (
    FindingKind,
    RelabelConfig,
    ScanSummary,
    ScoredBy,
    open_results,
    refuse_relabel_under_way,
    relabel,
    repair_results,
    verify_results,
)
from aigid.storage import Location, remove_file, write_atomic

MANIFEST = manifest_of({"a.parquet": 4, "b.parquet": 5, "c.parquet": 2}, {"id": pa.int64()})
SHARDS = 4
AT_0_8 = replace(SCORED_BY, threshold=0.8, verdicts=VerdictRule(Mode.BEST_GUESS, 0.8, 0.8))
BALANCED = replace(SCORED_BY, verdicts=VerdictRule(Mode.BALANCED, 0.75, 0.25))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Sound results of four shards."""
    sound_results(tmp_path / "out", MANIFEST)
    return tmp_path / "out"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model repository with the fingerprint of the scan's model, as far as a relabel reads it."""
    return model_with(tmp_path / "model", "f1")


def model_with(folder: Path, fingerprint: str) -> Path:
    folder.mkdir()
    contract = ModelContract(
        "tiny",
        "",
        1,
        1,
        fingerprint,
        "e1",
        thresholds={"0.01": Threshold(0.75, 300, 0.95), "0.05": Threshold(0.6, 300, 0.95)},
        miss_thresholds={"0.01": MissThreshold(0.25, 300, 0.95)},
    )
    save_contract(contract, folder)
    return folder


def run(folder: Path, out: Path | None = None, **options: object) -> ScanSummary:
    shown = None if out is None else str(out)
    return relabel(RelabelConfig(str(folder), shown, **options), SilentProgress())  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a results folder but its lock; of the summary what does not depend on time."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    if "summary.json" in found:
        summary = json.loads(found["summary.json"])
        found["summary.json"] = json.dumps(summary | {"run": None}).encode()
    return found


def scanned(folder: Path, scored_by: ScoredBy, manifest: Manifest = MANIFEST) -> dict[str, bytes]:
    """The files of a scan that decides like this."""
    sound_results(folder, manifest, scored_by=scored_by)
    return contents(folder)


def findings(folder: Path) -> list[FindingKind]:
    return [one.kind for one in verify_results(open_results(str(folder)))]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("options", "scored_by"),
    [
        ({"threshold": 0.8}, AT_0_8),
        ({"mode": "balanced"}, BALANCED),
        ({"max_fpr": 0.05, "mode": Mode.BEST_GUESS}, None),
        ({"max_fpr": 0.01, "mode": "balanced"}, replace(BALANCED, threshold=0.75)),
    ],
)
def test_the_files_are_those_of_a_scan_with_the_new_settings(
    options: dict[str, object],
    scored_by: ScoredBy | None,
    in_place: bool,
    out: Path,
    model: Path,
    tmp_path: Path,
) -> None:
    new = VerdictRule(Mode.BEST_GUESS, 0.6, 0.6)
    expected = scanned(
        tmp_path / "scan", scored_by or replace(SCORED_BY, threshold=0.6, verdicts=new)
    )
    before, target = contents(out), out if in_place else tmp_path / "new"
    needs_model = {} if set(options) == {"threshold"} else {"model": model}
    summary = run(out, None if in_place else target, **options, **needs_model)
    assert contents(target) == expected
    assert summary == open_results(str(target)).read_summary()
    assert findings(target) == []
    assert in_place or contents(out) == before


def test_all_but_the_decisions_stays(out: Path, tmp_path: Path) -> None:
    run(out, tmp_path / "new", threshold=0.8)
    changed = 0
    for old, new in zip(result_files(out), result_files(tmp_path / "new"), strict=True):
        tables = [pq.read_table(path) for path in (old, new)]
        decided = ["is_ai", "source", "verdict"]
        assert tables[0].drop_columns(decided).equals(tables[1].drop_columns(decided))
        assert tables[0].schema.names == tables[1].schema.names
        changed += tables[0]["is_ai"] != tables[1]["is_ai"]
    assert changed


def test_there_and_back_again_gives_the_same_bytes(out: Path) -> None:
    before = contents(out)
    run(out, threshold=0.8)
    assert contents(out) != before
    run(out, threshold=0.5)
    assert contents(out) == before
    run(out, threshold=0.5)
    assert contents(out) == before


def test_results_of_tars_with_an_open_set_and_errors_alone(tmp_path: Path) -> None:
    manifest = manifest_with_tars({"a.parquet": 3}, {"t.tar": 4})
    for share in (0.0, 1.0):
        out, new = tmp_path / f"out{share}", tmp_path / f"new{share}"
        sound_results(out, manifest, tar_rows={"t.tar": 4}, error_share=share)
        run(out, new, threshold=0.8)
        assert findings(new) == []


class Killed(BaseException):
    """What ends a relabel as a kill does: nothing catches it."""


def killed_at(
    moment: int, after: bool, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> bool:
    """Whether `work` was killed before or after its write or removal number `moment`."""
    done = 0

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def changed(location: Location, *data: object) -> None:
            nonlocal done
            done += 1
            if done > moment and not after:
                raise Killed
            change(location, *data)
            if done > moment:
                raise Killed

        return changed

    with monkeypatch.context() as patched:
        patched.setattr("aigid.results.folder.write_atomic", counted(write_atomic))
        patched.setattr("aigid.results.folder.remove_file", counted(remove_file))
        try:
            work()
        except Killed:
            return True
    return False


# The record, two removals, four result files, three records, and the removal of the first.
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", range(SHARDS + 7))
def test_a_relabel_in_place_that_is_killed_anywhere_goes_on(
    moment: int, after: bool, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, expected = contents(out), scanned(tmp_path / "scan", AT_0_8)
    assert killed_at(moment, after, monkeypatch, lambda: run(out, threshold=0.8))
    if contents(out) not in (before, expected):
        assert findings(out) == [FindingKind.UNFINISHED]
        said = "a relabel to threshold 0.8 and mode best-guess is under way"
        with pytest.raises(ResumeMismatchError, match=said):
            refuse_relabel_under_way(open_results(str(out)))
        with pytest.raises(UsageError, match=said):
            run(out, threshold=0.7)
        with pytest.raises(ResumeMismatchError, match=said):
            run(out, tmp_path / "new", threshold=0.8)
        state = contents(out)
        repair_results(open_results(str(out)))
        assert contents(out) == state
    run(out, threshold=0.8)
    assert contents(out) == expected


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", range(SHARDS + 4))
def test_a_relabel_into_a_new_folder_that_is_killed_anywhere_goes_on(
    moment: int, after: bool, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, expected = contents(out), scanned(tmp_path / "scan", AT_0_8)
    new = tmp_path / "new"
    assert killed_at(moment, after, monkeypatch, lambda: run(out, new, threshold=0.8))
    assert set(findings(new) if moment > 1 else []) <= {
        FindingKind.UNFINISHED,
        FindingKind.MISSING,
    }
    if moment > 2:
        with pytest.raises(ResumeMismatchError, match=r"settings.threshold: 0.8 -> 0.7"):
            run(out, new, threshold=0.7)
    run(out, new, threshold=0.8)
    assert contents(new) == expected
    assert contents(out) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x55
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a result file is cut": lambda out: cut(result_files(out)[1]),
    "a byte of a result file is flipped": lambda out: flip(result_files(out)[2]),
    "a result file is missing": lambda out: result_files(out)[0].unlink(),
    "a result file is another's": lambda out: shutil.copy(
        result_files(out)[0], result_files(out)[1]
    ),
    "the list of shards is missing": lambda out: (out / "shards.arrow").unlink(),
    "the list of shards is cut": lambda out: cut(out / "shards.arrow"),
    "the list of files is missing": lambda out: (out / "files.arrow").unlink(),
    "the record is edited": lambda out: (out / "scan.json").write_text(
        (out / "scan.json").read_text().replace('"threshold": 0.5', '"threshold": 0.6')
    ),
    "the summary is cut": lambda out: cut(out / "summary.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("in_place", [True, False])
def test_damaged_results_are_refused_and_stay(
    name: str, in_place: bool, out: Path, tmp_path: Path
) -> None:
    DAMAGE[name](out)
    before = contents(out) if name != "the summary is cut" else {}
    with pytest.raises(ResultsError, match=r"aigid verify --repair|remove it and run the scan"):
        run(out, None if in_place else tmp_path / "new", threshold=0.8)
    assert (contents(out) if before else {}) == before
    assert not (tmp_path / "new" / "summary.json").exists()


def test_a_result_file_that_is_damaged_meanwhile_can_be_scanned_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed_at(3, False, monkeypatch, lambda: run(out, threshold=0.8))
    bad = result_files(out)[3]
    cut(bad)
    with pytest.raises(ResultsError, match="truncated"):
        run(out, threshold=0.8)
    bad.unlink()
    with pytest.raises(ResultsError, match="1 result file missing, the others are relabelled"):
        run(out, threshold=0.8)
    assert not (out / "relabel.json").exists()
    settings = json.loads((out / "scan.json").read_text())["settings"]
    assert settings["threshold"] == 0.8
    assert findings(out) == [FindingKind.UNFINISHED]


def test_an_unfinished_scan_is_refused(tmp_path: Path) -> None:
    sound_results(tmp_path / "out", MANIFEST, finished=False)
    with pytest.raises(UsageError, match="`folder` .*: its scan is not finished: run the same"):
        run(tmp_path / "out", threshold=0.8)


def test_results_of_another_version_and_no_results_are_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`folder` .*: no results of a scan there"):
        run(tmp_path / "none", threshold=0.8)
    values = json.loads((out / "scan.json").read_text())
    (out / "scan.json").write_text(json.dumps(values | {"format": 5}))
    with pytest.raises(ResumeMismatchError, match="another version of aigid .format 5."):
        run(out, threshold=0.8)


def test_another_model_is_refused_with_the_reason(out: Path, tmp_path: Path) -> None:
    other = model_with(tmp_path / "other", "f2" * 32)
    for options in ({"model": other}, {"model": other, "threshold": 0.8}):
        with pytest.raises(ContractError, match="`model` .* its fingerprint is f2f2.* but f1"):
            run(out, **options)
    with pytest.raises(ContractError, match="temperatures or another open set change the scores"):
        run(out, max_fpr=0.01)
    assert findings(out) == []


def test_rates_and_modes_that_the_model_lacks_are_refused(out: Path, model: Path) -> None:
    with pytest.raises(ContractError, match="`max_fpr` 0.001"):
        run(out, model=model, max_fpr=0.001)
    with pytest.raises(ContractError, match="`mode` high-precision"):
        run(out, model=model, mode="high-precision")
    assert findings(out) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give `threshold`, `max_fpr`, `mode` or `model`"),
        ({"threshold": 0.5, "max_fpr": 0.1}, "give one of `threshold` and `max_fpr`"),
        ({"mode": "bold"}, "`mode` must be one of"),
        ({"threshold": 1.5}, "`threshold` must be from 0 to 1"),
        ({"threshold": float("nan")}, "`threshold` must be from 0 to 1"),
        ({"max_fpr": -1}, "`max_fpr` must be from 0 to 1"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RelabelConfig("out", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["out", "out/new", "out/detections", "."])
def test_a_new_folder_among_the_results_is_refused(name: str, out: Path) -> None:
    with pytest.raises(UsageError, match="`out` .*: give a folder outside the results"):
        run(out, out.parent / name, threshold=0.8)
    assert findings(out) == []


def test_a_new_folder_with_other_results_is_refused(out: Path, tmp_path: Path) -> None:
    before = scanned(tmp_path / "new", SCORED_BY)
    with pytest.raises(ResumeMismatchError, match=r"differing: .*settings.threshold: 0.5 -> 0.8"):
        run(out, tmp_path / "new", threshold=0.8)
    assert contents(tmp_path / "new") == before


def test_a_folder_that_another_process_writes_to_is_refused(out: Path) -> None:
    with (
        open_results(str(out)).open(),
        pytest.raises(UsageError, match="`folder` .*: another scan is writing"),
    ):
        run(out, threshold=0.8)
