"""Convert the weights of the paper's authors to a checkpoint: the same network under other names.

The authors trained with "Caption: " before each prompt, and tested without it. The checkpoint is
used without it.
"""

import re
from pathlib import Path

from torch import nn

from aigid.contract import Resizing
from aigid.errors import CheckpointError
from aigid.training.checkpoint import WEIGHTS_FILE, check_weights, read_weights, save_checkpoint
from aigid.training.fusion_model import FusionModel
from aigid.training.preprocessing import image_spec_of
from aigid.training.run import describe_model, open_prompts

_RENAMED = {"fusion": "projection", "head_a": "classifier_A", "head_b": "classifier_B"}
# Saved with the weights, but not part of the forward pass.
_UNUSED = re.compile(r"text_encoder\.pooler\..+|(text|image)_encoder\.embeddings\.position_ids")
_FUSION_BIAS, _PAPER_HIDDEN = "projection.bias", 512


def convert_weights(
    weights: Path, folder: Path, tokenizer: Path, text: nn.Module, image: nn.Module
) -> None:
    """Write the authors' weights (safetensors) as a checkpoint folder.

    `text` and `image` are encoders of the same architecture; their weights are not used. Raises
    CheckpointError if the file is a pickle or damaged, or if a tensor is missing, unknown or of
    another shape.
    """
    if weights.suffix != ".safetensors":
        raise CheckpointError(
            f"{weights}: expected a safetensors file, because a pickle can run code; transformers' "
            f"Trainer.save_model writes {WEIGHTS_FILE}; convert a pickle that you trust with "
            "safetensors.torch.save_file"
        )
    state = {
        name: value for name, value in read_weights(weights).items() if not _UNUSED.fullmatch(name)
    }
    hidden = state[_FUSION_BIAS].numel() if _FUSION_BIAS in state else _PAPER_HIDDEN
    spec = image_spec_of(image, None, Resizing.SHORTER_SIDE)
    info = describe_model((text, image), spec, hidden, name="nau-qmul", notice="")
    open_prompts(tokenizer, info)
    model = FusionModel(text, image, info.image, hidden)
    # The open-set score's buffers are not the authors': they stay as they are.
    own = dict(model.named_parameters())
    check_weights({authors_name(name): value for name, value in own.items()}, state, weights)
    theirs = {name: state[authors_name(name)] for name in own}
    model.load_state_dict({**model.state_dict(), **theirs})
    save_checkpoint(model, info, tokenizer, folder)


def authors_name(name: str) -> str:
    """Return the authors' name for the tensor `name` of a FusionModel."""
    part, _, rest = name.partition(".")
    return f"{_RENAMED.get(part, part)}.{rest}"
