"""A model repository to one with its latest versions alone."""

import shutil
from pathlib import Path

import click
from command_line import shown_errors
from model_configs import ENSEMBLES
from repository_lock import locked_repository
from to_model_repository import versions_of

from aigid.contract import load_contract
from aigid.tensors import PARTS, PREPROCESS


def prune_versions(repository: Path, keep: int) -> list[int]:
    """Remove all but the latest `keep` versions of a repository; returns those removed.

    Raises ContractError where the folder is no model repository, and BuildError where a build is under way.
    """
    load_contract(repository)
    with locked_repository(repository):
        removed = versions_of(repository)[:-keep]
        for version in removed:
            for model in (*PARTS, PREPROCESS, *ENSEMBLES):
                shutil.rmtree(repository / model / str(version), ignore_errors=True)
    return removed


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many versions stay.")
def main(repository: Path, keep: int) -> None:
    """Remove all but the latest versions from a model REPOSITORY.

    Example: python build/prune_versions.py model_repository --keep 2
    """
    with shown_errors():
        removed = prune_versions(repository, keep)
    print(f"{repository}: removed versions: {', '.join(map(str, removed)) or 'none'}")


if __name__ == "__main__":
    main()
