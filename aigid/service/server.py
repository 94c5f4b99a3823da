"""The service on its port, until it is told to stop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from aigid.errors import UsageError
from aigid.service.app import Service
from aigid.service.config import ServiceConfig
from aigid.service.engine import Engine
from aigid.service.metrics import ServiceMetrics
from aigid.service.protocol import bounded_protocol
from aigid.service.request_log import Log

_BACKLOG = 2048


@contextmanager
def listening(config: ServiceConfig) -> Iterator[socket.socket]:
    """Open the port that the service listens on. Raises UsageError where it cannot be used."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host.strip("[]"), config.http_port))
        except OSError as error:
            raise UsageError(
                f"`http_port` {config.http_port}: {config.host}:{config.http_port} cannot be used: "
                f"{error.strerror or error}: choose another port"
            ) from error
        # From here on connections wait for `serve`.
        listener.listen(_BACKLOG)
        yield listener


class _Server(uvicorn.Server):
    """Uvicorn's server, which also ends when `is_over` says so."""

    def __init__(self, config: uvicorn.Config, is_over: Callable[[], bool]) -> None:
        super().__init__(config)
        self._is_over = is_over

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; uvicorn asks ten times a second."""
        return await super().on_tick(counter) or self._is_over()


def serve(
    engine: Engine,
    config: ServiceConfig,
    metrics: ServiceMetrics,
    listener: socket.socket,
    *,
    log: Log,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Answer requests until SIGTERM, Ctrl-C or `is_over`; those in work are finished first.

    `log` takes a line of JSON for each request. Call this in the main thread. The handlers of these
    signals that were there before are called at the end. Raises UsageError for certificates that
    cannot be used.
    """
    _raise_open_files()
    server = _Server(_settings(Service(engine, config, metrics).app(log), config), is_over)
    asyncio.run(server.serve([listener]))


def _settings(app: Starlette, config: ServiceConfig) -> uvicorn.Config:
    limits = config.limits
    settings = uvicorn.Config(
        app,
        http=bounded_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=int(limits.header_s),
        timeout_graceful_shutdown=int(limits.drain_s),
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
    )
    try:
        settings.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"`tls_cert` {config.tls_cert}, `tls_key` {config.tls_key}: not a certificate chain "
            f"and its key in PEM: {error}"
        ) from error
    return settings


def _raise_open_files() -> None:
    """Allow as many open connections as the system lets this process have."""
    # Windows has no such limit, and no such module.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
