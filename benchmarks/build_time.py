"""Measure a build at the paper's sizes: minutes, memory, and seconds for each engine."""

import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
from base_model import NO_LIMITS
from manifests import write_manifest
from rich.console import Console
from rich.table import Table

from aigid.contract import load_contract
from aigid.export import PRECISIONS, BuildConfig, Compiler, EngineSettings, build_repository
from aigid.export.engine_profiles import engine_profiles
from aigid.export.onnx_to_tensorrt import EngineBuilder
from aigid.scorers import PARTS

MOST_MINUTES, MOST_GB, MOST_ENGINE_SECONDS = 10.0, 8.0, 60.0
ROWS = 256
GPU = "8.9"


def build(checkpoint: Path, folder: Path) -> tuple[float, float]:
    """Build a repository as `aigid build` does; return minutes, and peak memory in GB."""
    rows = str(write_manifest(folder / "rows.parquet", ROWS))
    start = time.perf_counter()
    config = BuildConfig(
        rows,
        rows,
        calibration_rows=ROWS,
        parity_rows=ROWS,
        limits=dict.fromkeys(PRECISIONS, NO_LIMITS),
    )
    build_repository(checkpoint, folder / "repository", config)
    minutes = (time.perf_counter() - start) / 60
    # Linux reports KiB.
    return minutes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def compile_parts(repository: Path) -> dict[str, float]:
    """Compile each fp16 graph ahead of time with every profile; return seconds by part."""
    contract, seconds = load_contract(repository), {}
    builder = EngineBuilder(EngineSettings(Compiler.TENSORRT_RTX, compute_capabilities=(GPU,)))
    for part in PARTS:
        start = time.perf_counter()
        builder.build(
            repository / part / str(contract.version) / "model.fp16.onnx",
            engine_profiles(contract, part),
        )
        seconds[part] = time.perf_counter() - start
    return seconds


@click.command()
@click.argument("base", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(base: Path) -> None:
    """Build the checkpoint of `base_model.py` in BASE again, with as many rows as a real build.

    Exits with status 1 if it is too slow.

    Example: python benchmarks/build_time.py runs/base
    """
    with tempfile.TemporaryDirectory(dir=base) as temporary:
        # A separate process, so that the peak is that of the build alone.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            minutes, peak = process.submit(build, base / "checkpoint", Path(temporary)).result()
        engines = compile_parts(Path(temporary, "repository"))
    rows = [
        ("build, minutes", minutes, MOST_MINUTES),
        ("peak memory of the build, GB", peak, MOST_GB),
    ]
    rows += [
        (f"engine of {part}, seconds", seconds, MOST_ENGINE_SECONDS)
        for part, seconds in engines.items()
    ]
    table = Table(
        "",
        "measured",
        "at most",
        title=f"{ROWS} rows to calibrate and to compare on; engines for compute capability {GPU}",
    )
    for name, measured, most in rows:
        table.add_row(name, f"{measured:.1f}", f"{most:g}")
    Console(width=100).print(table)
    sys.exit(1 if any(measured > most for _, measured, most in rows) else 0)


if __name__ == "__main__":
    main()
