"""The real Triton server on the demo model, used by gRPC clients, beside the embedded scorer."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from support.evidence_files import A1111, png_with_text
from support.manifests import CAPTIONS, REPOSITORY, encoded_image
from support.triton_requests import pair_inputs, tensor, tensor_inputs
from tritonclient.utils import InferenceServerException

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.errors import ContractError, ServerError, UsageError
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder, TokenBatch, pad_to_bucket
from aigid.scorers import PAIRS_MODEL, TENSORS_MODEL, OnnxScorer
from aigid.serving import ServerConfig, TritonServer

pytestmark = pytest.mark.integration

MODELS = ("aigid", "aigid_pairs", "bert", "clip_vision", "fusion_heads")
CONTRACT = load_contract(REPOSITORY)
ROWS = 96
IMAGES = [encoded_image(seed, side=64) for seed in range(ROWS)]
PROMPTS = [CAPTIONS[seed % len(CAPTIONS)] for seed in range(ROWS)]


@pytest.fixture
def client(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_address) as client:
        yield client


@pytest.fixture(scope="module")
def expected() -> Any:
    """The embedded scorer's p_source of each pair, padded to its own bucket."""
    scorer, encoder = (
        OnnxScorer(REPOSITORY),
        PromptEncoder(REPOSITORY / TOKENIZER_FILE, CONTRACT.prompt),
    )
    scores = [
        scorer.score(
            decode_image(image, CONTRACT.image)[np.newaxis],
            pad_to_bucket([ids], encoder.bucket(len(ids))),
        )
        for image, ids in zip(IMAGES, encoder.token_ids(PROMPTS), strict=True)
    ]
    return np.concatenate([one.p_source for one in scores])


def score_tensors(client: triton.InferenceServerClient, images: Any, tokens: TokenBatch) -> Any:
    return client.infer("aigid", tensor_inputs(images, tokens))


def score_pairs(
    client: triton.InferenceServerClient, images: list[bytes], prompts: list[str]
) -> Any:
    return client.infer("aigid_pairs", pair_inputs(images, [prompt.encode() for prompt in prompts]))


def test_every_model_is_ready(server: TritonServer) -> None:
    assert [(name, state) for name, _, state in server.models()] == [
        (name, "READY") for name in MODELS
    ]


@pytest.mark.parametrize("rows", [1, 7, 32, ROWS])
def test_tensors_get_the_scores_of_the_embedded_scorer(
    client: triton.InferenceServerClient, expected: Any, rows: int
) -> None:
    encoder = PromptEncoder(REPOSITORY / TOKENIZER_FILE, CONTRACT.prompt)
    images = np.stack([decode_image(image, CONTRACT.image) for image in IMAGES[:rows]])
    ids = encoder.token_ids(PROMPTS[:rows])
    answer = score_tensors(client, images, pad_to_bucket(ids, encoder.bucket(max(map(len, ids)))))
    np.testing.assert_allclose(answer.as_numpy("p_source"), expected[:rows], atol=1e-5)
    np.testing.assert_allclose(answer.as_numpy("p_ai")[:, 0], 1 - expected[:rows, 0], atol=1e-5)


def test_concurrent_requests_are_never_mixed_up(
    client: triton.InferenceServerClient, expected: Any
) -> None:
    sizes = np.random.default_rng(0).integers(1, 9, 60)
    parts = [np.random.default_rng(seed).integers(0, ROWS, size) for seed, size in enumerate(sizes)]

    def score(rows: Any) -> Any:
        return score_pairs(
            client, [IMAGES[row] for row in rows], [PROMPTS[row] for row in rows]
        ).as_numpy("p_source")

    with ThreadPoolExecutor(8) as pool:
        for rows, answer in zip(parts, pool.map(score, parts), strict=True):
            np.testing.assert_allclose(answer, expected[rows], atol=1e-5)


def test_a_bad_image_is_an_error_of_its_row_only(
    client: triton.InferenceServerClient, expected: Any
) -> None:
    answer = score_pairs(
        client, [IMAGES[0], b"no image", b"", IMAGES[1]], [PROMPTS[0], "a cat", "a cat", PROMPTS[1]]
    )
    assert answer.as_numpy("error").reshape(-1).tolist() == [b"", b"undecodable", b"empty", b""]
    np.testing.assert_allclose(answer.as_numpy("p_source")[[0, 3]], expected[:2], atol=1e-5)
    for name in ("p_ai", "known_score", "p_source"):
        assert np.isnan(answer.as_numpy(name)[[1, 2]]).all()


