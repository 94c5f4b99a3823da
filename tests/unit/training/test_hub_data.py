"""Data sets by hub id, from a server on loopback that imitates the hub."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq
import pytest
from support.manifests import manifest_table

from aigid.errors import ManifestError
from aigid.training.hub_data import local_manifest_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    found = {"README.md": b"words"}
    for name, rows in {
        "data/train-0.parquet": 4,
        "data/train-1.parquet": 3,
        "data/validation-0.parquet": 2,
    }.items():
        pq.write_table(manifest_table(rows), tmp_path / "rows.parquet")
        found[name] = (tmp_path / "rows.parquet").read_bytes()
    return found


class HubServer(ThreadingHTTPServer):
    """Serves the files of one data set, and records the names of fetched files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.files, self.fetched = files, list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubRequest(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        files, path = self.server.files, unquote(urlsplit(self.path).path)
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith("/api/datasets/owner/pairs/revision/"):
            siblings = [{"rfilename": one} for one in files]
            self.send(
                json.dumps({"id": "owner/pairs", "sha": COMMIT, "siblings": siblings}).encode(),
                "info",
                body,
            )
        elif path.startswith("/api/datasets/owner/pairs/tree/"):
            tree = [
                {"type": "file", "path": one, "size": len(data), "oid": "0" * 40}
                for one, data in files.items()
            ]
            self.send(json.dumps(tree).encode(), "tree", body)
        elif path.startswith("/datasets/owner/pairs/") and name in files:
            if body:
                self.server.fetched.append(name)
            self.send(files[name], hashlib.sha1(files[name]).hexdigest(), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, data: bytes, tag: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[HubServer]:
    server = HubServer(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(address: str, cache: Path, *paths: str) -> list[str]:
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


def test_a_split_is_downloaded_once_and_nothing_else(
    hub: tuple[str, list[str]], files: dict[str, bytes], tmp_path: Path
) -> None:
    globbed, folder, whole, file = ask(
        hub.address,
        tmp_path,
        "hf://datasets/owner/pairs/data/train-*.parquet",
        "hf://datasets/owner/pairs/data",
        "hf://datasets/owner/pairs/",
        "hf://datasets/owner/pairs/data/validation-0.parquet",
    )
    assert sorted(hub.fetched) == [
        "data/train-0.parquet",
        "data/train-1.parquet",
        "data/validation-0.parquet",
    ]
    assert [path.name for path in sorted(Path(globbed).parent.glob("train-*"))] == [
        "train-0.parquet",
        "train-1.parquet",
    ]
    assert Path(folder) == Path(whole) / "data"
    assert Path(file).read_bytes() == files["data/validation-0.parquet"]


def test_what_the_hub_does_not_have_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    absent, nothing, odd = ask(
        hub.address,
        tmp_path,
        "hf://datasets/owner/other",
        "hf://datasets/owner/pairs/data/test-*",
        "hf://models/owner/pairs",
    )
    assert absent == (
        "hf://datasets/owner/other: the hub has no such data set, or you may not read it "
        "(`hf auth login`)"
    )
    assert (
        nothing == "hf://datasets/owner/pairs/data/test-*: the data set has no Parquet files there"
    )
    assert odd.startswith(
        "hf://models/owner/pairs: not a data set on the hub: give hf://datasets/OWNER/NAME"
    )


def test_without_a_network_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ManifestError, match="not in the local cache, and the hub cannot be reached"
    ) as refused:
        local_manifest_path("hf://datasets/no-such-owner/no-such-name")
    assert "\n" not in str(refused.value)


def test_other_paths_are_returned_unchanged() -> None:
    assert local_manifest_path("data/train") == "data/train"
