"""The metrics of a watch: their names, and how they behave when work is lost."""

import socket

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.metrics import Samples, samples_of, scrape

from aigid.batching import BatchQueue
from aigid.errors import UsageError
from aigid.observe import CommittedShard, ScanBegin, ScanWatch, metrics
from aigid.observe.metrics import ScanCollector, serve_metrics
from aigid.progress import ClusterState, NodeState, RowsDone, StageFigures
from aigid.progress_bar import SilentProgress
from aigid.records import ErrorCode
from aigid.shards import PlanTotals, Shard

BEGIN = ScanBegin(PlanTotals(10, 1000, 4, 400, 1000), 'a "model"\n\ud800', "f" * 64, "int8")


@pytest.fixture
def watch() -> ScanWatch:
    return ScanWatch(SilentProgress())


def collected(collector: ScanCollector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return samples_of(generate_latest(registry).decode())


def test_the_metrics_of_a_scan_on_one_host() -> None:
    watch = ScanWatch(SilentProgress(), queue=BatchQueue())
    assert watch.queue is not None
    watch.start(BEGIN)
    for _ in range(3):
        watch.queue.add()
    watch.queue.begin()
    stages = StageFigures(1.0, 0.0, 2.0, 4.5, duplicates=3)
    watch.advance(RowsDone(32, {ErrorCode.MISSING: 2}, 5000, stages))
    watch.committed(CommittedShard(Shard(4, ()), watch.done, 1.0, 0.1))
    found = collected(ScanCollector(watch))
    errors = {("aigid_scan_errors_total", str(code)): 0.0 for code in ErrorCode}
    assert found == errors | {
        ("aigid_scan_info", ""): 1,
        ("aigid_scan_rows_total", ""): 32,
        ("aigid_scan_errors_total", "missing"): 2,
        ("aigid_scan_duplicates_total", ""): 3,
        ("aigid_scan_image_bytes_total", ""): 5000,
        ("aigid_scan_stage_seconds_total", "fetch"): 1.0,
        ("aigid_scan_stage_seconds_total", "evidence"): 0.0,
        ("aigid_scan_stage_seconds_total", "decode"): 2.0,
        ("aigid_scan_stage_seconds_total", "score"): 4.5,
        ("aigid_scan_planned_rows", ""): 1000,
        ("aigid_scan_done_before_rows", ""): 400,
        ("aigid_scan_planned_shards", ""): 10,
        ("aigid_scan_done_shards", ""): 5,
        ("aigid_scan_batches", "waiting"): 2,
        ("aigid_scan_batches", "in_flight"): 1,
    }
    watch.queue.end()
    assert collected(ScanCollector(watch))["aigid_scan_batches", "in_flight"] == 0


def test_a_cluster_has_workers_and_no_batches(watch: ScanWatch) -> None:
    watch.start(BEGIN)
    nodes = {"a": NodeState(2, 10.0), "b": NodeState(3, 0.0)}
    watch.cluster(ClusterState(10, 4, 5, 1, (), nodes))
    found = collected(ScanCollector(watch))
    assert found["aigid_scan_workers", ""] == 5
    assert found["aigid_scan_running_shards", ""] == 5
    assert found["aigid_scan_failed_shards", ""] == 1
    assert not [name for name, _ in found if name == "aigid_scan_batches"]


def test_counters_do_not_go_back_where_work_is_lost(watch: ScanWatch) -> None:
    """Prometheus would take that for a restart, and count all rows again."""
    collector = ScanCollector(watch)
    rows = []
    for change in (10, -10, 4, 6, 5):
        errors = {ErrorCode.TIMEOUT: change // 2}
        watch.advance(RowsDone(change, errors, stages=StageFigures(score_s=change)))
        found = collected(collector)
        rows.append(found["aigid_scan_rows_total", ""])
        assert found["aigid_scan_stage_seconds_total", "score"] == rows[-1]
    assert rows == [10, 10, 10, 10, 15]
    assert found["aigid_scan_errors_total", "timeout"] == 7
    assert watch.done.rows == 15


def test_nothing_of_the_plan_is_told_before_it_is_known(watch: ScanWatch) -> None:
    names = {name for name, _ in collected(ScanCollector(watch))}
    assert "aigid_scan_rows_total" in names
    assert not names & {"aigid_scan_info", "aigid_scan_planned_rows", "aigid_scan_done_shards"}


def test_the_server_ends_with_its_context_while_a_request_hangs(watch: ScanWatch) -> None:
    with serve_metrics(watch, "127.0.0.1", 0) as url:
        port = int(url.split(":")[2].split("/")[0])
        hanging = socket.create_connection(("127.0.0.1", port))
        hanging.sendall(b"GET /metrics HTT")
        assert scrape(url)["aigid_scan_rows_total", ""] == 0
    with hanging, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_silent_client_is_sent_away_without_a_word(
    watch: ScanWatch, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics._Handler, "timeout", 0.05)
    with serve_metrics(watch, "127.0.0.1", 0) as url:
        port = int(url.split(":")[2].split("/")[0])
        for sent in (b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(sent)
                while client.recv(1000):
                    pass
        assert scrape(url)["aigid_scan_rows_total", ""] == 0
    assert capfd.readouterr() == ("", "")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_it_listens_on_loopback_in_ipv6_too(watch: ScanWatch) -> None:
    with serve_metrics(watch, "::1", 0) as url:
        assert url.startswith("http://[::1]:")
        assert scrape(url)["aigid_scan_rows_total", ""] == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "1" * 70])
def test_a_host_that_is_none_is_refused(watch: ScanWatch, host: str) -> None:
    with pytest.raises(UsageError, match="`metrics_host`"), serve_metrics(watch, host, 0):
        pass
