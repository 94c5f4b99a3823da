"""What larger pictures cost: CLIP's resize to 224 pixels wipes the traces that betray a generator."""

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aigid.model_location import find_model
from aigid.progress import show_progress
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.training.evaluation import evaluate_repository
from aigid.training.simulate import SHORTER_SIDES, SimulationConfig, Split, simulate

SIDES = (224, 240, 256, 288, 320, 448, 672)


@click.command()
@click.option("--rows", type=click.IntRange(min=60), default=900, show_default=True, help="Rows of each size.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Model repository.  [default: the demo model]")
def main(rows: int, seed: int, model: Path | None) -> None:
    """Evaluate a model on simulated test pictures of one shorter side after the other, and of varied ones.

    Example: python benchmarks/picture_size.py
    """
    repository = find_model(model)
    scorer = OnnxScorer(repository)
    sizes = {f"{side} px": SimulationConfig(rows, Split.TEST, seed, shorter_side=side) for side in SIDES}
    varied = "varied, {} to {} px".format(*SHORTER_SIDES)
    sizes[varied] = SimulationConfig(rows, Split.TEST, seed, varied_sizes=True)
    table = Table("shorter side", "macro-F1 A", "macro-F1 B", "AUROC A", title=f"{scorer.contract.name}, {rows} rows a size")
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, config) in enumerate(sizes.items()):
            folder = Path(temporary, str(number))
            simulate(config, folder)
            with show_progress(name) as progress:
                figures = evaluate_repository(repository, scorer, (str(folder),), progress)
            a, b = figures["a"], figures["b"]
            table.add_row(name, f"{a['macro_f1']:.3f}", f"{b['macro_f1']:.3f}", f"{a['auroc']:.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
