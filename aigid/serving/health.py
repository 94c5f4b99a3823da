"""Ask a Triton server by gRPC whether it, or a model, is ready. Needs no gRPC library.

As a command, for probes of containers: `python -m aigid.serving.health HOST:PORT [MODEL...]`.
"""

import contextlib
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_SERVICE = "/inference.GRPCInferenceService/"
# An answer is two bytes. Whoever sends more is no Triton server.
_MOST_BYTES = 1 << 16


def server_is_ready(
    address: str, timeout_s: float = 5.0, tls: ssl.SSLContext | None = None
) -> bool:
    """Return whether the server takes requests for all of its models."""
    return _says_yes(address, "ServerReady", b"", timeout_s, tls)


def model_is_ready(
    address: str, model: str, timeout_s: float = 5.0, tls: ssl.SSLContext | None = None
) -> bool:
    """Return whether the server takes requests for a model."""
    name = model.encode()
    # A protobuf message whose field 1 is the name.
    return _says_yes(address, "ModelReady", bytes((0x0A, len(name))) + name, timeout_s, tls)


def own_tls(certificate: str, key: str) -> ssl.SSLContext:
    """Return the TLS of probes on a server's own host: they show its certificate and check none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


def _says_yes(
    address: str, method: str, message: bytes, timeout_s: float, tls: ssl.SSLContext | None
) -> bool:
    """Send a request; return whether a message came back whose field 1 is true."""
    end = time.monotonic() + timeout_s
    host, _, port = address.rpartition(":")
    try:
        with contextlib.ExitStack() as opened:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
            opened.callback(connection.close)
            if tls:
                connection = opened.enter_context(tls.wrap_socket(connection))
            connection.sendall(_request(address, method, message))
            answer = b"".join(_answer(connection, end))
    except OSError:
        return False
    # Whether it is compressed, its length, and the message.
    return answer == b"\0" + struct.pack(">I", 2) + b"\x08\x01"


def _request(address: str, method: str, message: bytes) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _SERVICE + method,
        ":authority": address,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # Each header is literal, and neither side keeps it (RFC 7541, 6.2.2).
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
    )


def _text(text: str) -> bytes:
    encoded = text.encode()
    # A length of 127 and more would need a second byte.
    assert len(encoded) < 127
    return bytes((len(encoded),)) + encoded


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _answer(connection: socket.socket, end: float) -> Iterator[bytes]:
    """Yield the data of the answer to stream 1, and answer what the protocol asks meanwhile."""
    received = 0
    while received < _MOST_BYTES:
        header = _read(connection, 9, end)
        length, (kind, flags, _) = int.from_bytes(header[:3]), struct.unpack(">BBI", header[3:])
        received += 9 + length
        payload = _read(connection, min(length, _MOST_BYTES), end)
        if kind == _DATA:
            yield payload
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            reply = payload if kind == _PING else b""
            connection.sendall(_frame(kind, _ACK, 0, reply))
        if kind in (_RESET, _GO_AWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            return


def _read(connection: socket.socket, count: int, end: float) -> bytes:
    data = b""
    while len(data) < count:
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 if the server and the named models are ready."""
    address, *models = arguments
    ready = server_is_ready(address) and all(model_is_ready(address, model) for model in models)
    return 0 if ready else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
