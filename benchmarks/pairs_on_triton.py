"""Encoded pairs from many clients: the server of this clone and that of another commit, in turn."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from manifests import write_manifest

OURS = Path(__file__).resolve().parents[1]
# Clients, and the pairs of each request.
LOADS = ((1, 1), (64, 1), (8, 32))
MOST = 1.05


@contextmanager
def serving(clone: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the demo model of a clone by its own code; give the address and the process."""
    command = [sys.executable, "-m", "aigid", "serve", "--grpc-port=0", "--metrics-port=0"]
    environment = {**os.environ, "PYTHONPATH": str(clone), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=clone, env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, (re.match(r"gRPC (\S+)", line) for line in process.stdout)))
            yield found[1], psutil.Process(process.pid)
        finally:
            process.terminate()


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time of a server and its models."""
    times = [one.cpu_times() for one in process.children(recursive=True)]
    return sum(one.user + one.system for one in times)


async def ask(address: str, images: list[bytes], clients: int, rows: int, for_s: float) -> int:
    """Send requests from all clients for some seconds; return the pairs that were answered."""
    end, done = time.monotonic() + for_s, 0

    async def work(number: int) -> None:
        nonlocal done
        chosen = [images[(number + row) % len(images)] for row in range(rows)]
        inputs = []
        for name, values in (("image_bytes", chosen), ("prompt", [b"a red car"] * rows)):
            inputs.append(triton.InferInput(name, [rows, 1], "BYTES"))
            inputs[-1].set_data_from_numpy(np.array(values, object).reshape(rows, 1))
        async with triton_aio.InferenceServerClient(address) as client:
            while time.monotonic() < end:
                await client.infer("aigid_pairs", inputs)
                done += rows

    await asyncio.gather(*(work(number) for number in range(clients)))
    return done


@click.command()
@click.argument("clone", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seconds", type=float, default=10, show_default=True, help="For each load.")
def main(clone: Path, rounds: int, seconds: float) -> None:
    """Compare with the server of CLONE, which has another commit checked out.

    Status 1 if a pair costs more than 1.05 times its CPU seconds, by the median of a load.

    Example: git worktree add ../before HEAD~1; python benchmarks/pairs_on_triton.py ../before
    """
    manifest = write_manifest(Path("runs/pairs.parquet"), 48, 512)
    images = pq.read_table(manifest)["image"].to_pylist()
    cpu_ms = defaultdict(list)
    for number in range(rounds):
        clones = {"ours": OURS, "theirs": clone.resolve()}
        for name in sorted(clones, reverse=bool(number % 2)):
            with serving(clones[name]) as (address, process):
                asyncio.run(ask(address, images, 8, 1, 2))
                for clients, rows in LOADS:
                    before, start = cpu_s(process), time.perf_counter()
                    pairs = asyncio.run(ask(address, images, clients, rows, seconds))
                    rate = pairs / (time.perf_counter() - start)
                    used = 1000 * (cpu_s(process) - before) / pairs
                    cpu_ms[clients, rows, name].append(used)
                    print(
                        f"{name:6} {clients:3} clients of {rows:2} pairs: {rate:6.1f} pairs/s, "
                        f"{used:6.2f} CPU ms a pair",
                        flush=True,
                    )
    ratios = [median(cpu_ms[*one, "ours"]) / median(cpu_ms[*one, "theirs"]) for one in LOADS]
    print("ours / theirs:", *(f"{ratio:.3f}" for ratio in ratios))
    sys.exit(max(ratios) > MOST)


if __name__ == "__main__":
    main()
