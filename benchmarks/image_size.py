"""What larger images cost: resizing removes a generator's traces, a native crop does not."""

import json
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aigid.contract import CONTRACT_FILE, Resizing, find_model
from aigid.progress_bar import show_progress
from aigid.scorers import OnnxScorer
from aigid.simulation import SHORTER_SIDES, SimulationConfig, Split, simulate
from aigid.training.evaluation import EvaluationConfig, evaluate_repository
from aigid.training.metrics import Metrics

SIDES = (224, 240, 256, 288, 320, 448, 672)
RESIZINGS = (Resizing.SHORTER_SIDE, Resizing.NATIVE_CROP)
COLUMNS = ("macro-F1 A", "macro-F1 B", "AUROC A")


def with_resizing(repository: Path, resizing: Resizing, target: Path) -> Path:
    """Copy a model repository and change the resizing in the copy's contract."""
    shutil.copytree(repository, target)
    file = target / CONTRACT_FILE
    contract = json.loads(file.read_text(encoding="utf-8"))
    contract["image"]["resizing"] = resizing.value
    file.write_text(json.dumps(contract), encoding="utf-8")
    return target


def simulations(rows: int, seed: int) -> dict[str, SimulationConfig]:
    """Return the test sets to simulate, by the name of their row in the table."""
    configs = {
        f"{side} px": SimulationConfig(rows, Split.TEST, seed, shorter_side=side) for side in SIDES
    }
    varied = "varied, {} to {} px".format(*SHORTER_SIDES)
    return {**configs, varied: SimulationConfig(rows, Split.TEST, seed, varied_sizes=True)}


def measure(repository: Path, scorer: OnnxScorer, folder: Path, title: str) -> Metrics:
    """Evaluate a repository on a simulated test set, with a progress bar."""
    with show_progress(title) as progress:
        config = EvaluationConfig((str(folder),))
        return evaluate_repository(repository, scorer, config, progress).metrics


@click.command()
@click.option(
    "--rows", type=click.IntRange(min=60), default=900, show_default=True, help="Rows per size."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="Model repository.  [default: the demo model]",
)
def main(rows: int, seed: int, model: Path | None) -> None:
    """Evaluate a model on simulated test images of several sizes, resized and cropped.

    Each test set has one shorter side; in the last one it varies.

    Example: python benchmarks/image_size.py
    """
    with tempfile.TemporaryDirectory() as temporary:
        repositories = {
            resizing: with_resizing(find_model(model), resizing, Path(temporary, resizing))
            for resizing in RESIZINGS
        }
        scorers = {resizing: OnnxScorer(folder) for resizing, folder in repositories.items()}
        headings = [f"{resizing}: {column}" for resizing in RESIZINGS for column in COLUMNS]
        title = f"{scorers[RESIZINGS[0]].contract.name}, {rows} rows per size"
        table = Table("shorter side", *headings, title=title)
        for number, (name, config) in enumerate(simulations(rows, seed).items()):
            folder = Path(temporary, str(number))
            simulate(config, folder)
            cells: list[float | None] = []
            for resizing, repository in repositories.items():
                found = measure(repository, scorers[resizing], folder, f"{name}, {resizing}")
                cells += [found.a.macro_f1, found.b.macro_f1, found.a.auroc]
            table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