def test_evidence_is_given_to_requests_that_ask_for_it(
    client: triton.InferenceServerClient, expected: Any
) -> None:
    generated = png_with_text(parameters=A1111)
    images = [generated, IMAGES[0], generated[: generated.index(b"IDAT")]]
    inputs = pair_inputs(images, [PROMPTS[0].encode()] * 3)
    plain = client.infer("aigid_pairs", inputs)
    assert plain.as_numpy("evidence").tolist() == [[b""]] * 3
    answer = client.infer("aigid_pairs", inputs, parameters={"evidence": True})
    found = [json.loads(text) for (text,) in answer.as_numpy("evidence")]
    assert [one["evidence"] for one in found] == ["ai", "none", "ai"]
    assert found[0]["findings"][0]["details"]["model"] == "sd_xl_base_1.0"
    assert answer.as_numpy("error").reshape(-1).tolist() == [b"", b"", b"undecodable"]
    for name in ("p_ai", "p_source"):
        np.testing.assert_allclose(answer.as_numpy(name)[:2], plain.as_numpy(name)[:2], atol=1e-5)


def bad_requests() -> dict[str, tuple[Any, TokenBatch, str]]:
    side = CONTRACT.image.size
    ids = np.ones((2, 16), np.int32)
    images, tokens = np.zeros((2, side, side, 3), np.uint8), TokenBatch(ids, ids)
    many = np.zeros((257, side, side, 3), np.uint8)
    long = np.ones((257, 16), np.int32)
    return {
        "shape": (images[:, :-1], tokens, "unexpected shape for input 'image'"),
        "batch": (many, TokenBatch(long, long), r"batch-size must be <= 256"),
        "rows": (images[:1], tokens, "batch"),
        "ids": (
            images,
            TokenBatch(ids * 10**6, ids),
            "input_ids must be ids of the vocabulary, at most 128 a row",
        ),
        "tokens": (
            images,
            TokenBatch(np.ones((2, 200), np.int32), np.ones((2, 200), np.int32)),
            "at most 128 a row",
        ),
        "mask": (images, TokenBatch(ids, ids[:, :9]), "attention_mask must have the same length"),
        "empty": (images[:0], TokenBatch(ids[:0], ids[:0]), "byte size mismatch"),
    }


@pytest.mark.parametrize("what", bad_requests())
def test_a_bad_request_gets_an_error_and_the_server_goes_on(
    client: triton.InferenceServerClient, expected: Any, what: str
) -> None:
    images, tokens, reason = bad_requests()[what]
    with pytest.raises(InferenceServerException, match=reason):
        score_tensors(client, images, tokens)
    np.testing.assert_allclose(
        score_pairs(client, IMAGES[:1], PROMPTS[:1]).as_numpy("p_source"), expected[:1], atol=1e-5
    )


def test_wrong_names_and_types_are_refused(client: triton.InferenceServerClient) -> None:
    pixels = np.zeros((1, CONTRACT.image.size, CONTRACT.image.size, 3), np.uint8)
    with pytest.raises(
        InferenceServerException, match="unexpected inference input 'photo'|expected 3 inputs"
    ):
        client.infer("aigid", [tensor("photo", pixels, "UINT8")])
    with pytest.raises(InferenceServerException, match="data-type"):
        client.infer("clip_vision", [tensor("image", pixels.astype(np.float32), "FP32")])


