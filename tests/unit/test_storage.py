"""Paths and URIs: what a text names, what a glob or a folder lists, and that files appear whole or not at all."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from aigid.errors import UsageError
from aigid.storage import (
    exists,
    is_folder,
    list_names,
    list_parquet,
    locate,
    make_folder,
    read_bytes,
    remove_leftovers,
    write_atomic,
)

Make = Callable[..., None]
TREE = (
    "a.parquet",
    "ab.parquet",
    "b.parquet",
    "notes.txt",
    ".hidden.parquet",
    "_left_out.parquet",
    "x/d.parquet",
    "x/y/c.parquet",
    "x/.cache/e.parquet",
    "x/_tmp/f.parquet",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(here: Path) -> Make:
    """Makes files below the current folder, each holding its own name."""

    def make_files(*names: str) -> None:
        for name in names:
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    return make_files


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def listed(text: str) -> list[str]:
    return [location.text for location in list_parquet(locate(text))]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["_left_out.parquet", "a.parquet", "ab.parquet", "b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("[ac].parquet", ["a.parquet"]),
        ("[!a].parquet", ["b.parquet"]),
        ("[a-b]*.parquet", ["a.parquet", "ab.parquet", "b.parquet"]),
        ("*/*.parquet", ["x/d.parquet"]),
        ("x/*/c.parquet", ["x/y/c.parquet"]),
        ("**/c.parquet", ["x/y/c.parquet"]),
        ("**/b.parquet", ["b.parquet"]),
        ("x/**/*.parquet", ["x/_tmp/f.parquet", "x/d.parquet", "x/y/c.parquet"]),
        ("x/**", ["x/_tmp/f.parquet", "x/d.parquet", "x/y/c.parquet"]),
        ("./x/../*.txt", ["notes.txt"]),
        (".*.parquet", [".hidden.parquet"]),
        ("x/.cache/*", ["x/.cache/e.parquet"]),
        ("B.parquet*", []),
        ("z/*.parquet", []),
    ],
)
def test_a_glob_matches_name_by_name_as_a_shell_does(make: Make, pattern: str, expected: list[str]) -> None:
    make(*TREE)
    assert listed(pattern) == expected


def test_a_glob_keeps_the_form_that_its_folder_was_given_in(make: Make, here: Path) -> None:
    make("x/a.parquet", "y/b.parquet")
    assert listed(f"{here}/*/*.parquet") == [f"{here}/x/a.parquet", f"{here}/y/b.parquet"]
    os.chdir("x")
    assert listed("../y/*.parquet") == ["../y/b.parquet"]


def test_a_folder_lists_its_parquet_files_recursively_and_sorted_without_hidden_ones(make: Make) -> None:
    make(*TREE)
    expected = ["a.parquet", "ab.parquet", "b.parquet", "x/d.parquet", "x/y/c.parquet"]
    assert listed(".") == expected
    assert listed("x") == listed("x/") == listed("./x//") == ["x/d.parquet", "x/y/c.parquet"]


def test_a_folder_inside_a_hidden_one_is_listed_when_it_is_named(make: Make) -> None:
    make(".cache/_set/a.parquet", ".cache/_set/_b.parquet")
    assert listed(".cache/_set") == [".cache/_set/a.parquet"]


def test_a_folder_lists_linked_files_and_folders_and_dangling_links_but_no_pipes(make: Make, here: Path) -> None:
    make("elsewhere/a.parquet", "set/b.parquet")
    (here / "set" / "file.parquet").symlink_to(here / "elsewhere" / "a.parquet")
    (here / "set" / "folder").symlink_to(here / "elsewhere")
    (here / "set" / "dangling.parquet").symlink_to(here / "not-fetched-yet")
    os.mkfifo(here / "set" / "pipe.parquet")
    assert listed("set") == ["set/b.parquet", "set/dangling.parquet", "set/file.parquet", "set/folder/a.parquet"]


def test_a_link_to_a_folder_above_doubles_no_files(make: Make, here: Path) -> None:
    make("set/a.parquet", "set/below/b.parquet")
    (here / "set" / "below" / "round").symlink_to(here / "set")
    assert listed("set") == listed("set/**") == ["set/a.parquet", "set/below/b.parquet"]


def test_a_name_that_is_not_utf8_is_a_usage_error_that_shows_it(here: Path) -> None:
    Path(os.fsdecode(b"caf\xe9.parquet")).write_bytes(b"x")
    for text in (".", "*", os.fsdecode(b"caf\xe9.parquet")):
        with pytest.raises(UsageError, match=r"caf\\udce9.parquet': a name that is not UTF-8"):
            list_parquet(locate(text))


@pytest.mark.parametrize("name", ["w[1].parquet", "really?.parquet", "all*.parquet", "x[y]/a.parquet"])
def test_a_file_whose_own_name_has_glob_characters_is_that_file(make: Make, name: str) -> None:
    make(name, "w1.parquet", "really1.parquet", "all1.parquet", "xy/a.parquet")
    assert listed(name) == [name]


def test_a_folder_whose_own_name_has_glob_characters_is_that_folder(make: Make) -> None:
    make("set[1]/a.parquet", "set1/b.parquet")
    assert listed("set[1]") == ["set[1]/a.parquet"]


@pytest.mark.parametrize("name", ["with space.parquet", "ünï 画像.parquet", "100%25.parquet", "a#b.parquet", "run:1.parquet"])
def test_names_with_unusual_characters_are_found_by_path_glob_and_folder(make: Make, name: str) -> None:
    make(f"below/{name}", name)
    assert listed(name) == [name]
    assert listed(f"{name[:3]}*.parquet") == [name]
    assert listed("below") == [f"below/{name}"]
    assert listed(".") == sorted([name, f"below/{name}"])
    assert read_bytes(list_parquet(locate(name))[0]) == name.encode()


def test_a_file_uri_is_the_same_location_as_its_path(make: Make, here: Path) -> None:
    make("set/with space.parquet", "set/a.parquet")
    assert locate((here / "set").as_uri()).text == str(here / "set")
    assert locate((here / "set").as_uri()).is_local
    assert listed((here / "set" / "with space.parquet").as_uri()) == [str(here / "set" / "with space.parquet")]
    assert listed(f"file://{here}/set/*.parquet") == listed(f"{here}/set/*.parquet")


@pytest.mark.parametrize("sign", ["?", "#"])
def test_a_file_uri_with_a_query_or_fragment_is_refused_and_not_cut_short(make: Make, here: Path, sign: str) -> None:
    make("a1.parquet", "b.parquet")
    # Cut at the sign, it would name the folder, and all of that would be scanned.
    with pytest.raises(UsageError, match=r"write %.. for a . in a name"):
        locate(f"file://{here}/{sign}1.parquet")


@pytest.mark.parametrize(
    "text", ["gopher://host/m.parquet", "http://host/m.parquet", "://", "file://relative/m.parquet", "s3://a b/c"]
)
def test_a_scheme_or_uri_that_cannot_be_opened_is_a_usage_error_that_names_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert str(caught.value).startswith(f"{text}: not a location that can be opened: ")
    assert "\n" not in str(caught.value)


def test_an_empty_path_is_refused_and_not_taken_for_the_current_folder() -> None:
    with pytest.raises(UsageError, match="a path is empty"):
        locate("")


def test_a_tilde_is_a_name_like_any_other_since_shells_expand_it_before(make: Make, here: Path) -> None:
    make("~/a.parquet")
    assert listed("~") == listed("~/*.parquet") == ["~/a.parquet"]
    assert listed("~/gone.parquet") == ["~/gone.parquet"]


def test_paths_are_shown_without_detours_and_trailing_slashes() -> None:
    assert [locate(text).text for text in ("./a/", "a//b", "a/../b", "/x/./y/")] == ["a", "a/b", "b", "/x/y"]
    assert locate("out/").child("m.parquet").text == "out/m.parquet"
    assert locate("/").child("m.parquet").text == "/m.parquet"


def test_an_object_store_location_keeps_scheme_and_query_in_its_text() -> None:
    # The in-memory store of Arrow stands for any store: nothing is reached over a network.
    folder = locate("mock:///bucket/set?region=x")
    folder.filesystem.create_dir(folder.path)
    assert not folder.is_local
    assert folder.child("a.parquet").text == "mock://bucket/set/a.parquet?region=x"
    write_atomic(folder.child("a.parquet"), b"data")
    assert read_bytes(folder.child("a.parquet")) == b"data"
    assert [location.text for location in list_parquet(folder)] == ["mock://bucket/set/a.parquet?region=x"]
    make_folder(folder.child("other"))
    assert not exists(folder.child("other"))


def test_exists_and_is_folder(make: Make) -> None:
    make("x/a.parquet")
    assert [exists(locate(text)) for text in ("x", "x/a.parquet", "gone")] == [True, True, False]
    assert [is_folder(locate(text)) for text in ("x", "x/a.parquet", "gone")] == [True, False, False]


def test_list_names_gives_files_right_in_a_folder_alone(make: Make) -> None:
    make("x/a", "x/.b", "x/y/c")
    assert sorted(list_names(locate("x"))) == [".b", "a"]
    assert list_names(locate("gone")) == []


def test_make_folder_makes_those_above_and_minds_none_that_is_there(here: Path) -> None:
    make_folder(locate("a/b/c"))
    make_folder(locate("a/b/c"))
    assert (here / "a" / "b" / "c").is_dir()


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(here: Path) -> None:
    write_atomic(locate("summary.json"), b"old")
    write_atomic(locate("summary.json"), pa.py_buffer(b"new"))
    assert (here / "summary.json").read_bytes() == b"new"
    assert names_in(here) == ["summary.json"]
    assert (here / "summary.json").stat().st_mode & 0o777 == 0o644


def test_a_write_into_a_missing_folder_makes_nothing(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(locate("gone/summary.json"), b"data")
    assert names_in(here) == []


def test_a_write_onto_a_folder_fails_and_leaves_it_as_it_was(make: Make, here: Path) -> None:
    make("summary.json/inside")
    with pytest.raises(IsADirectoryError):
        write_atomic(locate("summary.json"), b"data")
    assert names_in(here) == ["summary.json"]
    assert names_in(here / "summary.json") == ["inside"]


WRITE_BEYOND_THE_LIMIT = """
import resource, signal
from aigid.storage import locate, write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(locate("summary.json"), b"x" * 5000)
except OSError as error:
    print(error.strerror)
