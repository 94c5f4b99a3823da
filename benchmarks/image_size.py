"""What larger pictures cost: CLIP's resize wipes the traces that betray a generator, a crop at native resolution keeps them."""

import json
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aigid.contract import CONTRACT_FILE, Resizing, find_model
from aigid.progress_bar import show_progress
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.simulation import SHORTER_SIDES, SimulationConfig, Split, simulate
from aigid.training.evaluation import evaluate_repository

SIDES = (224, 240, 256, 288, 320, 448, 672)
WAYS = (Resizing.SHORTER_SIDE, Resizing.NATIVE_CROP)


def resizing_otherwise(repository: Path, resizing: Resizing, target: Path) -> Path:
    """Copy a model repository, with another way for pictures to become squares in its contract."""
    shutil.copytree(repository, target)
    file = target / CONTRACT_FILE
    contract = json.loads(file.read_text(encoding="utf-8"))
    contract["image"]["resizing"] = resizing.value
    file.write_text(json.dumps(contract), encoding="utf-8")
    return target


@click.command()
@click.option(
    "--rows", type=click.IntRange(min=60), default=900, show_default=True, help="Rows of each size."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="Model repository.  [default: the demo model]",
)
def main(rows: int, seed: int, model: Path | None) -> None:
    """Evaluate a model on simulated test pictures of one shorter side after the other, and of varied ones, resized and cropped.

    Example: python benchmarks/image_size.py
    """
    sizes = {
        f"{side} px": SimulationConfig(rows, Split.TEST, seed, shorter_side=side) for side in SIDES
    }
    varied = "varied, {} to {} px".format(*SHORTER_SIDES)
    sizes[varied] = SimulationConfig(rows, Split.TEST, seed, varied_sizes=True)
    with tempfile.TemporaryDirectory() as temporary:
        repositories = {
            way: resizing_otherwise(find_model(model), way, Path(temporary, way)) for way in WAYS
        }
        scorers = {way: OnnxScorer(repository) for way, repository in repositories.items()}
        figures = ("macro-F1 A", "macro-F1 B", "AUROC A")
        columns = [f"{way}: {figure}" for way in WAYS for figure in figures]
        model_name = scorers[WAYS[0]].contract.name
        table = Table("shorter side", *columns, title=f"{model_name}, {rows} rows a size")
        for number, (name, config) in enumerate(sizes.items()):
            folder = Path(temporary, str(number))
            simulate(config, folder)
            cells = []
            for way in WAYS:
                with show_progress(f"{name}, {way}") as progress:
                    found = evaluate_repository(
                        repositories[way], scorers[way], (str(folder),), progress
                    )
                cells += [found["a"]["macro_f1"], found["b"]["macro_f1"], found["a"]["auroc"]]
            table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
