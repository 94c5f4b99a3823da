"""Checks of the CPU, the memory and the GPUs, on hosts that are folders."""

from pathlib import Path

import pytest

from aigid.doctor import State
from aigid.doctor.hardware import check_cpu, check_gpu, check_memory

INTEL = "processor : 0\nmodel name : Some CPU @ 2 GHz\nflags : fpu {}\n\nprocessor : 1\n"
ARM = "processor : 0\nFeatures : fp asimd {}\nCPU part : 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        (INTEL.format("avx2 avx512f avx512_vnni"), State.OK, "AVX2, AVX-512, AVX-512 VNNI; it has"),
        (INTEL.format("avx2 avx_vnni"), State.OK, "Some CPU @ 2 GHz: AVX2, AVX-VNNI; it has"),
        (INTEL.format("avx2 avx512f"), State.HINT, "AVX2, AVX-512; no INT8 products"),
        (INTEL.format("sse2"), State.HINT, "no vector features; no INT8 products"),
        (ARM.format("asimddp i8mm"), State.OK, "aarch64: ARM dot product, ARM I8MM; it has"),
        (ARM.format("crc32"), State.HINT, "no INT8 products"),
        ("", State.HINT, "not known on this system"),
    ],
)
def test_what_a_cpu_s_features_mean(tmp_path: Path, text: str, state: State, said: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    check = check_cpu(tmp_path / "cpuinfo", "aarch64")
    assert check.state is state
    assert said in check.text
    assert (check.remedy is None) == (state is State.OK)


def test_a_host_without_proc_is_a_hint(tmp_path: Path) -> None:
    assert check_cpu(tmp_path / "gone", "arm64").state is State.HINT
    assert check_memory(tmp_path).state is State.HINT


@pytest.mark.parametrize(
    ("available", "limit", "state"),
    [
        (32, None, State.OK),
        (1, None, State.HINT),
        (32, "max", State.OK),
        (32, str(1 << 29), State.HINT),
        (32, str(1 << 62), State.OK),
    ],
)
def test_memory_of_the_host_and_of_the_container(
    tmp_path: Path, available: int, limit: str | None, state: State
) -> None:
    (tmp_path / "proc").mkdir()
    text = f"MemTotal: {64 << 20} kB\nMemAvailable: {available << 20} kB\nHugePages_Total: 0\n"
    (tmp_path / "proc/meminfo").write_text(text)
    if limit is not None:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
    check = check_memory(tmp_path)
    assert check.state is state
    assert f"{available}.0 GiB of 64.0 GiB available" in check.text


def program(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "files", "state", "said"),
    [
        (None, [], State.OK, "none found"),
        (None, ["nvidia0", "nvidiactl"], State.HINT, "nvidia0; nvidia-smi is not on the PATH"),
        ("echo 'NVIDIA H100, 81559 MiB, 550.54'", ["nvidia0"], State.OK, "H100, 81559 MiB, 550.54"),
        ("exit 9", ["nvidia0"], State.HINT, "nvidia-smi does not work"),
        ("exit 0", [], State.HINT, "no device file; nvidia-smi does not work"),
    ],
)
def test_gpus_by_nvidia_smi_or_device_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    files: list[str],
    state: State,
    said: str,
) -> None:
    devices = tmp_path / "dev"
    devices.mkdir()
    for name in files:
        (devices / name).touch()
    if script is not None:
        program(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = check_gpu(devices)
    assert check.state is state
    assert said in check.text
