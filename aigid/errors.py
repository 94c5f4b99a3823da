"""The exceptions of aigid: one base, and a subclass for each boundary that can refuse."""


class AigidError(Exception):
    """The base of all errors that aigid raises on purpose. Its text can be shown to a user.

    `exit_status` is the exit status of a command that the error ends.
    """

    exit_status = 1


class UsageError(AigidError):
    """An argument is wrong, or the request cannot be met as it stands (exit status 2)."""

    exit_status = 2


class ManifestError(UsageError):
    """A manifest is missing, is damaged, or lacks a column that was asked for."""


class ContractError(UsageError):
    """A model repository is missing, is damaged, or has files that contradict each other."""


class CheckpointError(UsageError):
    """A checkpoint lacks a file, is damaged, or does not fit the model that was asked for."""


class ResumeMismatchError(UsageError):
    """The results folder holds a scan of another input, with another model or other settings."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed. The text has the command that installs it."""


class StorageError(AigidError):
    """An object store cannot be reached or refuses access. Committed shards stay."""


class ResultsError(AigidError):
    """Results cannot be written, or are not complete. Committed shards stay."""


class BuildError(AigidError):
    """A model repository cannot be built. The existing one stays as it was."""


class TrainingError(AigidError):
    """A training run cannot go on."""


class ServerError(AigidError):
    """A Triton server cannot be started, has ended, or does not answer."""


class ClusterError(AigidError):
    """A Ray cluster cannot be reached, or has no worker that can do the work."""


class IncompleteScanError(AigidError):
    """Some shards failed for good. All others are in the results."""


class ModelNoticeWarning(UserWarning):
    """The notice that a model's makers attached for every user."""
