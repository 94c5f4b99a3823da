"""The scan, the sum of its parts, and the authors' loop: same weights and pairs, in one run."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
from authors_loop import AuthorsLoop
from manifests import write_manifest
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.batching import PairInput, batch_by_bucket
from aigid.contract import TOKENIZER_FILE
from aigid.cores import available_cores
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, TokenBatch, pad_to_bucket
from aigid.scorers import OnnxScorer

LEAST_OF_PARTS, LEAST_OF_AUTHORS = 0.9, 6.0
AIGID = [sys.executable, "-m", "aigid"]


@dataclass(frozen=True)
class Round:
    """The pairs a second of everything, measured one right after the other."""

    decoding: float
    encoders: float
    scan: float
    scan_with_start: float
    authors: float

    @property
    def parts(self) -> float:
        """The speed that the cores reach if they only decode and encode."""
        return 1 / (1 / self.decoding + 1 / self.encoders)


class Parts:
    """The two costs that a scan cannot avoid, each alone on all cores."""

    def __init__(self, repository: Path, manifest: Path, batch_rows: int) -> None:
        """Decode and tokenize everything once, and make the batches of a scan."""
        self._scorer = OnnxScorer(repository, cached_prompts=0)
        columns = pq.read_table(manifest).to_pydict()
        self._jpegs: list[bytes] = columns["image"]
        prompts = PromptEncoder(repository / TOKENIZER_FILE, self._scorer.contract.prompt)
        with ThreadPoolExecutor(available_cores()) as pool:
            pixels = list(pool.map(self._decode, self._jpegs))
        self._batches = list(_batches(pixels, prompts, columns["caption"], batch_rows))

    def decoding(self) -> float:
        """Return the pairs a second of decoding and resizing."""
        return _pairs_per_s(self._decode, self._jpegs, len(self._jpegs))

    def encoders(self) -> float:
        """Return the pairs a second of the INT8 encoders."""
        return _pairs_per_s(
            lambda batch: self._scorer.score(*batch), self._batches, len(self._jpegs)
        )

    def _decode(self, jpeg: bytes) -> Pixels:
        return decode_image(jpeg, self._scorer.contract.image)


def _batches(
    pixels: list[Pixels], prompts: PromptEncoder, captions: list[str], batch_rows: int
) -> Iterable[tuple[Pixels, TokenBatch]]:
    ids = prompts.token_ids(captions)
    pairs = (PairInput(row, pixels[row], ids[row]) for row in range(len(pixels)))
    for batch in batch_by_bucket(pairs, prompts.bucket, batch_rows):
        images = np.stack([pair.image for pair in batch.pairs])
        yield images, pad_to_bucket([pair.token_ids for pair in batch.pairs], batch.bucket)


def _pairs_per_s(work: Callable[[Any], Any], items: list[Any], pairs: int) -> float:
    with ThreadPoolExecutor(available_cores()) as pool:
        started = time.perf_counter()
        for _ in pool.map(work, items):
            pass
        return pairs / (time.perf_counter() - started)


def scan_pairs_per_s(repository: Path, manifest: Path, batch_rows: int) -> tuple[float, float]:
    """Return the pairs a second of `aigid scan` by its summary, and from its start to its exit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*AIGID, "scan", str(manifest), "--out", f"{folder}/out", "--json"]
        command += ["--model", str(repository), "--batch-size", str(batch_rows)]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        elapsed_s = time.perf_counter() - started
    run = json.loads(done.stdout)["run"]
    return run["rows_per_s"], run["rows"] / elapsed_s


def authors_pairs_per_s(loop: AuthorsLoop, manifest: Path, rows: int) -> float:
    """Return the pairs a second of the authors' loop on the first rows of a manifest."""
    columns = pq.read_table(manifest).slice(0, rows).to_pydict()
    pairs = list(zip(columns["image"], columns["caption"], strict=True))
    loop.predict(*pairs[0])
    started = time.perf_counter()
    for image, caption in pairs:
        loop.predict(image, caption)
    return rows / (time.perf_counter() - started)


def print_rounds(rounds: list[Round], rows: int) -> None:
    """Print the medians and spans of all rounds, and the ratios beside what is required."""

    def row(
        name: str,
        figure: Callable[[Round], float],
        form: str = "{:.1f} pairs/s",
        required: str = "",
    ) -> None:
        figures = [figure(one) for one in rounds]
        table.add_row(
            name,
            *(form.format(value) for value in (median(figures), min(figures), max(figures))),
            required,
        )

    title = f"{rows} pairs a round, {len(rounds)} rounds"
    table = Table("", "median", "min", "max", "required", title=title)
    row("decoding alone", lambda one: one.decoding)
    row("INT8 encoders alone", lambda one: one.encoders)
    row("sum of both parts", lambda one: one.parts)
    row("aigid scan", lambda one: one.scan)
    row("aigid scan, start and loading included", lambda one: one.scan_with_start)
    row("authors' loop", lambda one: one.authors)
    row("scan / sum of parts", lambda one: one.scan / one.parts, "{:.1%}", f"{LEAST_OF_PARTS:.0%}")
    row(
        "scan / authors' loop",
        lambda one: one.scan / one.authors,
        "{:.1f} x",
        f"{LEAST_OF_AUTHORS:.0f} x",
    )
    Console(width=120).print(table)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=1), default=768, show_default=True, help="Pairs in a round."
)
@click.option(
    "--authors-rows",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Pairs for the authors' loop.",
)
@click.option(
    "--batch-size", "batch_rows", type=click.IntRange(min=1), default=32, show_default=True
)
def main(folder: Path, rounds: int, rows: int, authors_rows: int, batch_rows: int) -> None:
    """Measure the scan with the model in FOLDER, made by benchmarks/base_model.py.

    Status 1 if it misses a requirement.

    Example: python benchmarks/scan_speed.py runs/base
    """
    repository = folder / "repository"
    manifest = write_manifest(folder / f"pairs-{rows}.parquet", rows)
    parts, loop = Parts(repository, manifest, batch_rows), AuthorsLoop(folder / "checkpoint")
    measured = []
    for _ in track(range(rounds), "measuring", console=Console(stderr=True)):
        authors = authors_pairs_per_s(loop, manifest, authors_rows)
        decoding, encoders = parts.decoding(), parts.encoders()
        measured.append(
            Round(decoding, encoders, *scan_pairs_per_s(repository, manifest, batch_rows), authors)
        )
    print_rounds(measured, rows)
    missed = median(one.scan / one.parts for one in measured) < LEAST_OF_PARTS
    sys.exit(missed or median(one.scan / one.authors for one in measured) < LEAST_OF_AUTHORS)


if __name__ == "__main__":
    main()
