"""Data sets of the Hugging Face Hub, from a server on loopback that imitates it."""

import io
import pickle
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.hub_server import SIGNATURE, TOKEN, Hub, HubRequest, Refusal, hub_server, use_hub
from support.manifests import encoded_image, manifest_table
from support.scan_results import result_rows

from aigid.cli.main import main
from aigid.errors import AigidError, ManifestError, MissingExtraError, StorageError, UsageError
from aigid.manifest import Segment, open_manifest, read_segment
from aigid.results import open_results
from aigid.sources import find_sources
from aigid.storage import (
    MalformedUriError,
    exists,
    is_folder,
    list_names,
    locate,
    read_bytes,
    write_atomic,
)
from aigid.storage import hub as hub_files


def parquet_bytes(rows: int, seed: int = 0) -> bytes:
    sink = io.BytesIO()
    pq.write_table(manifest_table(rows, seed), sink)
    return sink.getvalue()


FILES = {
    "README.md": b"words",
    "data/train-0.parquet": parquet_bytes(4),
    "data/train-1.parquet": parquet_bytes(3, 4),
    "data/deep/er/validation-0.PARQUET": parquet_bytes(2, 7),
    "data/_hidden.parquet": b"x",
    "data/.hidden.parquet": b"x",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server() as server:
        use_hub(server, monkeypatch)
        yield server


def listed(uri: str) -> list[str]:
    """The Parquet files at a place."""
    return [found.file.location.text for found in find_sources(uri, print)]  # type: ignore[union-attr]


def test_a_data_set_a_folder_a_glob_and_a_file_are_listed(hub: Hub) -> None:
    uri = hub.put(FILES)
    train = [f"{uri}/data/train-0.parquet", f"{uri}/data/train-1.parquet"]
    deep = f"{uri}/data/deep/er/validation-0.PARQUET"
    for place, wanted in {
        uri: [deep, *train],
        f"{uri}/": [deep, *train],
        f"{uri}@main/data": [deep, *train],
        f"{uri}/data/train-?.parquet": train,
        f"{uri}/data/train-[1-9].parquet": train[1:],
        f"{uri}/**/*.PARQUET": [deep],
        train[0]: train[:1],
    }.items():
        assert listed(place) == wanted, place
    assert is_folder(locate(uri))
    assert is_folder(locate(f"{uri}/data"))
    assert not exists(locate(f"{uri}/gone"))
    assert list_names(locate(f"{uri}/gone")) == []
    assert sorted(list_names(locate(uri))) == ["README.md"]
    assert locate(f"{uri}/data/deep").parent == locate(f"{uri}/data")
    assert locate(uri).parent == locate(uri)
    assert locate(f"{uri}/data/deep").is_below(locate(uri))
    assert not locate(f"{uri}@v1/data").is_below(locate(uri))


def test_a_listing_of_many_pages_is_whole(hub: Hub) -> None:
    hub.page_entries = 7
    names = [f"data/{row:03d}.parquet" for row in range(50)]
    uri = hub.put(dict.fromkeys(names, b"x"))
    assert listed(uri) == [f"{uri}/{name}" for name in names]


def test_files_are_read_whole_in_ranges_and_as_streams(hub: Hub) -> None:
    uri = hub.put({**FILES, "empty.bin": b"", "large.bin": bytes(range(256)) * 90_000})
    assert read_bytes(locate(f"{uri}/README.md")) == b"words"
    assert read_bytes(locate(f"{uri}/empty.bin")) == b""
    large = locate(f"{uri}/large.bin")
    hub.requests.clear()
    assert read_bytes(large) == bytes(range(256)) * 90_000
    # The start, and 22 MiB in parts of 8.
    assert len(hub.paths("files")) == 4
    with large.filesystem.open_input_file(large.path) as file:
        assert file.size() == 23_040_000
        assert file.read_at(4, 256 * 1000 + 254) == b"\xfe\xff\x00\x01"
        file.seek(23_039_999)
        assert (file.read(5), file.read(5)) == (b"\xff", b"")


def test_opening_a_file_lists_no_folder(hub: Hub) -> None:
    uri = hub.put(FILES)
    open_manifest([f"{uri}/data/train-0.parquet"])
    assert not [path for path in hub.paths() if "/tree/" in path]


def test_names_are_literal(hub: Hub) -> None:
    names = ["a b.bin", "a#1.bin", "a%20b.bin", "a@v1.bin", "ü/+&=.bin", "100%.bin"]
    uri = hub.put({name: name.encode() for name in names})
    for name in names:
        file = locate(f"{uri}/{name}")
        assert (file.text, read_bytes(file)) == (f"{uri}/{name}", name.encode())
        assert locate(file.uri) == file


@pytest.mark.parametrize(
    ("given", "revision"),
    [
        ("refs/convert/parquet", "refs/convert/parquet"),
        ("refs%2Fconvert%2Fparquet", "refs/convert/parquet"),
        ("refs/pr/12", "refs/pr/12"),
        ("v1.0", "v1.0"),
        ("feature%2Fx", "feature/x"),
        ("~parquet", "~parquet"),
    ],
)
def test_a_revision_is_read(given: str, revision: str, hub: Hub) -> None:
    hub.put({"data/a.parquet": b"main"})
    hub.put({"data/a.parquet": b"other"}, revision=revision)
    file = locate(f"hf://datasets/owner/pairs@{given}/data/a.parquet")
    assert read_bytes(file) == b"other"
    assert locate(file.text) == file
    assert listed(f"hf://datasets/owner/pairs@{given}") == [file.text]
    assert {"tree/" + revision.replace("/", "%2F") in path for path in hub.paths()} == {True, False}


def test_the_main_revision_has_one_name() -> None:
    assert locate("hf://datasets/o/n@main/a") == locate("HF://datasets/o/n/a/")


def test_an_open_file_stays_at_its_commit(hub: Hub) -> None:
    uri = hub.put({"a.bin": b"before"})
    old = hub.find("owner/pairs", "main")
    location = locate(f"{uri}/a.bin")
    with location.filesystem.open_input_file(location.path) as file:
        assert old is not None
        hub.put({"a.bin": b"after!"})
        hub.put(old[1], revision=old[0])
        assert file.read() == b"before"
    assert read_bytes(location) == b"after!"


def test_a_file_that_changes_between_plan_and_scan_is_noticed(hub: Hub) -> None:
    uri = hub.put(FILES)
    manifest = open_manifest([uri])
    segment = Segment(manifest.files[1], 0, 4)
    hub.put({**FILES, "README.md": b"another commit, with the same data"})
    assert sum(map(len, read_segment(manifest, segment))) == 4
    hub.put({**FILES, "data/train-0.parquet": parquet_bytes(4, 50)})
    with pytest.raises(AigidError, match="has changed since the scan began"):
        list(read_segment(manifest, segment))


@pytest.mark.parametrize(
    "text",
    [
        "hf://owner/pairs",
        "hf://owner/pairs/data/train.parquet",
        "hf://models/owner/pairs",
        "hf://spaces/owner/pairs",
        "hf://buckets/owner/pairs",
        "hf://dataset/owner/pairs",
        "hf://datasets",
        "hf://datasets/",
        "hf://datasets/mnist",
        "hf://datasets/../pairs",
        "hf://datasets/owner/pairs@/x",
    ],
)
def test_what_is_no_data_set_is_refused(text: str) -> None:
    with pytest.raises(MalformedUriError, match="give hf://datasets/OWNER/NAME or"):
        locate(text)


@pytest.mark.parametrize("key", ["a//b", "/a", "../x", "a/./b", "a/.."])
def test_a_path_that_could_mean_another_file_is_refused(key: str) -> None:
    with pytest.raises(MalformedUriError, match="an empty part"):
        locate(f"hf://datasets/owner/pairs/{key}")


@pytest.mark.parametrize(
    "text",
    [
        "hf://user:SECRET@datasets/owner/pairs",
        "hf://datasets/owner/pairs/a.parquet?token=SECRET",
        "hf://datasets/owner/pairs?token=SECRET",
    ],
)
def test_a_secret_in_a_uri_is_not_repeated(text: str) -> None:
    with pytest.raises(MalformedUriError) as refused:
        locate(text)
    assert "SECRET" not in str(refused.value)


REFUSALS = {
    "gated": (Refusal(403, "GatedRepo"), "the data set is gated: accept its conditions"),
    "no such data set": (Refusal(401, "RepoNotFound"), "no such data set, or you may not read it"),
    "no such revision": (Refusal(404, "RevisionNotFound"), "no such revision: check what follows"),
    "a bad token": (Refusal(401), "the hub does not accept the credentials: renew the token"),
    "denied": (Refusal(403), "access is denied: check what the token allows"),
    "rate limit": (Refusal(429, headers=(("Retry-After", "1"),)), "the hub limits requests"),
    "down": (Refusal(503), "the hub answers 503"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_and_what_to_do(case: str, hub: Hub) -> None:
    refusal, words = REFUSALS[case]
    uri = hub.put(FILES)
    hub.refuse = lambda request: refusal
    for place in (uri, f"{uri}/data/*.parquet", f"{uri}/data/train-0.parquet"):
        with pytest.raises(StorageError) as refused:
            open_manifest([place])
        assert f"{uri}" in str(refused.value)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_failure_is_tried_again(status: int, hub: Hub) -> None:
    uri = hub.put(FILES)
    failed: set[str] = set()

    def once(request: HubRequest) -> Refusal | None:
        if request.path in failed:
            return None
        failed.add(request.path)
        return Refusal(status, headers=(("Retry-After", "3"),))

    hub.refuse = once
    assert open_manifest([uri]).rows == 9
    assert failed


def test_a_missing_file_is_named(hub: Hub) -> None:
    uri = hub.put(FILES)
    with pytest.raises(ManifestError, match=f"{uri}/gone.parquet: no such file or folder"):
        open_manifest([f"{uri}/gone.parquet"])


def test_a_server_that_is_no_hub_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = hub.put(FILES)
    monkeypatch.setenv("HF_ENDPOINT", hub.files_address)
    hub.refuse = lambda request: Refusal(200)
    with pytest.raises(StorageError, match="not a hub's: check HF_ENDPOINT"):
        open_manifest([uri])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9 cannot be reached: ConnectError"):
        open_manifest([uri])
    monkeypatch.setenv("HF_ENDPOINT", "user:SECRET@hub")
    with pytest.raises(UsageError, match="HF_ENDPOINT: 'hub' is not a server"):
        open_manifest([uri])


def test_offline_mode_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = hub.put(FILES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StorageError, match="HF_HUB_OFFLINE is set: unset it"):
        open_manifest([uri])


def test_the_token_opens_a_private_data_set_and_goes_to_the_hub_alone(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = hub.put(FILES)
    hub.private.add("owner/pairs")
    with pytest.raises(StorageError, match=r"there is a token \(HF_TOKEN, or the login"):
        open_manifest([uri])
    use_hub(hub, monkeypatch, "hf_OTHER")
    with pytest.raises(StorageError) as refused:
        open_manifest([uri])
    assert "OTHER" not in str(refused.value)
    use_hub(hub, monkeypatch, TOKEN)
    hub.requests.clear()
    assert open_manifest([uri]).rows == 9
    tokens = {(one.host, one.token) for one in hub.requests}
    assert tokens == {("hub", f"Bearer {TOKEN}"), ("files", None)}


def test_no_error_has_the_signed_url_of_a_file(hub: Hub) -> None:
    uri = hub.put(FILES)
    secret = SIGNATURE.partition("=")[2]
    for status in (400, 403, 404, 500):
        hub.refuse = lambda request, status=status: (
            Refusal(status) if request.host == "files" else None
        )
        with pytest.raises(AigidError) as refused:
            open_manifest([uri])
        error: BaseException | None = refused.value
        while error is not None:
            assert secret not in str(error)
            error = error.__cause__


def test_a_location_is_pickled(hub: Hub) -> None:
    uri = hub.put(FILES)
    location = locate(f"{uri}/data")
    copy = pickle.loads(pickle.dumps(location))
    assert copy == location
    assert len(pickle.dumps(location)) < 2000
    assert is_folder(copy)


def test_nothing_is_written_to_the_hub(hub: Hub) -> None:
    uri = hub.put(FILES)
    with pytest.raises(UsageError, match="only read from: give a folder or an object store"):
        open_results(f"{uri}/results")
    with pytest.raises(OSError, match="the hub is read only"):
        write_atomic(locate(f"{uri}/x"), b"x")
    assert hub.requests == []


def test_a_missing_package_gives_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "aigid.storage.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(MissingExtraError, match=r"Hub needs huggingface_hub.* pip .*\[hub\]"):
        locate("hf://datasets/owner/missing-package")


def test_images_of_rows_come_from_the_data_set(
    hub: Hub, tiny_repository: Path, tmp_path: Path
) -> None:
    images = {
        "images/0.png": encoded_image(0),
        "images/a b#1.png": encoded_image(1),
        "secret.png": encoded_image(2),
    }
    names = [
        "images/0.png",
        "images/a b#1.png",
        "images/gone.png",
        "../secret.png",
        "hf://datasets/owner/pairs/data/images/0.png",
        "hf://datasets/owner/other/images/0.png",
        "hf://datasets/owner/pairs@v1/data/images/0.png",
        "images//0.png",
    ]
    table = manifest_table(len(names)).drop_columns(["Image"]).append_column("file_name", [names])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    files = {f"data/{name}": image for name, image in images.items() if name != "secret.png"}
    uri = hub.put({**files, "secret.png": images["secret.png"], "data/m.parquet": sink.getvalue()})
    hub.put(images, name="owner/other")
    errors = [None, None, "missing", "forbidden", None, "forbidden", "forbidden", "missing"]
    assert scanned(f"{uri}/data", tmp_path / "out", tiny_repository) == errors
    assert not any("other" in path or "secret" in path for path in hub.paths())
    errors[3], errors[5], errors[6] = None, None, "missing"
    allowed = scanned(f"{uri}/data", tmp_path / "all", tiny_repository, "--allow-outside-root")
    assert allowed == errors


def test_an_image_that_may_not_be_read_is_its_row_s_error(
    hub: Hub, tiny_repository: Path, tmp_path: Path
) -> None:
    images = [f"hf://datasets/owner/{name}/0.png" for name in ("pairs", "gated", "nowhere")]
    pq.write_table(
        manifest_table(3).drop_columns(["Image"]).append_column("path", [images]),
        tmp_path / "m.parquet",
    )
    for name in ("pairs", "gated"):
        hub.put({"0.png": encoded_image(0)}, name=f"owner/{name}")
    hub.refuse = lambda request: Refusal(403, "GatedRepo") if "gated" in request.path else None
    out = tmp_path / "out"
    errors = scanned(str(tmp_path / "m.parquet"), out, tiny_repository, "--allow-outside-root")
    assert errors == [None, "forbidden", "forbidden"]


def scanned(source: str, out: Path, repository: Path, *options: str) -> list[str | None]:
    """Scan a manifest; return the error of each row."""
    words = ["scan", source, "--out", out, "--model", repository, "--max-error-rate", 1, *options]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [row["error"] for row in result_rows(out)]


def test_images_tables_of_text_and_tars_are_scanned_as_on_a_disk(
    hub: Hub, tiny_repository: Path, tmp_path: Path
) -> None:
    images = {f"i/{row}.png": encoded_image(row) for row in range(3)}
    lines = "".join(f'{{"file_name": "i/{row}.png", "text": "a cat"}}\n' for row in range(3))
    sets = {
        "images": {**images, "i/0.txt": b"a dog", "i/a b#1.png": encoded_image(5)},
        "csv": {**images, "m.csv": b"image,prompt\ni/0.png,a cat\ni/1.png,\ni/gone.png,a\n"},
        "lines": {**images, "m.jsonl": lines.encode()},
        "tars": {f"{row}.tar": tar_bytes(row) for row in range(2)},
    }
    for kind, files in sets.items():
        place = "" if kind in ("images", "tars") else f"/{sorted(files)[-1]}"
        uri = hub.put(files, name=f"owner/{kind}") + place
        for name, data in files.items():
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / name).write_bytes(data)
        local, streamed = tmp_path / f"{kind}-local", tmp_path / f"{kind}-hub"
        wanted = scanned(f"{tmp_path / kind}{place}", local, tiny_repository)
        assert scanned(uri, streamed, tiny_repository) == wanted
        assert without_places(streamed) == without_places(local)
        assert len(wanted) >= 3


def tar_bytes(seed: int) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for row in range(3):
            for ending, data in (("png", encoded_image(seed * 3 + row)), ("txt", b"a cat")):
                member = tarfile.TarInfo(f"{seed}{row}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def without_places(out: Path) -> list[dict[str, object]]:
    hidden = ("manifest", "image", "error_detail")
    rows = result_rows(out)
    return [{name: row[name] for name in row if name not in hidden} for row in rows]


def test_a_client_that_another_thread_closed_is_replaced(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = hub.put(FILES)
    send, closed = hub_files.http_backoff, list[str]()

    def closed_at_first(method: str, url: str, **options: object) -> object:
        if url in closed:
            return send(method, url, **options)
        closed.append(url)
        raise RuntimeError("Cannot send a request, as the client has been closed.")

    monkeypatch.setattr(hub_files, "http_backoff", closed_at_first)
    assert open_manifest([uri]).rows == 9
    assert closed


@pytest.mark.parametrize("refusal", [Refusal(401), Refusal(401, "RepoNotFound"), Refusal(503)])
def test_a_hub_that_gives_nothing_any_more_ends_the_scan(
    refusal: Refusal, hub: Hub, tiny_repository: Path, tmp_path: Path
) -> None:
    table = manifest_table(2).drop_columns(["Image"]).append_column("path", [["0.png", "1.png"]])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    uri = hub.put(
        {"0.png": encoded_image(0), "1.png": encoded_image(1), "m.parquet": sink.getvalue()}
    )
    seen: list[str] = []

    def refuse(request: HubRequest) -> Refusal | None:
        seen.append(request.path)
        return refusal if any(".png" in path for path in seen) else None

    hub.refuse = refuse
    words = ["scan", f"{uri}/m.parquet", "--out", tmp_path / "out", "--model", tiny_repository]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 1, result.output
    assert "hf://datasets/owner/pairs/" in result.output
    assert result_rows(tmp_path / "out") == []
