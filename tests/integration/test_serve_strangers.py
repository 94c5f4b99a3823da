"""The open port of a real server: closed calls, malformed requests, clients that give up."""

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from support.manifests import CAPTIONS, REPOSITORY, encoded_image
from support.triton_requests import pair_inputs, tensor_inputs
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from aigid.contract import load_contract
from aigid.prompts import TokenBatch
from aigid.scorers import PAIRS_MODEL, TENSORS_MODEL
from aigid.serving import ServerConfig, TritonServer

pytestmark = pytest.mark.integration

SIDE = load_contract(REPOSITORY).image.size
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
MODEL = {"name": PAIRS_MODEL}
OPEN = {
    "ServerLive": {},
    "ServerReady": {},
    "ServerMetadata": {},
    "ModelReady": MODEL,
    "ModelMetadata": MODEL,
    "ModelConfig": MODEL,
}
CLIENTS = 200


@pytest.fixture(scope="module")
def facing(cache: Path) -> Iterator[TritonServer]:
    """A server of these tests' own, which other tests do not have to share."""
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        yield server


def assert_right(server: TritonServer) -> None:
    """Check that the server answers a pair within 10 s, and that its answer is a probability."""
    with triton.InferenceServerClient(server.grpc_address) as client:
        inputs = pair_inputs([encoded_image(1, 64), b"no image"], [b"a red car"] * 2)
        end = time.monotonic() + 10
        while True:
            try:
                left_s = end - time.monotonic()
                answer = client.infer(PAIRS_MODEL, inputs, client_timeout=max(left_s, 0.001))
                break
            except InferenceServerException as error:
                # Only a queue that is full may refuse, and not for long.
                assert "Exceeds maximum queue size" in str(error.message()), error
                time.sleep(0.2)
    assert answer.as_numpy("error").reshape(-1).tolist() == [b"", b"undecodable"]
    assert abs(answer.as_numpy("p_source")[0].sum() - 1) < 1e-5
    assert np.isnan(answer.as_numpy("p_source")[1]).all()


def test_each_call_is_open_or_closed(facing: TritonServer) -> None:
    outcomes = {}
    with grpc.insecure_channel(facing.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for method in SERVICE.methods:
            if method.name in ("ModelInfer", "ModelStreamInfer"):
                continue
            message = getattr(service_pb2, method.input_type.name)(**OPEN.get(method.name, {}))
            try:
                getattr(stub, method.name)(message, timeout=10)
                outcomes[method.name] = "answered"
            except grpc.RpcError as error:
                outcomes[method.name] = error.details() or ""
    closed = {name: reason for name, reason in outcomes.items() if reason != "answered"}
    assert outcomes.keys() - closed.keys() == OPEN.keys()
    assert len(closed) == 12
    assert {reason.partition(",")[0] for reason in closed.values()} == {
        "This protocol is restricted"
    }
    assert_right(facing)


def test_who_reads_the_process_list_cannot_open_what_is_closed(facing: TritonServer) -> None:
    (option,) = [
        word
        for word in psutil.Process(facing.process_id).cmdline()
        if word.startswith("--grpc-restricted-protocol=")
    ]
    name, value = option.rpartition(":")[2].split("=")
    for header in (name, name.lower()):
        call = raw_call("RepositoryIndex", [(f"triton-grpc-protocol-{header}", value)])
        assert b"aigid_pairs" not in exchange(facing, call)
    assert b"\x08\x01" in exchange(facing, raw_call("ServerReady", []))


def test_http_is_closed_and_metrics_are_on_loopback(facing: TritonServer) -> None:
    listening = {
        (one.laddr.ip.removeprefix("::ffff:"), one.laddr.port)
        for one in psutil.Process(facing.process_id).net_connections()
        if one.status == psutil.CONN_LISTEN
    }
    ports = {facing.config.grpc_port, facing.config.metrics_port}
    assert listening == {("127.0.0.1", port) for port in ports}


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(9)[:3] + b"\x04" + bytes(5)


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def raw_call(
    method: str, headers: list[tuple[str, str]], body: bytes = b"\0\0\0\0\0", end: int = 1
) -> bytes:
    """Return the bytes of a call, with headers that a client library would refuse."""
    path = f"/{SERVICE.full_name}/{method}"
    names = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")]
    names += [("content-type", "application/grpc"), ("te", "trailers"), *headers]
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in names
    )
    return PREFACE + SETTINGS + frame(1, 4, 1, block) + frame(0, end, 1, body)


