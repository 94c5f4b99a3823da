"""Scans with manifest, images and results in an object store: a real S3 server, with faults."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import CAPTIONS, encoded_image, manifest_table
from support.object_store import (
    BUCKET,
    CREDENTIALS,
    Fault,
    Faults,
    ObjectStore,
    Request,
    first,
    object_store,
)
from support.scan_process import start_scan, wait_until
from support.scan_results import result_rows
from support.source_forms import FORMS, pairs, write_form, write_tar

from aigid.errors import AigidError, ManifestError, StorageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.manifest import open_manifest, read_segment
from aigid.records import ErrorCode, RowFailure
from aigid.shards import plan_shards
from aigid.sources import Segment
from aigid.storage import (
    exists,
    is_folder,
    list_files,
    list_names,
    locate,
    read_bytes,
    write_atomic,
)

pytestmark = pytest.mark.integration

ROWS, SHARD_ROWS = 90, 20
THIRD_SHARD = "-000002.parquet"
FILES = {"a.parquet": 7, "b.parquet": 50, "more/c.parquet": 33}
Scan = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        with object_store() as store:
            yield store


@pytest.fixture
def store(server: ObjectStore) -> ObjectStore:
    """The store without faults and without requests yet."""
    server.faults = lambda request: None
    server.requests.clear()
    return server


@pytest.fixture(scope="module")
def manifest(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files whose images are paths of files beside them; on disk, and in the store."""
    folder = tmp_path_factory.mktemp("stored") / "manifest"
    start = 0
    for name, rows in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images = [f"images/{row}.png" for row in range(start, start + rows)]
        prompts = [CAPTIONS[row % len(CAPTIONS)] for row in range(start, start + rows)]
        pq.write_table(
            pa.table({"id": range(start, start + rows), "image": images, "prompt": prompts}),
            path,
            row_group_size=9,
        )
        start += rows
        server.put(f"manifest/{name}", path.read_bytes())
    (folder / "images").mkdir()
    for row in range(ROWS):
        (folder / "images" / f"{row}.png").write_bytes(encoded_image(row))
    server.put_folder(folder / "images", "manifest/images")
    assert start == ROWS
    return folder


@pytest.fixture(scope="module")
def options(tiny_repository: Path) -> list[object]:
    return ["--model", tiny_repository, "--shard-rows", SHARD_ROWS, "--keep", "id"]


def run_scan(
    source: object, out: object, *options: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "aigid", "scan", source, "--out", out, *options]
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def stored(server: ObjectStore, manifest: Path, options: list[object]) -> dict[str, bytes]:
    """The result files of a scan without faults, from the store into the store."""
    server.faults = lambda request: None
    done = run_scan(server.uri("manifest"), server.uri("undisturbed"), *options)
    assert done.returncode == 0, done.stderr
    return results(server, "undisturbed")


def results(store: ObjectStore, key: str) -> dict[str, bytes]:
    return {name: data for name, data in store.contents(key).items() if name.endswith(".parquet")}


def rows_of(files: dict[str, bytes]) -> list[dict[str, object]]:
    tables = [pq.read_table(pa.BufferReader(data)) for _, data in sorted(files.items())]
    return [row for table in tables for row in table.to_pylist()]


