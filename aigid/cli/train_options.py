"""The options of a training run, for the commands that train, and the config that they become."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.label_options import MODEL_LABEL_OPTIONS, label_choice
from aigid.cli.option_types import (
    FOLDER,
    FRACTION,
    NON_NEGATIVE_INT,
    NON_NEGATIVE_NUMBER,
    POSITIVE_INT,
    POSITIVE_NUMBER,
)
from aigid.contract import Resizing
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.training.config import TrainingConfig
    from aigid.training.run import RunConfig

# The choices and recipes are aigid.training's own. They are written out here because that package
# needs torch, which --help does not.
SCHEDULES = ("constant", "linear", "one_cycle")
SELECTIONS = ("binary_f1_a", "macro_f1")
TUNINGS = ("full", "frozen", "lora")
POOLINGS = ("cls", "mean", "cls+mean")
PRECISIONS = ("fp32", "bf16", "fp16")
TRACKERS = ("tensorboard", "wandb", "mlflow")
NO_TRACKER = "none"
RECIPES: dict[str, dict[str, object]] = {
    "paper": {},
    "recommended": {
        "schedule": "one_cycle",
        "select_by": "macro_f1",
        "oversample_real": 3,
        "resizing": Resizing.NATIVE_CROP.value,
    },
}
"""The options that a recipe sets other than their own defaults, which are the paper's."""


def _take_defaults(context: click.Context, option: click.Parameter, recipe: str) -> str:
    """Make a recipe's settings the defaults of the other options, in --help too."""
    context.default_map = {**(context.default_map or {}), **RECIPES[recipe]}
    return recipe


_input = options_under("Input")
_INPUT = (
    click.argument("train_manifests", nargs=-1, required=True, metavar="MANIFEST..."),
    _input(
        "--validation",
        multiple=True,
        required=True,
        metavar="MANIFEST",
        help="Labelled manifest to validate on; repeatable.",
    ),
    _input(
        "--unify",
        is_flag=True,
        help="Re-encode all images alike first, so that file formats give nothing away.",
    ),
    _input(
        "--augment",
        multiple=True,
        metavar="NAME=P",
        help="Apply a random change (crop, resize, blur, jpeg, flip) to training images with "
        "probability P; repeatable.  [default: none]",
    ),
)

_output = options_under("Output")
_OUTPUT = (
    _output(
        "-o",
        "--out",
        required=True,
        type=FOLDER,
        help="Folder of the run. The checkpoint is its subfolder best/.",
    ),
    _output("--name", default="aigid", show_default=True, help="The model's name."),
    _output("--notice", default="", help="A line that is shown wherever the model is used."),
    _output(
        "--report-to",
        type=click.Choice([*TRACKERS, NO_TRACKER]),
        multiple=True,
        default=["tensorboard"],
        show_default=True,
        help="Report metrics to this tracker; repeatable. tensorboard writes event files into "
        "the subfolder logs/ of --out.",
    ),
)

_model = options_under("Model")
_MODEL = (
    _model(
        "--text-encoder",
        default="bert-base-uncased",
        show_default=True,
        help="Hub id, folder, or config JSON (random weights).",
    ),
    _model(
        "--image-encoder",
        default="openai/clip-vit-base-patch32",
        show_default=True,
        help="Hub id, folder, or config JSON (random weights).",
    ),
    _model(
        "--tokenizer",
        type=click.Path(path_type=Path),
        help="tokenizer.json of the text encoder.  [default: the one beside it]",
    ),
    _model(
        "--resizing",
        type=click.Choice([resizing.value for resizing in Resizing]),
        help="How images become squares. The traces that generators leave survive at native "
        "resolution only.  [default: the image encoder's own]",
    ),
    _model(
        "--image-layer",
        type=NON_NEGATIVE_INT,
        help="Read the image features of this block, counted from 0, and leave out all later ones. "
        "Traces are plainest in inner blocks.  [default: the encoder's own pooled output]",
    ),
    _model(
        "--image-pooling",
        type=click.Choice(POOLINGS),
        help="How a block's tokens become one vector; mean is over the patches. Alone, it reads "
        "the last block.  [default: mean, with --image-layer]",
    ),
    _model(
        "--fusion-hidden",
        type=POSITIVE_INT,
        default=512,
        show_default=True,
        help="Units of the fusion head's hidden layer.",
    ),
    _model(
        "--encoders",
        type=click.Choice(TUNINGS),
        default="full",
        show_default=True,
        help="Train the encoders in full, freeze them, or train low-rank additions (LoRA).",
    ),
    _model("--lora-rank", type=POSITIVE_INT, default=16, show_default=True),
)

