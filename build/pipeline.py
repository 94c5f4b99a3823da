"""A checkpoint to a model repository in one command: export, quantize, lay out."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from checkpoint_to_onnx import export_checkpoint
from command_line import print_sizes, shown_errors
from onnx_to_int8 import CALIBRATION_ROWS, calibration_of, quantize_graphs
from to_model_repository import write_repository

from aigid.contract import ModelContract
from aigid.training.checkpoint import load_checkpoint


@dataclass(frozen=True)
class BuiltRepository:
    """What a build made: the contract, and the size in bytes of each graph by its path in the repository."""

    contract: ModelContract
    graph_bytes: dict[str, int]


def build_repository(
    checkpoint: Path, repository: Path, calibration: str, *, rows: int = CALIBRATION_ROWS, keep_fp32: bool = True
) -> BuiltRepository:
    """Build the model repository of a checkpoint folder; INT8 scales come from `rows` rows of the manifest `calibration`.

    Raises AigidError, and leaves an existing repository as it was, where any step fails.
    """
    loaded = load_checkpoint(checkpoint)
    # Opened first: a manifest that will not do is said before the minutes that exporting takes.
    calibration_rows = calibration_of(loaded, calibration, rows)
    with tempfile.TemporaryDirectory(prefix="aigid-build-") as temporary:
        folder = Path(temporary)
        fp32 = export_checkpoint(loaded, folder)
        graphs = {"int8": quantize_graphs(fp32, folder, calibration_rows)}
        if keep_fp32:
            graphs["fp32"] = fp32
        contract = write_repository(loaded, graphs, repository)
    built = sorted(repository.glob("*/*/model.*.onnx"))
    return BuiltRepository(contract, {path.relative_to(repository).as_posix(): path.stat().st_size for path in built})


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", type=click.Path(file_okay=False, path_type=Path))
@click.option("--calibration", required=True, help="Manifest of image-prompt pairs like those to be scanned.")
@click.option("--rows", type=click.IntRange(min=1), default=CALIBRATION_ROWS, show_default=True, help="Rows to calibrate on.")
@click.option("--keep-fp32/--no-fp32", default=True, show_default=True, help="Whether the fp32 graphs are put beside.")
def main(checkpoint: Path, repository: Path, calibration: str, rows: int, keep_fp32: bool) -> None:
    """Build the model REPOSITORY of CHECKPOINT, for the embedded scorer and for Triton.

    Example: python build/pipeline.py runs/best model_repository --calibration data/validation.parquet
    """
    with shown_errors():
        built = build_repository(checkpoint, repository, calibration, rows=rows, keep_fp32=keep_fp32)
    print_sizes(built.graph_bytes)
    print(f"{repository}: model {built.contract.name}, fingerprint {built.contract.fingerprint[:12]}")


if __name__ == "__main__":
    main()
