"""Self-training: rounds of train, build, scan the unlabelled rows, keep confident ones, repeat.

The paper (NAU-QMUL, arXiv 2602.23863) has one round. Finished steps are kept: the same call
continues an interrupted one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from aigid.config import ScanConfig
from aigid.contract import CONTRACT_FILE
from aigid.errors import UsageError
from aigid.export.onnx_to_int8 import CALIBRATION_ROWS
from aigid.export.parity_report import Limits
from aigid.export.pipeline import PRECISIONS, BuildConfig, build_repository
from aigid.manifest import open_parquet
from aigid.progress_bar import show_progress
from aigid.run_scan import run_scan
from aigid.training.hub_data import local_manifest_path
from aigid.training.pseudo_labels import write_pseudo_labels
from aigid.training.pseudo_selection import SelectionConfig
from aigid.training.run import RunConfig, train

# Intermediate models only label rows: their parity is reported, but does not stop the rounds.
_NO_LIMITS = Limits(probability=None, equal_decisions=0, macro_f1_loss=None)


@dataclass(frozen=True)
class SelfTrainingConfig:
    """How self-training runs.

    `base` is the recipe, whose folder gets a subfolder for each round. `unlabelled` are the paths
    of the manifests to label, `selection` says which pairs are kept, and `rounds` how often to
    label and to train again.
    """

    base: RunConfig
    unlabelled: tuple[str, ...]
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"`rounds` must be at least 1: got {self.rounds}")


def self_train(config: SelfTrainingConfig, on_message: Callable[[str], None]) -> Path:
    """Run the remaining rounds; return the checkpoint of the last one.

    Raises AigidError if a step fails.
    """
    best = _train_round(config, 0)
    for number in range(1, config.rounds + 1):
        # Only the last round's pseudo-labels are used: a better model predicted them.
        labels = _label(config, best, _round_folder(config, number - 1), on_message)
        best = _train_round(config, number, str(labels))
    return best


def _round_folder(config: SelfTrainingConfig, number: int) -> Path:
    return config.base.folder / f"round-{number}"


def _train_round(config: SelfTrainingConfig, number: int, *pseudo_labelled: str) -> Path:
    """Train a round's model, or finish its training; return its best checkpoint."""
    folder = _round_folder(config, number)
    run = replace(config.base, folder=folder, train=config.base.train + pseudo_labelled)
    with show_progress(folder.name) as progress:
        best = train(run, progress, progress.message, resume=True)
    if best is None:
        raise UsageError("self-training runs in one process: start it without accelerate launch")
    return best


def _label(
    config: SelfTrainingConfig, checkpoint: Path, folder: Path, on_message: Callable[[str], None]
) -> Path:
    """Label the unlabelled manifests with a checkpoint; return the new manifest's folder."""
    repository, labels = folder / "model", folder / "pseudo"
    if not (repository / CONTRACT_FILE).is_file():
        _build(config, checkpoint, repository)
    scan_config = ScanConfig(config.unlabelled, str(folder / "results"), repository)
    with show_progress("label") as progress:
        run_scan(scan_config, progress, progress.message)
    record = write_pseudo_labels(scan_config, str(labels), config.selection)
    correct = "" if record.precision is None else f", {record.precision:.1%} of them correctly"
    classes = ", ".join(f"{name} {rows:,}" for name, rows in record.classes.items())
    on_message(f"{labels}: {record.kept:,} of {record.rows:,} pairs labelled{correct}: {classes}")
    return labels


def _build(config: SelfTrainingConfig, checkpoint: Path, repository: Path) -> None:
    """Build the repository that labels; it is calibrated on the first validation manifest."""
    manifest = config.base.validation[0]
    rows = open_parquet([local_manifest_path(manifest)]).rows
    build = BuildConfig(
        calibration=manifest,
        validation=manifest,
        calibration_rows=min(rows, CALIBRATION_ROWS),
        precisions=("int8",),
        labels=config.base.labels,
        limits=dict.fromkeys(PRECISIONS, _NO_LIMITS),
    )
    build_repository(checkpoint, repository, build)
