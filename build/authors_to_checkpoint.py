"""The weights of the paper's authors to a checkpoint: the same network under other names.

They trained it with "Caption: " before each prompt, but tested it without, and so is the checkpoint used: without.
"""

import re
from pathlib import Path

import click
from command_line import print_sizes, shown_errors
from torch import nn

from aigid.contract import Resizing
from aigid.errors import CheckpointError
from aigid.training.checkpoint import WEIGHTS_FILE, check_weights, read_weights, save_checkpoint
from aigid.training.encoders import image_encoder_from_config, image_spec_of, text_encoder_from_config
from aigid.training.fusion_model import FusionModel
from aigid.training.run import describe_model, open_prompts, read_encoder_config

_RENAMED = {"fusion": "projection", "head_a": "classifier_A", "head_b": "classifier_B"}
# Saved beside the weights, but no part of the forward pass.
_UNUSED = re.compile(r"text_encoder\.pooler\..+|(text|image)_encoder\.embeddings\.position_ids")
_FUSION_BIAS, _PAPER_HIDDEN = "projection.bias", 512


def convert_weights(weights: Path, folder: Path, tokenizer: Path, text: nn.Module, image: nn.Module) -> None:
    """Write the authors' weights (safetensors) as a checkpoint folder; the encoders give the architecture.

    Raises CheckpointError where the file is a pickle or damaged, or a tensor is missing, unknown or misshapen.
    """
    if weights.suffix != ".safetensors":
        raise CheckpointError(
            f"{weights}: only safetensors are read, for a pickle can run code: transformers' Trainer.save_model writes "
            f"{WEIGHTS_FILE}; a pickle that you trust can be written anew with safetensors.torch.save_file"
        )
    state = {name: value for name, value in read_weights(weights).items() if not _UNUSED.fullmatch(name)}
    hidden = state[_FUSION_BIAS].numel() if _FUSION_BIAS in state else _PAPER_HIDDEN
    spec = image_spec_of(image, None, Resizing.SHORTER_SIDE)
    info = describe_model((text, image), spec, hidden, name="nau-qmul", notice="")
    open_prompts(tokenizer, info)
    model = FusionModel(text, image, info.image, hidden)
    names = {name: authors_name(name) for name in model.state_dict()}
    check_weights({names[name]: value for name, value in model.state_dict().items()}, state, weights)
    model.load_state_dict({own: state[theirs] for own, theirs in names.items()})
    save_checkpoint(model, info, tokenizer, folder)


def authors_name(name: str) -> str:
    """What the authors call the tensor `name` of a FusionModel."""
    part, _, rest = name.partition(".")
    return f"{_RENAMED.get(part, part)}.{rest}"


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("weights", type=_FILE)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tokenizer", type=_FILE, required=True, help="tokenizer.json of the text encoder.")
@click.option("--text-config", type=_FILE, help="Config JSON of the text encoder.  [default: bert-base-uncased's]")
@click.option("--image-config", type=_FILE, help="Config JSON of the image encoder.  [default: CLIP ViT-B/32's]")
def main(weights: Path, folder: Path, tokenizer: Path, text_config: Path | None, image_config: Path | None) -> None:
    """Write the authors' WEIGHTS, as transformers' Trainer saved them, as a checkpoint into FOLDER.

    Example: python build/authors_to_checkpoint.py model.safetensors runs/authors --tokenizer model_repository/tokenizer.json
    """
    with shown_errors():
        # The defaults of transformers are these very encoders' values.
        text = text_encoder_from_config(read_encoder_config(text_config) if text_config else {"model_type": "bert"})
        image = image_encoder_from_config(read_encoder_config(image_config) if image_config else {})
        convert_weights(weights, folder, tokenizer, text, image)
    print_sizes({str(folder / WEIGHTS_FILE): (folder / WEIGHTS_FILE).stat().st_size})


if __name__ == "__main__":
    main()