_recipe = options_under("Recipe")
_RECIPE = (
    _recipe(
        "--recipe",
        type=click.Choice(list(RECIPES)),
        default="paper",
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_take_defaults,
        help="Defaults of the options: those of the paper's run, or those that we recommend. Put "
        "it before --help to see them. Options given beside it override it.",
    ),
    _recipe("--epochs", type=POSITIVE_INT, default=8, show_default=True),
    _recipe("--batch-size", type=POSITIVE_INT, default=256, show_default=True),
    _recipe("--learning-rate", type=POSITIVE_NUMBER, default=2e-5, show_default=True),
    _recipe(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default="linear",
        show_default=True,
        help="Keep the learning rate, or decay it to zero: linearly, or as a cosine after a "
        "warm-up (one_cycle).",
    ),
    _recipe(
        "--warmup-fraction",
        type=FRACTION,
        help="Fraction of the steps over which the learning rate rises first.  [default: 0.15 "
        "with one_cycle, 0 with linear]",
    ),
    _recipe(
        "--max-gradient-norm",
        type=POSITIVE_NUMBER,
        default=1.0,
        show_default=True,
        help="Clip gradients to this norm.",
    ),
    _recipe(
        "--weight-decay",
        type=NON_NEGATIVE_NUMBER,
        default=0.01,
        show_default=True,
        help="Weight decay of all weights but biases and norms.",
    ),
    _recipe(
        "--select-by",
        type=click.Choice(SELECTIONS),
        default="binary_f1_a",
        show_default=True,
        help="The best epoch has the highest F1 of the class AI in task A, as in the paper, or "
        "the highest macro-F1 of A plus B. Where five of six rows are AI-generated, a constant "
        "answer has a binary F1 of 0.909.",
    ),
    _recipe(
        "--oversample-real",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="Repeat each real row this many times in an epoch.",
    ),
    _recipe(
        "--class-balanced",
        is_flag=True,
        help="Give all classes the same weight, however many rows they have.",
    ),
    _recipe("--label-smoothing", type=FRACTION, default=0.0, show_default=True),
    _recipe(
        "--consistency",
        type=NON_NEGATIVE_NUMBER,
        default=0.0,
        show_default=True,
        help="Weight of a loss that asks for the same answer for an image and for its augmented "
        "copy. Needs --augment.",
    ),
    _recipe("--seed", type=NON_NEGATIVE_INT, default=0, show_default=True),
)

_speed = options_under("Speed and limits")
_SPEED = (
    _speed(
        "--threads",
        type=POSITIVE_INT,
        help="Threads that decode images.  [default: one for each core]",
    ),
    _speed(
        "--feature-cache",
        type=FOLDER,
        help="Folder for the features of frozen encoders, which are made once and not in every "
        "epoch, unless --augment changes the images. Runs may share it.  [default: features/ in "
        "--out]",
    ),
    _speed("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True),
    _speed(
        "--gradient-accumulation-steps",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="Steps over which the gradients of a batch add up: more steps need less memory.",
    ),
)

_OPTIONS = (*_INPUT, *MODEL_LABEL_OPTIONS, *_OUTPUT, *_MODEL, *_RECIPE, *_SPEED)


def train_options(function: Function) -> Function:
    """Give a command the options of a training run."""
    return with_options(function, _OPTIONS)


def run_config(train_manifests: tuple[str, ...], options: dict[str, Any]) -> "RunConfig":
    """Return the RunConfig of these options; raises UsageError where they contradict each other.

    Removes from `options` what the config does not take by the same name.
    """
    from aigid.training.image_pooling import ImagePooling
    from aigid.training.run import RunConfig

    folder = options.pop("out")
    resizing, pooling = options.pop("resizing"), options.pop("image_pooling")
    report_to = _trackers(options.pop("report_to"))
    training = _training_config(options)
    return RunConfig(
        train=train_manifests,
        folder=folder,
        resizing=resizing and Resizing(resizing),
        image_pooling=pooling and ImagePooling(pooling),
        report_to=report_to,
        labels=label_choice(options),
        training=training,
        **options,
    )


def _trackers(names: tuple[str, ...]) -> tuple[str, ...]:
    if NO_TRACKER not in names:
        return names
    others = [name for name in names if name != NO_TRACKER]
    if others:
        raise UsageError(f"`report_to`: give {NO_TRACKER} or {', '.join(others)}, not both")
    return ()


def _training_config(options: dict[str, Any]) -> "TrainingConfig":
    """Return the TrainingConfig, and remove its options from `options`."""
    from aigid.training.config import TrainingConfig
    from aigid.training.image_changes import Augmentation
    from aigid.training.losses import LossConfig

    terms = ("class_balanced", "label_smoothing", "consistency")
    loss = LossConfig(**{name: options.pop(name) for name in terms})
    batch_rows = options.pop("batch_size")
    augmentation = Augmentation.parse(options.pop("augment"))
    fields = {field.name for field in dataclasses.fields(TrainingConfig)}
    settings = {name: options.pop(name) for name in list(options) if name in fields}
    return TrainingConfig(batch_rows=batch_rows, augmentation=augmentation, loss=loss, **settings)
