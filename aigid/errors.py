"""The exceptions of aigid: one base, one subclass for each boundary that can refuse."""


class AigidError(Exception):
    """Base of all errors that aigid raises on purpose; its text is fit to show to a user."""

    exit_status = 1


class UsageError(AigidError):
    """The caller asked for something that cannot be done as asked (exit status 2)."""

    exit_status = 2


class ManifestError(UsageError):
    """The manifest cannot be read as a manifest: missing, damaged, or without the columns asked for."""


class ContractError(UsageError):
    """The model's contract, or a file that must agree with it, is missing, damaged or contradicts it."""


class CheckpointError(UsageError):
    """A checkpoint is missing a file, is damaged, or does not fit the model asked for."""


class ResumeMismatchError(UsageError):
    """The results folder belongs to a scan of another input, model or settings."""


class StorageError(AigidError):
    """An object store cannot be reached, or refuses: what was committed stays."""


class ResultsError(AigidError):
    """Results cannot be written or are not whole; what was committed stays."""


class BuildError(AigidError):
    """A model repository cannot be built; the one that is there stays as it was."""


class TrainingError(AigidError):
    """A training run cannot go on."""


class ServerError(AigidError):
    """A Triton server cannot be started, has ended, or does not answer."""


class ClusterError(AigidError):
    """A Ray cluster cannot be reached, or has no worker that can do the work."""


class IncompleteScanError(AigidError):
    """Shards failed for good: they are not in the results, the others are."""


class MissingExtraError(UsageError):
    """A command needs an optional dependency that is not installed; the text names the extra."""
