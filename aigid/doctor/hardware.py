"""Checks of the CPU, the memory and the GPUs of this host."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from aigid.cores import available_cores
from aigid.doctor.check import Check, hint, ok
from aigid.memory_budget import LARGE_ROWS

_GIB = 1 << 30
# What a scan of ordinary images needs with a base-size model, beside what large images share.
_ORDINARY_BYTES = 700 << 20
_MODEL_NAMES = ("model name", "Model")
# Names of CPU features in Linux, and their usual names.
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX INT8",
    "asimddp": "ARM dot product",
    "i8mm": "ARM I8MM",
}
_INT8_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}


def check_hardware(root: Path = Path("/")) -> Iterator[Check]:
    """Yield the CPU's cores and features, the memory and the GPUs.

    `root` is the folder that has `proc`, `sys` and `dev`.
    """
    cores = available_cores(root / "sys/fs/cgroup")
    yield ok("cores", f"{cores} of {os.cpu_count() or cores} available to this process")
    yield check_cpu(root / "proc/cpuinfo", platform.machine())
    yield check_memory(root)
    yield check_gpu(root / "dev")


def check_cpu(cpuinfo: Path, machine: str) -> Check:
    """Return what the CPU's features mean for INT8 models."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if not found:
        remedy = "Measure with `aigid plan`."
        return hint("cpu", f"{machine}: its features are not known on this system", remedy)
    flags = set(found[1].split())
    names = [shown for flag, shown in _FEATURES.items() if flag in flags]
    brand = re.search(rf"^(?:{'|'.join(_MODEL_NAMES)})\s*:\s*(.+)$", text, re.MULTILINE)
    features = f"{brand[1] if brand else machine}: {', '.join(names) or 'no vector features'}"
    if flags & _INT8_PRODUCTS:
        return ok("cpu", f"{features}; it has INT8 products, so INT8 models run at full speed")
    remedy = (
        "Compare INT8 with float32 (`aigid build --precision`), or use a CPU with VNNI or ARM dot "
        "product."
    )
    return hint("cpu", f"{features}; no INT8 products (VNNI), so INT8 models gain less", remedy)


def check_memory(root: Path) -> Check:
    """Return whether the memory that is available holds a scan of large images."""
    amounts = _meminfo(root / "proc/meminfo")
    available = amounts.get("MemAvailable")
    if available is None:
        return hint("memory", "not known on this system", "See `aigid plan` for what a scan needs.")
    total, limit = amounts.get("MemTotal", available), _memory_limit(root / "sys/fs/cgroup")
    text = f"{available / _GIB:.1f} GiB of {total / _GIB:.1f} GiB available"
    if limit is not None and limit < total:
        text += f", and a limit of {limit / _GIB:.1f} GiB for this container"
        available = min(available, limit)
    needed = _ORDINARY_BYTES + LARGE_ROWS.total_bytes
    if available < needed:
        text += f"; scans of large images need up to {needed / _GIB:.1f} GiB (calculated)"
        return hint("memory", text, "Give it more memory, or fewer --threads.")
    return ok("memory", text)


def _meminfo(path: Path) -> dict[str, int]:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    pairs = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(amount) * 1024 for name, amount in pairs}


def _memory_limit(cgroup: Path) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((cgroup / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            # No such file, or "max".
            continue
    return None


def check_gpu(devices: Path) -> Check:
    """Return the GPUs that nvidia-smi or the device files show. Nothing is loaded for it."""
    program = shutil.which("nvidia-smi")
    files = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if program is None and not files:
        return ok("gpu", "none found; scans run on the CPU, or on Triton servers elsewhere")
    reason = "nvidia-smi is not on the PATH"
    if program is not None:
        try:
            names = _ask_nvidia(program)
            return ok("gpu", f"{'; '.join(names)}; used by `aigid serve --gpu` and training")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = f"nvidia-smi does not work: {type(error).__name__}"
    text = f"{', '.join(files) or 'no device file'}; {reason}"
    return hint("gpu", text, "Install or repair NVIDIA's driver; scans on the CPU need none.")


def _ask_nvidia(program: str) -> list[str]:
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    names = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
    if not names:
        raise ValueError("no GPU")
    return names
