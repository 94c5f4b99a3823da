"""A scan on real Triton servers, beside the embedded one: the same answers, whatever happens to the servers."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import trustme
from support.manifests import CAPTIONS, REPOSITORY, encoded_image
from support.scan_process import await_commits, start_scan
from support.scan_results import result_files, result_rows, summary_of

from aigid import Detector
from aigid.contract import load_contract
from aigid.errors import ContractError, ServerError
from aigid.pixels import decode_image
from aigid.prompts import TokenBatch
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.scorers.triton_config import TlsConfig, TritonConfig
from aigid.scorers.triton_grpc import TritonScorer
from aigid.serving.triton_server import ServerConfig, TritonServer

pytestmark = pytest.mark.integration

Write = Callable[..., Path]
CONTRACT = load_contract(REPOSITORY)


def run_scan(manifest: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    process = start_scan(manifest, out, *options)
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def assert_same_results(found: Path, wanted: Path) -> None:
    """The same rows in the same order, with the same decisions, and probabilities within 1e-5."""
    rows, expected = result_rows(found), result_rows(wanted)
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
    """1,000 pairs, some of them unreadable, in prompts of every token bucket."""
    from support.manifests import manifest_table

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
    """What the embedded scan makes of it."""
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


def test_a_scan_that_was_begun_in_the_process_goes_on_with_a_server(
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


def test_a_server_that_is_killed_and_started_again_costs_no_row(
    cache: Path, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    options = ["--keep", "id", "--shard-rows", 100, "--batch-size", 4]
    with second_server(cache) as first:
        process = start_scan(manifest, tmp_path, "--triton", first.grpc_address, *options)
        assert await_commits(process, tmp_path, 3)
        os.kill(first.process_id, signal.SIGKILL)
        time.sleep(10)
        assert process.poll() is None, process.communicate()
    ports = {
        name: getattr(first.config, name) for name in ("http_port", "grpc_port", "metrics_port")
    }
    with second_server(cache, **ports):
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    address = re.escape(first.grpc_address)
    assert re.search(
        f"Triton server {address} does not answer: .*waiting for it, for up to 120 s", said
    )
    assert f"Triton server {first.grpc_address} answers again" in said
    assert_same_results(tmp_path, embedded)


def test_of_two_servers_one_is_killed_for_good_and_the_other_goes_on(
    server: TritonServer, cache: Path, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    with second_server(cache) as other:
        servers = f"{server.grpc_address},{other.grpc_address}"
        options = ["--keep", "id", "--shard-rows", 100, "--batch-size", 4]
        process = start_scan(manifest, tmp_path, "--triton", servers, *options)
        assert await_commits(process, tmp_path, 3)
        asked = requests_of(other)
        os.kill(other.process_id, signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert asked > 10, "both servers have worked"
    assert f"Triton server {other.grpc_address} does not answer" in said
    assert f"going on with {server.grpc_address}" in said
    assert_same_results(tmp_path, embedded)


def test_a_server_that_hangs_is_left_for_the_other(
    server: TritonServer, cache: Path, tmp_path: Path
) -> None:
    images = np.stack([decode_image(encoded_image(seed), CONTRACT.image) for seed in range(8)])
    tokens = TokenBatch(np.full((8, 16), 7, np.int32), np.ones((8, 16), np.int32))
    said: list[str] = []
    with second_server(cache) as other:
        config = TritonConfig((server.grpc_address, other.grpc_address), deadline_s=300)
        scorer = TritonScorer(REPOSITORY, config, 8, said.append)
        expected = scorer.score(images, tokens)
        os.kill(other.process_id, signal.SIGSTOP)
        try:
            answers = [scorer.submit(images, tokens) for _ in range(12)]
            for answer in answers:
                np.testing.assert_allclose(
                    answer.result(timeout=100).p_source, expected.p_source, atol=1e-5
                )
            assert len(said) == 1
            assert said[0].startswith(f"Triton server {other.grpc_address} does not answer")
        finally:
            os.kill(other.process_id, signal.SIGCONT)
        deadline = time.monotonic() + 60
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert said[1:] == [f"Triton server {other.grpc_address} answers again"]
        scorer.close()


def test_servers_that_are_gone_for_good_end_the_scan_which_goes_on_later(
    cache: Path, server: TritonServer, manifest: Path, embedded: Path, tmp_path: Path
) -> None:
    options = ["--keep", "id", "--shard-rows", 100, "--batch-size", 4, "--triton-patience", 3]
    with second_server(cache) as lost:
        process = start_scan(manifest, tmp_path, "--triton", lost.grpc_address, *options)
        assert await_commits(process, tmp_path, 3)
        os.kill(lost.process_id, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"aigid: no Triton server has answered for 3 s: {lost.grpc_address}: ")
    assert last.endswith("what was committed stays: run the same command again to go on")
    assert "Traceback" not in said
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
        process = start_scan(
            manifest,
            tmp_path,
            "--triton",
            lost.grpc_address,
            "--shard-rows",
            100,
            "--batch-size",
            4,
        )
        assert await_commits(process, tmp_path, 1)
        os.kill(lost.process_id, signal.SIGKILL)
    assert process.stderr is not None
    for line in process.stderr:
        if "does not answer" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; what was committed stays" in said
    assert "Traceback" not in said


def test_a_server_with_another_model_is_refused(
    server: TritonServer, tiny_repository: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run_scan(
        manifest, tmp_path / "out", "--triton", server.grpc_address, "--model", tiny_repository
    )
    assert done.returncode == 2
    other = load_contract(tiny_repository).fingerprint
    assert f"it serves model {CONTRACT.fingerprint[:16]}" in done.stderr
    assert f"the scan is to use tiny, {other[:16]}" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_more_pairs_at_a_time_than_the_server_takes_are_refused_before_anything_is_read(
    server: TritonServer, manifest: Path, tmp_path: Path
) -> None:
    done = run_scan(
        manifest, tmp_path / "out", "--triton", server.grpc_address, "--batch-size", 257
    )
    assert done.returncode == 2
    assert "it takes 256 pairs at a time, not 257: give a smaller --batch-size" in done.stderr


def test_an_address_where_nobody_or_no_triton_listens_ends_the_scan_with_the_reason(
    server: TritonServer, manifest: Path, tmp_path: Path
) -> None:
    for address, reason in (
        ("127.0.0.1:9", "Connection refused"),
        (server.http_address, "Socket closed"),
    ):
        done = run_scan(manifest, tmp_path / "out", "--triton", address, "--triton-patience", 2)
        assert done.returncode == 1
        assert f"no Triton server has answered for 2 s: {address}: " in done.stderr
        assert reason in done.stderr
        assert "is that the port of Triton's gRPC" in done.stderr


def test_a_detector_asks_servers(server: TritonServer, tiny_repository: Path) -> None:
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


def test_servers_are_spoken_to_with_tls_and_certificates_are_checked(
    cache: Path, tmp_path: Path
) -> None:
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


def requests_of(server: TritonServer) -> int:
    """How many requests the server's ensemble has answered."""
    import urllib.request

    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return int(
        float(re.findall(r'nv_inference_request_success\{model="aigid",.*?\} (\S+)', text)[0])
    )
