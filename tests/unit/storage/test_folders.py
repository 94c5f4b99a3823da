"""Folders that are replaced as a whole."""

import os
import stat
from pathlib import Path

import pytest

from aigid.errors import UsageError
from aigid.storage import make_output_folder, replace_folder, restore_folder, staged_folder


def test_a_folder_for_results_is_made_or_refused(tmp_path: Path) -> None:
    for _ in range(2):
        make_output_folder(tmp_path / "a" / "b")
        assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/self/x")):
        with pytest.raises(UsageError, match=rf"^`folder` {folder}: cannot be written to: "):
            make_output_folder(folder)


def test_a_replacement_succeeds_after_one_that_was_killed(tmp_path: Path) -> None:
    for name in ("new", ".folder.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "new"


def test_the_old_folder_is_restored_where_the_new_one_never_came(tmp_path: Path) -> None:
    (tmp_path / ".folder.old").mkdir()
    restore_folder(tmp_path / "folder")
    restore_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_new_folder_that_does_not_exist_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "new", tmp_path / "folder")
    assert (tmp_path / "folder" / "file").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_staged_folder_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with staged_folder(tmp_path / "below" / "folder") as staging:
            (staging / "file").write_text(text)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["folder"]
    assert (tmp_path / "below" / "folder" / "file").read_text() == "second"


def test_a_staged_folder_that_was_not_filled_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    with pytest.raises(KeyError), staged_folder(tmp_path / "folder") as staging:
        (staging / "file").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750), (0o002, 0o775)])
def test_the_umask_decides_who_can_read_a_staged_folder(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        with staged_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == mode
