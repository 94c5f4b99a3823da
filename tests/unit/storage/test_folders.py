from pathlib import Path

from aigid.storage import replace_folder


def test_what_a_killed_process_left_of_a_replacement_does_not_stop_the_next(tmp_path: Path) -> None:
    for name in ("new", ".folder.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "new"
