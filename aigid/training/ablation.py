"""An ablation: variants of one recipe, trained with several seeds and compared in a table."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from aigid.contract import Resizing
from aigid.errors import TrainingError, UsageError
from aigid.manifest import open_parquet
from aigid.progress import OnMessage
from aigid.training.ablation_table import AblationTable
from aigid.training.checkpoint import load_checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.hub_data import local_manifest_path
from aigid.training.image_changes import DEGRADATIONS, Augmentation, ImageChange, in_turn, unify
from aigid.training.inference import score_manifest
from aigid.training.labelled import reject_pseudo_labels
from aigid.training.labels import read_labels
from aigid.training.losses import LossConfig
from aigid.training.metrics import Metrics, compute_metrics
from aigid.training.recipes import DIFFERING, RECIPES, Recipe
from aigid.training.row_decoder import Input, ReadOptions
from aigid.training.run import RunConfig, open_prompts, train
from aigid.training.shared_files import refuse_shared, warn_of_shared
from aigid.training.training_progress import TrainingProgress

TABLE_FILE, FIGURES_FILE = "ablation.md", "ablation.json"
_TEST_FILE = "test.json"
HARDENING = Augmentation(crop=0.3, resize=0.3, blur=0.3, jpeg=0.5)
"""The augmentation of the variants "augmented" and "paired"."""


@dataclass(frozen=True)
class AblationConfig:
    """A recipe, the manifests to test its variants on, and the number of seeds.

    Without `variants`, all that differ from the recipe are run; the one with pseudo-labels only
    where `pseudo` names a manifest. With `robustness`, the mean over changed test images is
    measured too.
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
            raise UsageError(
                f"`variants`: unknown variant {unknown[0]}: the variants are {', '.join(VARIANTS)}"
            )
        if WITH_PSEUDO_LABELS in self.variants and not self.pseudo:
            raise UsageError(
                f"`variants`: the variant {WITH_PSEUDO_LABELS} needs a pseudo-labelled manifest: "
                "give it as `pseudo`"
            )


@dataclass(frozen=True)
class VariantFigures:
    """What was measured of one run. The last two are means over changed images, or None."""

    a_macro_f1: float
    a_auroc: float
    b_macro_f1: float
    a_macro_f1_changed: float | None = None
    b_macro_f1_changed: float | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> "VariantFigures":
        """Return the record that `to_json` wrote."""
        return cls(
            **{name: values[column] for name, column in _COLUMNS.items() if column in values}
        )

    def to_json(self) -> dict[str, float]:
        """Return the figures by the columns of the table, without those that are None."""
        found = {column: getattr(self, name) for name, column in _COLUMNS.items()}
        return {column: value for column, value in found.items() if value is not None}


_COLUMNS = {
    "a_macro_f1": "A macro-F1",
    "a_auroc": "A AUROC",
    "b_macro_f1": "B macro-F1",
    "a_macro_f1_changed": "A macro-F1 changed",
    "b_macro_f1_changed": "B macro-F1 changed",
}


def _trained(**changes: Any) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, training=replace(config.training, **changes))


def _with_loss(**changes: Any) -> Callable[[RunConfig], RunConfig]:
    def change(config: RunConfig) -> RunConfig:
        loss: LossConfig = replace(config.training.loss, **changes)
        return _trained(loss=loss)(config)

    return change


def _class_balanced(config: RunConfig) -> RunConfig:
    # Weights in place of repeated rows, not on top of them.
    return _with_loss(class_balanced=True)(_trained(oversample_real=1)(config))


def _paired(config: RunConfig) -> RunConfig:
    # Each step processes every image twice, so half of the epochs have the same cost.
    epochs = max(1, config.training.epochs // 2)
    return _with_loss(consistency=1.0)(_trained(augmentation=HARDENING, epochs=epochs)(config))


def _scheduled(schedule: str) -> Callable[[RunConfig], RunConfig]:
    return _trained(schedule=schedule, warmup_fraction=None)


def _resized(resizing: Resizing | None) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, resizing=resizing)


def _by_recipe(recipe: Recipe) -> Callable[[RunConfig], RunConfig]:
    """Change only what the recipes differ in: epochs, rates and sizes stay those of the base."""
    changes = {name: getattr(recipe.training, name) for name in DIFFERING}

    def change(config: RunConfig) -> RunConfig:
        changed = _trained(**changes, warmup_fraction=None)(config)
        return replace(changed, resizing=recipe.resizing)

    return change


BASE = "fusion"
WITH_PSEUDO_LABELS = "with pseudo-labels"
VARIANTS: Mapping[str, Callable[[RunConfig], RunConfig]] = {
    BASE: lambda config: config,
    "image only": lambda config: replace(config, without=Input.PROMPT),
    "prompt only": lambda config: replace(config, without=Input.IMAGE),
    "without head B": _with_loss(weight_b=0.0),
    **{name: _by_recipe(recipe) for name, recipe in RECIPES.items()},
    "constant rate": _scheduled("constant"),
    "linear rate": _scheduled("linear"),
    "one-cycle rate": _scheduled("one_cycle"),
    "by binary F1": _trained(select_by="binary_f1_a"),
    "by macro-F1": _trained(select_by="macro_f1"),
    "resized": _resized(None),
    "native crop": _resized(Resizing.NATIVE_CROP),
    "4 native crops": _resized(Resizing.FOUR_NATIVE_CROPS),
    "real rows once": _trained(oversample_real=1),
    "real rows 3 times": _trained(oversample_real=3),
    "class-balanced": _class_balanced,
    "label smoothing": _with_loss(label_smoothing=0.1),
    "mirrored": _trained(augmentation=Augmentation(flip=0.5)),
    "augmented": _trained(augmentation=HARDENING),
    "paired": _paired,
    "unified": _trained(unify=True),
    WITH_PSEUDO_LABELS: lambda config: config,
}
"""Each variant as a function of the base recipe.

"paper" and "recommended" change what these two differ in, and nothing else.
"""


