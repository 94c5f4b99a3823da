"""The two compilers of TensorRT engines: TensorRT, and TensorRT for RTX.

TensorRT compiles for the GPU of the host that it runs on, and times kernels there. TensorRT for RTX
has the same API and belongs to the same compiler family. It compiles ahead of time for given GPUs,
on a host without one. Its engines need a runtime of their own, which Triton does not have.
"""

import importlib
import subprocess
from enum import StrEnum
from typing import Any

from aigid.errors import BuildError, UsageError
from aigid.extras import missing_extra


class Compiler(StrEnum):
    """A compiler, by the name of its Python package."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


def import_compiler(compiler: Compiler) -> Any:
    """Import the compiler's package.

    Raises MissingExtraError if it is not installed, and BuildError if it cannot be loaded.
    """
    try:
        return importlib.import_module(compiler)
    except ModuleNotFoundError as error:
        purpose = f"compiling engines with {compiler}"
        raise missing_extra(purpose, error, compiler.replace("_", "-")) from error
    except ImportError as error:
        raise BuildError(f"{compiler} is installed but cannot be imported: {error}") from error


def collecting_logger(trt: Any) -> Any:
    """Return a logger that keeps the compiler's errors, for the exception that may follow."""

    class CollectingLogger(trt.ILogger):  # type: ignore[misc] # the base depends on the compiler
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.messages.append(message)

    return CollectingLogger()


def compute_capability(trt: Any, name: str) -> Any:
    """Return the compiler's constant for a compute capability such as "8.9"."""
    known = {
        f"{key[2:-1]}.{key[-1]}": value
        for key, value in trt.ComputeCapability.__members__.items()
        if key[:2] == "SM"
    }
    if name not in known:
        choices = ", ".join(sorted(known, key=float))
        raise UsageError(f"`compute_capabilities` must be among {choices}: got {name}")
    return known[name]


def first_gpu() -> tuple[str, ...]:
    """Return the host's first GPU, as in ("NVIDIA L4 (8.9)",), or () if there is none.

    The driver's own tool tells; TensorRT's Python API does not.
    """
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    name, _, capability = answer.strip().rpartition(", ")
    return (f"{name} ({capability})",)
