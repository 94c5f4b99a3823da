"""A build at the paper's sizes: minutes and memory from checkpoint to repository, and seconds for each engine."""

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

from aigid.export.engine_profiles import engine_profiles  # isort: skip # build/ is found by base_model
from aigid.export.graph_metadata import PARTS  # isort: skip
from aigid.export.onnx_to_tensorrt import Compiler, EngineBuilder, EngineSettings  # isort: skip
from aigid.export.pipeline import PRECISIONS, BuildConfig, build_repository  # isort: skip

from aigid.contract import load_contract

MOST_MINUTES, MOST_GB, MOST_ENGINE_SECONDS = 10.0, 8.0, 60.0
ROWS = 256
GPU = "8.9"


def build(checkpoint: Path, folder: Path) -> tuple[float, float]:
    """Build a repository as `build/pipeline.py` does by default; returns minutes, and this process's peak in GB."""
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
    # Linux gives it in KiB.
    return minutes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def compile_parts(repository: Path) -> dict[str, float]:
    """Compile each fp16 graph with every profile, ahead of time for one GPU; returns seconds by part."""
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
    """Build what `base_model.py` made in BASE once more, with the rows that a real build takes; status 1 where it is too slow.

    Example: python benchmarks/build_time.py runs/base
    """
    with tempfile.TemporaryDirectory(dir=base) as temporary:
        # A process of its own: the peak is the build's alone.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            minutes, peak = process.submit(build, base / "checkpoint", Path(temporary)).result()
        engines = compile_parts(Path(temporary, "repository"))
    rows = [("build, minutes", minutes, MOST_MINUTES), ("its peak of memory, GB", peak, MOST_GB)]
    rows += [
        (f"engine of {part}, seconds", seconds, MOST_ENGINE_SECONDS)
        for part, seconds in engines.items()
    ]
    table = Table(
        "",
        "measured",
        "at most",
        title=f"{ROWS} rows to calibrate and to compare on; engines for {GPU}",
    )
    for name, measured, most in rows:
        table.add_row(name, f"{measured:.1f}", f"{most:g}")
    Console(width=100).print(table)
    sys.exit(1 if any(measured > most for _, measured, most in rows) else 0)


if __name__ == "__main__":
    main()
