"""A model repository to one with its latest versions alone."""

import shutil
from pathlib import Path

from aigid.contract import load_contract
from aigid.export.model_configs import ENSEMBLES
from aigid.export.repository_lock import locked_repository
from aigid.export.to_model_repository import versions_of
from aigid.scorers.tensors import PARTS, PREPROCESS


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
