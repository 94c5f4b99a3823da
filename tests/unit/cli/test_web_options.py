"""The options for web servers: what the servers see, and that secrets are in nothing we write."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from support.manifests import encoded_image
from support.scan_results import result_rows
from support.web_server import Answer, WebServer, reset_client, web_server

from aigid.cli.main import main


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


@pytest.fixture
def manifest(site: WebServer, tmp_path: Path) -> Path:
    """Two images, one of whose owners opts out, and one that is gone from another host."""
    images = [
        site.serve("/1.png", Answer(encoded_image(1))),
        site.serve("/2.png", Answer(encoded_image(2), headers=(("X-Robots-Tag", "NoAI"),))),
        f"{site.address}/gone.png".replace("localhost", "127.0.0.1"),
    ]
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image": images, "prompt": ["a cat"] * 3}), path)
    return path


def scan(manifest: Path, out: Path, *options: object) -> Result:
    words = ["-vv", "scan", manifest, "--out", out, "--allow-private-addresses"]
    words += ["--max-error-rate", 1, *options]
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_servers_get_what_the_options_say_and_nothing_shows_the_secrets(
    site: WebServer,
    manifest: Path,
    tiny_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY", "Bearer SECRET1")
    out = tmp_path / "out"
    options = ("--model", tiny_repository, "--user-agent", "SECRET2", "--requests-per-host", 2)
    options += ("--header", "localhost=Authorization:env:KEY", "--header", "localhost=X-A: SECRET3")
    result = scan(manifest, out, *options, "--respect-opt-out")
    assert result.exit_code == 0, result.output
    rows = result_rows(out)
    assert [row["error"] for row in rows] == [None, "forbidden", "missing"]
    assert rows[1]["error_detail"] == (
        f"{site.address}/2.png: its owner opts out of use by AI (X-Robots-Tag: noai) "
        "(respect_opt_out)"
    )
    seen = {
        path: (sent["User-Agent"], sent["Authorization"], sent["X-A"])
        for path, sent in zip(site.requests, site.headers, strict=True)
    }
    assert seen["/1.png"] == seen["/2.png"] == ("SECRET2", "Bearer SECRET1", "SECRET3")
    assert seen["/gone.png"] == ("SECRET2", None, None)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files
    assert not any(b"SECRET" in path.read_bytes() for path in files)
    assert "SECRET" not in result.output
    assert json.loads((out / "scan.json").read_text())["settings"]["respect_opt_out"] is True
    # Opting out changes results. The headers, the user agent and the limit do not.
    again = scan(manifest, out, "--model", tiny_repository, "--respect-opt-out")
    assert again.exit_code == 0, again.output
    other = scan(manifest, out, "--model", tiny_repository)
    assert other.exit_code == 2
    assert "settings.respect_opt_out: true -> false" in other.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("SECRET", "--header: give HOST=NAME:VALUE"),
        ("a.example=SECRET", "--header: give HOST=NAME:VALUE"),
        ("a.example=X:env:UNSET", "--header a.example=X: no environment variable UNSET is set"),
        ("a.example=X:", "--header a.example=X: the value is empty"),
        ("a.example=X:SECRET\nY: 1", "has a line break, a control character"),
        ("a.example=X:SECRET\u2603", "one outside of Latin-1"),
        ("a.example=Host:SECRET", "--header a.example=Host: this header cannot be set"),
        ("a.example/b=X:SECRET", "--header 'a.example/b': not a host"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    option: str, message: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    result = scan(manifest, tmp_path / "out", "--header", option)
    assert result.exit_code == 2
    assert message in result.output
    assert "SECRET" not in result.output


def test_a_proxy_that_is_down_ends_the_scan(
    manifest: Path, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:SECRET@127.0.0.1:1")
    result = scan(manifest, tmp_path / "out", "--model", tiny_repository)
    assert result.exit_code == 1
    assert (
        "the proxy http://127.0.0.1:1 (HTTP_PROXY) cannot be reached: check it; then run the scan "
        "again to continue" in result.output
    )
    assert "SECRET" not in result.output
