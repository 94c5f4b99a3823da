"""Compile the fp16 graphs of a model repository into TensorRT engines."""

from pathlib import Path
from typing import Any

import click
from command_line import print_sizes, shown_errors

with shown_errors():
    from aigid.export import Compiler, EngineSettings, build_engines


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the plans.  [default: REPOSITORY]",
)
@click.option(
    "--compiler",
    type=click.Choice([one.value for one in Compiler]),
    default="tensorrt",
    show_default=True,
    help="tensorrt_rtx compiles without a GPU; Triton cannot load its plans.",
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    help="GPU to compile for, such as 8.9; repeatable; for tensorrt_rtx only.",
)
@click.option(
    "--timing-cache",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the timings of kernels for the next run; for tensorrt only.",
)
@click.option(
    "--workspace-mib",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="GPU memory that a kernel may use as scratch space.",
)
@click.option(
    "--optimisation-level",
    type=click.IntRange(0, 5),
    default=3,
    show_default=True,
    help="Higher levels try more kernels and take longer.",
)
def main(repository: Path, out: Path | None, compiler: str, **options: Any) -> None:
    """Compile the fp16 graphs of REPOSITORY into TensorRT engines.

    Run this on the GPU that will serve them.

    Example: python build/onnx_to_tensorrt.py model/ --timing-cache timing.cache
    """
    with shown_errors():
        settings = EngineSettings(Compiler(compiler), **options)
        sizes = build_engines(repository, out or repository, settings)
    print_sizes(sizes)


if __name__ == "__main__":
    main()
