"""The scan on a Ray cluster of one host, the local scan, and Ray Data's own recipe, in one run.

The recipe comes from Ray's documentation of batch inference: read_parquet, map_batches with the
preprocessing, map_batches with the model, write_parquet. It gets the same graphs in the same kind
of session, and aigid's own decoding.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from manifests import write_manifest
from rich.console import Console
from rich.progress import track
from rich.table import Table

WORKERS = 2
LEAST_OF_LOCAL, LEAST_OF_RECIPE = 0.90, 1.5
AIGID = [sys.executable, "-m", "aigid"]
RECIPE = "--recipe"
PLAIN = "recipe, 1 model of 1 core"


def scan(repository: Path, manifest: Path, *options: str) -> float:
    """Return the pairs a second of `aigid scan` by its summary: from first to last shard."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*AIGID, "scan", str(manifest), "--out", f"{folder}/out", "--json"]
        command += ["--model", str(repository), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["run"]["rows_per_s"])


def recipe(repository: Path, manifest: Path, *options: str) -> float:
    """Return the pairs a second of Ray Data's recipe in its own process, without Ray's start."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, RECIPE, str(repository), str(manifest)]
        command += [f"{folder}/out", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def run_recipe(repository: str, manifest: str, out: str, actor_cpus: float, actors: int) -> None:
    """Read, preprocess, score and write with Ray Data, and print the pairs a second."""
    import ray

    from aigid.contract import TOKENIZER_FILE, load_contract
    from aigid.pixels import decode_image
    from aigid.prompts import PromptEncoder, pad_to_bucket
    from aigid.scorers import OnnxScorer

    contract = load_contract(Path(repository))

    def preprocess(batch: dict[str, Any]) -> dict[str, Any]:
        prompts = PromptEncoder(Path(repository, TOKENIZER_FILE), contract.prompt)
        ids = prompts.token_ids(list(batch["caption"]))
        tokens = pad_to_bucket(ids, prompts.bucket(max(map(len, ids))))
        pixels = np.stack([decode_image(image, contract.image) for image in batch["image"]])
        return {
            "pixels": pixels,
            "ids": list(tokens.input_ids),
            "mask": list(tokens.attention_mask),
        }

    class Model:
        def __init__(self) -> None:
            self.scorer = OnnxScorer(Path(repository))

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            ids = [
                list(row[mask == 1]) for row, mask in zip(batch["ids"], batch["mask"], strict=True)
            ]
            bucket = max(len(row) for row in batch["ids"])
            scores = self.scorer.score(np.asarray(batch["pixels"]), pad_to_bucket(ids, bucket))
            return {"p_ai": scores.p_ai, "p_source": scores.p_source}

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    rows = ray.data.read_parquet(manifest)
    batches = rows.map_batches(preprocess, batch_size=32)
    scored = batches.map_batches(Model, batch_size=32, concurrency=actors, num_cpus=actor_cpus)
    scored.write_parquet(out)
    elapsed_s = time.perf_counter() - started
    print(ray.data.read_parquet(out).count() / elapsed_s)


def ratios(measured: list[dict[str, float]]) -> tuple[list[float], list[float], list[float]]:
    """Return the ratios of the scan on Ray to the local scan, the plain and the better recipe."""
    return (
        [one["ray"] / one["local"] for one in measured],
        [one["ray"] / one[PLAIN] for one in measured],
        [
            one["ray"] / max(value for name, value in one.items() if "recipe" in name)
            for one in measured
        ],
    )


def print_rounds(measured: list[dict[str, float]], title: str) -> None:
    """Print the medians and spans of all rounds, and the ratios beside what is required."""
    table = Table("", "median", "min", "max", "required", title=title)
    for name in measured[0]:
        figures = [one[name] for one in measured]
        table.add_row(
            f"{name}, pairs/s",
            *(f"{value:.1f}" for value in (median(figures), min(figures), max(figures))),
            "",
        )
    of_local, of_recipe, of_better = ratios(measured)
    for name, figures, form, required in (
        ("ray / local", of_local, "{:.1%}", f"{LEAST_OF_LOCAL:.0%}"),
        ("ray / the plain recipe", of_recipe, "{:.2f}", f"{LEAST_OF_RECIPE}"),
        ("ray / the better recipe", of_better, "{:.2f}", ""),
    ):
        table.add_row(
            name,
            *(form.format(value) for value in (median(figures), min(figures), max(figures))),
            required,
        )
    Console(width=120).print(table)


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=3072,
    show_default=True,
    help="Pairs in a round: enough to hide the start.",
)
def main(repository: Path, rounds: int, rows: int) -> None:
    """Measure with the model REPOSITORY; status 1 if the scan on Ray misses a requirement.

    Example: python benchmarks/scan_on_ray.py runs/base/repository
    """
    workers = f"--min-workers={WORKERS}", f"--max-workers={WORKERS}"
    ray_options = ("--ray=local", *workers, "--shard-rows=64")
    ways: dict[str, Callable[[Path], float]] = {
        "local": lambda manifest: scan(repository, manifest, "--threads", str(WORKERS)),
        "ray": lambda manifest: scan(repository, manifest, *ray_options),
        PLAIN: lambda manifest: recipe(repository, manifest, "1", "1"),
        "recipe, 2 models of half a core": lambda manifest: recipe(
            repository, manifest, "0.5", "2"
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder, "pairs.parquet"), rows)
        numbers = track(range(rounds), "measuring", console=Console(stderr=True))
        measured = [{name: measure(manifest) for name, measure in ways.items()} for _ in numbers]
    print_rounds(measured, f"{rows} pairs a round, {rounds} rounds")
    of_local, of_recipe, _ = ratios(measured)
    sys.exit(median(of_local) < LEAST_OF_LOCAL or median(of_recipe) < LEAST_OF_RECIPE)


if __name__ == "__main__":
    if sys.argv[1:2] == [RECIPE]:
        run_recipe(*sys.argv[2:5], float(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
