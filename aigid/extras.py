"""Errors for optional dependencies: which extra is missing, and the command that installs it."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aigid.errors import MissingExtraError


def missing_extra(purpose: str, error: ModuleNotFoundError, extra: str) -> MissingExtraError:
    """Return the error that names the missing package and the command that installs its extra.

    `purpose` begins the sentence, as in "scanning on a Ray cluster".
    """
    return MissingExtraError(f"{purpose} needs {error.name}: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return the pip command that installs an extra from where this aigid came from.

    A clone or a local wheel is named by its path, a repository by its URL (PEP 610). Only an aigid
    from a package index is named by its name alone.
    """
    return f"pip install {shlex.quote(_requirement(extra))}"


def _requirement(extra: str) -> str:
    try:
        origin = distribution("aigid").read_text("direct_url.json")
    except PackageNotFoundError:
        # Imported from a clone that is not installed.
        return f"{Path(__file__).parents[1]}[{extra}]"
    if origin is None:
        return f"aigid[{extra}]"
    return _from_direct_url(json.loads(origin), extra)


def _from_direct_url(origin: dict[str, Any], extra: str) -> str:
    url, repository = str(origin["url"]), origin.get("vcs_info")
    if repository:
        return f"aigid[{extra}] @ {repository['vcs']}+{url}@{repository['commit_id']}"
    if url.startswith("file:"):
        return f"{unquote(urlsplit(url).path)}[{extra}]"
    return f"aigid[{extra}] @ {url}"
