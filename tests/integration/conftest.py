"""A real Triton server, installed once for all tests and started on the demo model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.manifests import REPOSITORY

from aigid.serving.triton_server import ServerConfig, TritonServer


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server is installed: anew, so that the tests see that this works."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def server(cache: Path) -> Iterator[TritonServer]:
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        yield server
