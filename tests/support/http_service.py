"""The HTTP service over the embedded scorer, in threads of the tests, on a free port."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigid.scorers import OnnxScorer, Scorer
from aigid.service import Engine, ServiceConfig, ServiceMetrics, listening, serve
from support.manifests import REPOSITORY


@dataclass
class Running:
    """A service that runs: its port, the engine, and the lines of its log."""

    port: int
    scheme: str
    engine: Engine
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


@contextmanager
def running_service(
    scorer: Callable[[], Scorer] = lambda: OnnxScorer(REPOSITORY),
    repository: Path = REPOSITORY,
    **settings: Any,
) -> Iterator[Running]:
    """Run a service of `repository`, until the end of the block."""
    config = ServiceConfig(http_port=0, **settings)
    with listening(config) as listener:
        loaded = scorer()
        metrics = ServiceMetrics(loaded.contract)
        engine = Engine(repository, loaded, config, metrics)
        running = Running(listener.getsockname()[1], config.scheme, engine)
        over = threading.Event()
        thread = threading.Thread(
            target=serve,
            args=(engine, config, metrics, listener),
            kwargs={"log": running.log.append, "is_over": over.is_set},
        )
        thread.start()
        try:
            yield running
        finally:
            over.set()
            thread.join()
            engine.close()


def pair(image: bytes, prompt: str | None = None) -> dict[str, str | None]:
    """Return a pair as JSON has it."""
    return {"image": base64.b64encode(image).decode(), "prompt": prompt}
