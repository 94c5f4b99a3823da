"""Compare every graph of a model repository with its checkpoint in torch."""

from pathlib import Path

import click
from command_line import shown_errors

with shown_errors():
    from aigid.export import (
        LIMITS,
        PARITY_ROWS,
        measure_repository,
        refuse_shortcomings,
        report_text,
        write_report,
    )


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--manifest",
    required=True,
    help="Manifest of image-prompt pairs; if it has labels, macro-F1 is compared too.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=PARITY_ROWS,
    show_default=True,
    help="Number of rows to compare on.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for parity.md and parity.json.",
)
def main(checkpoint: Path, repository: Path, manifest: str, rows: int, out: Path | None) -> None:
    """Compare every graph of REPOSITORY with CHECKPOINT in torch.

    Exits with status 1 if a graph is too far from float32.

    Example: python build/verify_parity.py runs/first/best model/ --manifest data/validation.parquet
    """
    with shown_errors():
        report = measure_repository(checkpoint, repository, manifest, rows)
        print(report_text(report))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            write_report(report, LIMITS, out)
        refuse_shortcomings(report, LIMITS)


if __name__ == "__main__":
    main()
