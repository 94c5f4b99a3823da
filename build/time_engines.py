"""Run a repository's TensorRT engines on this host's GPU: speed, and difference from the graphs."""

from pathlib import Path

import click
from command_line import shown_errors

with shown_errors():
    from aigid.export import Compiler, time_engines


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--engines",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the plans.  [default: REPOSITORY]",
)
@click.option(
    "--compiler",
    type=click.Choice([one.value for one in Compiler]),
    default="tensorrt",
    show_default=True,
    help="Compiler that made the plans.",
)
def main(repository: Path, engines: Path | None, compiler: str) -> None:
    """Run every profile of the engines of REPOSITORY on this host's GPU.

    Prints milliseconds, rows per second, and the largest difference from the fp16 graph.

    Example: python build/time_engines.py model/
    """
    with shown_errors():
        for timing in time_engines(repository, engines or repository, Compiler(compiler)):
            speed = f"{timing.milliseconds:9.2f} ms {timing.rows_per_second:11.0f} rows/s"
            print(f"{timing.part:13} {timing.profile:24} {speed}   delta {timing.delta:.1e}")


if __name__ == "__main__":
    main()
