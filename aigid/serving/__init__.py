"""Serving: a Triton server on this host, and the Python models that run inside one.

Names are imported on first use: inside a server only the models' own packages are installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPair
    from aigid.serving.server_program import ServerProgram, find_program, wheel_folder
    from aigid.serving.supervisor import Supervisor
    from aigid.serving.triton_server import CACHE, Flavour, ServerConfig, TritonServer
else:
    _MODULES = {
        "CACHE": "triton_server",
        "Flavour": "triton_server",
        "PairPreprocessor": "pair_preprocessor",
        "PreparedPair": "pair_preprocessor",
        "ServerConfig": "triton_server",
        "ServerProgram": "server_program",
        "Supervisor": "supervisor",
        "TritonServer": "triton_server",
        "find_program": "server_program",
        "wheel_folder": "server_program",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "CACHE",
    "Flavour",
    "PairPreprocessor",
    "PreparedPair",
    "ServerConfig",
    "ServerProgram",
    "Supervisor",
    "TritonServer",
    "find_program",
    "wheel_folder",
]
