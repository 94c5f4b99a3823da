"""An ablation: variants of one recipe, several seeds each, and the table of what each is worth."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from aigid.contract import Resizing
from aigid.errors import UsageError
from aigid.training.ablation_table import AblationTable
from aigid.training.checkpoint import load_checkpoint
from aigid.training.datasets import Input, LabelledManifest, Reading
from aigid.training.hub_data import downloaded
from aigid.training.image_changes import DEGRADATIONS, Augmentation, ImageChange, unify
from aigid.training.inference import score_manifest
from aigid.training.labelled import open_labelled, require_truth
from aigid.training.losses import LossConfig
from aigid.training.metrics import all_metrics
from aigid.training.run import RunConfig, open_prompts, train
from aigid.training.trainer import LAST
from aigid.training.training_progress import TrainingProgress

TABLE_FILE, FIGURES_FILE = "ablation.md", "ablation.json"
_TEST_FILE = "test.json"
_COLUMNS = ("A macro-F1", "A AUROC", "B macro-F1")
_CHANGED = ("A macro-F1 changed", "B macro-F1 changed")
HARDENING = Augmentation(crop=0.3, resize=0.3, blur=0.3, jpeg=0.5)
"""What pictures in the wild go through, as often as it is worth training on."""


@dataclass(frozen=True)
class AblationConfig:
    """A recipe, what to measure it and its variants on, and with how many seeds.

    Without `variants`, all are run; that with pseudo-labels where there are some. With `robustness`, the mean over the
    test pictures changed in each of the usual ways is measured too.
    """

    base: RunConfig
    test_manifests: tuple[str, ...]
    seeds: int = 3
    variants: tuple[str, ...] = ()
    pseudo: tuple[str, ...] = ()
    robustness: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise UsageError(f"--variant {unknown[0]}: the variants are {', '.join(VARIANTS)}")
        if WITH_PSEUDO_LABELS in self.variants and not self.pseudo:
            raise UsageError(
                f"--variant {WITH_PSEUDO_LABELS}: give the pseudo-labelled manifest with --pseudo"
            )


def _with_loss(**changes: Any) -> Callable[[RunConfig], RunConfig]:
    def change(config: RunConfig) -> RunConfig:
        loss: LossConfig = replace(config.training.loss, **changes)
        return replace(config, training=replace(config.training, loss=loss))

    return change


def _augmented(config: RunConfig) -> RunConfig:
    return replace(config, training=replace(config.training, augmentation=HARDENING))


def _paired(config: RunConfig) -> RunConfig:
    # Each step sees every picture twice: half of the epochs are the same cost.
    epochs = max(1, config.training.epochs // 2)
    return _with_loss(consistency=1.0)(
        replace(config, training=replace(_augmented(config).training, epochs=epochs))
    )


def _scheduled(schedule: str) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, training=replace(config.training, schedule=schedule))


def _resized(resizing: Resizing) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, resizing=resizing)


BASE = "fusion"
WITH_PSEUDO_LABELS = "with pseudo-labels"
VARIANTS: Mapping[str, Callable[[RunConfig], RunConfig]] = {
    BASE: lambda config: config,
    "image only": lambda config: replace(config, without=Input.PROMPT),
    "prompt only": lambda config: replace(config, without=Input.IMAGE),
    "without head B": _with_loss(weight_b=0.0),
    "constant rate": _scheduled("constant"),
    "one-cycle rate": _scheduled("one_cycle"),
    "resized": _resized(Resizing.SHORTER_SIDE),
    "native crop": _resized(Resizing.NATIVE_CROP),
    "4 native crops": _resized(Resizing.FOUR_NATIVE_CROPS),
    "class-balanced": _with_loss(class_balanced=True),
    "label smoothing": _with_loss(label_smoothing=0.1),
    "augmented": _augmented,
    "paired": _paired,
    "unified": lambda config: replace(config, training=replace(config.training, unify=True)),
    WITH_PSEUDO_LABELS: lambda config: config,
}
"""What each makes of the recipe. "paired" has half of its epochs, for each step costs twice as much."""


def run_ablation(
    config: AblationConfig, progress: TrainingProgress, on_message: Callable[[str], None]
) -> AblationTable:
    """Run what is not done yet of all variants and seeds; writes ablation.md and ablation.json, and gives the table."""
    # Before hours of training: there is something to measure it all on.
    for source in config.test_manifests:
        require_truth(open_labelled([downloaded(source)]))
    names = config.variants or _variants(config)
    figures = {
        name: [_figures(config, name, seed, progress, on_message) for seed in range(config.seeds)]
        for name in names
    }
    table = AblationTable.of(figures, BASE)
    folder = config.base.folder
    (folder / FIGURES_FILE).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_text(table.to_markdown(), encoding="utf-8")
    return table


def _variants(config: AblationConfig) -> list[str]:
    """All that differ from the recipe."""
    differing = [name for name, change in VARIANTS.items() if change(config.base) != config.base]
    return [BASE, *differing, *([WITH_PSEUDO_LABELS] if config.pseudo else [])]


def _figures(
    config: AblationConfig,
    name: str,
    seed: int,
    progress: TrainingProgress,
    on_message: Callable[[str], None],
) -> dict[str, float]:
    """The test figures of one run; trains it first, or what is left to train of it."""
    run = VARIANTS[name](config.base)
    folder = config.base.folder / f"{name.replace(' ', '_')}-{seed}"
    run = replace(
        run, folder=folder, training=replace(run.training, seed=config.base.training.seed + seed)
    )
    if name == WITH_PSEUDO_LABELS:
        run = replace(run, train=run.train + config.pseudo)
    best = train(
        run,
        progress,
        lambda line: on_message(f"{folder.name}: {line}"),
        resume=(folder / LAST).is_dir(),
    )
    if best is None:
        raise UsageError("an ablation is run by one process: start it without accelerate launch")
    test_file = folder / _TEST_FILE
    known: dict[str, float] = (
        json.loads(test_file.read_text(encoding="utf-8")) if test_file.is_file() else {}
    )
    wanted = (*_COLUMNS, *(_CHANGED if config.robustness else ()))
    if any(column not in known for column in wanted):
        known |= _measure(best, config, run)
        test_file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return {column: known[column] for column in wanted}


def _measure(best: Path, config: AblationConfig, run: RunConfig) -> dict[str, float]:
    checkpoint = load_checkpoint(best)
    prompts = open_prompts(checkpoint.tokenizer_file, checkpoint.info)
    own = unify if run.training.unify else None

    def after(change: ImageChange | None) -> dict[str, float]:
        reading = Reading(_in_turn(change, own), run.threads or 2, run.without)
        manifest = LabelledManifest(config.test_manifests, prompts, checkpoint.info.image, reading)
        scored = score_manifest(checkpoint.model, manifest, run.training.batch_rows)
        found = all_metrics(scored.answers(checkpoint.info.temperatures))
        return dict(
            zip(
                _COLUMNS,
                (found["a"]["macro_f1"], found["a"]["auroc"], found["b"]["macro_f1"]),
                strict=True,
            )
        )

    figures = after(None)
    if config.robustness:
        changed = [after(change) for change in DEGRADATIONS.values()]
        for column in ("A macro-F1", "B macro-F1"):
            figures[f"{column} changed"] = fmean(one[column] for one in changed)
    return figures


def _in_turn(first: ImageChange | None, then: ImageChange | None) -> ImageChange | None:
    if first is None or then is None:
        return first or then
    return lambda picture: then(first(picture))
