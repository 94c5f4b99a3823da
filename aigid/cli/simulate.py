"""`aigid simulate`: make a labelled manifest of simulated image-prompt pairs."""

from pathlib import Path
from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.option_types import FOLDER, NON_NEGATIVE_INT, POSITIVE_INT
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

# The choices are aigid.simulation's own. They are written out here because --help does not need
# that package's numpy.
SPLITS = ("train", "validation", "test")

_rows = options_under("Rows")
_images = options_under("Images")
_speed = options_under("Speed and limits")


@click.command("simulate", cls=Command)
@click.argument("out", type=FOLDER, metavar="DIR")
@_rows(
    "--rows",
    type=POSITIVE_INT,
    default=600,
    show_default=True,
    help="Rows to make; each scene has six.",
)
@_rows(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Part of the data set. No two share a scene.",
)
@_rows("--seed", type=NON_NEGATIVE_INT, default=0, show_default=True)
@_images(
    "--shorter-side",
    type=click.IntRange(32, 4096),
    metavar="PIXELS",
    default=224,
    show_default=True,
)
@_images(
    "--varied-sizes",
    is_flag=True,
    help="Use shorter sides from 224 to 1024 pixels instead, for all classes alike.",
)
@_speed("--workers", type=POSITIVE_INT, help="Processes.  [default: one for each core]")
def command(out: Path, workers: int | None, **options: Any) -> None:
    """Make a labelled manifest of simulated image-prompt pairs.

    The same seed gives the same manifest. The classes stand for camera images and for five families
    of generator decoders; they are not images of real models.

    \b
    Example:
      aigid simulate data/test --rows 3600 --split test --seed 1
    """
    from aigid.cores import available_cores
    from aigid.progress_bar import counted
    from aigid.simulation import SimulationConfig, simulate

    config = SimulationConfig(workers=workers or available_cores(), **options)
    with shown_progress("simulate") as progress:
        progress.start(config.rows, 0)
        done = 0

        def on_rows(rows: int) -> None:
            nonlocal done
            progress.advance(rows - done, 0)
            done = rows

        files = simulate(config, out, progress=on_rows)
    made = f"{out}: {counted(config.rows, 'row')} in {counted(len(files), 'file')}"
    with printing("the result", done=f"the manifest is in {out}"):
        print_result(made)
