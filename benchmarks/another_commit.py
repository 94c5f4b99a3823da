"""CPU seconds of a scan by this clone, with options or without, and by another commit's."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from manifests import PHOTOGRAPH_SIDE, write_manifest

OURS = Path(__file__).resolve().parents[1]


def scan_cpu_s(clone: Path, manifest: Path, out: Path, options: tuple[str, ...]) -> float:
    """Return the CPU seconds, of user and system, of a whole scan by the code of `clone`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "aigid", "scan", str(manifest), "--out", str(out), *options]
    done = subprocess.run(
        words, cwd=clone, env={**os.environ, "PYTHONPATH": str(clone)}, capture_output=True
    )
    if done.returncode:
        raise click.ClickException(f"the scan by {clone} failed: {done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median_interval(values: list[float]) -> tuple[float, float]:
    """Return an interval that covers the median of `values`' source in at least 95 % of cases.

    Its ends are values of equal rank from both sides (Conover, Practical Nonparametric Statistics,
    3.2): as many of `values` lie below the median as of fair coins show heads.
    """
    ordered, count = sorted(values), len(values)
    rank, below, weight = 0, 0.0, 0.5**count
    while below + weight <= 0.025:
        below += weight
        rank += 1
        weight *= (count - rank + 1) / rank
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[-rank - 1]


@click.command()
@click.argument("clone", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("options", nargs=-1)
@click.option("--rows", type=int, default=2000, show_default=True)
@click.option("--side", type=int, default=PHOTOGRAPH_SIDE, show_default=True, help="Pixels.")
@click.option("--rounds", type=click.IntRange(min=6), default=10, show_default=True)
@click.option("--most", type=float, default=1.01, show_default=True, help="Largest good ratio.")
def main(
    clone: Path, options: tuple[str, ...], rows: int, side: int, rounds: int, most: float
) -> None:
    """Scan the same JPEGs by this clone and by CLONE, in rounds that alternate.

    CLONE has another commit checked out, or is this one. OPTIONS are for the scan by this clone
    alone. Status 1 if the 95 % interval of the ratio's median lies above --most.

    Example: git worktree add ../before HEAD~1; python benchmarks/another_commit.py ../before

    What evidence costs: python benchmarks/another_commit.py . --most 1.03 -- --evidence
    """
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = write_manifest(folder / "manifest.parquet", rows, side)
        for number in range(rounds):
            runs = [("ours", OURS, options), ("theirs", clone.resolve(), ())]
            seconds = {
                name: scan_cpu_s(one, manifest, folder / f"{number}-{name}", extra)
                for name, one, extra in (runs if number % 2 else runs[::-1])
            }
            ours, theirs = seconds["ours"], seconds["theirs"]
            ratios.append(ours / theirs)
            print(f"{ours * 1000 / rows:8.3f} {theirs * 1000 / rows:8.3f} CPU ms a row", flush=True)
    low, high = median_interval(ratios)
    median = statistics.median(ratios)
    print(f"median of the ratios {median:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    sys.exit(low > most)


if __name__ == "__main__":
    main()