def without_manifest(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if name != "manifest"} for row in rows]


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_server_that_the_environment_names_gets_the_results(
    variable: str, options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    server = {variable: f"http://{store.address}"}
    out = f"by-{variable}"
    done = run_scan(f"s3://{BUCKET}/manifest", f"s3://{BUCKET}/{out}", *options, **server)
    assert done.returncode == 0, done.stderr
    assert without_manifest(rows_of(results(store, out))) == without_manifest(rows_of(stored))


def test_a_scan_in_a_store_has_the_rows_of_the_same_scan_on_a_disk(
    manifest: Path,
    options: list[object],
    stored: dict[str, bytes],
    store: ObjectStore,
    tmp_path: Path,
) -> None:
    assert run_scan(manifest, tmp_path / "out", *options).returncode == 0
    rows = rows_of(stored)
    assert without_manifest(rows) == without_manifest(result_rows(tmp_path / "out"))
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert {row["error"] for row in rows} == {None}
    assert {row["manifest"] for row in rows} == {store.uri(f"manifest/{name}") for name in FILES}
    assert {"scan.json", "files.arrow", "summary.json"} <= store.contents("undisturbed").keys()


def put_form(store: ObjectStore, form: str, folder: Path, rows: int) -> tuple[Path, str]:
    """Write pairs in a form to a disk and into the store; return the path and the URI to scan."""
    source = write_form(form, folder, rows)
    root = source if source.is_dir() else source.parent
    key = f"{folder.name}/{root.name}"
    store.put_folder(root, key)
    return source, store.uri(key if source.is_dir() else f"{key}/{source.name}")


@pytest.mark.parametrize("form", FORMS[:-1])
def test_every_form_of_a_manifest_is_scanned_in_a_store(
    store: ObjectStore, tiny_repository: Path, tmp_path: Path, form: str
) -> None:
    source, uri = put_form(store, form, tmp_path, 25)
    options = ["--model", tiny_repository, "--shard-rows", 10]
    for place, out in ((source, "disk"), (uri, "store")):
        result = run_scan(place, tmp_path / out, *options)
        assert result.returncode == 0, result.stderr
    rows = [result_rows(tmp_path / out) for out in ("disk", "store")]
    for row in (*rows[0], *rows[1]):
        assert row["error"] is None
        assert row.pop("manifest")
    assert rows[0] == rows[1]


def test_connections_are_reused_and_only_the_needed_columns_are_read(
    options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    table = manifest_table(300).append_column("other", [[os.urandom(20_000) for _ in range(300)]])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=SHARD_ROWS, compression="none")
    store.put("wide/m.parquet", sink.getvalue().to_pybytes())
    assert run_scan(store.uri("wide/m.parquet"), store.uri("of-wide"), *options).returncode == 0
    asked = [
        request
        for request in store.requests
        if request.method == "GET" and "/wide/m.parquet" in request.path
    ]
    assert all(request.range for request in asked)
    spans = [request.range.removeprefix("bytes=").split("-") for request in asked]
    assert sum(int(last) - int(start) + 1 for start, last in spans) < 0.5 * sink.getvalue().size
    assert len({request.connection for request in store.requests}) < 0.3 * len(store.requests)


def every(number: int, *faults: Fault) -> Faults:
    """Let one request in `number` meet the next of the faults."""
    counter = count()

    def find(request: Request) -> Fault | None:
        turn, rest = divmod(next(counter), number)
        return faults[turn % len(faults)] if rest == number - 1 else None

    return find


@pytest.mark.parametrize(
    "faults",
    [
        every(7, Fault(500), Fault(503, "SlowDown")),
        every(6, Fault(cut_after=0), Fault(cut_after=300), Fault(cut_after=1)),
        every(9, Fault(pause_s=1.5)),
    ],
    ids=["errors", "cut", "slow"],
)
def test_temporary_failures_do_not_change_the_results(
    faults: Faults,
    options: list[object],
    stored: dict[str, bytes],
    store: ObjectStore,
    request: pytest.FixtureRequest,
) -> None:
    out = f"temporary-{request.node.callspec.id}"
    store.faults = faults
    done = run_scan(store.uri("manifest"), store.uri(out), *options, AWS_MAX_ATTEMPTS="10")
    assert done.returncode == 0, done.stderr
    assert results(store, out) == stored


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault(403, "AccessDenied"), "forbidden"), (Fault(403, "InvalidObjectState"), "forbidden")],
)
def test_a_caption_that_the_store_refuses_is_its_row_s_error(
    store: ObjectStore, tiny_repository: Path, tmp_path: Path, fault: Fault, code: str
) -> None:
    store.put_folder(write_form("folder", tmp_path, 9), "captions")
    store.faults = lambda request: (
        fault if request.path.split("?")[0].endswith("00005.txt") else None
    )
    options = ["--model", tiny_repository, "--max-error-rate", 1]
    done = run_scan(store.uri("captions"), tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    rows = result_rows(tmp_path / "out")
    assert [row["error"] for row in rows] == [code if number == 5 else None for number in range(9)]
    assert rows[5]["error_detail"].startswith("its caption s3://")


@pytest.mark.parametrize("form", ["parquet", "tars"])
def test_an_object_that_is_replaced_while_it_is_read_ends_the_scan(
    store: ObjectStore, tmp_path: Path, form: str
) -> None:
    source = write_form(form, tmp_path, 300)
    (path, *_) = sorted(path for path in source.iterdir())
    if form == "tars":
        write_tar(path, pairs(300), 0)
    store.put(f"replaced/{path.name}", path.read_bytes())
    manifest = open_manifest([store.uri(f"replaced/{path.name}")])
    batches = read_segment(manifest, Segment(manifest.files[0], 0, None))
    assert 0 < len(next(batches)) < 300
    # The store tells times in seconds.
    before = store.files.get_file_info(f"{BUCKET}/replaced/{path.name}").mtime
    while store.files.get_file_info(f"{BUCKET}/replaced/{path.name}").mtime == before:
        store.put(f"replaced/{path.name}", path.read_bytes())
    with pytest.raises(AigidError, match="has changed since the scan began"):
        list(batches)


@pytest.mark.parametrize("form", FORMS[:-1])
def test_reads_of_a_few_bytes_that_fail_do_not_end_a_scan(
    store: ObjectStore, tiny_repository: Path, tmp_path: Path, form: str
) -> None:
    # The error of the store is longer than what was asked for, so that its client sees no error
    # that it knows.
    _, uri = put_form(store, form, tmp_path / "small", 2)
    asked: dict[tuple[str, str | None], int] = Counter()

    def find(request: Request) -> Fault | None:
        asked[request.path, request.range] += 1
        first_time = asked[request.path, request.range] == 1
        return Fault(503, "SlowDown") if request.method == "GET" and first_time else None

    store.faults = find
    done = run_scan(uri, tmp_path / "out", "--model", tiny_repository)
    assert done.returncode == 0, done.stderr
    assert [row["error"] for row in result_rows(tmp_path / "out")] == [None, None]
    assert max(asked.values()) > 1


def test_a_scan_whose_results_cannot_be_written_ends_and_can_be_continued(
    options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    store.faults = lambda request: (
        Fault(500) if request.method == "PUT" and THIRD_SHARD in request.path else None
    )
    done = run_scan(store.uri("manifest"), store.uri("ended"), *options)
    assert done.returncode == 1
    assert f"{THIRD_SHARD}: the store failed; the store says: " in last_line(done)
    assert "committed shards stay" in last_line(done)
    first_two = sorted(results(store, "ended"))
    assert first_two == sorted(stored)[:2]
    store.faults = lambda request: None
    store.requests.clear()
    assert run_scan(store.uri("manifest"), store.uri("ended"), *options).returncode == 0
    assert results(store, "ended") == stored
    written = {request.path.split("?")[0] for request in store.requests if request.method == "PUT"}
    assert not any(path.endswith(tuple(first_two)) for path in written)


def test_a_killed_scan_can_be_continued(
    options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    store.faults = lambda request: (
        Fault(pause_s=1) if request.method == "PUT" and "detections" in request.path else None
    )
    process = start_scan(store.uri("manifest"), store.uri("killed"), *options)
    wait_until(lambda: len(results(store, "killed")) >= 2, "no shard is committed")
    process.kill()
    process.communicate()
    assert len(results(store, "killed")) < len(stored)
    store.faults = lambda request: None
    assert run_scan(store.uri("manifest"), store.uri("killed"), *options).returncode == 0
    assert results(store, "killed") == stored


def test_a_scan_on_ray_has_the_same_files(
    options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    store.faults = every(11, Fault(500), Fault(cut_after=200))
    done = run_scan(store.uri("manifest"), store.uri("on-ray"), *options, "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert results(store, "on-ray") == stored


@pytest.mark.parametrize("size", [1000, 12_000_000], ids=["one PUT", "multipart"])
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_failed_write_leaves_the_old_object(
    store: ObjectStore, size: int, before: bytes | None
) -> None:
    if before is not None:
        store.put("written/x", before)
    file = locate(store.uri("written/x"))
    # The first part of a multipart upload succeeds.
    store.faults = lambda request: (
        Fault(500) if request.method == "PUT" and "partNumber=1" not in request.path else None
    )
    with pytest.raises(OSError, match="Told to fail"):
        write_atomic(file, b"x" * size)
    assert store.contents("written").get("x") == before
    store.faults = first(2, Fault(503, "SlowDown"), method="PUT")
    write_atomic(file, b"x" * size)
    assert store.contents("written")["x"] == b"x" * size
    store.files.delete_file(f"{BUCKET}/written/x")


def test_folders_and_globs_list_the_same_as_on_a_disk(
    store: ObjectStore, make: Callable[..., None], here: Path
) -> None:
    names = (
        "a.parquet",
        "ab.parquet",
        "a/x.parquet",
        "a/y/z.parquet",
        "b c.parquet",
        "n.txt",
        "_no.parquet",
        "a/.no.parquet",
    )
    make(*(f"tree/{name}" for name in names))
    for name in names:
        store.put(f"tree/{name}", b"x")
    root = store.uri("")
    for pattern in (
        "tree",
        "tree/*.parquet",
        "tree/**",
        "tree/**/*.parquet",
        "tree/a/*.parquet",
        "tree/[ab]*",
        "tree/*/*/*",
    ):
        found = [file.location.text for file in list_files(locate(store.uri(pattern))).files]
        wanted = [file.location.text for file in list_files(locate(pattern)).files]
        assert found == [store.uri(name) for name in wanted], pattern
        assert wanted
    assert root.startswith(f"s3://{BUCKET}/?")
    assert is_folder(locate(store.uri("tree/a")))
    assert not exists(locate(store.uri("tree/none")))
    assert sorted(list_names(locate(store.uri("tree/a")))) == [".no.parquet", "x.parquet"]
    assert read_bytes(locate(store.uri("tree/b c.parquet"))) == b"x"


def test_a_table_in_a_store_is_refused(store: ObjectStore) -> None:
    store.put("delta/_delta_log/00000000000000000000.json", b"{}")
    store.put("iceberg/metadata/v1.metadata.json", b"{}")
    for key in ("delta/0.parquet", "delta/year=2024/a.parquet", "iceberg/data/a.parquet"):
        store.put(key, b"x")
        table = key.partition("/")[0]
        for place in (table, key, f"{table}/**/*.parquet", key.replace("a.parquet", "*.parquet")):
            with pytest.raises(ManifestError, match=rf"/{table}\?.*: an? \w+.* table: its folder"):
                list(list_files(locate(store.uri(place))).files)


def test_a_file_is_read_with_credentials_that_may_not_look_around(store: ObjectStore) -> None:
    store.put("narrow/m.parquet", b"x")
    store.faults = lambda request: (
        None if "narrow/m.parquet" in request.path else Fault(403, "AccessDenied")
    )
    (file,) = list_files(locate(store.uri("narrow/m.parquet"))).files
    assert file.size_bytes == 1


def test_many_files_in_many_folders_are_listed_a_thousand_at_a_time(store: ObjectStore) -> None:
    for number in range(120):
        store.put(f"many/{number // 40}/{number:03d}.parquet", b"x")
    store.requests.clear()
    assert len(list(list_files(locate(store.uri("many"))).files)) == 120
    assert len(store.requests) <= 8


def test_reading_ahead_holds_only_a_few_row_groups(store: ObjectStore) -> None:
    image = pa.array([os.urandom(100_000) for _ in range(200)])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": image}), sink, row_group_size=20, compression="none")
    store.put("large.parquet", sink.getvalue().to_pybytes())
    manifest = open_manifest([store.uri("large.parquet")])
    (shard,) = plan_shards(manifest.files, 200, None)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in read_segment(manifest, shard.segments[0]):
        rows += len(batch)
        most = max(most, pa.total_allocated_bytes() - before)
        del batch
    assert rows == 200
    assert most < 0.5 * 200 * 100_000


BAD_PLACES = [
    (
        "s3://no-such-bucket/m?{query}",
        "{out}",
        {},
        2,
        "s3://no-such-bucket/m?{query}: there is no such bucket; the store says",
    ),
    ("{store}/gone?{query}", "{out}", {}, 2, "{store}/gone?{query}: no such file or folder"),
    ("{store}/gone/*.parquet?{query}", "{out}", {}, 2, "nothing to scan there"),
    (
        "{manifest}",
        "s3://no-such-bucket/out?{query}",
        {},
        1,
        "cannot write files.arrow: there is no such bucket",
    ),
    (
        "s3://{bucket}/m?endpoint_override=127.0.0.1:1&scheme=http",
        "{out}",
        {},
        1,
        "the store cannot be reached",
    ),
    (
        "{manifest}",
        "s3://{bucket}/out?endpoint_override=127.0.0.1:1&scheme=http",
        {},
        1,
        "the store cannot be reached",
    ),
    (
        "s3://me:secret@{bucket}/m",
        "{out}",
        {},
        2,
        "credentials do not belong in a URI; aigid finds them in AWS_ACCESS_KEY_ID",
    ),
    ("s4://{bucket}/m", "{out}", {}, 2, "give a path or one of file://, s3://, gs://, az://"),
    (
        "{manifest}",
        "{out}",
        {"--image-root": "{store}/none?{query}"},
        2,
        "--image-root {store}/none?{query}: no such folder",
    ),
]


@pytest.mark.parametrize(("source", "out", "more", "status", "message"), BAD_PLACES)
def test_a_place_that_does_not_exist_is_named(
    source: str,
    out: str,
    more: dict[str, str],
    status: int,
    message: str,
    options: list[object],
    stored: dict[str, bytes],
    store: ObjectStore,
) -> None:
    query = store.uri("").partition("?")[2]
    names = {"query": query, "store": f"s3://{BUCKET}", "bucket": BUCKET}
    names |= {"manifest": store.uri("manifest"), "out": store.uri("never")}
    extra = [text.format(**names) for pair in more.items() for text in pair]
    done = run_scan(source.format(**names), out.format(**names), *options, *extra)
    assert done.returncode == status, done.stderr
    assert message.format(**names) in last_line(done)
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert not store.contents("never")


@pytest.mark.parametrize("part", ["manifest", "out"])
@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            403,
            "AccessDenied",
            "access is denied: check that credentials are set, and that they allow this "
            "(looked for in AWS_ACCESS_KEY_ID",
        ),
        (
            403,
            "InvalidAccessKeyId",
            "the store does not accept the credentials: check the key "
            "(looked for in AWS_ACCESS_KEY_ID",
        ),
        (403, "SignatureDoesNotMatch", "the store does not accept the credentials: check the key"),
        (
            400,
            "ExpiredToken",
            "the credentials have expired: renew them (looked for in AWS_ACCESS_KEY_ID",
        ),
        (403, "RequestTimeTooSkewed", "this host's clock is wrong"),
    ],
)
def test_credentials_that_are_missing_wrong_or_expired_are_named(
    part: str,
    status: int,
    code: str,
    message: str,
    options: list[object],
    stored: dict[str, bytes],
    store: ObjectStore,
) -> None:
    key = {"manifest": "manifest", "out": "refused"}[part]
    store.faults = lambda request: Fault(status, code) if key in request.path else None
    done = run_scan(store.uri("manifest"), store.uri("refused"), *options)
    assert done.returncode == 1, done.stderr
    assert message in last_line(done)
    assert "Traceback" not in done.stderr


def test_credentials_that_expire_midway_end_the_scan_without_row_errors(
    options: list[object], stored: dict[str, bytes], store: ObjectStore
) -> None:
    expired = [False]

    def faults(request: Request) -> Fault | None:
        expired[0] = expired[0] or (request.method == "GET" and "/images/70.png" in request.path)
        return Fault(400, "ExpiredToken") if expired[0] else None

    store.faults = faults
    done = run_scan(store.uri("manifest"), store.uri("expired"), *options)
    assert done.returncode == 1
    assert "the credentials have expired: renew them" in last_line(done)
    committed = results(store, "expired")
    assert committed.items() < stored.items()
    store.faults = lambda request: None
    assert run_scan(store.uri("manifest"), store.uri("expired"), *options).returncode == 0
    assert results(store, "expired") == stored


def test_images_that_the_store_does_not_give_are_errors_of_their_rows(
    options: list[object], store: ObjectStore, tmp_path: Path
) -> None:
    store.put("set/images/good.png", encoded_image(1))
    store.put("set/images/empty.png", b"")
    store.put("set/images/denied.png", encoded_image(2))
    store.put("outside.png", encoded_image(3))
    store.faults = lambda request: (
        Fault(403, "AccessDenied") if "denied.png" in request.path else None
    )
    wanted = {
        "images/good.png": None,
        f"s3://{BUCKET}/set/images/good.png": None,
        "images/../images/good.png": None,
        "images/gone.png": ("missing", "images/gone.png: no such object"),
        "images/empty.png": ("empty", "zero bytes"),
        "images/denied.png": ("forbidden", "images/denied.png: access is denied"),
        "../outside.png": (
            "forbidden",
            f"../outside.png: outside the image root {store.uri('set')} (allow_outside_root)",
        ),
        f"s3://{BUCKET}/outside.png": (
            "forbidden",
            f"s3://{BUCKET}/outside.png: outside the image root {store.uri('set')} (",
        ),
        f"s3://{BUCKET}/set/images/good.png?endpoint_override=evil.example": (
            "forbidden",
            "may not set the server",
        ),
        "file:///etc/hostname": ("forbidden", "needs a local image root"),
    }
    table = {"id": range(len(wanted)), "image": list(wanted), "prompt": ["a cat"] * len(wanted)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(table), sink)
    store.put("set/m.parquet", sink.getvalue().to_pybytes())
    done = run_scan(store.uri("set/m.parquet"), tmp_path / "out", *options, "--max-error-rate", 1)
    assert done.returncode == 0, done.stderr
    rows = result_rows(tmp_path / "out")
    for row, (text, error) in zip(rows, wanted.items(), strict=True):
        assert row["error"] == (error and error[0]), text
        assert (error[1] if error else "") in (row["error_detail"] or ""), text
    everywhere = [
        store.uri("set/m.parquet"),
        tmp_path / "all",
        *options,
        "--max-error-rate",
        1,
        "--allow-outside-root",
    ]
    assert run_scan(*everywhere).returncode == 0
    errors = [row["error"] for row in result_rows(tmp_path / "all")]
    assert errors == [
        None,
        None,
        None,
        "missing",
        "empty",
        "forbidden",
        None,
        None,
        "forbidden",
        "undecodable",
    ]


def test_images_may_be_in_a_store_and_the_manifest_on_disk(
    options: list[object],
    manifest: Path,
    stored: dict[str, bytes],
    store: ObjectStore,
    tmp_path: Path,
) -> None:
    done = run_scan(manifest, tmp_path / "out", *options, "--image-root", store.uri("manifest"))
    assert done.returncode == 0, done.stderr
    assert without_manifest(result_rows(tmp_path / "out")) == without_manifest(rows_of(stored))


def test_a_store_that_keeps_failing_raises_a_storage_error(store: ObjectStore) -> None:
    store.faults = lambda request: Fault(500)
    with pytest.raises(StorageError, match="the store failed; the store says: "):
        exists(locate(store.uri("manifest")))


KEYS = ("set/a/b.png", "set/b.png", "set/a#1.png", "set/a", "set/a?x.png", "set/a b.png", "b.png")
WRONG_KEYS = (
    "{set}/a//b.png",
    "{set}/a/../b.png",
    "{set}/a/./b.png",
    "{set}/../b.png",
    "{set}/%2e%2e/b.png",
    "{set}/a%2F%2e%2e%2Fb.png",
    "{set}/../../other/b.png",
    "{set}/a/b.png/",
    "{set}/a#1.png",
    "{set}/a?x.png",
    "{set}/a?",
    "{set}/a\n/b.png",
    "{set}/%FF.png",
    "a//b.png",
    "a/b.png/",
    "/b.png",
    "//b.png",
    "../b.png",
    "../../other/b.png",
    "../../../b.png",
    "a/../../b.png",
)


@pytest.mark.parametrize("allow_outside", [False, True])
@pytest.mark.parametrize("text", WRONG_KEYS)
def test_a_reference_never_means_another_object(
    text: str, allow_outside: bool, store: ObjectStore
) -> None:
    for key in KEYS:
        store.put(key, key.encode())
    policy = FetchPolicy(locate(store.uri("set")), allow_outside)
    reference = text.format(set=f"s3://{BUCKET}/set")
    leads_up = reference in ("../b.png", "a/../../b.png") and allow_outside
    if leads_up:
        assert fetch_image(ImageReference(None, reference), policy) == b"b.png"
        return
    with pytest.raises(RowFailure) as caught:
        fetch_image(ImageReference(None, reference), policy)
    assert caught.value.error.code in (ErrorCode.MISSING, ErrorCode.FORBIDDEN)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{set}/a%231.png", "set/a#1.png"),
        ("{set}/a%3Fx.png", "set/a?x.png"),
        ("{set}/a b.png", "set/a b.png"),
        ("{set}/a%20b.png", "set/a b.png"),
        ("a#1.png", "set/a#1.png"),
        (f"s3a://{BUCKET}/set/b.png", "set/b.png"),
        (f"s3n://{BUCKET}/set/b.png", "set/b.png"),
        ("a?x.png", "set/a?x.png"),
        ("a/../b.png", "set/b.png"),
        ("./a/b.png", "set/a/b.png"),
    ],
)
def test_a_reference_means_its_object(text: str, key: str, store: ObjectStore) -> None:
    for one in KEYS:
        store.put(one, one.encode())
    reference = ImageReference(None, text.format(set=f"s3://{BUCKET}/set"))
    assert fetch_image(reference, FetchPolicy(locate(store.uri("set")))) == key.encode()


@pytest.mark.parametrize("key", ["k" * 1_025, "é" * 513, "k" * 100_000, "a/" * 600 + "b.png"])
def test_a_key_that_is_too_long_is_missing(key: str, store: ObjectStore) -> None:
    for text in (key, f"s3://{BUCKET}/set/{key}"):
        with pytest.raises(RowFailure, match="missing: .* at most 1,024 bytes") as caught:
            fetch_image(ImageReference(None, text), FetchPolicy(locate(store.uri("set"))))
        assert len(caught.value.error.detail) < 1_000
    assert store.requests == []


def test_the_longest_key_is_read(store: ObjectStore) -> None:
    key = "set/" + "k" * 1_020
    store.put(key, b"data")
    policy = FetchPolicy(locate(store.uri("set")))
    assert fetch_image(ImageReference(None, "k" * 1_020), policy) == b"data"
