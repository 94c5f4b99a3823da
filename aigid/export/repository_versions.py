"""The versions that a model repository holds, and pruning them."""

import shutil
from pathlib import Path

from aigid.contract import load_contract
from aigid.errors import UsageError
from aigid.export.model_configs import PYTHON_MODELS
from aigid.export.repository_lock import locked_repository
from aigid.scorers import PARTS


def versions_of(repository: Path) -> list[int]:
    """Return the versions of any part that a repository holds, in ascending order."""
    folders = [
        path for part in PARTS for path in (repository / part).glob("[0-9]*") if path.is_dir()
    ]
    return sorted({int(path.name) for path in folders if path.name.isdecimal()})


def prune_versions(repository: Path, keep: int) -> list[int]:
    """Remove all but the latest `keep` versions of a repository; return the removed ones.

    Raises ContractError if the folder is not a model repository, and BuildError if a build is
    running.
    """
    if keep < 1:
        raise UsageError(f"`keep` must be at least 1: got {keep}")
    load_contract(repository)
    with locked_repository(repository):
        removed = versions_of(repository)[:-keep]
        for version in removed:
            for model in (*PARTS, *PYTHON_MODELS):
                shutil.rmtree(repository / model / str(version), ignore_errors=True)
    return removed
