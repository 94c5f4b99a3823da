"""Data sets by hub id, downloaded from a server on loopback that imitates the hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.hub_server import SIGNATURE, Hub, Refusal, hub_server
from support.manifests import manifest_table

from aigid.manifest import open_manifest
from aigid.training.hub_data import local_manifest_path

URI = "hf://datasets/owner/pairs"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    found = {"README.md": b"words"}
    for name, rows in {
        "data/train-0.parquet": 4,
        "data/train-1.parquet": 3,
        "data/validation-0.PARQUET": 2,
        "data/deep/er/x.parquet": 5,
    }.items():
        pq.write_table(manifest_table(rows), tmp_path / "rows.parquet")
        found[name] = (tmp_path / "rows.parquet").read_bytes()
    return found


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with hub_server() as server:
        server.put(files)
        yield server


def ask(address: str, cache: Path, *paths: str, **variables: str) -> list[str]:
    """Return what `local_manifest_path` returns or raises for each path, with the hub at `address`.

    It runs in a process of its own, because the hub's client reads its address when imported.
    """
    program = (
        "import sys\n"
        "from aigid.errors import AigidError\n"
        "from aigid.training.hub_data import local_manifest_path\n"
        "for path in sys.argv[1:]:\n"
        "    try: print(local_manifest_path(path))\n"
        "    except AigidError as error: print(error)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rows_of(path: str) -> int:
    return open_manifest([path]).rows


def test_a_split_is_downloaded_once_and_nothing_else(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    (train,) = ask(hub.address, tmp_path, f"{URI}/data/train-?.parquet")
    assert rows_of(train) == 7
    assert hub.fetched() == {"data/train-0.parquet", "data/train-1.parquet"}
    folder, whole, deep, file = ask(
        hub.address,
        tmp_path,
        f"{URI}/data",
        f"{URI}/",
        f"{URI}/data/**/x.parquet",
        f"{URI}@main/data/validation-0.PARQUET",
    )
    assert hub.fetched() == files.keys() - {"README.md"}
    hub.requests.clear()
    assert ask(hub.address, tmp_path, f"{URI}/data") == [folder]
    assert hub.fetched() == set()
    assert rows_of(deep) == 5
    assert (rows_of(folder), rows_of(whole), rows_of(file)) == (14, 14, 2)
    assert Path(folder) == Path(whole) / "data"
    assert Path(file).read_bytes() == files["data/validation-0.PARQUET"]


def test_a_revision_is_downloaded(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.put({"default/0.parquet": files["data/train-1.parquet"]}, revision="refs/convert/parquet")
    (path,) = ask(hub.address, tmp_path, f"{URI}@refs/convert/parquet")
    assert rows_of(path) == 3


def test_what_the_hub_does_not_have_is_an_error(hub: Hub, tmp_path: Path) -> None:
    hub.put({"t/_delta_log/0.json": b"x", "t/a.parquet": b"x"}, name="owner/delta")
    hub.put({"a.csv": b"image,prompt\n1.png,a cat\n"}, name="owner/text")
    absent, nothing, odd, table, text = ask(
        hub.address,
        tmp_path,
        "hf://datasets/owner/other",
        f"{URI}/data/test-*",
        "hf://models/owner/pairs",
        "hf://datasets/owner/delta",
        "hf://datasets/owner/text",
    )
    assert absent.startswith(
        "hf://datasets/owner/other: the hub has no such data set, or you may not read it"
    )
    assert nothing.startswith(f"{URI}/data/test-*: nothing to scan there: a manifest is a Parquet")
    hint = "; the hub's own copy as Parquet, where it has made one, is hf://datasets/owner"
    assert nothing.endswith(f"{hint}/pairs@refs/convert/parquet")
    assert text.endswith(f"of the kind csv{hint}/text@refs/convert/parquet")
    assert odd.startswith("hf://models/owner/pairs: not a data set of the Hugging Face Hub: give")
    assert table.startswith("hf://datasets/owner/delta/t: a Delta Lake table")
    assert hub.fetched() == set()


def test_a_failed_download_shows_no_signed_url(hub: Hub, tmp_path: Path) -> None:
    hub.refuse = lambda request: Refusal(403) if request.host == "files" else None
    (error,) = ask(hub.address, tmp_path, f"{URI}/data")
    assert error.startswith(f"{URI}/data: access is denied: check what the token allows")
    assert SIGNATURE.partition("=")[2] not in error


def test_the_cache_is_enough_without_a_network(hub: Hub, tmp_path: Path) -> None:
    (before,) = ask(hub.address, tmp_path, f"{URI}/data")
    hub.requests.clear()
    after, absent = ask(
        hub.address, tmp_path, f"{URI}/data", "hf://datasets/owner/other", HF_HUB_OFFLINE="1"
    )
    assert (after, hub.requests) == (before, [])
    assert absent == (
        "hf://datasets/owner/other: not in the local cache, and the hub cannot be reached"
    )


def test_other_paths_are_returned_unchanged() -> None:
    assert local_manifest_path("data/train") == "data/train"
