"""Scans that are observed: scraped as Prometheus does it, traced to a real OTLP receiver."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import invoke, run_without
from support.manifests import CAPTIONS, HF_IMAGE, encoded_image
from support.metrics import Samples, scrape, url_in
from support.otlp_receiver import OtlpReceiver, attributes_of, otlp_receiver
from support.scan_process import await_commits, start_scan
from support.scan_results import result_files, summary_of
from support.silent_server import silent_server
from support.web_server import Answer, web_server

from aigid.config import ScanConfig
from aigid.extras import install_command
from aigid.progress_bar import SilentProgress
from aigid.run_scan import run_scan

pytestmark = pytest.mark.integration

ROWS, SHARD_ROWS = 80, 20
MISSING, EMPTY, DAMAGED = (3, 4, 41), (10,), (60, 61)
OPTIONS = ("--batch-size", 4, "--shard-rows", SHARD_ROWS)
OBSERVED = ("prometheus_client", "opentelemetry")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of OpenTelemetry but those of the test."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four shards of twenty rows, of which some cannot be scored; row 7 is like row 6."""
    path = tmp_path / "manifest.parquet"
    bad: dict[int, object] = {row: {"bytes": None, "path": "no.png"} for row in MISSING}
    bad |= {row: {"bytes": b"no image %d" % row, "path": None} for row in DAMAGED}
    bad |= dict.fromkeys(EMPTY)
    images = [
        bad.get(row, {"bytes": encoded_image(6 if row == 7 else row), "path": None})
        for row in range(ROWS)
    ]
    prompts = ["a prompt of secret things" if row in (6, 7) else CAPTIONS[0] for row in range(ROWS)]
    table = pa.table({"prompt": prompts, "image": pa.array(images, HF_IMAGE)})
    pq.write_table(table, path, row_group_size=SHARD_ROWS)
    return path


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """A collector that the environment names."""
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        yield receiver


class Scraper(SilentProgress):
    """Scrapes a scan's metrics whenever it reports something.

    The scan does so at its very end, about a file in its results folder that is none of its own.
    """

    url: str | None = None

    def __init__(self, out: Path) -> None:
        self._detections = out / "detections"
        self.pages: list[Samples] = []

    def advance(self, rows: int, errors: int) -> None:
        self._detections.mkdir(exist_ok=True)
        (self._detections / "other.parquet").touch()
        self._scrape()

    def message(self, line: str) -> None:
        self.url = self.url or url_in(line)
        self._scrape()

    def _scrape(self) -> None:
        if self.url is not None:
            self.pages.append(scrape(self.url))


def total(page: Samples, name: str) -> float:
    return sum(value for (sample, _), value in page.items() if sample == f"aigid_scan_{name}")


def config(manifest: Path, out: Path, model: Path, **settings: object) -> ScanConfig:
    options = {"batch_rows": 4, "shard_rows": SHARD_ROWS, "metrics_port": 0, "threads": 2}
    return ScanConfig((str(manifest),), str(out), model=model, **(options | settings))  # type: ignore[arg-type]


