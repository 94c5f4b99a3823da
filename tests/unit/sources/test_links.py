"""Files that a folder or a glob reaches by several names count once."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image, manifest_table

from aigid.errors import ManifestError
from aigid.manifest import open_manifest
from aigid.sources import find_sources, locations_of

Write = Callable[..., Path]


def found(path: object) -> list[str]:
    """The files, or images, that a path names, relative to the current folder."""
    return [
        os.path.relpath(location.path)
        for one in find_sources(str(path), lambda note: None)
        for location in locations_of(one)
    ]


@pytest.fixture(params=["parquet", "png"])
def ending(request: pytest.FixtureRequest, here: Path) -> str:
    """Makes files of this ending: data/a, data/b."""
    Path("data").mkdir()
    for name in "ab":
        path = Path(f"data/{name}.{request.param}")
        if request.param == "png":
            path.write_bytes(encoded_image(3))
        else:
            pq.write_table(manifest_table(2), path)
    return str(request.param)


def test_a_link_to_a_sibling_folder_adds_nothing(ending: str) -> None:
    Path("latest").symlink_to("data")
    Path("data/again").symlink_to(".")
    for path in (".", "*/*", f"**/*.{ending}"):
        assert found(path) == [f"data/a.{ending}", f"data/b.{ending}"], path


def test_a_link_to_a_file_adds_nothing_wherever_it_sorts(ending: str) -> None:
    Path(f"data/0.{ending}").symlink_to(f"b.{ending}")
    Path(f"data/z.{ending}").symlink_to(f"a.{ending}")
    assert found("data") == [f"data/a.{ending}", f"data/b.{ending}"]


def test_a_file_with_two_names_on_its_disk_counts_once(ending: str) -> None:
    os.link(f"data/a.{ending}", f"data/c.{ending}")
    assert found("data") == [f"data/a.{ending}", f"data/b.{ending}"]


def test_links_to_what_is_not_listed_itself_stay(ending: str) -> None:
    """As in the cache of the Hugging Face Hub, whose files are links to blobs."""
    Path("in/blobs").mkdir(parents=True)
    Path("in/.hidden").mkdir()
    Path(f"data/a.{ending}").rename("in/blobs/1234")
    Path(f"in/a.{ending}").symlink_to("blobs/1234")
    Path(f"data/b.{ending}").rename(f"in/.hidden/b.{ending}")
    Path(f"in/b.{ending}").symlink_to(f".hidden/b.{ending}")
    assert found("in") == [f"in/a.{ending}", f"in/b.{ending}"]


def test_of_two_links_to_a_file_elsewhere_the_first_counts(ending: str) -> None:
    Path("in").mkdir()
    for name in "xy":
        Path(f"in/{name}.{ending}").symlink_to(f"../data/a.{ending}")
    Path("in/z").symlink_to("../data")
    assert found("in") == [f"in/x.{ending}", f"in/z/b.{ending}"]


def test_a_folder_that_is_itself_named_by_a_link_lists_all(ending: str) -> None:
    Path("latest").symlink_to("data")
    assert found("latest") == [f"latest/a.{ending}", f"latest/b.{ending}"]


@pytest.mark.parametrize(
    "pair",
    [
        ("data", "data"),
        ("data", "./data/a.{ending}"),
        ("data/*", "data/b.{ending}"),
        ("data/a.{ending}", "{here}/data/a.{ending}"),
        ("data/a.{ending}", "file://{here}/data/a.{ending}"),
        ("data/a.{ending}", "link.{ending}"),
        ("data", "latest"),
    ],
)
def test_two_paths_to_a_file_are_refused(pair: tuple[str, str], ending: str, here: Path) -> None:
    Path("latest").symlink_to("data")
    Path(f"link.{ending}").symlink_to(f"data/a.{ending}")
    paths = [path.format(ending=ending, here=here) for path in pair]
    for order in (paths, paths[::-1]):
        with pytest.raises(ManifestError, match="given twice"):
            open_manifest(order)


def test_two_paths_to_different_files_are_one_manifest(ending: str) -> None:
    assert open_manifest([f"data/a.{ending}", f"data/b.{ending}"]).rows == (
        2 if ending == "png" else 4
    )