def exchange(server: TritonServer, sent: bytes) -> bytes:
    """Send bytes, and return what comes back within a second or until the server hangs up."""
    received = b""
    with socket.create_connection((server.config.host, server.config.grpc_port), 5) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(1)
            while more := connection.recv(65536):
                received += more
        except (TimeoutError, ConnectionError, BrokenPipeError):
            pass
    return received


RAW = {
    "random bytes": np.random.default_rng(0).bytes(100_000),
    "HTTP/1": b"POST /v2/models/aigid_pairs/infer HTTP/1.1\r\nHost: a\r\n\r\n{}",
    "nothing": b"",
    "half a preface": PREFACE[:9],
    "half a frame": PREFACE + SETTINGS + frame(1, 4, 1, b"")[:5],
    "a frame of 16 MB that does not come": PREFACE + SETTINGS + frame(0, 0, 1, b"", 2**24 - 1),
    "data without a stream": PREFACE + SETTINGS + frame(0, 1, 7, b"data"),
    "headers that cannot be read": PREFACE + SETTINGS + frame(1, 5, 1, b"\xff" * 500),
    "ten thousand pings": PREFACE + SETTINGS + frame(6, 0, 0, bytes(8)) * 10_000,
    "ten thousand settings": PREFACE + SETTINGS * 10_000,
    "a window of nothing": PREFACE + SETTINGS + frame(8, 0, 0, bytes(4)),
    "a length of 4 GiB": raw_call("ModelInfer", [], b"\0\xff\xff\xff\xff" + b"x" * 1000, 0),
    "a message cut in the middle": raw_call("ModelInfer", [], b"\0\0\0\1\0abc"),
    "a message of random bytes": raw_call("ModelInfer", [], b"\0\0\0\0\x08" + b"\xff" * 8),
    "a message that is said to be compressed": raw_call("ModelInfer", [], b"\1\0\0\0\4abcd"),
    "an unknown method": raw_call("Destroy", []),
    "a header of another case": raw_call("ServerReady", [("UPPER", "x")]),
    "four thousand streams reset at once": PREFACE
    + SETTINGS
    + b"".join(
        frame(1, 4, number, raw_call("ServerReady", [])[42:60]) + frame(3, 0, number, bytes(4))
        for number in range(1, 8001, 2)
    ),
}


@pytest.mark.parametrize("what", RAW)
def test_bytes_that_are_no_request_leave_the_server_as_it_was(
    facing: TritonServer, what: str
) -> None:
    for _ in range(3):
        exchange(facing, RAW[what])
    assert_right(facing)


def request(model: str = PAIRS_MODEL, **fields: Any) -> Any:
    """Return a right request for one pair, or one with other fields."""
    pair = [("image_bytes", encoded_image(1, 64)), ("prompt", b"a cat")]
    made = service_pb2.ModelInferRequest(model_name=model)
    for name, value in pair:
        made.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
        made.raw_input_contents.append(struct.pack("<I", len(value)) + value)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


Change = Callable[[Any], None]


def shape(*dims: int) -> Change:
    def change(made: Any) -> None:
        made.inputs[0].shape[:] = dims

    return change


def raw(number: int, value: bytes) -> Change:
    def change(made: Any) -> None:
        made.raw_input_contents[number] = value

    return change


def region(name: str) -> Change:
    def change(made: Any) -> None:
        del made.raw_input_contents[:]
        for tensor in made.inputs:
            tensor.parameters["shared_memory_region"].string_param = name
            tensor.parameters["shared_memory_byte_size"].int64_param = 2**40
            tensor.parameters["shared_memory_offset"].int64_param = -8

    return change


def output_region(made: Any) -> None:
    output = made.outputs.add(name="p_ai")
    output.parameters["shared_memory_region"].string_param = "aigid"
    output.parameters["shared_memory_byte_size"].int64_param = 4


def parameter(name: str, **value: Any) -> Change:
    def change(made: Any) -> None:
        for field, given in value.items():
            setattr(made.parameters[name], field, given)

    return change


def twice(made: Any) -> None:
    made.inputs.add().CopyFrom(made.inputs[0])
    made.raw_input_contents.append(made.raw_input_contents[0])


def both_contents(made: Any) -> None:
    made.inputs[0].contents.bytes_contents.append(b"x")


