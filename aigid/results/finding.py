"""What `verify_results` finds wrong with a results folder."""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The kinds of damage to a results folder."""

    UNFINISHED = "unfinished"
    """The scan has not finished: some shards have no result file yet."""
    MISSING = "missing"
    """A file is missing."""
    TRUNCATED = "truncated"
    """A result file has lost its end."""
    DAMAGED = "damaged"
    """A file cannot be read, or its bytes changed."""
    EDITED = "edited"
    """A file can be read, but its content changed after the scan wrote it."""
    ROWS = "rows"
    """A result file lacks rows of its shard, or has others, or has them in another order."""
    SWAPPED = "swapped"
    """A result file has the rows of another shard, whose own file has not."""
    DOUBLED = "doubled"
    """A file has the rows of another shard as well as that shard's own file."""
    ANOTHER_MODEL = "another model"
    """Another model scored the file, or the same one with another precision, threshold or mode."""
    ANOTHER_SCAN = "another scan"
    """A file is of another scan: it has other columns, or says so."""
    FOREIGN = "foreign"
    """aigid did not write the file."""
    LEFTOVER = "leftover"
    """A temporary file of a write that was killed."""
    CONTRADICTION = "contradiction"
    """A record does not add up with the result files or with another record."""


class Repair(StrEnum):
    """What `repair_results` does about a finding."""

    REMOVE = "remove"
    """Removes the file; the same scan makes it again."""
    RESTORE = "restore"
    """Writes `scan.json` again, from its copy in `shards.arrow`."""
    SCAN = "scan"
    """Nothing: the same scan makes the file."""
    NONE = "none"
    """Nothing: a person must decide."""


@dataclass(frozen=True)
class Finding:
    """A thing that is wrong with a results folder.

    `file` is relative to the folder. `row` is the first wrong row's position in that file, where
    there is one.
    """

    kind: FindingKind
    file: str
    detail: str
    repair: Repair
    row: int | None = None

    @property
    def is_repairable(self) -> bool:
        """Whether `repair_results` and then the same scan make it good."""
        return self.repair is not Repair.NONE