"""


def test_a_write_that_fails_half_way_leaves_the_old_file_whole(make: Make, here: Path) -> None:
    make("summary.json")
    done = subprocess.run([sys.executable, "-c", WRITE_BEYOND_THE_LIMIT], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert (here / "summary.json").read_text() == "summary.json"
    assert names_in(here) == ["summary.json"]


WRITE_AS_NOBODY = """
import os, sys
from aigid.storage import locate, write_atomic
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for folder in ("open", "locked"):
    try:
        write_atomic(locate(f"{sys.argv[1]}/{folder}/summary.json"), b"new")
        print("written")
    except PermissionError as error:
        print(error.strerror)
"""


def test_a_write_into_a_read_only_folder_leaves_the_old_file_whole() -> None:
    with tempfile.TemporaryDirectory() as name:
        for folder, mode in {".": 0o755, "open": 0o777, "locked": 0o555}.items():
            path = Path(name, folder)
            path.mkdir(exist_ok=True)
            (path / "summary.json").write_text("old")
            path.chmod(mode)
        done = subprocess.run([sys.executable, "-c", WRITE_AS_NOBODY, name], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["written", "Permission denied"]
        assert Path(name, "open", "summary.json").read_text() == "new"
        assert Path(name, "locked", "summary.json").read_text() == "old"
        assert names_in(Path(name, "locked")) == ["summary.json"]


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(make: Make, here: Path) -> None:
    make("out/.detections-000001.parquet.ab12.tmp", "out/kept.tmp", "out/.lock", "out/below/.x.tmp", "out/.folder.tmp/inside")
    remove_leftovers(locate("out"))
    left = sorted(path.relative_to(here / "out").as_posix() for path in (here / "out").rglob("*") if path.is_file())
    assert left == [".folder.tmp/inside", ".lock", "below/.x.tmp", "kept.tmp"]


def test_a_written_file_may_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(locate(str(tmp_path / "file")), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
