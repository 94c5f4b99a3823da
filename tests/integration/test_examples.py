"""Every client of examples/ on the real server: its answers are those of the embedded detector."""

import base64
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image
from support.manifests import REPOSITORY, encoded_image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from aigid import Detection, Detector
from aigid.records import DEFAULT_LABELS
from aigid.serving import TritonServer

pytestmark = pytest.mark.integration

EXAMPLES = REPOSITORY.parent / "examples"


def plain_image() -> bytes:
    """Return an image that the demo model calls AI-generated, unlike noise."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


NAME = "zwei Hunde, süß.png"
PROMPT = """zwei "große" Hunde, it's 東京 🚗 $HOME `ls` \\x41 %d"""
PAIRS = {
    "one.jpg": (encoded_image(1, 64, "JPEG"), "a red car"),
    "two.png": (b"no image", "two dogs on a beach"),
    NAME: (encoded_image(1, 64), PROMPT),
    "long.png": (encoded_image(2, 1300), ""),
    "black.png": (plain_image(), "a black cat in a coal cellar at night"),
}
CLIENTS = {
    "python": ("python", "examples/python_client.py"),
    "node": ("node", "examples/node/client.mjs"),
}
PACKAGES = {
    "node": "Node.js 18 or newer",
    "npm": "npm",
    "grpcurl": "grpcurl",
}
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Begins with the folder of this environment's programs: `python` in documents is then this one.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def expected() -> dict[str, Detection]:
    images, prompts = zip(*PAIRS.values(), strict=True)
    return dict(zip(PAIRS, Detector.load().detect(images, prompts), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images and the examples, to run the README's commands as they are."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(
        EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("node_modules", "*.protoset")
    )
    for name, (image, _) in PAIRS.items():
        (folder / name).write_bytes(image)
    return folder


@pytest.fixture(scope="module")
def node_is_set_up(folder: Path) -> None:
    require("node", "npm")
    run(["python", "examples/triton_descriptors.py", "examples/node/triton.protoset"], folder)
    run(["npm", "ci", "--ignore-scripts", "--prefix", "examples/node"], folder)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client that is ready to run."""
    name = str(request.param)
    if name == "node":
        request.getfixturevalue("node_is_set_up")
    return name


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"no {program} on the PATH: install {PACKAGES[program]}")


def start(command: list[str], folder: Path, path: str = PATH) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PATH": path, "PYTHONUTF8": "1"}
    # `env` finds the program on this PATH, not on the one of the tests.
    return subprocess.run(
        ["env", *command],
        cwd=folder,
        env=environment,
        encoding="utf-8",
        capture_output=True,
        timeout=300,
    )


def run(command: list[str], folder: Path, path: str = PATH) -> str:
    """Run a command that must succeed, and return its output."""
    done = start(command, folder, path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def readme_commands(word: str, server: TritonServer) -> list[str]:
    """Return a command that runs the README's block with this word on this server."""
    blocks = re.findall(
        r"```bash\n(.*?)```", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (block,) = [block for block in blocks if word in block]
    block = block.replace("localhost:8001", server.grpc_address)
    assert "localhost" not in block
    return ["bash", "-euo", "pipefail", "-c", block]


def check_lines(printed: str, expected: dict[str, Detection]) -> None:
    """Check the output of a client that prints a line for each image."""
    lines = printed.splitlines()
    assert len(lines) == len(expected)
    for line, (name, detection) in zip(lines, expected.items(), strict=True):
        if detection.error:
            assert line == f"{name}: {detection.error.code}"
            continue
        found = re.fullmatch(rf"{re.escape(name)}: (\d\.\d{{4}}) (\w+)", line)
        assert found, line
        assert float(found[1]) == pytest.approx(detection.p_ai, abs=1e-4)
        assert found[2] == detection.source


def check_pair(p_ai: float, p_source: list[float], error: str, detection: Detection) -> None:
    if detection.error:
        assert error == detection.error.code
        return
    assert error == ""
    assert p_ai == pytest.approx(detection.p_ai, abs=1e-4)
    assert p_source == pytest.approx(detection.p_source, abs=1e-4)


def test_the_pairs_have_answers_of_all_kinds(expected: dict[str, Detection]) -> None:
    assert [name for name, detection in expected.items() if detection.error] == ["two.png"]
    assert expected["two.png"].error.code == "undecodable"
    assert {detection.is_ai for detection in expected.values()} == {True, False, None}
    # Larger than the default limit of most gRPC clients.
    assert len(PAIRS["long.png"][0]) > 4 * 2**20
    (mistaken,) = Detector.load().detect(
        [PAIRS[NAME][0]], [PROMPT.encode("ascii", "ignore").decode()]
    )
    assert abs(mistaken.p_ai - expected[NAME].p_ai) > 1e-3


def test_a_client_prints_a_line_for_each_image(
    server: TritonServer, folder: Path, expected: dict[str, Detection], client: str
) -> None:
    arguments = [argument for name, (_, prompt) in PAIRS.items() for argument in (name, prompt)]
    check_lines(run([*CLIENTS[client], server.grpc_address, *arguments], folder), expected)


def test_clients_run_as_the_readme_says(
    server: TritonServer, folder: Path, expected: dict[str, Detection], client: str
) -> None:
    printed = run(readme_commands(CLIENTS[client][-1], server), folder)
    # Before these lines npm prints its own.
    lines = "\n".join(printed.splitlines()[-2:])
    check_lines(lines, {name: expected[name] for name in ("one.jpg", "two.png")})


def test_clients_fail_without_a_server(folder: Path, client: str) -> None:
    # Nothing listens on port 1.
    done = start([*CLIENTS[client], "127.0.0.1:1", "one.jpg", "a red car"], folder)
    assert done.returncode != 0
    assert not done.stdout
    assert "connect" in done.stderr


def test_clients_print_their_usage(folder: Path, client: str) -> None:
    done = start([*CLIENTS[client], "127.0.0.1:1", "one.jpg"], folder)
    assert done.returncode != 0
    assert "HOST:PORT IMAGE PROMPT" in done.stderr


def test_the_descriptor_set_has_dependencies_first(folder: Path, tmp_path: Path) -> None:
    run(["python", "examples/triton_descriptors.py", str(tmp_path / "triton.protoset")], folder)
    files = FileDescriptorSet.FromString((tmp_path / "triton.protoset").read_bytes()).file
    seen: set[str] = set()
    for file in files:
        assert seen.issuperset(file.dependency)
        seen.add(file.name)
    assert len(seen) == len(files)
    assert "GRPCInferenceService" in [service.name for file in files for service in file.service]


@pytest.mark.parametrize("image", ["one.jpg", "two.png"])
def test_grpcurl_runs_as_the_readme_says(
    server: TritonServer, folder: Path, expected: dict[str, Detection], image: str
) -> None:
    require("grpcurl")
    *shell, commands = readme_commands("grpcurl", server)
    printed = run([*shell, commands.replace("one.jpg", image)], folder)
    check_grpcurl_answers(json_values(printed), expected[image])


@pytest.mark.parametrize("image", ["one.jpg", "two.png"])
def test_triton_takes_the_messages_of_the_readme(
    server: TritonServer, folder: Path, tmp_path: Path, expected: dict[str, Detection], image: str
) -> None:
    """Send the README's requests for grpcurl from here, without grpcurl."""
    recorder, calls = tmp_path / "grpcurl", tmp_path / "calls.jsonl"
    recorder.write_text(RECORDER.format(python=sys.executable, calls=str(calls)))
    recorder.chmod(0o755)
    *shell, commands = readme_commands("grpcurl", server)
    run([*shell, commands.replace("one.jpg", image)], folder, f"{tmp_path}{os.pathsep}{PATH}")
    answers = [send(*json.loads(call)) for call in calls.read_text().splitlines()]
    check_grpcurl_answers(
        [json_format.MessageToDict(answer, preserving_proto_field_name=True) for answer in answers],
        expected[image],
    )


# A stand-in for grpcurl that records its options and its standard input.
RECORDER = """\
#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    print(json.dumps([sys.argv[1:], sys.stdin.read() if "@" in sys.argv else ""]), file=calls)
"""


def send(options: list[str], given: str) -> Message:
    """Send the request that grpcurl sends with these options and this standard input."""
    *flags, address, path = options
    service, name = path.split("/")
    assert service == SERVICE.full_name
    body = flags[flags.index("-d") + 1] if "-d" in flags else "{}"
    request = json_format.Parse(
        given if body == "@" else body, GetMessageClass(SERVICE.methods_by_name[name].input_type)()
    )
    with grpc.insecure_channel(address) as channel:
        answer: Message = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), name)(
            request, timeout=60
        )
    return answer


def json_values(text: str) -> list[Any]:
    """Return the JSON values of a text, one after the other."""
    values, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values


def check_grpcurl_answers(answers: list[Any], detection: Detection) -> None:
    """Check the answers of ServerReady, ModelMetadata and ModelInfer."""
    ready, metadata, inference = answers
    assert ready == {"ready": True}
    assert metadata["name"] == "aigid_pairs"
    shapes = {
        "p_ai": ["-1", "1"],
        "known_score": ["-1", "1"],
        "p_source": ["-1", str(len(DEFAULT_LABELS))],
        "error": ["-1", "1"],
        "evidence": ["-1", "1"],
    }
    assert {output["name"]: output["shape"] for output in metadata["outputs"]} == shapes
    names = [output["name"] for output in inference["outputs"]]
    outputs = dict(zip(names, map(base64.b64decode, inference["raw_output_contents"]), strict=True))
    p_ai, *p_source = struct.unpack(
        f"<{1 + len(DEFAULT_LABELS)}f", outputs["p_ai"] + outputs["p_source"]
    )
    length, error = outputs["error"][:4], outputs["error"][4:]
    assert struct.unpack("<I", length) == (len(error),)
    check_pair(p_ai, p_source, error.decode(), detection)
