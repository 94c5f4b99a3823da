"""Serving: a Triton server on this host, and the Python models that run inside one.

Names are imported on first use: inside a server only the models' own packages are installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPair
    from aigid.serving.server_program import (
        ServerProgram,
        cache_folder,
        find_program,
        folder_to_install,
        installed_folder,
        prepare_server,
    )
    from aigid.serving.supervisor import Supervisor
    from aigid.serving.triton_server import Flavour, ServerConfig, TritonServer
else:
    _MODULES = {
        "Flavour": "triton_server",
        "PairPreprocessor": "pair_preprocessor",
        "PreparedPair": "pair_preprocessor",
        "ServerConfig": "triton_server",
        "ServerProgram": "server_program",
        "Supervisor": "supervisor",
        "TritonServer": "triton_server",
        "cache_folder": "server_program",
        "find_program": "server_program",
        "folder_to_install": "server_program",
        "installed_folder": "server_program",
        "prepare_server": "server_program",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "Flavour",
    "PairPreprocessor",
    "PreparedPair",
    "ServerConfig",
    "ServerProgram",
    "Supervisor",
    "TritonServer",
    "cache_folder",
    "find_program",
    "folder_to_install",
    "installed_folder",
    "prepare_server",
]
