"""Remove old versions from a model repository."""

from pathlib import Path

import click
from command_line import shown_errors

with shown_errors():
    from aigid.export import prune_versions


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--keep", type=click.IntRange(min=1), required=True, help="Number of versions to keep."
)
def main(repository: Path, keep: int) -> None:
    """Remove all but the latest versions from a model REPOSITORY.

    Example: python build/prune_versions.py model_repository --keep 2
    """
    with shown_errors():
        removed = prune_versions(repository, keep)
    print(f"{repository}: removed versions: {', '.join(map(str, removed)) or 'none'}")


if __name__ == "__main__":
    main()