MALFORMED: dict[str, Change] = {
    "a length beyond the end": raw(1, b"\xff\xff\xff\x7f" + b"a cat"),
    "a negative length": raw(1, b"\xff\xff\xff\xff" + b"a cat"),
    "no length": raw(1, b""),
    "two values for one": raw(1, b"\1\0\0\0a\1\0\0\0b"),
    "half a length": raw(1, b"\1\0"),
    "fewer contents than inputs": lambda made: made.raw_input_contents.pop(),
    "more contents than inputs": lambda made: made.raw_input_contents.append(b"more"),
    "contents of both kinds": both_contents,
    "a negative dimension": shape(-1, 1),
    "a dimension of 0": shape(0, 1),
    "a huge dimension": shape(2**62, 1),
    "dimensions that overflow": shape(2**32, 2**32),
    "no dimension": shape(),
    "nine dimensions": shape(*[1] * 9),
    "more rows than contents": shape(200, 1),
    "an input twice": twice,
    "no inputs": lambda made: made.ClearField("inputs"),
    "an unknown type": lambda made: setattr(made.inputs[0], "datatype", "FP1"),
    "a model that is not there": lambda made: setattr(made, "model_name", "../aigid"),
    "a version that is not there": lambda made: setattr(made, "model_version", "99"),
    "a version that is no number": lambda made: setattr(made, "model_version", "-1; x"),
    "memory that nobody registered": region("aigid_triton_"),
    "an output to memory that nobody registered": output_region,
    "an output that is not there": lambda made: made.outputs.add(name="secrets"),
    "a sequence that has no start": parameter("sequence_id", int64_param=7),
    "a parameter of Triton's own": parameter("triton_enable_empty_final_response", bool_param=True),
    "a priority of a wrong type": parameter("priority", string_param="high"),
}
# What is no error for Triton.
HARMLESS = {
    "more contents than inputs",
    "a sequence that has no start",
    "a parameter of Triton's own",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_and_the_server_goes_on(
    facing: TritonServer, what: str
) -> None:
    made = request()
    MALFORMED[what](made)
    refused = 0
    with grpc.insecure_channel(facing.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(3):
            try:
                stub.ModelInfer(made, timeout=10)
            except grpc.RpcError as error:
                assert error.code() != grpc.StatusCode.UNAVAILABLE, error.details()
                refused += 1
    assert refused == (0 if what in HARMLESS else 3)
    assert_right(facing)


def inputs_of(model: str, rng: np.random.Generator) -> list[triton.InferInput]:
    rows = int(rng.integers(1, 5))
    if model == PAIRS_MODEL:
        images = [IMAGES[row] for row in rng.integers(0, len(IMAGES), rows)]
        return pair_inputs(images, [CAPTIONS[0].encode()] * rows)
    ids = np.ones((rows, 16), np.int32)
    return tensor_inputs(np.zeros((rows, SIDE, SIDE, 3), np.uint8), TokenBatch(ids, ids))


IMAGES = [encoded_image(seed, side=256) for seed in range(8)]


async def give_up(address: str, model: str, for_s: float) -> Counter[str]:
    """Send requests from 200 clients that give up after 10 ms to 1 s each; count the outcomes."""
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + for_s

    async def work(number: int) -> None:
        rng = np.random.default_rng(number)
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with triton_aio.InferenceServerClient(address, channel_args=options) as client:
            while time.monotonic() < end:
                try:
                    deadline_s = float(rng.uniform(0.01, 1))
                    await client.infer(model, inputs_of(model, rng), client_timeout=deadline_s)
                    outcomes["answered"] += 1
                except InferenceServerException as error:
                    outcomes[f"{error.status()} {str(error.message())[-40:]}"] += 1

    await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    return outcomes


def settled_memory(server: TritonServer) -> float:
    """Return the own memory of the server and its models in MiB, once requests are freed."""
    process = psutil.Process(server.process_id)
    samples = []
    for _ in range(8):
        time.sleep(0.5)
        processes = [process, *process.children(recursive=True)]
        samples.append(sum(one.memory_full_info().uss for one in processes) / 2**20)
    return min(samples)


@pytest.mark.parametrize("model", [PAIRS_MODEL, TENSORS_MODEL])
@pytest.mark.parametrize("for_s", [8, pytest.param(180, marks=pytest.mark.soak)])
def test_200_clients_that_give_up_leave_a_server_that_answers(
    cache: Path, model: str, for_s: float
) -> None:
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        # The first overload sets how much memory malloc and shared memory keep.
        asyncio.run(give_up(server.grpc_address, model, 20))
        assert_right(server)
        before = settled_memory(server)
        outcomes = asyncio.run(give_up(server.grpc_address, model, for_s))
        assert_right(server)
        assert settled_memory(server) < before * 1.2
        assert not [one for one in outcomes if "Socket closed" in one or "reset" in one], outcomes
        assert any("Deadline Exceeded" in outcome for outcome in outcomes)
