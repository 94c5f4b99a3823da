"""Copies of the hub's files in its own cache on this disk."""

from collections.abc import Sequence
from pathlib import Path

from aigid.errors import StorageError
from aigid.storage.location import Location
from aigid.storage.uri import split_revision


def is_hub_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids requests to the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def copy_of_hub_files(location: Location, patterns: Sequence[str]) -> Path:
    """Download the files of a data set that match, and return the folder of its root.

    Files that are in the cache are not downloaded again. Raises StorageError where the hub does not
    give them.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    from aigid.storage.hub import explain_hub_error

    repository, revision = split_revision(location.store.bucket if location.store else "")
    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
            )
        )
    except LocalEntryNotFoundError as error:
        raise StorageError(
            f"{location.text}: not in the local cache, and the hub cannot be reached"
        ) from error
    except Exception as error:  # noqa: BLE001 - httpx's or httpx2's, by huggingface_hub's version
        # Not chained: the texts of these errors have signed URLs.
        raise StorageError(f"{location.text}: {explain_hub_error(error)}") from None
