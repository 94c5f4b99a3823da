"""A folder with NVIDIA's server and what its models import: its layout, and whether it is whole.

No file in it has an absolute path: it may be copied to another host.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from aigid.errors import UsageError

TRITON = "2.51"
REQUIREMENTS = Path(__file__).with_name("server_requirements.txt")
STUB = "triton_python_backend_stub"

# Written last.
_MARKER = "server.json"
_MODEL = """\
from aigid.serving.triton_onnxruntime import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""


@dataclass(frozen=True)
class _Marker:
    """What a folder has: server, Python, requirements (their SHA-256), and how much of it."""

    tritonserver: str
    python: str
    requirements: str
    files: int
    bytes: int


def requirements_digest() -> str:
    """Return the SHA-256 of the list of packages that this aigid installs."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def packages_of(folder: Path) -> Path:
    """Return the folder of the installed Python packages."""
    return folder / "packages"


def backends_of(folder: Path) -> Path:
    """Return the folder of Triton's backends."""
    return folder / "backends"


def executable_of(folder: Path) -> Path:
    """Return the server's program."""
    return packages_of(folder) / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def finish_folder(folder: Path, python: str) -> None:
    """Lay out the backends of a folder whose packages are installed, and mark it as whole."""
    server = executable_of(folder).parent.parent
    backends = backends_of(folder)
    # A real copy: the server does not follow links here.
    shutil.copytree(server / "backends" / "python", backends / "python")
    shutil.copy2(server / "python_backend_stubs" / python / STUB, backends / "python")
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(_MODEL, encoding="utf-8")
    marker = _Marker(TRITON, python, requirements_digest(), *_size(folder))
    (folder / _MARKER).write_text(json.dumps(asdict(marker), indent=2) + "\n", encoding="utf-8")


def is_finished(folder: Path) -> bool:
    """Tell whether a folder has been marked as whole."""
    return (folder / _MARKER).is_file()


def check_folder(folder: Path, parameter: str) -> str:
    """Return the version of Python that a prepared folder is for; `parameter` has named it.

    Raises UsageError for a folder that `aigid serve --prepare` has not written, that another
    version of aigid has written, or that is not whole any more.
    """
    place = f"`{parameter}` {folder}"
    marker = _read_marker(place, folder)
    again = "prepare it again, with `aigid serve --prepare`"
    if marker.requirements != requirements_digest():
        raise UsageError(
            f"{place}: another version of aigid has prepared this folder (tritonserver "
            f"{marker.tritonserver}, other packages): {again} of this version"
        )
    files, size = _size(folder)
    if (files, size) != (marker.files, marker.bytes):
        raise UsageError(
            f"{place}: the folder is not whole: it has {files:,} files with {size:,} "
            f"bytes, not {marker.files:,} with {marker.bytes:,}: copy it again, or {again}"
        )
    for program in (executable_of(folder), backends_of(folder) / "python" / STUB):
        if not os.access(program, os.X_OK):
            raise UsageError(
                f"{place}: {program.name} may not be executed: copy the folder with its "
                "permissions, as `cp -a` and `tar` do, to a file system that has them"
            )
    return marker.python


def _read_marker(place: str, folder: Path) -> _Marker:
    try:
        return _Marker(**json.loads((folder / _MARKER).read_bytes()))
    except FileNotFoundError as error:
        raise UsageError(
            f"{place}: no prepared server is there (no {_MARKER}): name a folder that "
            "`aigid serve --prepare` has written"
        ) from error
    except OSError as error:
        raise UsageError(f"{place}: it cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place}: its {_MARKER} is damaged: copy the folder again") from error


def _size(folder: Path) -> tuple[int, int]:
    """Return the number of files and of their bytes, without what Python compiles as it likes."""
    sizes = [
        path.stat().st_size
        for path in folder.rglob("*")
        if path.parent.name != "__pycache__" and path.name != _MARKER and path.is_file()
    ]
    return len(sizes), sum(sizes)
