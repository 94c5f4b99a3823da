"""A repository's TensorRT engines, run on this machine's GPU: rows a second, and how far from the graphs they were made of."""

from pathlib import Path

import click
from command_line import shown_errors

from aigid.export.onnx_to_tensorrt import Compiler
from aigid.export.time_engines import time_engines


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--engines",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of plans.  [default: REPOSITORY]",
)
@click.option(
    "--compiler",
    type=click.Choice([one.value for one in Compiler]),
    default="tensorrt",
    show_default=True,
)
def main(repository: Path, engines: Path | None, compiler: str) -> None:
    """Run the engines of REPOSITORY on this machine's GPU, every profile: milliseconds, rows a second, difference.

    Example: python build/time_engines.py model/
    """
    with shown_errors():
        for timing in time_engines(repository, engines or repository, Compiler(compiler)):
            speed = f"{timing.milliseconds:9.2f} ms {timing.rows_per_second:11.0f} rows/s   delta {timing.delta:.1e}"
            print(f"{timing.part:13} {timing.profile:24} {speed}")


if __name__ == "__main__":
    main()
