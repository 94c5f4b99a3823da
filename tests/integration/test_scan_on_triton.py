"""A scan on real Triton servers: the embedded scan's results, whatever happens to the servers."""

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from support.manifests import CAPTIONS, REPOSITORY, encoded_image, manifest_table
from support.process_messages import Messages
from support.scan_process import await_commits, start_scan, wait_until
from support.scan_results import result_files, result_rows, summary_of
from support.source_forms import write_form

from aigid import Detector
from aigid.contract import load_contract
from aigid.errors import ContractError, ServerError
from aigid.pixels import decode_image
from aigid.prompts import TokenBatch
from aigid.scorers import OnnxScorer, TlsConfig, TritonConfig, TritonScorer, triton_pool
from aigid.serving import ServerConfig, TritonServer

pytestmark = pytest.mark.integration

CONTRACT = load_contract(REPOSITORY)
# A scan that takes long enough to lose a server while it runs.
SLOWLY = ("--keep", "id", "--shard-rows", 100, "--batch-size", 4)


def run_scan(manifest: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    process = start_scan(manifest, out, *options)
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def assert_same_results(found: Path, expected_in: Path) -> None:
    """Check for the same rows in order, the same decisions, and probabilities within 1e-5."""
    rows, expected = result_rows(found), result_rows(expected_in)
    assert len(rows) == len(expected)
    inexact = {"p_ai", "p_source"}
    assert [{key: row[key] for key in row.keys() - inexact} for row in rows] == [
        {key: row[key] for key in row.keys() - inexact} for row in expected
    ]
    scored = [
        (row, other) for row, other in zip(rows, expected, strict=True) if other["error"] is None
    ]
    for key in inexact:
        np.testing.assert_allclose(
            [row[key] for row, _ in scored], [other[key] for _, other in scored], atol=1e-5
        )


@contextmanager
def second_server(cache: Path, **settings: Any) -> Iterator[TritonServer]:
    with TritonServer(ServerConfig(REPOSITORY, cache=cache, **settings)) as server:
        yield server


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 pairs, some of them unreadable, with prompts of every token bucket."""
    table = manifest_table(1000, seed=11).drop_columns(["Label_A", "Label_B"])
    images = table.column("Image").to_pylist()
    images[17], images[500], images[999] = (
        None,
        {"bytes": b"no image", "path": None},
        {"bytes": b"", "path": None},
    )
    table = table.set_column(2, table.schema.field("Image"), [images])
    path = tmp_path_factory.mktemp("manifest") / "pairs.parquet"
    pq.write_table(table, path, row_group_size=100)
    return path


@pytest.fixture(scope="module")
def embedded(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the embedded scan."""
    out = tmp_path_factory.mktemp("embedded")
    done = run_scan(manifest, out, "--keep", "id", "--shard-rows", 100)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(("batch_rows", "in_flight"), [(32, 8), (7, 32), (256, 2), (1, 64)])
def test_a_scan_on_a_server_gives_the_embedded_scans_results(
    server: TritonServer,
    manifest: Path,
    embedded: Path,
    tmp_path: Path,
    batch_rows: int,
    in_flight: int,
) -> None:
    options = [
        "--triton",
        server.grpc_address,
        "--batch-size",
        batch_rows,
        "--triton-in-flight",
        in_flight,
    ]
    done = run_scan(manifest, tmp_path / "out", "--keep", "id", "--shard-rows", 100, *options)
    assert done.returncode == 0, done.stderr
    assert "Triton server" not in done.stderr
    assert_same_results(tmp_path / "out", embedded)
    assert summary_of(tmp_path / "out")["errors"] == {"empty": 2, "undecodable": 1}


def test_a_scan_that_was_begun_embedded_resumes_with_a_server(
    server: TritonServer, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    process = start_scan(manifest, tmp_path, "--keep", "id", "--shard-rows", 100, "--threads", 1)
    assert await_commits(process, tmp_path, 2)
    process.kill()
    process.communicate()
    done = run_scan(
        manifest, tmp_path, "--keep", "id", "--shard-rows", 100, "--triton", server.grpc_address
    )
    assert done.returncode == 0, done.stderr
    assert_same_results(tmp_path, embedded)


def test_duplicates_are_sent_to_a_server_once(
    server: TritonServer, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    options = ["--keep", "id", "--shard-rows", 100, "--triton", server.grpc_address]
    done = run_scan(manifest, tmp_path / "once", *options, "--reuse-answers")
    assert done.returncode == 0, done.stderr
    assert_same_results(tmp_path / "once", embedded)
    assert run_of(tmp_path / "once")["duplicates"] == 0
    twice = tmp_path / "twice.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(manifest)] * 2), twice, row_group_size=100)
    done = run_scan(twice, tmp_path / "twice", *options, "--reuse-answers")
    assert done.returncode == 0, done.stderr
    # Of the three bad images, two are empty: they fail before they are hashed.
    assert run_of(tmp_path / "twice")["duplicates"] == 998
    rows = [{**row, "manifest": 0, "row": 0} for row in result_rows(tmp_path / "twice")]
    assert rows[:1000] == rows[1000:]


def run_of(out: Path) -> dict[str, Any]:
    """The figures of the run."""
    found: Any = summary_of(out)["run"]
    return dict(found)


def test_failed_rows_are_retried_on_a_server_and_the_others_keep_their_scores(
    server: TritonServer, tmp_path: Path
) -> None:
    source = write_form("csv", tmp_path, 60)
    images = {row: source.parent / f"{row:05}.png" for row in (3, 40, 41)}
    data = {row: path.read_bytes() for row, path in images.items()}
    for path in images.values():
        path.write_bytes(b"")
    assert run_scan(source, tmp_path / "out", "--shard-rows", 20).returncode == 0
    before = result_rows(tmp_path / "out")
    for row, path in images.items():
        path.write_bytes(data[row])
    retried = run_scan(
        *(source, tmp_path / "out", "--shard-rows", 20, "--retry-errors"),
        *("--triton", server.grpc_address),
    )
    assert retried.returncode == 0, retried.stderr
    assert "rows that were scanned again: 3; scored now: 3; failed again: 0" in retried.stderr
    after = result_rows(tmp_path / "out")
    assert [row for row in range(60) if after[row] != before[row]] == [3, 40, 41]
    assert run_scan(source, tmp_path / "whole", "--shard-rows", 20).returncode == 0
    assert_same_results(tmp_path / "out", tmp_path / "whole")


def test_a_server_that_is_killed_and_started_again_costs_no_row(
    cache: Path, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    with second_server(cache) as first:
        process = start_scan(manifest, tmp_path, "--triton", first.grpc_address, *SLOWLY)
        messages = Messages(process)
        assert await_commits(process, tmp_path, 3)
        os.kill(first.process_id, signal.SIGKILL)
        messages.wait_for(f"Triton server {first.grpc_address} does not answer")
        assert process.poll() is None
    ports = {name: getattr(first.config, name) for name in ("grpc_port", "metrics_port")}
    with second_server(cache, **ports):
        text = messages.until_exit(300)
    assert process.returncode == 0, text
    assert re.search("does not answer: .*waiting for it, for up to 120 s", text)
    assert f"Triton server {first.grpc_address} answers again" in text
    assert_same_results(tmp_path, embedded)


def test_of_two_servers_one_is_killed_for_good_and_the_other_goes_on(
    server: TritonServer, cache: Path, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    with second_server(cache) as other:
        servers = f"{server.grpc_address},{other.grpc_address}"
        process = start_scan(manifest, tmp_path, "--triton", servers, *SLOWLY)
        assert await_commits(process, tmp_path, 3)
        answered = requests_answered_by(other)
        os.kill(other.process_id, signal.SIGKILL)
        _, text = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert answered > 10, "only one of the servers has worked"
    assert f"Triton server {other.grpc_address} does not answer" in text
    assert f"going on with {server.grpc_address}" in text
    assert_same_results(tmp_path, embedded)


def test_a_server_that_hangs_is_left_for_the_other(
    server: TritonServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_pool, "_HEALTH_EVERY_S", 0.5)
    monkeypatch.setattr(triton_pool, "_HEALTH_TIMEOUT_S", 3.0)
    images = np.stack([decode_image(encoded_image(seed), CONTRACT.image) for seed in range(8)])
    tokens = TokenBatch(np.full((8, 16), 7, np.int32), np.ones((8, 16), np.int32))
    messages: list[str] = []
    with second_server(cache) as other:
        config = TritonConfig((server.grpc_address, other.grpc_address), deadline_s=300)
        scorer = TritonScorer(REPOSITORY, config, 8, messages.append)
        expected = scorer.score(images, tokens)
        os.kill(other.process_id, signal.SIGSTOP)
        try:
            answers = [scorer.submit(images, tokens) for _ in range(12)]
            for answer in answers:
                np.testing.assert_allclose(
                    answer.result(timeout=100).p_source, expected.p_source, atol=1e-5
                )
            (message,) = messages
            assert message.startswith(f"Triton server {other.grpc_address} does not answer")
        finally:
            os.kill(other.process_id, signal.SIGCONT)
        wait_until(lambda: len(messages) > 1, "the server's return is not reported")
        assert messages[1:] == [f"Triton server {other.grpc_address} answers again"]
        scorer.close()


def test_without_any_server_the_scan_ends_and_can_be_resumed(
    cache: Path, server: TritonServer, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    options = [*SLOWLY, "--triton-patience", 3]
    with second_server(cache) as lost:
        process = start_scan(manifest, tmp_path, "--triton", lost.grpc_address, *options)
        assert await_commits(process, tmp_path, 3)
        os.kill(lost.process_id, signal.SIGKILL)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1, text
    last = text.strip().splitlines()[-1]
    assert last.startswith(f"aigid: no Triton server has answered for 3 s: {lost.grpc_address}: ")
    assert "committed shards stay" in last
    assert "Traceback" not in text
    committed = {path: path.read_bytes() for path in result_files(tmp_path)}
    assert 3 <= len(committed) < 10
    done = run_scan(manifest, tmp_path, "--triton", server.grpc_address, *options)
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == data for path, data in committed.items())
    assert_same_results(tmp_path, embedded)


def test_ctrl_c_ends_a_scan_that_waits_for_a_server(
    manifest: Path, cache: Path, tmp_path: Path
) -> None:
    with second_server(cache) as lost:
        process = start_scan(manifest, tmp_path, "--triton", lost.grpc_address, *SLOWLY)
        messages = Messages(process)
        assert await_commits(process, tmp_path, 1)
        os.kill(lost.process_id, signal.SIGKILL)
    messages.wait_for("does not answer")
    process.send_signal(signal.SIGINT)
    text = messages.until_exit(30)
    assert process.returncode == 130
    assert "interrupted; " in text
    assert "Traceback" not in text


def test_a_server_with_another_model_is_refused(
    server: TritonServer, tiny_repository: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run_scan(
        manifest, tmp_path / "out", "--triton", server.grpc_address, "--model", tiny_repository
    )
    assert done.returncode == 2
    other = load_contract(tiny_repository).fingerprint
    assert f"it serves model {CONTRACT.fingerprint[:16]}" in done.stderr
    assert f"the model asked for is tiny, {other[:16]}...: set --model to the" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_larger_batches_than_the_server_takes_are_refused_before_the_scan(
    server: TritonServer, manifest: Path, tmp_path: Path
) -> None:
    done = run_scan(
        manifest, tmp_path / "out", "--triton", server.grpc_address, "--batch-size", 257
    )
    assert done.returncode == 2
    assert "it takes at most 256 pairs in a request, not 257: lower --batch-size" in done.stderr


def test_an_address_without_a_triton_server_ends_the_scan_with_the_reason(
    server: TritonServer, manifest: Path, tmp_path: Path
) -> None:
    for address, reason in (
        ("127.0.0.1:9", "Connection refused"),
        (server.metrics_address, "Socket closed"),
    ):
        done = run_scan(manifest, tmp_path / "out", "--triton", address, "--triton-patience", 2)
        assert done.returncode == 1
        assert f"no Triton server has answered for 2 s: {address}: " in done.stderr
        assert reason in done.stderr
        assert "check that this is the port of Triton's gRPC" in done.stderr


def test_a_detector_scores_on_servers(server: TritonServer, tiny_repository: Path) -> None:
    images, prompts = (
        [encoded_image(seed) for seed in range(70)],
        [CAPTIONS[seed % 4] for seed in range(70)],
    )
    images[3] = b"no image"
    with Detector.load(f"triton://{server.grpc_address}") as detector:
        found = detector.detect(images, prompts)
    expected = Detector.load().detect(images, prompts)
    assert [(one.is_ai, one.source, one.error) for one in found] == [
        (one.is_ai, one.source, one.error) for one in expected
    ]
    scored = [
        (one, other) for one, other in zip(found, expected, strict=True) if other.error is None
    ]
    assert len(scored) == 69
    np.testing.assert_allclose(
        [one.p_source for one, _ in scored], [other.p_source for _, other in scored], atol=1e-5
    )
    with pytest.raises(ContractError, match="it serves model"):
        Detector.load(f"triton://{server.grpc_address}", repository=tiny_repository)


def test_tls_encrypts_and_certificates_are_checked(cache: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, theirs = (
        authority.issue_cert("client.example"),
        authority.issue_cert("localhost", "127.0.0.1"),
    )
    pem = {
        name: tmp_path / f"{name}.pem"
        for name in ("ca", "server", "server_key", "client", "client_key")
    }
    authority.cert_pem.write_to_path(str(pem["ca"]))
    for name, issued in (("server", theirs), ("client", ours)):
        issued.cert_chain_pems[0].write_to_path(str(pem[name]))
        issued.private_key_pem.write_to_path(str(pem[f"{name}_key"]))
    tls = (
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={pem['server']}",
        f"--grpc-server-key={pem['server_key']}",
    )
    images = decode_image(encoded_image(1), CONTRACT.image)[np.newaxis]
    tokens = TokenBatch(np.full((1, 16), 7, np.int32), np.ones((1, 16), np.int32))
    with second_server(cache, arguments=(*tls, f"--grpc-root-cert={pem['ca']}")) as server:
        config = TritonConfig(
            (server.grpc_address,), tls=TlsConfig(pem["ca"], pem["client"], pem["client_key"])
        )
        scorer = TritonScorer(REPOSITORY, config, 1)
        np.testing.assert_allclose(
            scorer.score(images, tokens).p_source,
            OnnxScorer(REPOSITORY).score(images, tokens).p_source,
            atol=1e-5,
        )
        scorer.close()
        for wrong in (None, TlsConfig(), TlsConfig(pem["ca"])):
            with pytest.raises(ServerError, match="no Triton server has answered"):
                TritonScorer(
                    REPOSITORY, TritonConfig((server.grpc_address,), patience_s=1, tls=wrong), 1
                )


def requests_answered_by(server: TritonServer) -> int:
    """Return how many requests for the model the server has answered."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return int(
        float(re.findall(r'nv_inference_request_success\{model="aigid",.*?\} (\S+)', text)[0])
    )
