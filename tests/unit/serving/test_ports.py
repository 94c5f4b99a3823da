"""Ports for a server's listeners: the wanted ones, free ones, and the error for a port in use."""

import re
import socket

import pytest

from aigid.errors import UsageError
from aigid.serving import ports
from aigid.serving.ports import choose_ports


def test_zero_stands_for_free_ports_that_differ() -> None:
    found = choose_ports("127.0.0.1", {"http_port": 0, "grpc_port": 0, "metrics_port": 0})
    assert list(found) == ["http_port", "grpc_port", "metrics_port"]
    assert len(set(found.values())) == 3
    for port in found.values():
        # Below the range of Linux for outgoing connections.
        assert 10_000 <= port < 32_768
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_a_wanted_port_is_kept() -> None:
    (port,) = choose_ports("127.0.0.1", {"http_port": 0}).values()
    assert choose_ports("127.0.0.1", {"http_port": port}) == {"http_port": port}


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"`grpc_port` {port}: 127.0.0.1:{port} cannot be used: Address already in use"
        with pytest.raises(UsageError, match=re.escape(message)):
            choose_ports("127.0.0.1", {"http_port": 0, "grpc_port": port})


def test_without_a_free_port_below_the_kernel_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(ports, "_LOWEST", taken.getsockname()[1])
        monkeypatch.setattr(ports, "_HIGHEST", taken.getsockname()[1])
        (port,) = choose_ports("127.0.0.1", {"http_port": 0}).values()
        assert port not in (0, taken.getsockname()[1])
