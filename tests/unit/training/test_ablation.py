import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from aigid.contract import Resizing
from aigid.errors import AigidError, UsageError
from aigid.training import ablation
from aigid.training.ablation import VARIANTS, AblationConfig, run_ablation
from aigid.training.ablation_table import SeedInterval
from aigid.training.checkpoint import CheckpointInfo
from aigid.training.config import TrainingConfig
from aigid.training.image_changes import Augmentation
from aigid.training.recipes import RECOMMENDED
from aigid.training.row_decoder import Input
from aigid.training.run import RunConfig

Label = Callable[..., Path]


@pytest.fixture
def config(
    write_labelled: Label, tokenizer_file: Path, tiny_info: CheckpointInfo, tmp_path: Path
) -> AblationConfig:
    files = [
        str(write_labelled([*range(6)] * 2, f"{name}.parquet"))
        for name in ("train", "validation", "test", "pseudo")
    ]
    for name in ("text_config", "image_config"):
        (tmp_path / f"{name}.json").write_text(json.dumps(getattr(tiny_info, name)))
    base = RunConfig(
        train=(files[0],),
        validation=(files[1],),
        text_encoder=str(tmp_path / "text_config.json"),
        image_encoder=str(tmp_path / "image_config.json"),
        folder=tmp_path / "ablation",
        tokenizer=tokenizer_file,
        fusion_hidden=8,
        training=TrainingConfig(epochs=1, batch_rows=6, learning_rate=1e-3, seed=4),
    )
    return AblationConfig(
        base,
        (files[2],),
        seeds=2,
        variants=("fusion", "image only", "with pseudo-labels"),
        pseudo=(files[3],),
    )


def changed(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, training=replace(config.training, **changes))


def trained_in(messages: list[str]) -> list[str]:
    """Return the run of each epoch that was trained."""
    return [line.split(":")[0] for line in messages if ": epoch " in line]


def test_every_variant_is_trained_with_every_seed_and_measured(
    config: AblationConfig, progress: object
) -> None:
    messages: list[str] = []
    table = run_ablation(config, progress, messages.append)
    assert list(table.figures) == ["fusion", "image only", "with pseudo-labels"]
    assert all(
        list(row) == ["A macro-F1", "A AUROC", "B macro-F1"] for row in table.figures.values()
    )
    assert trained_in(messages) == [
        f"{name}-{seed}"
        for name in ("fusion", "image_only", "with_pseudo-labels")
        for seed in (0, 1)
    ]
    figures = json.loads((config.base.folder / "ablation.json").read_text())
    for name, runs in figures.items():
        assert table.figures[name]["B macro-F1"] == SeedInterval.of(
            [run["B macro-F1"] for run in runs]
        )
    assert list(table.differences) == ["image only", "with pseudo-labels"]
    trained = [
        json.loads((config.base.folder / f"fusion-{seed}/best/config.json").read_text())
        for seed in (0, 1)
    ]
    assert [one["training"]["config"]["seed"] for one in trained] == [4, 5]
    assert (config.base.folder / "ablation.md").read_text() == table.to_markdown()


