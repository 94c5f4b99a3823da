"""The scan on a Ray cluster of one machine beside the local scan, and beside Ray Data's own recipe, in one run.

The recipe is what Ray's documentation shows for batch inference: read_parquet, map_batches with the preprocessing,
map_batches with the model, write_parquet. It gets the same graphs in the same kind of session, and aigid's own decoding.
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
RECIPE = "--recipe"
PLAIN = "recipe, 1 model of 1 core"


def scan(repository: Path, manifest: Path, *options: str) -> float:
    """Pairs a second of `aigid scan`, by its own summary: from the first shard given out to the last one committed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "aigid.cli.main",
            "scan",
            str(manifest),
            "--out",
            f"{folder}/out",
            "--json",
        ]
        done = subprocess.run(
            [*command, "--model", str(repository), *options],
            check=True,
            capture_output=True,
            text=True,
        )
    return float(json.loads(done.stdout)["run"]["rows_per_s"])


def recipe(repository: Path, manifest: Path, *options: str) -> float:
    """Pairs a second of Ray Data's recipe, in a process of its own; without the start of Ray itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            __file__,
            RECIPE,
            str(repository),
            str(manifest),
            f"{folder}/out",
            *options,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def run_recipe(repository: str, manifest: str, out: str, actor_cpus: float, actors: int) -> None:
    """Read, preprocess, score and write with Ray Data; prints pairs a second."""
    import ray

    from aigid.contract import TOKENIZER_FILE, load_contract
    from aigid.pixels import decode_image
    from aigid.prompts import PromptEncoder, pad_to_bucket
    from aigid.scorers.onnx_embedded import OnnxScorer

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


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=3072,
    show_default=True,
    help="Pairs a round: enough to hide the start.",
)
def main(repository: Path, rounds: int, rows: int) -> None:
    """Measure with the model REPOSITORY; status 1 where the scan on Ray misses what is asked.

    Example: python benchmarks/scan_on_ray.py runs/base/repository
    """
    ray_options = (
        "--ray",
        "local",
        "--min-workers",
        str(WORKERS),
        "--max-workers",
        str(WORKERS),
        "--shard-rows",
        "64",
    )
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
    table = Table(
        "", "median", "least", "most", "asked for", title=f"{rows} pairs a round, {rounds} rounds"
    )
    for name in ways:
        figures = [one[name] for one in measured]
        table.add_row(
            f"{name}, pairs/s",
            *(f"{value:.1f}" for value in (median(figures), min(figures), max(figures))),
            "",
        )
    of_local = [one["ray"] / one["local"] for one in measured]
    of_recipe = [one["ray"] / one[PLAIN] for one in measured]
    of_better = [
        one["ray"] / max(value for name, value in one.items() if "recipe" in name)
        for one in measured
    ]
    for name, figures, form, asked in (
        ("ray / local", of_local, "{:.1%}", f"{LEAST_OF_LOCAL:.0%}"),
        ("ray / the plain recipe", of_recipe, "{:.2f}", f"{LEAST_OF_RECIPE}"),
        ("ray / the better recipe", of_better, "{:.2f}", ""),
    ):
        table.add_row(
            name,
            *(form.format(value) for value in (median(figures), min(figures), max(figures))),
            asked,
        )
    Console(width=120).print(table)
    sys.exit(median(of_local) < LEAST_OF_LOCAL or median(of_recipe) < LEAST_OF_RECIPE)


if __name__ == "__main__":
    if sys.argv[1:2] == [RECIPE]:
        run_recipe(*sys.argv[2:5], float(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
