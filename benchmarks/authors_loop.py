"""The authors' prediction loop: one pair in a forward pass, fp32 torch, prompts padded to 128.

Images are decoded in full.
"""

import io
from pathlib import Path

import torch
from PIL import Image
from transformers import BertTokenizer, CLIPImageProcessorPil

from aigid.training.checkpoint import load_checkpoint

TOKENS = 128


class AuthorsLoop:
    """The paper's prediction code, written anew, for the checkpoint that the graphs come from."""

    def __init__(self, checkpoint: Path) -> None:
        """Load the checkpoint."""
        loaded = load_checkpoint(checkpoint)
        self._encoders = loaded.model
        self._image_processor = CLIPImageProcessorPil()
        self._tokenizer = BertTokenizer.from_pretrained(str(checkpoint))

    @torch.no_grad()
    def predict(self, image: bytes, caption: str) -> tuple[float, int]:
        """Return the probability that the image is AI-generated, and the most likely class."""
        decoded = Image.open(io.BytesIO(image)).convert("RGB")
        pixels = self._image_processor(images=decoded, return_tensors="pt")["pixel_values"]
        tokens = self._tokenizer(
            caption, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        model = self._encoders
        image_features = model.image_encoder(pixel_values=pixels).pooler_output
        logits = model.fuse(
            model.text_features(tokens["input_ids"], tokens["attention_mask"]), image_features
        )
        return torch.sigmoid(logits.a).item(), int(logits.b.argmax())