def test_damaged_and_missing_graphs_are_named_with_the_server_s_reason(
    cache: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "repository"
    shutil.copytree(REPOSITORY, broken)
    (broken / "bert" / str(CONTRACT.version) / "model.int8.onnx").write_bytes(b"no graph")
    (broken / "clip_vision" / str(CONTRACT.version) / "model.int8.onnx").unlink()
    with pytest.raises(ServerError, match="the server does not start: failed to load") as caught:
        TritonServer(ServerConfig(broken, cache=cache)).start()
    for model, reason in (
        ("bert", "Protobuf parsing failed"),
        ("clip_vision", "File doesn't exist"),
    ):
        assert re.search(f"failed to load '{model}'[^;]*{reason}", str(caught.value))


def test_a_repository_of_an_earlier_aigid_is_refused_with_what_to_do(
    cache: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "repository"
    shutil.copytree(REPOSITORY, earlier)
    shutil.copytree(earlier / PAIRS_MODEL, earlier / "preprocess")
    config = (earlier / "preprocess" / "config.pbtxt").read_text()
    (earlier / "preprocess" / "config.pbtxt").write_text(
        config.replace(f'name: "{PAIRS_MODEL}"', 'name: "preprocess"')
    )
    (earlier / "preprocess" / str(CONTRACT.version) / "model.py").write_text(
        "from aigid.serving.triton_preprocess import TritonPythonModel\n"
    )
    with pytest.raises(ServerError, match="an earlier aigid built this model repository: build it"):
        TritonServer(ServerConfig(earlier, cache=cache)).start()


def test_a_repository_of_a_later_aigid_is_refused_with_what_to_do(
    cache: Path, tmp_path: Path
) -> None:
    later = tmp_path / "repository"
    shutil.copytree(REPOSITORY, later)
    model = later / TENSORS_MODEL / str(CONTRACT.version) / "model.py"
    model.write_text(model.read_text().replace("triton_tensors", "triton_of_the_future"))
    with pytest.raises(ServerError, match="this model repository needs a later aigid beside"):
        TritonServer(ServerConfig(later, cache=cache)).start()


def test_a_server_that_another_process_stops_is_an_error(cache: Path) -> None:
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        os.kill(server.process_id, signal.SIGTERM)
        with pytest.raises(ServerError, match="the server was stopped by another process"):
            server.wait()


def test_repositories_and_ports_that_cannot_be_used_are_refused_before_the_start(
    cache: Path, server: TritonServer, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=r"contract\.json"):
        TritonServer(ServerConfig(tmp_path, cache=cache))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError,
            match=f"`grpc_port` {port}: 127.0.0.1:{port} cannot be used: Address already in use",
        ):
            TritonServer(ServerConfig(REPOSITORY, grpc_port=port, cache=cache))


def test_a_killed_server_is_an_error_and_leaves_neither_shared_memory_nor_processes(
    cache: Path,
) -> None:
    def shared_memory() -> set[str]:
        # The names have the process id of these tests: other test processes have servers too.
        return {path.name for path in Path("/dev/shm").glob(f"aigid_triton_{os.getpid()}_*")}

    before = shared_memory()
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as killed:
        assert len(shared_memory() - before) == 7, "one for each instance of a model"
        models = psutil.Process(killed.process_id).children()
        # A process that does not notice the end of its server.
        models[0].suspend()
        os.kill(killed.process_id, signal.SIGKILL)
        with pytest.raises(ServerError, match="the server ended with status -9"):
            killed.wait()
    assert shared_memory() <= before
    psutil.wait_procs(models, timeout=10)
    assert not [
        model for model in models if model.is_running() and model.status() != psutil.STATUS_ZOMBIE
    ]


SERVE = [sys.executable, "-m", "aigid", "serve"]
ANY_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_stops_it(
    cache: Path, number: int, tmp_path: Path
) -> None:
    # The command's own cache is the one that the fixture has filled.
    (tmp_path / "aigid").symlink_to(cache)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    # Not in a checkout: there models would find aigid in the current folder.
    process = subprocess.Popen(
        [*SERVE, *ANY_PORTS],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(len(MODELS) + 1)]
        assert [line.split()[0::2] for line in lines[:-1]] == [[name, "READY"] for name in MODELS]
        (address,) = re.findall(r"gRPC (\S+)", lines[-1])
        url = process.stdout.readline().strip()
        answer = httpx.post(f"{url}/v1/detect", files={"image": IMAGES[0]}, timeout=60)
        assert answer.json()["detections"][0]["error"] is None
        with triton.InferenceServerClient(address) as client:
            assert client.is_server_ready()
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("tritonserver" in child.name() for child in started)
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "not for real decisions" in messages
    assert not [
        child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]


def test_a_cache_that_cannot_be_written_is_one_line_of_the_command(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file where a folder should be")
    environment = os.environ | {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [*SERVE, *ANY_PORTS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *before, last = done.stderr.strip().splitlines()
    assert last.startswith(f"aigid: {tmp_path}/.cache/aigid/tritonserver-")
    assert f"make {tmp_path}/.cache/aigid a folder that you can write to, set XDG_CACHE_H" in last
    assert not any("Traceback" in line for line in before)


def test_a_port_in_use_is_named_by_its_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*SERVE, *ANY_PORTS, f"--grpc-port={port}"]
        environment = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"aigid: --grpc-port {port}: 127.0.0.1:{port} cannot be used" in done.stderr
