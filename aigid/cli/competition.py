"""`aigid competition`: write manifests of the CT2 competition's folders."""

from pathlib import Path

import click

from aigid.cli.command import Command
from aigid.cli.option_types import FOLDER
from aigid.cli.stdout import print_result, printing


@click.command("competition", cls=Command, extra="train")
@click.argument("folder", type=FOLDER, metavar="FOLDER")
def command(folder: Path) -> None:
    """Write manifests of the CT2 competition's own folders.

    FOLDER holds the competition's folders Train and Validation. The manifests are written into it.

    \b
    Example:
      aigid competition defactify/
    """
    from aigid.progress_bar import counted
    from aigid.training.competition import write_competition_manifests

    written = write_competition_manifests(folder)
    with printing("the result", done=f"the manifests are in {folder}"):
        for manifest in written:
            line = f"{manifest.path}: {counted(manifest.rows, 'row')}"
            missing = f", {counted(manifest.missing, 'image')} missing" if manifest.missing else ""
            print_result(line + missing)
