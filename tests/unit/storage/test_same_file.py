"""Files that are the same: by whatever names they are given."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from aigid.errors import ManifestError
from aigid.storage import GivenFiles, Location, identity_of, locate, parse_store_uri

Make = Callable[..., None]


def same(first: str, second: str) -> bool:
    return identity_of(at(first)) == identity_of(at(second))


def at(text: str) -> Location:
    """The location of a path or URI; of an object, without a client, which would ask its store."""
    if text.startswith(("s3", "http")):
        uri = parse_store_uri(text)
        return Location(fs.LocalFileSystem(), uri.path, uri.shown, uri)
    return locate(text)


def test_a_local_file_is_the_same_by_all_its_names(make: Make, here: Path) -> None:
    make("folder/a.parquet", "folder/b.parquet")
    Path("link.parquet").symlink_to("folder/a.parquet")
    Path("linked_folder").symlink_to("folder")
    os.link("folder/a.parquet", "hard.parquet")
    for name in (
        "folder/../folder/a.parquet",
        str(here / "folder" / "a.parquet"),
        (here / "folder" / "a.parquet").as_uri(),
        "link.parquet",
        "linked_folder/a.parquet",
        "hard.parquet",
    ):
        assert same("folder/a.parquet", name), name
    assert not same("folder/a.parquet", "folder/b.parquet")


def test_files_that_do_not_exist_are_known_by_their_paths(here: Path) -> None:
    Path("dangling.parquet").symlink_to("gone.parquet")
    assert same("gone.parquet", f"{here}/gone.parquet")
    assert same("gone.parquet", "dangling.parquet")
    assert not same("gone.parquet", "other.parquet")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("s3://bucket/a.parquet", "s3a://bucket/a.parquet"),
        ("s3://bucket/a%20b.parquet", "s3://bucket/a b.parquet"),
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet?region=eu-west-1"),
        ("http://localhost/a.parquet", "http://LOCALHOST:80/a.parquet"),
    ],
)
def test_an_object_is_the_same_by_all_its_uris(first: str, second: str) -> None:
    assert same(first, second)


def test_an_azure_blob_is_the_same_with_the_account_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    for domain in ("dfs", "blob"):
        uri = f"abfss://box@mine.{domain}.core.windows.net/a.parquet"
        assert same("az://box/a.parquet", uri)
        assert not same("az://box/a.parquet", uri.replace("mine", "other"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("s3://bucket/a.parquet", "s3://bucket/A.parquet"),
        ("s3://bucket/a.parquet", "s3://other/a.parquet"),
        (
            "s3://bucket/a?endpoint_override=localhost:1",
            "s3://bucket/a?endpoint_override=localhost:2",
        ),
        ("http://localhost/a.parquet?v=1", "http://localhost/a.parquet?v=2"),
        ("http://localhost/a.parquet", "http://localhost:8080/a.parquet"),
    ],
)
def test_other_objects_are_others(first: str, second: str) -> None:
    assert not same(first, second)


def test_a_file_of_two_paths_is_refused_with_both_its_names(make: Make) -> None:
    make("a.parquet", "b.parquet")
    Path("link.parquet").symlink_to("a.parquet")
    given = GivenFiles()
    given.add(locate("a.parquet"), 0)
    given.add(locate("a.parquet"), 0)
    given.add(locate("b.parquet"), 1)
    with pytest.raises(ManifestError, match=r"^link\.parquet: given twice, before as a\.parquet, "):
        given.add(locate("link.parquet"), 1)
