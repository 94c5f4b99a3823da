"""Make the golden references: pixels, token ids and probabilities of a few image-prompt pairs.

    python tests/references/make.py          pixels, tokens and probabilities of the committed pairs
    python tests/references/make.py --pairs  new pairs first

`tests/unit/test_references.py` compares what the code gives today with these files. Look at the
difference before you commit new ones: a changed reference is a changed answer for every user.
"""

import argparse
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aigid.contract import TOKENIZER_FILE, ImageSpec, Resizing, load_contract
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.scorers import OnnxScorer, Scores
from aigid.simulation import SimulationConfig, Split, simulate

FOLDER = Path(__file__).parent
PAIRS, PIXELS = FOLDER / "pairs.parquet", FOLDER / "pixels.npz"
TOKENS, PROBABILITIES = FOLDER / "tokens.json", FOLDER / "probabilities.json"
MODEL = FOLDER.parents[1] / "model_repository"
# Small enough to commit, large enough that resizing and cropping both have work to do.
SIZE = 32
ODD_PROMPTS = (
    "",
    "naïve café 北京 🙂",
    "UPPER lower 123!",
    "word " * 200,
    "\ttabs\nand lines",
    "x",
)


@dataclass(frozen=True)
class Pair:
    """An encoded image with its prompt; `name` says what is special about it."""

    name: str
    image: bytes
    prompt: str | None


def read_pairs() -> list[Pair]:
    """Return the committed pairs."""
    return [Pair(**row) for row in pq.read_table(PAIRS).to_pylist()]


def compute_pixels(pairs: list[Pair]) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the pixels of every pair by "resizing/name", uint8 [height, width, 3]."""
    return {
        f"{resizing}/{pair.name}": decode_image(pair.image, ImageSpec(SIZE, resizing))
        for resizing in Resizing
        for pair in pairs
    }


def compute_tokens(pairs: list[Pair]) -> dict[str, list[int]]:
    """Return the token ids of every pair's prompt by name."""
    encoder = PromptEncoder(MODEL / TOKENIZER_FILE, load_contract(MODEL).prompt)
    ids = encoder.token_ids([pair.prompt for pair in pairs])
    return {pair.name: [int(one) for one in row] for pair, row in zip(pairs, ids, strict=True)}


def compute_probabilities(pairs: list[Pair]) -> dict[str, list[float]]:
    """Return p_ai and then p_source of every pair by name, from the demo model, one at a time."""
    scorer = OnnxScorer(MODEL)
    encoder = PromptEncoder(MODEL / TOKENIZER_FILE, scorer.contract.prompt)

    def score(pair: Pair) -> Scores:
        ids = encoder.token_ids([pair.prompt])
        pixels = decode_image(pair.image, scorer.contract.image)[np.newaxis]
        return scorer.score(pixels, pad_to_bucket(ids, encoder.bucket(len(ids[0]))))

    answers = {pair.name: score(pair) for pair in pairs}
    return {
        name: [float(one.p_ai[0]), *map(float, one.p_source[0])] for name, one in answers.items()
    }


def make_pairs() -> list[Pair]:
    """Simulate two scenes in all six classes, and make odd forms of the first image."""
    with tempfile.TemporaryDirectory() as folder:
        config = SimulationConfig(rows=12, split=Split.TEST, seed=11, shorter_side=240, workers=1)
        rows = pa.concat_tables(
            [pq.read_table(path) for path in simulate(config, Path(folder))]
        ).to_pylist()
    plain = [
        Pair(f"simulated-{number}", row["Image"]["bytes"], row["Caption"])
        for number, row in enumerate(rows)
    ]
    image = Image.open(io.BytesIO(plain[0].image)).convert("RGB").resize((120, 96))
    turned = Image.Exif()
    turned[0x0112] = 6
    forms = {
        "png": encode(image, "PNG"),
        "webp": encode(image, "WEBP", lossless=True),
        "grey": encode(image.convert("L"), "PNG"),
        "palette-gif": encode(image.quantize(64), "GIF"),
        "half-transparent": encode(with_alpha(image), "PNG"),
        "turned-by-exif": encode(image, "JPEG", quality=90, exif=turned),
        "smaller-than-the-model": encode(image.resize((50, 40)), "PNG"),
        "wide": encode(image.resize((700, 90)), "JPEG", quality=85),
        "no-prompt": encode(image, "JPEG", quality=95),
    }
    prompts = [*ODD_PROMPTS, "a photo", "another photo", None]
    return plain + [
        Pair(name, data, prompt)
        for (name, data), prompt in zip(forms.items(), prompts, strict=True)
    ]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the image as a file of this kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    """Return the image with transparency that rises from left to right."""
    ramp = np.tile(np.linspace(0, 255, image.width, dtype=np.uint8), (image.height, 1))
    mixed = image.copy()
    mixed.putalpha(Image.fromarray(ramp))
    return mixed


def write_references(*, pairs: bool) -> None:
    """Write all reference files; the pairs themselves only when asked to."""
    if pairs:
        table = pa.Table.from_pylist([vars(pair) for pair in make_pairs()])
        pq.write_table(table, PAIRS, compression="zstd")
    committed = read_pairs()
    np.savez_compressed(PIXELS, **compute_pixels(committed))
    for path, values in (
        (TOKENS, compute_tokens(committed)),
        (PROBABILITIES, compute_probabilities(committed)),
    ):
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the golden references anew.")
    parser.add_argument("--pairs", action="store_true", help="Make new pairs first.")
    write_references(pairs=parser.parse_args().pairs)
