"""The versions of aigid and of the packages that decide what it computes."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from aigid.cli.stdout import print_result
from aigid.version import __version__

REQUIRED = ("numpy", "onnxruntime", "pyarrow", "pillow", "simplejpeg", "tokenizers")
OPTIONAL = ("c2pa-python", "torch", "ray", "tritonclient", "transformers")


def print_versions() -> None:
    """Print a line for each version."""
    for name, number in versions():
        print_result(f"{name} {number}")
    sys.stdout.flush()


def versions() -> Iterator[tuple[str, str]]:
    """Yield name and version of aigid, Python and the installed packages, importing none."""
    yield "aigid", __version__
    yield "python", platform.python_version()
    for name in (*REQUIRED, *OPTIONAL):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