def run_ablation(
    config: AblationConfig, progress: TrainingProgress, on_message: OnMessage
) -> AblationTable:
    """Run all variants with all seeds, except what an earlier call finished, and return the table.

    Writes ablation.md and ablation.json into the recipe's folder.
    """
    _check_test_manifests(config, on_message)

    def run_one(name: str, seed: int) -> VariantFigures:
        return _run_variant(config, name, seed, progress, on_message)

    names = config.variants or _variants(config)
    runs = {name: [run_one(name, seed).to_json() for seed in range(config.seeds)] for name in names}
    table = AblationTable.of(runs, BASE)
    folder = config.base.folder
    (folder / FIGURES_FILE).write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_text(table.to_markdown(), encoding="utf-8")
    return table


def _check_test_manifests(config: AblationConfig, on_message: OnMessage) -> None:
    """Raise AigidError where nothing can be measured on the test manifests: before training."""
    choice = config.base.labels
    train, validation, test = (
        [open_parquet([local_manifest_path(path)]) for path in paths]
        for paths in (config.base.train, config.base.validation, config.test_manifests)
    )
    for manifest in test:
        reject_pseudo_labels(manifest)
    refuse_shared(test)
    tested, learnt = (
        [file for one in some for file in one.files] for some in (test, train + validation)
    )
    if warning := warn_of_shared("test", tested, learnt):
        on_message(warning)
    counts = read_labels(test, choice, read_labels(train, choice).labels).counts
    if not counts.real or not counts.generated:
        raise UsageError(
            "`test_manifests`: an ablation needs real and AI-generated rows to measure on: "
            f"found {counts.real} real and {counts.generated} AI-generated rows"
        )


def _variants(config: AblationConfig) -> list[str]:
    """Return the recipe and all variants that differ from it."""
    differing = [name for name, change in VARIANTS.items() if change(config.base) != config.base]
    return [BASE, *differing, *([WITH_PSEUDO_LABELS] if config.pseudo else [])]


def _run_variant(
    config: AblationConfig, name: str, seed: int, progress: TrainingProgress, on_message: OnMessage
) -> VariantFigures:
    """Train and measure one variant with one seed, except what an earlier call finished."""
    run = _run_config(config, name, seed)
    best = train(
        run,
        progress,
        lambda line: on_message(f"{run.folder.name}: {line}"),
        resume=True,
    )
    if best is None:
        raise UsageError("an ablation runs in one process: start it without `accelerate launch`")
    file = run.folder / _TEST_FILE
    if file.is_file():
        figures = VariantFigures.from_json(json.loads(file.read_text(encoding="utf-8")))
        if not config.robustness:
            return replace(figures, a_macro_f1_changed=None, b_macro_f1_changed=None)
        if figures.b_macro_f1_changed is not None:
            return figures
    figures = _measure(best, config, run)
    file.write_text(json.dumps(figures.to_json(), indent=2) + "\n", encoding="utf-8")
    return figures


def _run_config(config: AblationConfig, name: str, seed: int) -> RunConfig:
    run = VARIANTS[name](config.base)
    if name == WITH_PSEUDO_LABELS:
        run = replace(run, train=run.train + config.pseudo)
    return replace(
        run,
        folder=config.base.folder / f"{name.replace(' ', '_')}-{seed}",
        training=replace(run.training, seed=config.base.training.seed + seed),
    )


def _measure(best: Path, config: AblationConfig, run: RunConfig) -> VariantFigures:
    checkpoint = load_checkpoint(best)
    prompts = open_prompts(checkpoint.tokenizer_file, checkpoint.info)
    own = unify if run.training.unify else None

    def metrics_after(change: ImageChange | None) -> Metrics:
        options = ReadOptions(in_turn(change, own), run.threads or 2, run.without)
        manifest = LabelledManifest(
            config.test_manifests,
            prompts,
            checkpoint.info.image,
            options,
            choice=run.labels,
            labels=checkpoint.info.labels,
        )
        scored = score_manifest(checkpoint.model, manifest, run.training.batch_rows)
        info = checkpoint.info
        rows = scored.calibrated(checkpoint.model, info.temperatures, info.labels)
        return compute_metrics(rows, open_set=info.open_set)

    plain = metrics_after(None)
    if plain.a.auroc is None or plain.a.macro_f1 is None or plain.b.macro_f1 is None:
        raise TrainingError(
            f"{config.test_manifests[0]}: images of one class only could be decoded: nothing to "
            "tell apart"
        )
    figures = VariantFigures(plain.a.macro_f1, plain.a.auroc, plain.b.macro_f1)
    if not config.robustness:
        return figures
    changed = [metrics_after(change) for change in DEGRADATIONS.values()]
    return replace(
        figures,
        a_macro_f1_changed=fmean(metrics.a.macro_f1 or 0.0 for metrics in changed),
        b_macro_f1_changed=fmean(metrics.b.macro_f1 or 0.0 for metrics in changed),
    )
