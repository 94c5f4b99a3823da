"""How far each artifact is from torch in float32, on real rows of a manifest; and whether that is near enough to publish."""

from pathlib import Path

import click
from command_line import shown_errors

from aigid.export.sample_rows import rows_for
from aigid.export.verify_parity import (
    LIMITS,
    PARITY_ROWS,
    artifacts_of,
    loaders,
    measure_parity,
    refuse_shortcomings,
    report_text,
    write_report,
)
from aigid.training.checkpoint import load_checkpoint


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--manifest",
    required=True,
    help="Manifest of image-prompt pairs; with labels, macro-F1 is compared too.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=PARITY_ROWS,
    show_default=True,
    help="Rows to compare on.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for parity.md and parity.json.",
)
def main(checkpoint: Path, repository: Path, manifest: str, rows: int, out: Path | None) -> None:
    """Compare every graph of REPOSITORY with CHECKPOINT in torch; status 1 where one is beyond its limits.

    Example: python build/verify_parity.py runs/best model/ --manifest data/validation.parquet
    """
    with shown_errors():
        loaded = load_checkpoint(checkpoint)
        report = measure_parity(
            loaded, loaders(artifacts_of(repository)), rows_for(loaded, manifest, rows)
        )
        print(report_text(report))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            write_report(report, LIMITS, out)
        refuse_shortcomings(report, LIMITS)


if __name__ == "__main__":
    main()
