"""Manifests by URL, read in ranges from a web server, and images beside them."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.manifests import encoded_image
from support.scan_results import result_rows
from support.web_server import Answer, WebServer, make_public, reset_client, web_server

from aigid.cli.main import main
from aigid.errors import AigidError, ManifestError, StorageError, UsageError
from aigid.manifest import open_manifest, read_segment
from aigid.sources import Segment
from aigid.storage import exists, locate, read_bytes, write_atomic

DATED = (("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT"),)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


def parquet_bytes(rows: int, image: Callable[[int], object], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"image": [image(row) for row in range(rows)], "prompt": ["a cat"] * rows}),
        sink,
        **options,
    )
    return sink.getvalue()


def test_a_file_has_its_size_and_time_and_is_read(site: WebServer) -> None:
    url = site.serve(
        "/set/a%20b.bin?download=true", Answer(b"0123456789", headers=DATED, ranges=True)
    )
    file = locate(url.replace("%20", " "))
    info = file.filesystem.get_file_info(file.path)
    assert (info.size, info.mtime_ns) == (10, 1795600800 * 10**9)
    with file.filesystem.open_input_file(file.path) as source:
        assert source.size() == 10
        assert source.read_at(3, 5) == b"567"
        source.seek(8)
        assert (source.read(5), source.read(5)) == (b"89", b"")
    assert read_bytes(file) == b"0123456789"
    assert file.text.endswith("/set/a b.bin?...")
    assert file.uri.endswith("/set/a b.bin?download=true")
    assert locate(file.uri) == file
    assert not exists(file.parent.child("gone"))


def test_a_manifest_is_read_in_ranges(site: WebServer) -> None:
    body = parquet_bytes(60, encoded_image, row_group_size=10, compression="none")
    url = site.serve("/m.parquet", Answer(body, ranges=True))
    manifest = open_manifest([url])
    assert (manifest.rows, manifest.files[0].path) == (60, url)
    rows = list(read_segment(manifest, Segment(manifest.files[0], 25, 35)))
    assert [image for batch in rows for image in batch.column("image").to_pylist()] == [
        encoded_image(row) for row in range(25, 35)
    ]


def test_in_a_scan_of_a_url_image_paths_are_relative_to_it(
    site: WebServer, tiny_repository: Path, tmp_path: Path
) -> None:
    paths = ["images/0.png", "images/gone.png", f"{site.address}/set/images/1.png", "../secret.png"]
    url = site.serve(
        "/set/m.parquet", Answer(parquet_bytes(4, lambda row: paths[row]), ranges=True)
    )
    for row in (0, 1):
        site.serve(f"/set/images/{row}.png", Answer(encoded_image(row), ranges=True))
    site.serve("/secret.png", Answer(encoded_image(2), ranges=True))
    # A manifest may not name a private address, not even that of its own server.
    assert scanned(url, tmp_path / "strict", tiny_repository) == ["forbidden"] * 4
    assert not any("images" in path for path in site.requests)
    allowed = scanned(url, tmp_path / "out", tiny_repository, "--allow-private-addresses")
    assert allowed == [None, "missing", None, "forbidden"]
    assert "/secret.png" not in site.requests


def scanned(url: str, out: Path, repository: Path, *options: str) -> list[str | None]:
    """Scan a manifest; return the error of each row."""
    words = ["scan", url, "--out", out, "--model", repository, "--max-error-rate", 1, *options]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [row["error"] for row in result_rows(out)]


def test_a_public_server_may_not_redirect_a_manifest_to_a_private_one(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first host stands for a public server.
    make_public(monkeypatch, "127.0.0.1", "::1")
    target = f"http://127.0.0.2:{site.port}/secret.parquet"
    url = site.serve("/m.parquet", Answer(status=302, headers=(("Location", target),)))
    site.serve("/secret.parquet", Answer(parquet_bytes(4, encoded_image), ranges=True))
    with pytest.raises(StorageError, match=r"not public: 127\.0\.0\.2"):
        open_manifest([url])
    assert site.requests == ["/m.parquet"]


def test_a_url_keeps_its_escapes_and_slashes(site: WebServer) -> None:
    body = parquet_bytes(4, encoded_image)
    for path in ("/a%2Fb%20c.parquet", "/a//b.parquet", "/x/o/dir%2Fm.parquet?alt=media"):
        site.serve(path, Answer(body, ranges=True))
        assert open_manifest([f"{site.address}{path}"]).rows == 4
        assert set(site.requests) == {path}
        site.requests.clear()


def signed(path: str, signature: str = "SECRET") -> str:
    return f"{path}?X-Amz-Signature={signature}"


def test_the_signature_of_a_manifest_s_url_is_nowhere(
    site: WebServer, tiny_repository: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "out", ("--allow-private-addresses", "--shard-rows", "3")
    answer = Answer(parquet_bytes(7, lambda row: f"images/{row}.png"), ranges=True)
    for row in range(6):
        site.serve(f"/images/{row}.png", Answer(encoded_image(row)))
    first = site.serve(signed("/m.parquet"), answer)
    words = ["-vv", "scan", first, "--out", out, "--model", tiny_repository, *options]
    result = CliRunner().invoke(main, [*map(str, words), "--max-error-rate", "1"])
    assert result.exit_code == 0, result.output
    assert "SECRET" not in result.output
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files
    assert not any(b"SECRET" in path.read_bytes() for path in files)
    assert {row["manifest"] for row in result_rows(out)} == {f"{site.address}/m.parquet?..."}
    assert not any("SECRET" in path for path in site.requests if path.startswith("/images"))
    # A new signature is no other manifest: the scan goes on.
    (out / "summary.json").unlink()
    removed = out / "detections" / "part-000001.parquet"
    before = removed.read_bytes()
    removed.unlink()
    again = site.serve(signed("/m.parquet", "LATER"), answer)
    assert scanned(again, out, tiny_repository, *options) == [None] * 6 + ["missing"]
    assert removed.read_bytes() == before


@pytest.mark.parametrize(
    "answer", [Answer(b"", 403), Answer(b"", 404), Answer(b"<html>" * 9, ranges=True), Answer(b"x")]
)
def test_no_error_shows_the_signature_of_a_url(site: WebServer, answer: Answer) -> None:
    url = site.serve(signed("/m.parquet"), answer)
    with pytest.raises(AigidError, match=r"/m\.parquet\?\.\.\.: ") as caught:
        open_manifest([url])
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(locate(url))


@pytest.mark.parametrize(
    "uri", ["https://:@?X=SECRET", "ftp://u:SECRET@h/x", "s3://b/x?key=SECRET"]
)
def test_no_error_shows_the_secrets_of_a_malformed_uri(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(uri)
    assert "SECRET" not in str(caught.value)


def test_two_queries_of_one_url_are_two_files(site: WebServer) -> None:
    urls = [
        site.serve(f"/m?id={number}", Answer(parquet_bytes(number, encoded_image), ranges=True))
        for number in (2, 3)
    ]
    manifest = open_manifest(urls)
    rows = [
        len(batch)
        for file in manifest.files
        for batch in read_segment(manifest, Segment(file, 0, file.rows))
    ]
    assert rows == [2, 3]


def test_a_url_without_a_manifest_is_a_clear_error(site: WebServer) -> None:
    with pytest.raises(ManifestError, match=r"/gone.parquet: no such file or folder"):
        open_manifest([f"{site.address}/gone.parquet"])
    with pytest.raises(StorageError, match="a web server does not list its files: name each file"):
        open_manifest([f"{site.address}/*.parquet"])
    with pytest.raises(StorageError, match="the server answers 403"):
        open_manifest([site.serve("/denied.parquet", Answer(b"", 403))])
    for size in (1, 100_000):
        with pytest.raises(
            StorageError, match=r"does not send parts of files .*: download the file, and scan"
        ):
            open_manifest([site.serve("/whole.parquet", Answer(b"x" * size, 200))])
    with pytest.raises(ManifestError, match="page.html: not a manifest"):
        open_manifest([site.serve("/page.html", Answer(b"<html>" * 9, ranges=True))])


def test_nothing_is_written_to_the_web(site: WebServer) -> None:
    with pytest.raises(OSError, match="a web server is read only"):
        write_atomic(locate(f"{site.address}/out/x"), b"data")
