"""Data sets on the Hugging Face hub, downloaded into the hub's own cache.

They are named `hf://datasets/OWNER/NAME/PATH`.
"""

import re
from fnmatch import translate
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from aigid.errors import ManifestError

_URI = re.compile(r"hf://datasets/([^/]+/[^/]+?)(?:/(.*))?")
_SCHEME = "hf://"


def local_manifest_path(path: str) -> str:
    """Return a manifest path that is readable here: `path` itself, or the local copy of `hf://`.

    A folder stands for the Parquet files directly in it, and no path for the whole data set. Files
    in the hub's cache are not downloaded again. Raises ManifestError where the data set or its
    files do not exist, or the hub cannot be reached.
    """
    if not path.startswith(_SCHEME):
        return path
    match = _URI.fullmatch(path.rstrip("/"))
    if match is None:
        raise ManifestError(
            f"{path}: not a data set on the hub: give hf://datasets/OWNER/NAME or "
            "hf://datasets/OWNER/NAME/PATH"
        )
    inner = match[2] or ""
    is_file = inner.endswith(".parquet") or "*" in inner
    pattern = inner if is_file else f"{inner}/*.parquet".lstrip("/")
    folder = _download(path, match[1], pattern)
    wanted = re.compile(translate(pattern))
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet"))
    if not any(map(wanted.fullmatch, found)):
        raise ManifestError(f"{path}: the data set has no Parquet files there")
    return str(folder / inner)


def _download(path: str, repository: str, pattern: str) -> Path:
    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=[pattern]))
    except LocalEntryNotFoundError as error:
        raise ManifestError(
            f"{path}: not in the local cache, and the hub cannot be reached: {_one_line(error)}"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise ManifestError(
            f"{path}: the hub has no such data set, or you may not read it (`hf auth login`)"
        ) from error
    except Exception as error:
        raise ManifestError(f"{path}: cannot be downloaded: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
