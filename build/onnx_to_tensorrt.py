"""The strongly typed fp16 graphs of a model repository to TensorRT engines, with TensorRT or TensorRT for RTX."""

from pathlib import Path
from typing import Any

import click
from command_line import print_sizes, shown_errors

from aigid.export.onnx_to_tensorrt import Compiler, EngineSettings, build_engines


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
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    help="A GPU to compile for, such as 8.9; repeatable; with tensorrt_rtx.",
)
@click.option(
    "--timing-cache",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read and written; with tensorrt.",
)
@click.option("--workspace-mib", type=click.IntRange(min=1), default=4096, show_default=True)
@click.option("--optimisation-level", type=click.IntRange(0, 5), default=3, show_default=True)
def main(repository: Path, out: Path | None, compiler: str, **options: Any) -> None:
    """Compile the fp16 graphs of REPOSITORY into TensorRT engines, on the GPU that will serve them.

    Example: python build/onnx_to_tensorrt.py model/ --timing-cache timing.cache
    """
    with shown_errors():
        sizes = build_engines(
            repository, out or repository, EngineSettings(Compiler(compiler), **options)
        )
    print_sizes(sizes)


if __name__ == "__main__":
    main()
