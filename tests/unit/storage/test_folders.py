"""Folders that are replaced as a whole."""

from pathlib import Path

import pytest

from aigid.storage import replace_folder, restore_folder


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
