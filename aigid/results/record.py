"""The record of a scan: what `scan.json` holds, typed, and how two records differ."""

import dataclasses
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

from aigid.decisions import VerdictRule
from aigid.records import Mode
from aigid.results.schema import OptionalColumns
from aigid.sources import Columns, ManifestFile, ManifestFiles
from aigid.version import __version__

SCAN_FORMAT = 6
"""The format of a results folder: of its records, and of where its files are."""

_PACKAGES = ("numpy", "onnxruntime", "pillow", "pyarrow", "simplejpeg", "tokenizers")
# For people only: the same manifest may be named otherwise, and software may be updated.
_NOT_COMPARED = {"manifests", "versions"}
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class InputTotals:
    """The size of the manifest: its files, and the rows to scan; None where tars have them."""

    files: int
    rows: int | None


@dataclass(frozen=True)
class ScanModel:
    """The model of a scan, the precision in which it runs, and its labels."""

    name: str
    fingerprint: str
    precision: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ScanSettings:
    """The settings of a scan that its results depend on.

    A verdict in the mode `mode` is `ai` from a `p_ai` of `ai_from` on, and real below `real_below`.
    """

    columns: Columns
    threshold: float
    mode: str
    ai_from: float
    real_below: float
    limit: int | None
    shard_rows: int
    image_root: str | None
    allow_outside_root: bool
    allow_private_addresses: bool
    respect_opt_out: bool = False
    evidence: bool = False
    trust_anchors_sha256: str | None = None
    readers: tuple[str, ...] = ()
    hash: bool = False

    def __post_init__(self) -> None:
        # A mode that there is not is a ValueError here, as it is for the readers of records.
        Mode(self.mode)

    @property
    def optional(self) -> OptionalColumns:
        """The columns that the settings ask for."""
        return OptionalColumns(evidence=self.evidence, hash=self.hash)

    @property
    def verdicts(self) -> VerdictRule:
        """The rule of the verdicts."""
        return VerdictRule(Mode(self.mode), self.ai_from, self.real_below)


@dataclass(frozen=True)
class ScanRecord:
    """What a results folder is the scan of; only a scan with an equal record may go on there.

    `manifests` and `versions` are for people, and are not compared.
    """

    format: int
    manifests: tuple[str, ...]
    input: InputTotals
    model: ScanModel
    settings: ScanSettings
    shards: int
    versions: dict[str, str]


def optional_columns_of(scan: ScanRecord | None) -> OptionalColumns:
    """Return the optional columns that a scan's record asks for; none without a record."""
    return OptionalColumns() if scan is None else scan.settings.optional


def software_versions() -> dict[str, str]:
    """Return the versions of aigid, Python and the packages that results depend on."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"aigid": __version__, "python": platform.python_version(), **packages}


def record_differences(before: ScanRecord, now: ScanRecord) -> Iterator[str]:
    """Yield what differs, as "section.key: before -> now"."""
    old_sections, new_sections = dataclasses.asdict(before), dataclasses.asdict(now)
    for section in sorted(old_sections.keys() - _NOT_COMPARED):
        old, new = old_sections[section], new_sections[section]
        if not isinstance(old, dict):
            old, new, name = {"": old}, {"": new}, section
        else:
            name = f"{section}."
        for key in sorted(old):
            if old[key] != new[key]:
                yield f"{name}{key}: {_short(old[key])} -> {_short(new[key])}"


def file_differences(before: ManifestFiles, now: ManifestFiles) -> Iterator[str]:
    """Yield how the first file that differs does so; nothing where all files are the same."""
    if before == now:
        return
    for number, (old, new) in enumerate(zip_longest(before, now), 1):
        if old != new:
            yield _file_difference(number, old, new)
            return


def _file_difference(number: int, old: ManifestFile | None, new: ManifestFile | None) -> str:
    if old is None or new is None:
        names = (file.path if file else "none" for file in (old, new))
        return f"input: file {number}: {' -> '.join(names)}"
    if old.path != new.path:
        return f"input: file {number}: {_short(old.path)} -> {_short(new.path)}"
    return f"input: {new.path}: another size, other rows or another content"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
