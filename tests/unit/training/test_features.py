"""Training on features that were made once gives what training on the images gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aigid.errors import TrainingError
from aigid.progress_bar import SilentProgress
from aigid.prompts import PromptEncoder
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest, ProcessRank, StreamOrder
from aigid.training.feature_cache import FeatureCache, feature_key
from aigid.training.features import FeatureRows, make_features
from aigid.training.fingerprints import encoders_fingerprint
from aigid.training.fusion_model import FusionModel
from aigid.training.image_changes import Augmentation, unify
from aigid.training.inference import score_manifest
from aigid.training.labels import LabelChoice
from aigid.training.optimization import Optimization
from aigid.training.row_decoder import Input, ReadOptions
from aigid.training.tracking import Tracking
from aigid.training.trainer import Trainer, TrainingData
from aigid.training.training_progress import TrainingProgress
from aigid.training.tuning import prepare_encoders

Label = Callable[..., Path]
Open = Callable[..., LabelledManifest]

CONFIG = TrainingConfig(
    epochs=3, batch_rows=8, learning_rate=1e-3, oversample_real=2, encoders="frozen"
)
LABELS = [0, 1, None, 2, 3, 4, 5, 0, 1, 2] * 4


def silent(line: str) -> None:
    """Ignore a message."""


def count_images(model: FusionModel) -> list[int]:
    """Return a list that gets the number of images of each forward pass of the image encoder."""
    counts: list[int] = []
    model.image_encoder.register_forward_hook(
        lambda module, arguments, options, output: counts.append(len(options["pixel_values"])),
        with_kwargs=True,
    )
    return counts


@pytest.fixture
def manifest(write_labelled: Label, open_labelled: Open) -> LabelledManifest:
    return open_labelled(
        write_labelled(LABELS, "one/rows.parquet", row_group_size=7),
        write_labelled(LABELS[:9], "two/rows.parquet"),
    )


@pytest.mark.parametrize("accumulation", [1, 3])
def test_training_on_features_gives_the_weights_of_training_on_images(
    manifest: LabelledManifest,
    tiny_info: CheckpointInfo,
    progress: TrainingProgress,
    accumulation: int,
) -> None:
    config = replace(CONFIG, gradient_accumulation_steps=accumulation)
    trained = {}
    for on_features in (False, True):
        torch.manual_seed(3)
        model = new_model(tiny_info)
        prepare_encoders(model, config)
        rows = manifest
        if on_features:
            rows = FeatureRows(manifest, make_features(model, manifest, progress))
        counts = manifest.epoch_counts(config.oversample_real)
        optimization = Optimization(model, config, counts, on_features=on_features)
        losses = [optimization.train_epoch(rows, epoch, progress) for epoch in range(3)]
        trained[on_features] = losses, model.state_dict(), optimization.score(rows).logits
    torch.testing.assert_close(trained[True], trained[False], rtol=0, atol=1e-6)
    untrained = new_model(tiny_info).fusion.weight
    assert not torch.allclose(trained[True][1]["fusion.weight"], untrained, atol=1e-3)


@pytest.mark.parametrize("order", [None, StreamOrder(1, 2), StreamOrder(1, 2, oversample_real=3)])
@pytest.mark.parametrize("process", [ProcessRank(), ProcessRank(1, 3)])
def test_features_come_in_the_batches_of_the_images(
    manifest: LabelledManifest,
    tiny_model: FusionModel,
    progress: TrainingProgress,
    order: StreamOrder | None,
    process: ProcessRank,
) -> None:
    rows = FeatureRows(manifest, make_features(tiny_model, manifest, progress))
    found = list(rows.batches(8, order, process))
    expected = list(manifest.batches(8, order, process))
    assert [batch.label_b.tolist() for batch in found] == [
        batch.label_b.tolist() for batch in expected
    ]
    assert [batch.undecodable for batch in found] == [batch.undecodable for batch in expected]
    assert sum(batch.undecodable for batch in found) > 0
    for batch, images in zip(found, expected, strict=True):
        if len(images.images):
            with torch.inference_mode():
                wanted = tiny_model.image_features(torch.from_numpy(images.images))
            np.testing.assert_allclose(batch.image, wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_logits_of_features_are_those_of_the_images(
    manifest: LabelledManifest, tiny_model: FusionModel, progress: TrainingProgress
) -> None:
    rows = FeatureRows(manifest, make_features(tiny_model, manifest, progress))
    found, expected = (score_manifest(tiny_model, one, 8) for one in (rows, manifest))
    torch.testing.assert_close(found.logits, expected.logits)
    assert torch.equal(found.label_b, expected.label_b)
    assert found.undecodable == expected.undecodable == 5


@pytest.fixture
def train(
    tmp_path: Path, manifest: LabelledManifest, tiny_info: CheckpointInfo, tokenizer_file: Path
) -> Callable[..., tuple[Path, list[int], list[str]]]:
    """Return a function that trains the tiny model in a folder.

    It gives the best checkpoint, the numbers of images of the forward passes, and the messages.
    """

    def run(
        name: str, config: TrainingConfig = CONFIG, **options: object
    ) -> tuple[Path, list[int], list[str]]:
        torch.manual_seed(5)
        model, messages = new_model(tiny_info), []
        images = count_images(model)
        trainer = Trainer(model, tiny_info, tokenizer_file, config, Tracking(tmp_path / name))
        data = TrainingData(manifest, manifest)
        best = trainer.run(data, SilentProgress(), messages.append, **options)
        assert best is not None
        return best, images, messages

    return run


def weights(best: Path) -> bytes:
    return (best / "model.safetensors").read_bytes()


def test_frozen_encoders_run_once_and_never_again_with_a_shared_folder(
    train: Callable[..., tuple[Path, list[int], list[str]]], tmp_path: Path
) -> None:
    decodable = sum(label is not None for label in LABELS + LABELS[:9])
    first, images, _ = train("first")
    # Training and validation have the same rows here, so they are made once.
    assert sum(images) == decodable
    assert len(list((tmp_path / "first" / "features").iterdir())) == 1
    for name in ("second", "third"):
        again, images, _ = train(name, feature_cache=tmp_path / "shared")
        assert weights(again) == weights(first)
        assert sum(images) == (decodable if name == "second" else 0)
        assert not (tmp_path / name / "features").exists()


def test_a_resumed_run_reads_the_features_that_it_made(
    train: Callable[..., tuple[Path, list[int], list[str]]],
) -> None:
    whole, _, _ = train("whole")
    train("run", replace(CONFIG, epochs=3))
    resumed, images, _ = train("run", replace(CONFIG, epochs=3), resume=True)
    assert weights(resumed) == weights(whole)
    assert images == []


@pytest.mark.parametrize(
    "change",
    [
        {"encoders": "full"},
        {"augmentation": Augmentation(flip=0.5)},
        {"augmentation": Augmentation(jpeg=0.5)},
    ],
)
def test_features_that_change_between_epochs_are_not_kept(
    train: Callable[..., tuple[Path, list[int], list[str]]], change: dict[str, object]
) -> None:
    best, images, _ = train("run", replace(CONFIG, epochs=1, **change))
    assert not (best.parent / "features").exists()
    assert len(images) > 2


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda file: file.write_bytes(file.read_bytes()[:-200]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("no features"),
    ],
    ids=["flipped", "cut", "empty", "foreign"],
)
def test_a_damaged_file_is_made_anew(
    train: Callable[..., tuple[Path, list[int], list[str]]],
    tmp_path: Path,
    damage: Callable[[Path], object],
) -> None:
    first, _, _ = train("first", feature_cache=tmp_path / "shared")
    (file,) = (tmp_path / "shared").iterdir()
    damage(file)
    second, images, messages = train("second", feature_cache=tmp_path / "shared")
    assert weights(second) == weights(first)
    assert sum(images) > 0
    assert sum(f"{file}: damaged" in message for message in messages) == 1
    _, images, messages = train("third", feature_cache=tmp_path / "shared")
    assert images == []
    assert not any("damaged" in message for message in messages)


def test_features_of_another_key_are_not_taken_for_those_of_this_one(
    manifest: LabelledManifest, tiny_model: FusionModel, progress: TrainingProgress, tmp_path: Path
) -> None:
    cache, messages = FeatureCache(tmp_path / "features"), []
    cache.prepare()
    cache.save("a" * 64, make_features(tiny_model, manifest, progress))
    assert cache.load("a" * 64, silent) is not None
    assert cache.load("b" * 64, messages.append) is None
    assert messages == []
    (tmp_path / "features" / f"{'a' * 32}.safetensors").rename(
        tmp_path / "features" / f"{'b' * 32}.safetensors"
    )
    assert cache.load("b" * 64, messages.append) is None
    assert "not the features that its name says" in messages[0]


def test_the_key_covers_all_that_features_depend_on(
    write_labelled: Label,
    open_labelled: Open,
    tiny_info: CheckpointInfo,
    tiny_model: FusionModel,
    tokenizer_file: Path,
) -> None:
    path = write_labelled(LABELS, "rows.parquet")
    prompts = PromptEncoder(tokenizer_file, tiny_info.prompt)

    def key(info: CheckpointInfo = tiny_info, *, unified: bool = False, **options: object) -> str:
        options_read = ReadOptions(unify if unified else None, **options)
        manifest = LabelledManifest([str(path)], prompts, info.image, options_read)
        encoders = encoders_fingerprint(tiny_model, info, tokenizer_file)
        return feature_key(encoders, manifest, unify=unified)

    plain = key()
    assert key() == plain
    with torch.no_grad():
        tiny_model.head_b.bias += 1
    assert key(replace(tiny_info, labels=("real", "flux"))) == plain
    other_image = replace(tiny_info.image, mean=(0.5, 0.5, 0.5))
    found = {
        plain,
        key(unified=True),
        *(key(without=without) for without in Input),
        key(replace(tiny_info, image=other_image)),
        feature_key(
            encoders_fingerprint(tiny_model, tiny_info, tokenizer_file),
            LabelledManifest(
                [str(path)],
                prompts,
                tiny_info.image,
                choice=LabelChoice(generator_column="", label_column="Label_A"),
            ),
            unify=False,
        ),
    }
    # The rows are the same whatever their labels are.
    assert len(found) == 5
    write_labelled(LABELS[::-1], "rows.parquet")
    assert key() not in found
    with torch.no_grad():
        next(tiny_model.text_encoder.parameters()).view(-1)[0] += 1
    assert key() not in found


def test_a_folder_that_cannot_be_written_is_refused(
    train: Callable[..., tuple[Path, list[int], list[str]]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrainingError, match="features cannot be written.*`feature_cache`"):
        train("run", feature_cache=tmp_path / "file")
