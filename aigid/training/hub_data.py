"""Data sets on the Hugging Face Hub, downloaded into the hub's own cache.

A scan streams them. Training reads them again in each epoch, so it wants them on the disk.
"""

import re
from glob import escape

from aigid.errors import ManifestError
from aigid.sources import FoundFile, Kind, find_sources
from aigid.storage import (
    Location,
    absence_hint,
    copy_of_hub_files,
    fixed_folder,
    has_glob,
    is_hub_offline,
    locate,
)

# For the hub's patterns, in which * matches slashes as well.
_ENDINGS = ("*.[pP][aA][rR][qQ][uU][eE][tT]", "*.[pP][aA][rR][qQ]", "*.[pP][qQ]")


def local_manifest_path(path: str) -> str:
    """Return a manifest path that is readable here: `path` itself, or the local copy of `hf://`.

    Files in the hub's cache are not downloaded again. With HF_HUB_OFFLINE only the cache is read.
    Raises ManifestError where there are no such files, and StorageError where the hub does not give
    them.
    """
    if not re.match("hf://", path, re.IGNORECASE):
        return path
    location = locate(path)
    key = location.store.key if location.store is not None else ""
    if is_hub_offline():
        patterns = [escape(key), *_patterns(location, key)]
    else:
        patterns = [escape(key)] if _is_one_file(path) else _patterns(location, key)
    return str(copy_of_hub_files(location, patterns) / key)


def _is_one_file(path: str) -> bool:
    """Return whether a path on the hub is that of a file, not of a folder or glob of files.

    Raises ManifestError where there are none, or others than Parquet files.
    """
    location = locate(path)
    found = list(find_sources(path, lambda note: None))
    other = next((one.kind for one in found if one.kind is not Kind.PARQUET), None)
    if other is not None:
        raise ManifestError(
            f"{path}: labelled rows are read from Parquet files only, and this is of the kind "
            f"{other}{absence_hint(location)}"
        )
    return [one.file.location for one in found if isinstance(one, FoundFile)] == [location]


def _patterns(location: Location, key: str) -> list[str]:
    """Return patterns for the files in a folder, or for those of a glob and maybe more."""
    if "**" in key:
        # Also none of the folders may be there, which the hub's patterns cannot say.
        location = fixed_folder(location)
        key = location.store.key if location.store is not None else ""
    elif has_glob(location):
        return [key]
    return [escape(f"{key}/" if key else "") + ending for ending in _ENDINGS]
