"""Convert the weights of the paper's authors to a checkpoint."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

with shown_errors():
    from aigid.export import convert_weights
    from aigid.training.checkpoint import WEIGHTS_FILE
    from aigid.training.encoders import image_encoder_from_config, text_encoder_from_config
    from aigid.training.run import read_encoder_config

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("weights", type=_FILE)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tokenizer", type=_FILE, required=True, help="tokenizer.json of the text encoder.")
@click.option(
    "--text-config",
    type=_FILE,
    help="Config JSON of the text encoder.  [default: bert-base-uncased's]",
)
@click.option(
    "--image-config",
    type=_FILE,
    help="Config JSON of the image encoder.  [default: CLIP ViT-B/32's]",
)
def main(
    weights: Path,
    folder: Path,
    tokenizer: Path,
    text_config: Path | None,
    image_config: Path | None,
) -> None:
    """Convert the authors' WEIGHTS to a checkpoint in FOLDER.

    WEIGHTS is the safetensors file that the Trainer of transformers saves.

    Example: python build/authors_to_checkpoint.py model.safetensors runs/authors
    --tokenizer model_repository/tokenizer.json
    """
    with shown_errors():
        # The defaults of transformers' configurations are those of the authors' two encoders.
        text = text_encoder_from_config(
            read_encoder_config(text_config) if text_config else {"model_type": "bert"}
        )
        image = image_encoder_from_config(read_encoder_config(image_config) if image_config else {})
        convert_weights(weights, folder, tokenizer, text, image)
    print_sizes({str(folder / WEIGHTS_FILE): (folder / WEIGHTS_FILE).stat().st_size})


if __name__ == "__main__":
    main()
