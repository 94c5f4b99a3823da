"""The options of a training run, for the commands that train, and the config that they become."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.option_types import (
    FOLDER,
    FRACTION,
    NON_NEGATIVE_INT,
    NON_NEGATIVE_NUMBER,
    POSITIVE_INT,
    POSITIVE_NUMBER,
)
from aigid.contract import Resizing

if TYPE_CHECKING:
    from aigid.training.config import TrainingConfig
    from aigid.training.run import RunConfig

# The choices are aigid.training's own. They are written out here because that package needs torch,
# which --help does not.
SCHEDULES = ("constant", "one_cycle")
TUNINGS = ("full", "frozen", "lora")
PRECISIONS = ("fp32", "bf16", "fp16")

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
        "probability P; repeatable.  [default: flip=0.5]",
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
        default=Resizing.SHORTER_SIDE.value,
        show_default=True,
        help="How images become squares. The traces that generators leave survive at native "
        "resolution only.",
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
    _recipe("--epochs", type=POSITIVE_INT, default=8, show_default=True),
    _recipe("--batch-size", type=POSITIVE_INT, default=256, show_default=True),
    _recipe("--learning-rate", type=POSITIVE_NUMBER, default=2e-5, show_default=True),
    _recipe(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default="constant",
        show_default=True,
        help="Keep the learning rate, or warm it up and decay it to zero.",
    ),
    _recipe(
        "--warmup-fraction",
        type=FRACTION,
        default=0.15,
        show_default=True,
        help="Fraction of the steps that one_cycle warms up.",
    ),
    _recipe(
        "--max-gradient-norm",
        type=POSITIVE_NUMBER,
        default=1.0,
        show_default=True,
        help="Clip gradients to this norm.",
    ),
    _recipe("--weight-decay", type=NON_NEGATIVE_NUMBER, default=0.01, show_default=True),
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
    _speed("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True),
    _speed(
        "--gradient-accumulation-steps",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="Steps over which the gradients of a batch add up: more steps need less memory.",
    ),
)

_OPTIONS = (*_INPUT, *_OUTPUT, *_MODEL, *_RECIPE, *_SPEED)


def train_options(function: Function) -> Function:
    """Give a command the options of a training run."""
    return with_options(function, _OPTIONS)


def run_config(train_manifests: tuple[str, ...], options: dict[str, Any]) -> "RunConfig":
    """Return the RunConfig of these options; raises UsageError where they contradict each other.

    Removes from `options` what the config does not take by the same name.
    """
    from aigid.training.run import RunConfig

    folder, resizing = options.pop("out"), Resizing(options.pop("resizing"))
    training = _training_config(options)
    return RunConfig(
        train=train_manifests, folder=folder, resizing=resizing, training=training, **options
    )


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
