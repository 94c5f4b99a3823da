"""Find the program `tritonserver`: on the PATH, or NVIDIA's from a Python wheel.

The wheel is installed into an environment of its own, below a cache folder.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aigid.errors import ServerError

# The wheel has Triton 2.51. It needs numpy 1, which is one reason for an environment of its own.
PACKAGES = (
    "nvidia-pytriton==0.7.0",
    "numpy<2",
    "onnxruntime>=1.20,<2",
    "pillow>=13.0",
    "simplejpeg>=1.9",
    "tokenizers>=0.20",
)

# How glibc gives freed memory back. With its defaults a server under load had 640 MiB after 17,500
# requests and kept growing; with these it stays between 380 and 430 MiB.
_FRUGAL = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
}

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES_FOLDER = "packages"
_LIBRARIES = "nvidia_pytriton.libs"
_STUB = "triton_python_backend_stub"
_MODEL = """\
from aigid.serving.triton_onnxruntime import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""


@dataclass(frozen=True)
class ServerProgram:
    """How to start a server: the executable, the arguments that it needs, its environment."""

    executable: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def find_program(cache: Path, on_message: Callable[[str], None]) -> ServerProgram:
    """Return the server on the PATH, or the wheel's, which is installed below `cache` if needed.

    `on_message` gets a line before an installation. Raises ServerError if the server cannot be
    installed, or cannot run on this host.
    """
    on_path = shutil.which("tritonserver")
    if on_path:
        return ServerProgram(Path(on_path), (), dict(os.environ))
    folder = wheel_folder(cache)
    with _writing_to(folder):
        if not folder.is_dir():
            on_message(
                "no tritonserver on the PATH: installing NVIDIA's from a wheel into "
                f"{folder} (once, about a minute) ..."
            )
            _install(folder)
        _link_aigid(folder / _PACKAGES_FOLDER)
    return _from_wheel(folder)


def wheel_folder(cache: Path) -> Path:
    """Return the folder below `cache` that the wheel's server is installed into.

    Raises ServerError where `cache` is in the home folder of a user who has none.
    """
    try:
        return cache.expanduser() / f"tritonserver-2.51-{_PYTHON}"
    except RuntimeError as error:
        raise ServerError(
            f"{cache}: tritonserver cannot be installed there: this user has no home folder: set "
            "HOME to a folder that you can write to, or put a tritonserver on the PATH"
        ) from error


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turn an OSError into a ServerError that tells what to do."""
    try:
        yield
    except OSError as error:
        raise ServerError(
            f"{folder}: tritonserver cannot be installed there: {error.strerror or error}: make "
            f"{folder.parent} a folder that you can write to, or install tritonserver yourself and "
            "put it on the PATH"
        ) from error


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its final place and then renamed, so that a folder that exists is complete. Only
    # pip's own scripts break in an environment that moves.
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        environment = temporary / "environment"
        _run([sys.executable, "-m", "venv", str(environment)])
        _run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES])
        _lay_out_backends(environment, temporary / "backends")
        path_file = _site_packages(environment) / "aigid.pth"
        path_file.write_text(f"{folder / _PACKAGES_FOLDER}\n", encoding="utf-8")
        temporary.chmod(0o755)
        _rename_unless_there(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename_unless_there(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        # Another process has installed it meanwhile.
        if not folder.is_dir():
            raise


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise ServerError(
            f"{' '.join(command[:4])} ... failed: {reason}; install tritonserver yourself and put "
            "it on the PATH"
        )


def _lay_out_backends(environment: Path, backends: Path) -> None:
    """Copy the Python backend with the stub of this Python, and add `onnxruntime` on top of it."""
    server = _site_packages(environment) / "pytriton" / "tritonserver"
    # A real copy: the server does not follow links here.
    shutil.copytree(server / "backends" / "python", backends / "python")
    version = _PYTHON.removeprefix("python")
    stub = server / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        raise ServerError(
            f"the wheel's server does not run models with Python {version}: put a tritonserver on "
            "the PATH"
        )
    shutil.copy2(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(_MODEL, encoding="utf-8")


def _from_wheel(folder: Path) -> ServerProgram:
    environment = folder / "environment"
    packages = _site_packages(environment)
    path = [str(environment / "bin"), os.environ.get("PATH", "")]
    libraries = [
        str(packages / _LIBRARIES),
        str(sysconfig.get_config_var("LIBDIR") or ""),
        os.environ.get("LD_LIBRARY_PATH", ""),
    ]
    variables = {
        **_FRUGAL,
        **os.environ,
        # The stub finds its packages by the first `python` on the PATH, and ignores PYTHONPATH.
        "PATH": os.pathsep.join(path),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
    _check_stub(folder / "backends" / "python" / _STUB, variables)
    executable = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    return ServerProgram(executable, (f"--backend-directory={folder / 'backends'}",), variables)


def _check_stub(stub: Path, variables: Mapping[str, str]) -> None:
    """Check that the program that runs Python models can be loaded; without arguments it exits.

    Raises ServerError if a shared library is missing: the server would only report that the stub is
    not healthy.
    """
    done = subprocess.run(
        [str(stub)], env=dict(variables), capture_output=True, text=True, check=False, timeout=60
    )
    missing = re.search(r"error while loading shared libraries: (\S+):", done.stderr)
    if missing:
        hint = f": on Debian and Ubuntu: apt install lib{_PYTHON}" if _PYTHON in missing[1] else ""
        raise ServerError(f"{stub}: this host has no shared library {missing[1]}{hint}")


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / _PYTHON / "site-packages"


def _link_aigid(folder: Path) -> None:
    """Make `folder`, which is on the import path of models, contain only a link to this package."""
    package = Path(__file__).parent.parent
    link = folder / package.name
    if link.is_symlink() and link.resolve() == package.resolve():
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent)) / package.name
    temporary.symlink_to(package, target_is_directory=True)
    temporary.replace(link)
    temporary.parent.rmdir()
