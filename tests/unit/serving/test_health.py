"""Asking for health by gRPC, without a gRPC library: answers of real gRPC servers and others."""

import socket
import subprocess
import sys
import threading

from support.manifests import REPOSITORY
from support.stand_in_triton import StandInServer

from aigid.contract import load_contract
from aigid.serving.health import model_is_ready, server_is_ready


def test_a_model_of_a_grpc_server_is_ready_or_not() -> None:
    with StandInServer(load_contract(REPOSITORY)) as server:
        assert model_is_ready(server.address, "aigid")
        assert not model_is_ready(server.address, "resnet50")
        # The stand-in does not know this call.
        assert not server_is_ready(server.address)


def test_what_is_no_grpc_server_is_not_ready() -> None:
    assert not server_is_ready("127.0.0.1:9")
    for sent in (b"", b"HTTP/1.1 200 OK\r\n\r\n" * 9, b"\xff" * 200_000):
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def answer(listening: socket.socket = listening, sent: bytes = sent) -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(sent)

            thread = threading.Thread(target=answer)
            thread.start()
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            assert not server_is_ready(address, timeout_s=5)
            thread.join()


def test_a_server_that_says_nothing_is_not_ready_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not server_is_ready(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


def test_the_command_of_probes_has_a_status() -> None:
    command = [sys.executable, "-m", "aigid.serving.health"]
    for arguments in (["127.0.0.1:9"], []):
        done = subprocess.run([*command, *arguments], capture_output=True, check=False)
        assert done.returncode == 1
