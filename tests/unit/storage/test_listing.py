"""The listing of a path, a folder or a glob: which names, in which order, in which form."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aigid.errors import UsageError
from aigid.manifest import open_manifest
from aigid.storage import list_files, locate, read_bytes, relative_name

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


def listed(text: str) -> list[str]:
    return [file.location.text for file in list_files(locate(text)).files]


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
def test_a_glob_matches_as_in_a_shell(make: Make, pattern: str, expected: list[str]) -> None:
    make(*TREE)
    assert listed(pattern) == expected


def test_a_glob_lists_relative_or_absolute_paths_like_its_own(make: Make, here: Path) -> None:
    make("x/a.parquet", "y/b.parquet")
    assert listed(f"{here}/*/*.parquet") == [f"{here}/x/a.parquet", f"{here}/y/b.parquet"]
    os.chdir("x")
    assert listed("../y/*.parquet") == ["../y/b.parquet"]


def test_a_folder_lists_its_files_recursively_and_sorted_without_hidden_ones(make: Make) -> None:
    make(*TREE)
    assert listed(".") == sorted(set(TREE) - {".hidden.parquet", "x/.cache/e.parquet"})
    below = ["x/_tmp/f.parquet", "x/d.parquet", "x/y/c.parquet"]
    assert listed("x") == listed("x/") == listed("./x//") == below


@pytest.mark.parametrize(
    ("text", "root", "is_one_file", "is_glob"),
    [
        ("x", "x", False, False),
        ("x/*/c.parquet", "x", False, True),
        ("x/d.parquet", "x", True, False),
        ("*.parquet", ".", False, True),
        ("gone", ".", False, False),
    ],
)
def test_a_listing_says_where_its_names_are(
    make: Make, text: str, root: str, is_one_file: bool, is_glob: bool
) -> None:
    make(*TREE)
    listing = list_files(locate(text))
    assert (listing.root.text, listing.is_one_file, listing.is_glob) == (root, is_one_file, is_glob)


@pytest.mark.parametrize("folder", [".", "x", "x/", "x/../x", "HERE/x", "~x", "run:1"])
def test_a_name_is_relative_to_its_folder(make: Make, here: Path, folder: str) -> None:
    root = locate(folder.replace("HERE", str(here)))
    make(f"{root.text}/y/~c #1.jpg")
    names = [relative_name(file.location, root) for file in list_files(root).files]
    assert names == (["y/~c #1.jpg"])


def test_a_folder_inside_a_hidden_one_is_listed_if_it_is_named(make: Make) -> None:
    make(".cache/_set/a.parquet", ".cache/_set/_b.parquet")
    assert listed(".cache/_set") == [".cache/_set/_b.parquet", ".cache/_set/a.parquet"]


def test_a_folder_lists_linked_files_and_folders_and_dangling_links_but_no_pipes(
    make: Make, here: Path
) -> None:
    make("elsewhere/a.parquet", "set/b.parquet")
    (here / "set" / "file.parquet").symlink_to(here / "elsewhere" / "a.parquet")
    (here / "set" / "folder").symlink_to(here / "elsewhere")
    (here / "set" / "dangling.parquet").symlink_to(here / "not-fetched-yet")
    os.mkfifo(here / "set" / "pipe.parquet")
    assert listed("set") == [
        "set/b.parquet",
        "set/dangling.parquet",
        "set/file.parquet",
        "set/folder/a.parquet",
    ]


def test_a_link_to_a_folder_above_lists_no_file_twice(make: Make, here: Path) -> None:
    make("set/a.parquet", "set/below/b.parquet")
    (here / "set" / "below" / "round").symlink_to(here / "set")
    assert listed("set") == listed("set/**") == ["set/a.parquet", "set/below/b.parquet"]


def test_a_name_that_is_not_utf8_is_listed_and_is_an_error_where_arrow_must_open_it(
    here: Path,
) -> None:
    name = os.fsdecode(b"caf\xe9.parquet")
    Path(name).write_bytes(b"x")
    refused = r"caf\\udce9.parquet': the name is not UTF-8: rename it"
    for text in (".", "*"):
        assert listed(text) == [name]
        with pytest.raises(UsageError, match=refused):
            open_manifest([text])
    with pytest.raises(UsageError, match=refused):
        listed(name)


@pytest.mark.parametrize(
    "name", ["w[1].parquet", "really?.parquet", "all*.parquet", "x[y]/a.parquet"]
)
def test_a_file_whose_own_name_has_glob_characters_is_that_file(make: Make, name: str) -> None:
    make(name, "w1.parquet", "really1.parquet", "all1.parquet", "xy/a.parquet")
    assert listed(name) == [name]


def test_a_folder_whose_own_name_has_glob_characters_is_that_folder(make: Make) -> None:
    make("set[1]/a.parquet", "set1/b.parquet")
    assert listed("set[1]") == ["set[1]/a.parquet"]


@pytest.mark.parametrize(
    "name",
    ["with space.parquet", "ünï 画像.parquet", "100%25.parquet", "a#b.parquet", "run:1.parquet"],
)
def test_names_with_unusual_characters_are_found_by_path_glob_and_folder(
    make: Make, name: str
) -> None:
    make(f"below/{name}", name)
    assert listed(name) == [name]
    assert listed(f"{name[:3]}*.parquet") == [name]
    assert listed("below") == [f"below/{name}"]
    assert listed(".") == sorted([name, f"below/{name}"])
    assert read_bytes(locate(listed(name)[0])) == name.encode()


def test_a_tilde_is_not_expanded_since_shells_do_that(make: Make, here: Path) -> None:
    make("~/a.parquet")
    assert listed("~") == listed("~/*.parquet") == ["~/a.parquet"]


def test_a_file_uri_lists_what_its_path_does(make: Make, here: Path) -> None:
    make("set/with space.parquet", "set/a.parquet")
    assert listed((here / "set" / "with space.parquet").as_uri()) == [
        str(here / "set" / "with space.parquet")
    ]
    assert listed(f"file://{here}/set/*.parquet") == listed(f"{here}/set/*.parquet")


def test_a_missing_path_lists_nothing(make: Make) -> None:
    make("set/.a.txt")
    assert (
        listed("gone.parquet")
        == listed("gone/*.parquet")
        == listed("set")
        == listed("set/*.parquet")
        == []
    )


def test_a_listing_has_size_and_time_and_is_a_stream(make: Make, here: Path) -> None:
    make("set/a.parquet", "set/b/c.parquet", "set/b/d.parquet")
    files = list_files(locate("set")).files
    first = next(files)
    facts = (here / "set/a.parquet").stat()
    assert (first.size_bytes, first.modified_ns) == (facts.st_size, facts.st_mtime_ns)
    (here / "set/b/c.parquet").unlink()
    # The second folder was not read yet when its file was removed.
    assert [file.location.text for file in files] == ["set/b/d.parquet"]
