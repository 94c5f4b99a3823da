"""The open watermarks: those that the package itself made, and images without one."""

import numpy as np
import pytest
from PIL import Image
from references.watermarks import MARKS, base_image, watermarked
from support.image_files import encoded, noise_image, smooth_image

from aigid.evidence import Says, Strength, load_readers, read_evidence

READERS = load_readers(["dwt-dct"])
GENERATORS = {
    "StableDiffusionV1": "Stable Diffusion",
    "SDV2": "Stable Diffusion 2",
    "SDXL": "Stable Diffusion XL",
    "FLUX": "Flux",
    "InvokeAI": "InvokeAI",
}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", MARKS)
def test_a_mark_that_the_package_made_is_read(name: str, kind: str, mode: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(watermarked(name)).convert(mode), kind, **options)
    (finding,) = read_evidence(data, readers=READERS)
    assert (finding.kind, finding.says, finding.source) == ("dwt-dct", Says.AI, GENERATORS[name])
    assert finding.strength is Strength.METADATA
    bits = len(MARKS[name][1])
    assert finding.details == {"mark": name, "matching_bits": f"{bits} of {bits}"}
    assert read_evidence(data) == ()


def test_alpha_does_not_hide_a_mark() -> None:
    image = Image.fromarray(watermarked("SDXL"))
    image.putalpha(128)
    (finding,) = READERS.read(encoded(image, "PNG"))
    assert finding.source == "Stable Diffusion XL"


@pytest.mark.parametrize("name", ["SDV2", "InvokeAI"])
def test_a_tall_image_is_read_in_strips(name: str) -> None:
    # A whole number of marks fits into the image, so that one below the other goes on with it.
    image = Image.fromarray(np.tile(watermarked(name), (5, 1, 1)))
    assert image.height > 1024
    (finding,) = READERS.read(encoded(image, "PNG"))
    assert finding.details["mark"] == name


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(base_image()),
        smooth_image(640, 480),
        noise_image(512, 512),
        Image.new("RGB", (600, 400), "white"),
        Image.new("RGBA", (600, 400)),
        smooth_image(640, 480).convert("L"),
        smooth_image(640, 480).convert("P"),
        smooth_image(640, 480).convert("CMYK"),
        Image.new("I;16", (300, 300)),
        Image.new("RGB", (70_000, 2)),
        Image.fromarray(watermarked("SDXL")[:200]),
    ],
    ids=lambda image: f"{image.mode} {image.size}",
)
def test_images_without_a_mark_have_no_findings(image: Image.Image) -> None:
    kind = "TIFF" if image.mode == "CMYK" else "PNG"
    assert list(READERS.read(encoded(image, kind))) == []


def test_a_hundred_images_of_noise_and_colours_have_no_mark() -> None:
    for seed in range(50):
        for image in (smooth_image(264, 272, seed), noise_image(264, 272, seed)):
            assert list(READERS.read(encoded(image, "PNG", compress_level=0))) == []