def test_finished_runs_are_not_repeated(
    config: AblationConfig, progress: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_ablation(replace(config, variants=("fusion",)), progress, lambda line: None)
    messages: list[str] = []
    measured: list[Path] = []
    measure = ablation._measure
    monkeypatch.setattr(
        ablation, "_measure", lambda best, *rest: measured.append(best) or measure(best, *rest)
    )
    again = run_ablation(
        replace(config, variants=("fusion", "class-balanced")), progress, messages.append
    )
    assert again.figures["fusion"] == first.figures["fusion"]
    assert trained_in(messages) == ["class-balanced-0", "class-balanced-1"]
    assert {path.parent.name for path in measured} == {"class-balanced-0", "class-balanced-1"}


def test_robustness_is_measured_later_without_training_again(
    config: AblationConfig, progress: object
) -> None:
    plain = run_ablation(replace(config, variants=("fusion",)), progress, lambda line: None)
    messages: list[str] = []
    table = run_ablation(
        replace(config, variants=("fusion",), robustness=True), progress, messages.append
    )
    assert trained_in(messages) == []
    assert list(table.figures["fusion"])[3:] == ["A macro-F1 changed", "B macro-F1 changed"]
    assert table.figures["fusion"]["A AUROC"] == plain.figures["fusion"]["A AUROC"]


def test_variants_differ_from_the_recipe_as_their_names_say(config: AblationConfig) -> None:
    base = config.base
    assert VARIANTS["image only"](base).without is Input.PROMPT
    assert VARIANTS["prompt only"](base).without is Input.IMAGE
    assert VARIANTS["without head B"](base).training.loss.weight_b == 0
    balanced = VARIANTS["class-balanced"](changed(base, oversample_real=3)).training
    assert (balanced.loss.class_balanced, balanced.oversample_real) == (True, 1)
    assert VARIANTS["label smoothing"](base).training.loss.label_smoothing == 0.1
    assert VARIANTS["unified"](base).training.unify
    assert VARIANTS["mirrored"](base).training.augmentation == Augmentation(flip=0.5)
    assert VARIANTS["by macro-F1"](base).training.select_by == "macro_f1"
    assert VARIANTS["real rows 3 times"](base).training.oversample_real == 3
    paired = VARIANTS["paired"](changed(base, epochs=8)).training
    assert (paired.epochs, paired.loss.consistency, paired.augmentation.is_off) == (4, 1.0, False)
    assert VARIANTS["fusion"](base) == base
    assert VARIANTS["native crop"](base).resizing is Resizing.NATIVE_CROP
    assert VARIANTS["4 native crops"](base).resizing is Resizing.FOUR_NATIVE_CROPS
    assert VARIANTS["one-cycle rate"](base).training.schedule == "one_cycle"
    # A constant rate has no warm-up, so that of the recipe goes with its schedule.
    warm = changed(base, schedule="one_cycle", warmup_fraction=0.3)
    assert VARIANTS["constant rate"](warm).training == replace(
        base.training, schedule="constant", warmup_fraction=None
    )


def test_variants_that_equal_the_recipe_are_left_out(config: AblationConfig) -> None:
    # The recipe is the paper's, with other epochs, rates and sizes.
    equal = ("paper", "linear rate", "by binary F1", "resized", "real rows once")
    every = ablation._variants(replace(config, variants=()))
    assert every == ["fusion", *(name for name in VARIANTS if name not in ("fusion", *equal))]
    assert "with pseudo-labels" not in ablation._variants(replace(config, variants=(), pseudo=()))


def test_the_recipes_as_variants_keep_epochs_rates_and_sizes(config: AblationConfig) -> None:
    base = config.base
    recommended = VARIANTS["recommended"](base)
    assert recommended.resizing is RECOMMENDED.resizing
    assert recommended.training == replace(
        RECOMMENDED.training, epochs=1, batch_rows=6, learning_rate=1e-3, seed=4
    )
    assert VARIANTS["paper"](recommended) == base
    assert VARIANTS["recommended"](recommended) == recommended


def test_impossible_configs_are_refused(config: AblationConfig) -> None:
    with pytest.raises(
        UsageError,
        match="`variants`: unknown variant everything: the variants are fusion, image only",
    ):
        replace(config, variants=("everything",))
    with pytest.raises(UsageError, match="needs a pseudo-labelled manifest: give it as `pseudo`"):
        replace(config, pseudo=())


def test_unusable_test_manifests_are_refused_before_training(
    config: AblationConfig, progress: object, tmp_path: Path
) -> None:
    labels = pq.read_table(config.test_manifests[0])
    pq.write_table(
        labels.append_column("p_generator", pa.array([0.9] * len(labels))),
        tmp_path / "pseudo-labels.parquet",
    )
    pq.write_table(labels.filter(pc.field("Label_A") == 0), tmp_path / "real.parquet")
    for file, reason in (
        ("pseudo-labels.parquet", "its labels are pseudo-labels"),
        ("real.parquet", "`test_manifests`: an ablation needs real and AI-generated rows"),
        ("none.parquet", "no such file"),
    ):
        with pytest.raises(AigidError, match=reason):
            run_ablation(
                replace(config, test_manifests=(str(tmp_path / file),)), progress, lambda line: None
            )
    assert not config.base.folder.exists()
