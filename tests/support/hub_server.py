"""A server on loopback that imitates the Hugging Face Hub, and one for its large files."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from support.web_server import LoopbackServer

TOKEN = "hf_SECRETTOKEN"
SIGNATURE = "X-Signature=SECRETSIGNATURE"
# Git keeps these in the repository itself: the hub sends them, without a redirect.
SMALL_ENDINGS = (".md", ".txt", ".csv", ".json", ".jsonl")

Files = dict[str, bytes]


@dataclass(frozen=True)
class HubRequest:
    """A request that came in: to the hub (`host` "hub"), or for a large file ("files")."""

    host: str
    method: str
    path: str
    token: str | None


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error, with the hub's own code."""

    status: int
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Hub:
    """The data sets by name and revision, the requests so far, and the refusal of each next one.

    A data set in `private` needs the token TOKEN.
    """

    address: str = ""
    files_address: str = ""
    data_sets: dict[str, dict[str, Files]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    page_entries: int = 1000
    refuse: Callable[[HubRequest], Refusal | None] = lambda request: None
    requests: list[HubRequest] = field(default_factory=list)

    def put(self, files: Files, name: str = "owner/pairs", revision: str = "main") -> str:
        """Set the files of a data set at a revision. Returns its URI."""
        self.data_sets.setdefault(name, {})[revision] = files
        return f"hf://datasets/{name}" + ("" if revision == "main" else f"@{revision}")

    def files(self, name: str = "owner/pairs", revision: str = "main") -> Files:
        """The files of a data set at a revision."""
        return self.data_sets[name][revision]

    def find(self, name: str, revision: str) -> tuple[str, Files] | None:
        """Return the commit and the files of a revision: of a branch, or of a commit."""
        for branch, files in self.data_sets[name].items():
            if revision in (branch, commit_of(files)):
                return commit_of(files), files
        return None

    def paths(self, host: str = "hub") -> list[str]:
        """The methods and paths of the requests to a host so far."""
        return [f"{one.method} {one.path}" for one in self.requests if one.host == host]

    def fetched(self) -> set[str]:
        """The names of the files whose bytes were asked for, at any revision."""
        names = {
            hashlib.sha256(data).hexdigest(): name
            for revisions in self.data_sets.values()
            for files in revisions.values()
            for name, data in files.items()
        }
        got = [urlsplit(one.path).path for one in self.requests if one.method == "GET"]
        small = (re.search(r"/resolve/[^/]+/(.*)", path) for path in got)
        return {unquote(found[1]) for found in small if found} | {
            names[path.strip("/")] for path in got if path.strip("/") in names
        }


def commit_of(files: Files) -> str:
    """Return the commit of some files."""
    blobs = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())
    return hashlib.sha1(repr(blobs).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self) -> None:
        hub = self.server.hub
        size = int(self.headers.get("Content-Length") or 0)
        self.form = parse_qs(self.rfile.read(size).decode())
        token = self.headers.get("Authorization")
        request = HubRequest(self.server.host, self.command, self.path, token)
        hub.requests.append(request)
        refusal = hub.refuse(request)
        if refusal is not None:
            self.refuse(refusal)
        elif self.server.host == "files":
            self.send_file(self.server.blobs[urlsplit(self.path).path.strip("/")])
        else:
            self.answer_as_hub(hub, token)

    def answer_as_hub(self, hub: Hub, token: str | None) -> None:
        path = urlsplit(self.path).path
        found = re.fullmatch(
            r"/(?:api/)?datasets/([^/]+/[^/]+)/(tree|paths-info|resolve|revision)/([^/]+)/?(.*)",
            path,
        )
        name = found[1] if found else ""
        if found is None or name not in hub.data_sets:
            return self.refuse(Refusal(404 if token else 401, "RepoNotFound"))
        if name in hub.private and token != f"Bearer {TOKEN}":
            return self.refuse(Refusal(404 if token else 401, "RepoNotFound"))
        at = hub.find(name, unquote(found[3]))
        if at is None:
            return self.refuse(Refusal(404, "RevisionNotFound"))
        kind, key = found[2], unquote(found[4])
        commit, files = at
        if kind == "resolve":
            return self.resolve(hub, files, commit, key)
        if kind == "revision":
            siblings = [{"rfilename": one} for one in files]
            return self.send_json({"id": name, "sha": commit, "siblings": siblings})
        entries = {entry["path"]: entry for entry in entries_of(files)}
        if kind == "paths-info":
            asked = (one.strip("/") for one in self.form["paths"])
            return self.send_json([entries[one] for one in asked if one in entries])
        return self.send_tree(hub, entries, key)

    def send_tree(self, hub: Hub, entries: dict[str, dict[str, object]], key: str) -> None:
        if key and entries.get(key, {}).get("type") != "directory":
            return self.refuse(Refusal(404, "EntryNotFound"))
        query = parse_qs(urlsplit(self.path).query)
        below = [path for path in entries if not key or path.startswith(f"{key}/")]
        if query.get("recursive") != ["true"]:
            start = len(key) + 1 if key else 0
            below = [path for path in below if "/" not in path[start:]]
        start = int(query.get("cursor", ["0"])[0])
        stop = start + hub.page_entries
        links = ()
        if stop < len(below):
            place = f"{hub.address}{urlsplit(self.path).path}"
            recursive = query["recursive"][0]
            links = (("Link", f'<{place}?recursive={recursive}&cursor={stop}>; rel="next"'),)
        return self.send_json([entries[path] for path in below[start:stop]], links)

    def resolve(self, hub: Hub, files: Files, commit: str, key: str) -> None:
        if key not in files:
            return self.refuse(Refusal(404, "EntryNotFound"))
        digest = hashlib.sha256(files[key]).hexdigest()
        headers = (("X-Repo-Commit", commit), ("ETag", f'"{digest}"'))
        if key.endswith(SMALL_ENDINGS):
            return self.send_file(files[key], headers)
        self.server.blobs[digest] = files[key]
        self.send_response_only(302)
        for header in (
            *headers,
            ("X-Linked-Size", str(len(files[key]))),
            ("X-Linked-Etag", f'"{digest}"'),
            ("Location", f"{hub.files_address}/{digest}?{SIGNATURE}"),
            ("Content-Length", "0"),
        ):
            self.send_header(*header)
        return self.end_headers()

    def send_file(self, data: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None:
            return self.send(200, data, headers)
        start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
        if start >= len(data):
            return self.send(416, b"", (*headers, ("Content-Range", f"bytes */{len(data)}")))
        span = ("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        return self.send(206, data[start:stop], (*headers, span))

    def send_json(self, value: object, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send(200, json.dumps(value).encode(), headers)

    def refuse(self, refusal: Refusal) -> None:
        code = (("X-Error-Code", refusal.code),) if refusal.code else ()
        self.send(refusal.status, b"", (*refusal.headers, *code))

    def send(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response_only(status)
        for header in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def entries_of(files: Files) -> list[dict[str, object]]:
    """Return the files and their folders as the hub lists them."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, 9)}
    found: list[dict[str, object]] = [
        {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
        for folder in folders - set(files)
    ]
    found += [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
    return sorted(found, key=lambda entry: str(entry["path"]))


class _Server(LoopbackServer):
    def __init__(self, host: str, hub: Hub, blobs: dict[str, bytes]) -> None:
        super().__init__(_Handler)
        self.host, self.hub, self.blobs = host, hub, blobs

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run both servers until the context ends."""
    hub, blobs = Hub(), dict[str, bytes]()
    with ExitStack() as stack:
        servers = [_Server(host, hub, blobs) for host in ("hub", "files")]
        for server in servers:
            stack.enter_context(server.running())
        hub.address, hub.files_address = (server.address for server in servers)
        yield hub


def use_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None = None) -> None:
    """Have this process ask that hub, without pauses between attempts."""
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", token or "")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
