"""The options of a training run, for the commands that train, and the frozen config that they become."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from aigid.cli.option_types import FOLDER, MANY, SHARE, Command, with_options
from aigid.contract import Resizing

_OPTIONS = (
    click.argument("train_manifests", nargs=-1, required=True, metavar="MANIFEST..."),
    click.option(
        "--validation",
        multiple=True,
        required=True,
        help="Labelled manifest to validate on; repeatable.",
    ),
    click.option(
        "--out", required=True, type=FOLDER, help="Folder of the run: best/ will be the checkpoint."
    ),
    click.option(
        "--text-encoder",
        default="bert-base-uncased",
        show_default=True,
        help="Hub id, folder, or config JSON.",
    ),
    click.option(
        "--image-encoder",
        default="openai/clip-vit-base-patch32",
        show_default=True,
        help="Hub id, folder, or config JSON.",
    ),
    click.option(
        "--tokenizer",
        type=click.Path(path_type=Path),
        help="tokenizer.json.  [default: the text encoder's own]",
    ),
    click.option(
        "--resizing",
        type=click.Choice([resizing.value for resizing in Resizing]),
        default=Resizing.SHORTER_SIDE.value,
        show_default=True,
        help="How pictures become squares; what generators leave in them survives at native resolution only.",
    ),
    click.option("--fusion-hidden", type=MANY, default=512, show_default=True),
    click.option("--epochs", type=MANY, default=8, show_default=True),
    click.option("--batch-size", type=MANY, default=256, show_default=True),
    click.option("--learning-rate", type=float, default=2e-5, show_default=True),
    click.option(
        "--schedule",
        type=click.Choice(["constant", "one_cycle"]),
        default="constant",
        show_default=True,
    ),
    click.option(
        "--oversample-real",
        type=MANY,
        default=1,
        show_default=True,
        help="Draw each real row so often in an epoch.",
    ),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME=P",
        help="Change pictures (crop, resize, blur, jpeg, flip) so often; repeatable.  [default: flip=0.5]",
    ),
    click.option(
        "--unify",
        is_flag=True,
        help="Encode all pictures alike first, so that formats give nothing away.",
    ),
    click.option(
        "--encoders",
        type=click.Choice(["full", "frozen", "lora"]),
        default="full",
        show_default=True,
        help="What is trained of the encoders: all, nothing, or additions of low rank.",
    ),
    click.option("--lora-rank", type=MANY, default=16, show_default=True),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        default="fp32",
        show_default=True,
    ),
    click.option(
        "--gradient-accumulation-steps",
        type=MANY,
        default=1,
        show_default=True,
        help="Parts that a batch goes through in.",
    ),
    click.option(
        "--class-balanced",
        is_flag=True,
        help="Weigh all classes alike, however many rows they have.",
    ),
    click.option("--label-smoothing", type=SHARE, default=0.0, show_default=True),
    click.option(
        "--consistency",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="Train on each picture as it is and changed by --augment, with this weight on answering alike.",
    ),
    click.option(
        "--threads", type=MANY, help="Threads that decode pictures.  [default: one for each core]"
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--name", default="aigid", show_default=True, help="The model's name."),
    click.option("--notice", default="", help="A line that is shown wherever the model is used."),
)


def train_options(command: Command) -> Command:
    """Give a command the options of a training run."""
    return with_options(command, _OPTIONS)


def run_config(train_manifests: tuple[str, ...], options: dict[str, Any]) -> Any:
    """The frozen config of these options, a `RunConfig`; raises UsageError for settings that cannot be."""
    from aigid.training.config import TrainingConfig
    from aigid.training.image_changes import Augmentation
    from aigid.training.losses import LossConfig
    from aigid.training.run import RunConfig

    batch_rows, folder, augmentation = (
        options.pop("batch_size"),
        options.pop("out"),
        Augmentation.parse(options.pop("augment")),
    )
    loss = LossConfig(
        **{key: options.pop(key) for key in ("class_balanced", "label_smoothing", "consistency")}
    )
    own = {field.name for field in dataclasses.fields(TrainingConfig)}
    settings = {key: options.pop(key) for key in list(options) if key in own}
    training = TrainingConfig(
        batch_rows=batch_rows, augmentation=augmentation, loss=loss, **settings
    )
    resizing = Resizing(options.pop("resizing"))
    return RunConfig(
        train=train_manifests, folder=folder, resizing=resizing, training=training, **options
    )
