"""A real Triton server, installed once for all tests and started on the demo model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.manifests import REPOSITORY
from support.shared import made_once

from aigid.serving import ServerConfig, TritonServer, find_program


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server is installed: anew in each run, so that the tests see that this works."""
    return made_once(tmp_path_factory, "cache", _install_server)


def _install_server(folder: Path) -> None:
    find_program(folder, lambda line: None)


@pytest.fixture(scope="session")
def server(cache: Path) -> Iterator[TritonServer]:
    with TritonServer(ServerConfig(REPOSITORY, cache=cache)) as server:
        yield server