def scan(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aigid", "scan", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_scan_is_scraped_while_it_runs_and_its_last_numbers_are_the_summary_s(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scraper = Scraper(out)
    settings = config(manifest, out, tiny_repository, reuse_answers=True)
    summary = run_scan(settings, scraper, scraper.message).summary
    rows = [total(page, "rows_total") for page in scraper.pages]
    assert rows == sorted(rows)
    assert any(0 < count < ROWS for count in rows)
    assert any(total(page, "batches") > 0 for page in scraper.pages)
    last, run = scraper.pages[-1], summary.run
    assert total(last, "rows_total") == summary.rows == ROWS
    errors = {code: last["aigid_scan_errors_total", code] for code in summary.errors}
    assert errors == summary.errors == {"empty": 1, "missing": 3, "undecodable": 2}
    assert total(last, "errors_total") == summary.rows - summary.scored
    assert total(last, "duplicates_total") == run.duplicates == 1
    for stage in ("fetch", "evidence", "decode", "score"):
        seconds = last["aigid_scan_stage_seconds_total", stage]
        assert seconds == pytest.approx(getattr(run, f"{stage}_s"), abs=1e-3)
    images = pq.read_table(manifest).column("image").to_pylist()
    stored = sum(len(image["bytes"]) for image in images if image and image["bytes"])
    assert total(last, "image_bytes_total") == stored
    assert total(last, "planned_shards") == total(last, "done_shards") == 4
    assert (total(last, "planned_rows"), total(last, "done_before_rows")) == (ROWS, 0)
    assert total(last, "batches") == 0
    assert total(last, "info") == 1
    with pytest.raises(OSError, match="refused"):
        scrape(str(scraper.url))


def test_results_are_the_same_with_metrics_and_traces(
    manifest: Path, tiny_repository: Path, tmp_path: Path, receiver: OtlpReceiver
) -> None:
    observed, plain = tmp_path / "observed", tmp_path / "plain"
    words = (manifest, "--model", tiny_repository, *OPTIONS)
    assert invoke("scan", *words, "--out", observed, "--metrics-port", 0).exit_code == 3
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
    assert invoke("scan", *words, "--out", plain).exit_code == 3
    assert [path.read_bytes() for path in result_files(observed)] == [
        path.read_bytes() for path in result_files(plain)
    ]


def test_the_command_says_where_the_metrics_are_and_a_request_that_hangs_does_not_hold_it(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    words = ("--model", tiny_repository, *OPTIONS, "--metrics-port", 0, "--progress-json")
    process = start_scan(manifest, tmp_path / "out", *words)
    with process, socket.socket() as hanging:
        assert process.stderr is not None
        url = url_in(json.loads(process.stderr.readline())["text"])
        assert url is not None
        assert url.startswith("http://127.0.0.1:")
        hanging.connect(("127.0.0.1", int(url.split(":")[2].split("/")[0])))
        hanging.sendall(b"GET /metrics HTTP/1.1\r\nX-Never-Ending: ")
        assert "Traceback" not in process.communicate(timeout=120)[1]
        assert process.returncode == 3
    assert summary_of(tmp_path / "out")["rows"] == ROWS


def test_a_scan_that_goes_on_tells_what_was_done_before(
    manifest: Path, tiny_repository: Path, tmp_path: Path, receiver: OtlpReceiver
) -> None:
    out, words = tmp_path / "out", ("--model", tiny_repository, *OPTIONS, "--threads", 1)
    process = start_scan(manifest, out, *words)
    assert await_commits(process, out, 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(result_files(out))
    assert 1 <= done < 4
    receiver.spans.clear()
    scraper = Scraper(out)
    run_scan(config(manifest, out, tiny_repository), scraper, scraper.message)
    last = scraper.pages[-1]
    assert total(last, "done_before_rows") == done * SHARD_ROWS
    assert total(last, "rows_total") == ROWS - done * SHARD_ROWS
    assert total(last, "done_shards") == 4
    shards = [attributes_of(trace["shard"]) for trace in receiver.traces().values()]
    assert sorted(shard["aigid.shard.index"] for shard in shards) == list(range(done, 4))
    scraper = Scraper(out)
    run_scan(config(manifest, out, tiny_repository), scraper, scraper.message)
    assert total(scraper.pages[-1], "rows_total") == 0


def test_a_port_in_use_is_told_before_any_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = scan("no-such-manifest", "--out", tmp_path / "out", "--metrics-port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"aigid: --metrics-port {port}: cannot be used on --metrics-host")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_port_is_free_again_after_an_error(tmp_path: Path, tiny_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(2):
        done = invoke("scan", tmp_path / "no", "--out", tmp_path / "out", "--metrics-port", port)
        assert done.exit_code == 2
        assert "no such file or folder" in done.output


def test_a_scan_that_is_not_observed_needs_no_package_of_the_extra(
    manifest: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    words = ("--model", tiny_repository, "--out", tmp_path / "out", *OPTIONS)
    done = run_without(OBSERVED, "scan", manifest, *words)
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize("package", OBSERVED)
def test_a_missing_package_is_named_with_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: tuple[object, ...] = ("scan", "no-such-manifest", "--out", tmp_path / "out")
    if package == "opentelemetry":
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        purpose = (
            "exporting traces, which OTEL_TRACES_EXPORTER asks for (OTEL_SDK_DISABLED=true "
            "switches them off), needs"
        )
    else:
        words, purpose = (*words, "--metrics-port", 0), "--metrics-port needs"
    done = run_without((package,), *words)
    assert done.returncode == 2
    assert done.stderr == f"aigid: {purpose} {package}: {install_command('observe')}\n"


def test_each_shard_is_one_trace(
    manifest: Path,
    tiny_repository: Path,
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hidden-key")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    done = scan(manifest, "--out", tmp_path / "out", "--model", tiny_repository, *OPTIONS, "-vv")
    assert done.returncode == 3, done.stderr
    assert "hidden-key" not in done.stdout + done.stderr
    assert {headers["authorization"] for headers in receiver.headers} == {"Bearer hidden-key"}
    assert set(receiver.paths) == {"/v1/traces"}
    assert all(
        (of["service.name"], of["deployment.environment"]) == ("aigid", "test")
        for of in receiver.resources
    )
    traces = receiver.traces()
    assert len(traces) == 4
    indexes = []
    for trace in traces.values():
        assert trace.keys() == {"shard", "scan", "commit"}
        shard, parts = trace["shard"], (trace["scan"], trace["commit"])
        assert not shard.parent_span_id
        assert all(part.parent_span_id == shard.span_id for part in parts)
        start, middle = shard.start_time_unix_nano, trace["scan"].end_time_unix_nano
        assert start == trace["scan"].start_time_unix_nano < middle
        assert middle == trace["commit"].start_time_unix_nano < shard.end_time_unix_nano
        assert shard.end_time_unix_nano == trace["commit"].end_time_unix_nano
        found = attributes_of(shard)
        indexes.append(index := found["aigid.shard.index"])
        own = range(index * SHARD_ROWS, (index + 1) * SHARD_ROWS)
        assert found["aigid.shard.rows"] == SHARD_ROWS
        assert found["aigid.shard.errors"] == sum(
            row in own for row in (*MISSING, *EMPTY, *DAMAGED)
        )
        assert found.get("aigid.shard.errors.missing", 0) == sum(row in own for row in MISSING)
        assert found["aigid.manifest.file"] == str(manifest)
        assert found["aigid.manifest.first_row"] == own.start
        events = {event.name: attributes_of(event) for event in trace["scan"].events}
        assert events.keys() == {"fetch", "decode", "score"}
        assert all(event["aigid.thread_seconds"] > 0 for event in events.values())
    assert sorted(indexes) == [0, 1, 2, 3]
    assert not any(b"a prompt of secret things" in body for body in receiver.bodies)


def test_no_trace_has_the_query_of_a_manifest_s_url(
    manifest: Path, tiny_repository: Path, tmp_path: Path, receiver: OtlpReceiver
) -> None:
    with web_server() as site:
        answer = Answer(manifest.read_bytes(), ranges=True)
        url = site.serve("/m.parquet?signature=hidden", answer)
        words = ("--out", tmp_path / "out", "--model", tiny_repository, *OPTIONS)
        done = scan(url, *words, "--allow-private-addresses")
    assert done.returncode == 3, done.stderr
    (file,) = {
        attributes_of(trace["shard"])["aigid.manifest.file"] for trace in receiver.traces().values()
    }
    assert file == url.replace("signature=hidden", "...")
    assert not any(b"hidden" in body for body in receiver.bodies)


@pytest.mark.parametrize("away", ["refuses", "is silent"])
def test_a_collector_that_is_away_costs_the_scan_one_line(
    away: str,
    manifest: Path,
    tiny_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with silent_server() as silent:
        address = silent.address
        if away == "refuses":
            with socket.create_server(("127.0.0.1", 0)) as closed:
                address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{address}")
        # It would be printed by OpenTelemetry's parser.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "hidden key without a sign")
        # Longer than this test's own limit: the scan must not wait for it.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
        out = tmp_path / "out"
        done = scan(manifest, "--out", out, "--model", tiny_repository, *OPTIONS)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    (line,) = (line for line in lines if "traces" in line)
    assert line.startswith("aigid: traces are lost: the collector that the environment names")
    assert [one for one in lines if one != line] == [
        "aigid: tiny random model",
        "scan: 80 rows",
        "aigid: more rows have an error than --max-error-rate 0.05 allows",
    ]
    assert summary_of(out)["rows"] == ROWS


def test_a_scan_with_a_silent_collector_is_interrupted_as_others_are(
    manifest: Path, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with silent_server() as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{silent.address}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        process = start_scan(manifest, out, "--model", tiny_repository, *OPTIONS, "--threads", 1)
        assert await_commits(process, out, 1)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "scan interrupted; committed shards stay" in printed
    assert "Traceback" not in printed


def test_settings_that_cannot_be_used_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    done = scan("no-such-manifest", "--out", tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("aigid: the environment's settings for traces (OTEL_...): ")


@pytest.mark.parametrize("off", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"])
def test_traces_can_be_switched_off(
    off: str,
    manifest: Path,
    tiny_repository: Path,
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(*off.split("="))
    words = (manifest, "--out", tmp_path / "out", "--model", tiny_repository, *OPTIONS)
    assert invoke("scan", *words).exit_code == 3
    assert receiver.bodies == []
