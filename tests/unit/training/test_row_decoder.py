"""The pixels of training: those of a scan of the same file, or of the changed one."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from aigid.contract import ImageSpec, PromptSpec, Resizing
from aigid.fetch import FetchPolicy, ImageReference
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder
from aigid.training.image_changes import Augmentation, ImageChange, unify
from aigid.training.row_decoder import BatchAugmentation, LabelledRow, ReadOptions, RowDecoder
from aigid.training.training_batch import TrainingBatch

SPECS = [ImageSpec(32, Resizing.SHORTER_SIDE), ImageSpec(32, Resizing.NATIVE_CROP)]


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """Return a JPEG that a resizing contract decodes at a scale, lying on its side."""
    stored = np.random.default_rng(0).integers(0, 256, (222, 315, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def decode(
    data: bytes,
    spec: ImageSpec,
    tokenizer: Path,
    change: ImageChange | None = None,
    augmentation: BatchAugmentation | None = None,
) -> TrainingBatch:
    decoder = RowDecoder(PromptEncoder(tokenizer, PromptSpec()), spec, ReadOptions(change))
    row = LabelledRow(ImageReference(data, None), [101, 102], 0, 0, FetchPolicy(None), 0)
    return decoder.decode([row], [False], augmentation)


def augmented(augmentation: Augmentation, *, paired: bool) -> BatchAugmentation:
    return BatchAugmentation(augmentation, np.random.default_rng(0), paired)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.resizing)
def test_images_that_nothing_changes_have_the_pixels_of_a_scan(
    spec: ImageSpec, photograph: bytes, tokenizer_file: Path
) -> None:
    scanned = decode_image(photograph, spec)
    plain = decode(photograph, spec, tokenizer_file)
    undrawn = augmented(Augmentation(jpeg=1e-9), paired=True)
    both = decode(photograph, spec, tokenizer_file, lambda image: image, undrawn)
    assert both.changed is not None
    for images in (plain.images, both.images, both.changed):
        assert np.array_equal(images, scanned[np.newaxis])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.resizing)
def test_unified_images_have_the_pixels_of_a_scan_of_the_unified_files(
    spec: ImageSpec, photograph: bytes, tokenizer_file: Path
) -> None:
    turned = np.asarray(Image.open(io.BytesIO(photograph)).transpose(Image.Transpose.ROTATE_270))
    unified = unify(Image.fromarray(turned))
    assert isinstance(unified, JpegImageFile)
    assert unified.fp is not None
    unified.fp.seek(0)
    found = decode(photograph, spec, tokenizer_file, unify)
    assert np.array_equal(found.images[0], decode_image(unified.fp.read(), spec))


@pytest.mark.parametrize("paired", [True, False])
def test_augmented_images_come_with_the_unchanged_ones_where_both_are_wanted(
    paired: bool, photograph: bytes, tokenizer_file: Path
) -> None:
    batch = decode(
        photograph,
        SPECS[0],
        tokenizer_file,
        augmentation=augmented(Augmentation(crop=1), paired=paired),
    )
    scanned: Pixels = decode_image(photograph, SPECS[0])
    assert np.array_equal(batch.images[0], scanned) is paired
    assert (batch.changed is not None) is paired
    changed = batch.changed if batch.changed is not None else batch.images
    assert not np.array_equal(changed[0], scanned)
