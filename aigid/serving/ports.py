"""Free ports for a server's listeners."""

import secrets
import socket
from collections.abc import Mapping

from aigid.errors import UsageError

# Below the ports that Linux gives to outgoing connections (from 32,768): one of those could take a
# port between the check and the server's start.
_LOWEST, _HIGHEST = 10_000, 32_767
_ATTEMPTS = 200


def choose_ports(
    host: str, wanted: Mapping[str, int], other_hosts: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Return a port for each name: the wanted one, or any free one where 0 is wanted.

    The ports are on `host`, or where `other_hosts` says for a name.

    Raises UsageError if a wanted port is in use.
    """
    sockets: dict[str, socket.socket] = {}
    try:
        for name, port in wanted.items():
            place = (other_hosts or {}).get(name, host)
            try:
                sockets[name] = _bind(place, port) if port else _bind_any(place)
            except OSError as error:
                raise UsageError(
                    f"`{name}` {port}: {place}:{port} cannot be used: {error.strerror}: choose "
                    "another port"
                ) from error
        return {name: one.getsockname()[1] for name, one in sockets.items()}
    finally:
        for one in sockets.values():
            one.close()


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _bind_any(host: str) -> socket.socket:
    for _ in range(_ATTEMPTS):
        try:
            return _bind(host, _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST + 1))
        except OSError:
            continue
    return _bind(host, 0)
