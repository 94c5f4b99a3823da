import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from aigid.contract import ImageSpec, PromptSpec, Resizing
from aigid.errors import (
    AigidError,
    CheckpointError,
    ManifestError,
    UsageError,
)
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint
from aigid.training.config import TrainingConfig
from aigid.training.encoders import image_encoder_from_config, text_encoder_from_config
from aigid.training.image_pooling import ImagePooling
from aigid.training.labels import LabelChoice
from aigid.training.run import RunConfig, describe_model, find_tokenizer, train

Label = Callable[..., Path]
Run = Callable[..., Path]


@pytest.fixture
def encoders(tiny_info: CheckpointInfo, tmp_path: Path) -> dict[str, str]:
    """Return the paths of the tiny encoders' configs as JSON files."""
    found = {}
    for name, config in {
        "text_encoder": tiny_info.text_config,
        "image_encoder": tiny_info.image_config,
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
        found[name] = str(tmp_path / f"{name}.json")
    return found


@pytest.fixture
def run(
    encoders: dict[str, str],
    write_labelled: Label,
    tokenizer_file: Path,
    tmp_path: Path,
    progress: object,
) -> Run:
    """Return a function that trains for one epoch and returns the best checkpoint's folder."""
    train_file, validation = (
        write_labelled([0, 1, 2, 3, 4, 5], "train.parquet"),
        write_labelled([0, 5], "validation.parquet"),
    )
    config = RunConfig(
        train=(str(train_file),),
        validation=(str(validation),),
        **encoders,
        folder=tmp_path / "run",
        tokenizer=tokenizer_file,
        fusion_hidden=12,
        name="tried",
        notice="for tests",
        training=TrainingConfig(epochs=1, batch_rows=2, seed=3),
    )

    def run_with(
        lines: list[str] | None = None, *, resume: bool = False, **changes: object
    ) -> Path | None:
        told: list[str] = [] if lines is None else lines
        return train(replace(config, **changes), progress, told.append, resume=resume)

    return run_with


def test_encoders_by_config_are_trained_from_random_weights(
    run: Run, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    loaded = load_checkpoint(run())
    info = loaded.info
    assert (info.name, info.notice, info.fusion_hidden) == ("tried", "for tests", 12)
    assert (info.image, info.prompt) == (ImageSpec(size=32), PromptSpec(64, (16, 32, 64)))
    assert info.training["config"]["seed"] == 3
    assert info.training["validation"]["epoch"] == 1
    assert loaded.tokenizer_file.read_bytes() == tokenizer_file.read_bytes()
    for name in ("text_config", "image_config"):
        own = getattr(info, name)
        assert {key: own[key] for key in getattr(tiny_info, name)} == getattr(tiny_info, name)


def test_the_same_seed_gives_the_same_checkpoint(run: Run, tmp_path: Path) -> None:
    found = [
        (run(folder=tmp_path / name) / "model.safetensors").read_bytes() for name in ("one", "two")
    ]
    assert found[0] == found[1]


def test_a_text_encoder_from_a_folder_starts_pretrained_with_its_own_tokenizer(
    run: Run, minilm: Path, tmp_path: Path, encoders: dict[str, str]
) -> None:
    # The learning rate is so low that the weights stay nearly as they were loaded.
    training = TrainingConfig(epochs=1, batch_rows=2, learning_rate=1e-9)
    loaded = load_checkpoint(run(text_encoder=str(minilm), tokenizer=None, training=training))
    assert loaded.info.text_config["hidden_size"] == 384
    assert loaded.info.prompt == PromptSpec()
    assert loaded.tokenizer_file.read_bytes() == (minilm / "tokenizer.json").read_bytes()
    name = "encoder.layer.5.output.dense.weight"
    expected = load_file(minilm / "model.safetensors")[name]
    torch.testing.assert_close(
        loaded.model.state_dict()[f"text_encoder.{name}"], expected, rtol=0, atol=1e-6
    )
    assert str(minilm) not in (tmp_path / "run" / "best" / "config.json").read_text()


@pytest.mark.parametrize("tuned", ["frozen", "lora"])
def test_pretrained_weights_change_by_low_rank_additions_only(
    run: Run, minilm: Path, tuned: str
) -> None:
    training = TrainingConfig(
        epochs=2, batch_rows=2, learning_rate=1e-2, encoders=tuned, lora_rank=3
    )
    state = load_checkpoint(
        run(text_encoder=str(minilm), tokenizer=None, training=training)
    ).model.state_dict()
    ranks = set()
    for name, before in load_file(minilm / "model.safetensors").items():
        if name.startswith("encoder."):
            change = state[f"text_encoder.{name}"] - before
            ranks.add(
                int(torch.linalg.matrix_rank(change, rtol=1e-3))
                if change.ndim == 2
                else int(change.any())
            )
    assert ranks == ({0} if tuned == "frozen" else {0, 3})


def test_an_image_encoder_from_a_folder_is_loaded(
    run: Run, tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    encoder = image_encoder_from_config(
        {**tiny_info.image_config, "image_size": 48, "hidden_size": 20}
    )
    encoder.save_pretrained(tmp_path / "clip")
    training = TrainingConfig(epochs=1, batch_rows=2, learning_rate=1e-9)
    loaded = load_checkpoint(run(image_encoder=str(tmp_path / "clip"), training=training))
    assert loaded.info.image == ImageSpec(size=48)
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(
            loaded.model.state_dict()[f"image_encoder.{name}"], value, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        (512, PromptSpec(128, (16, 32, 64, 128))),
        (128, PromptSpec(128, (16, 32, 64, 128))),
        (64, PromptSpec(64, (16, 32, 64))),
        (77, PromptSpec(77, (16, 32, 64, 77))),
        (12, PromptSpec(12, (12,))),
    ],
)
def test_prompts_have_128_tokens_or_as_many_as_the_encoder_has_positions(
    tiny_info: CheckpointInfo, positions: int, expected: PromptSpec
) -> None:
    text = text_encoder_from_config(
        {**tiny_info.text_config, "vocab_size": 9, "max_position_embeddings": positions}
    )
    image = image_encoder_from_config(tiny_info.image_config)
    assert (
        describe_model((text, image), ImageSpec(size=32), 8, name="", notice="").prompt == expected
    )


def refusal(run: Run, error: type[AigidError], **changes: object) -> str:
    with pytest.raises(error) as refused:
        run(**changes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_class_without_training_rows_is_named(
    run: Run, write_labelled: Label, tmp_path: Path
) -> None:
    lacking = write_labelled([0, 1, 2, 3, 3, 5], "lacking.parquet")
    message = refusal(run, ManifestError, train=(str(lacking),))
    assert "lacking.parquet: no rows of dalle3: a model cannot learn a class" in message
    assert message.endswith("or give `labels` real,sd21,sdxl,sd3,midjourney")
    # What the message asks for works.
    choice = LabelChoice(labels=("real", "sd21", "sdxl", "sd3", "midjourney"))
    best = run(train=(str(lacking),), labels=choice, folder=tmp_path / "fewer")
    assert load_checkpoint(best).info.labels == choice.labels
    # Another file may have the rows that one lacks.
    assert run(train=(str(lacking), str(write_labelled([4], "rest.parquet"))))


def test_labels_that_no_row_names_can_be_left_out(run: Run, write_labelled: Label) -> None:
    binary = relabelled(write_labelled([0] * 4, "binary.parquet"), {"is_ai": [0, 1, 0, 1]})
    lines: list[str] = []
    with pytest.raises(ManifestError, match=r"no rows of fake: .* or leave out `labels`$"):
        labels = LabelChoice(labels=("real", "fake"))
        run(lines, train=(binary,), validation=(binary,), labels=labels)
    # What the labels were read as is told before.
    assert "2 rows are AI-generated by an unknown generator" in lines[1]


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 0], "no AI-generated rows"), ([1, 2], "no real rows")]
)
def test_training_rows_of_one_class_are_refused(
    run: Run, write_labelled: Label, labels: list[int | None], message: str
) -> None:
    one = str(write_labelled(labels, "one.parquet"))
    said = refusal(run, ManifestError, train=(one,))
    assert said.startswith(f"{one}: {message}: a model learns from both real and AI-generated rows")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no rows|no row of 0 has a label"),
        ([1, 2], "no real rows"),
        ([0, 0], "no AI-generated rows"),
    ],
)
def test_validation_without_both_classes_is_refused(
    run: Run, write_labelled: Label, labels: list[int | None], message: str
) -> None:
    empty = write_labelled(labels, "few.parquet")
    assert re.search(
        f"few.parquet: .*({message})", refusal(run, AigidError, validation=(str(empty),))
    )


def test_invalid_labels_are_found_before_training(
    run: Run, write_labelled: Label, tmp_path: Path
) -> None:
    table = pq.read_table(write_labelled([*range(6)]))
    column = table.schema.get_field_index("Label_B")
    pq.write_table(
        table.set_column(column, "Label_B", pa.array([0, 1, 2, 3, 4, 6], pa.int32())),
        tmp_path / "odd.parquet",
    )
    message = refusal(run, ManifestError, train=(str(tmp_path / "odd.parquet"),))
    assert "odd.parquet: column Label_B: no rule fits the value 6: " in message
    assert not (tmp_path / "run").exists()


def relabelled(file: Path, columns: dict[str, list[object]]) -> str:
    """Give a manifest other label columns; return its path."""
    table = pq.read_table(file).drop_columns(["Label_A", "Label_B"])
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, file)
    return str(file)


def test_a_model_has_the_labels_of_its_training_rows(
    run: Run, write_labelled: Label, tmp_path: Path
) -> None:
    rows = ["real", "flux", "sdxl", "real", "ai", None]
    train_file = relabelled(write_labelled([0] * 6, "named.parquet"), {"generator": rows})
    validation = relabelled(
        write_labelled([0] * 4, "checked.parquet"),
        {"is_fake": [False, True, True, True], "source": ["real", "SDXL", "kolors", None]},
    )
    lines: list[str] = []
    best = run(lines, train=(train_file,), validation=(validation,))
    loaded = load_checkpoint(best)
    assert loaded.info.labels == ("real", "flux", "sdxl")
    assert loaded.model.head_b.out_features == 3
    assert lines[:3] == [
        "training: labels from generator: real 2, flux 1, sdxl 1",
        "training: 1 row is AI-generated by an unknown generator: counted for A (real or "
        "AI-generated), left out of B (which generator)",
        "training: 1 row is left out: neither label is known",
    ]
    assert "validation: labels from is_fake (1 is AI-generated) and source: real 1, " in lines[3]
    assert "validation: 1 row is of generators that are not among the labels: kolors 1" in lines
    state = json.loads((tmp_path / "run" / "last" / "state.json").read_text())
    assert state["identity"]["labels"] == ["real", "flux", "sdxl"]


def test_binary_labels_alone_train_a_model_of_real_and_other(
    run: Run, write_labelled: Label
) -> None:
    files = {
        part: relabelled(write_labelled([0] * 4, f"{part}.parquet"), {"label": [0, 1, 0, 1]})
        for part in ("train", "validation")
    }
    best = run(**{part: (file,) for part, file in files.items()})
    assert load_checkpoint(best).info.labels == ("real", "other")


def test_chosen_labels_are_the_model_s_and_another_choice_does_not_resume(
    run: Run, write_labelled: Label
) -> None:
    train_file = write_labelled([0, 1, 2, 1], "few.parquet")
    names = ("real", "flux", "sdxl")
    config = {
        "train": (str(train_file),),
        "validation": (str(write_labelled([0, 2], "v.parquet")),),
    }
    assert load_checkpoint(run(labels=LabelChoice(labels=names), **config)).info.labels == names
    for choice in (
        LabelChoice(labels=("real", "flux", "gemini")),
        LabelChoice("Label_A", "Label_B", labels=names),
    ):
        message = refusal(run, UsageError, resume=True, labels=choice, **config)
        differing = "`label_column`" if choice.labels == names else "`labels`"
        assert f"holds a run with other settings or data: {differing}" in message


@pytest.mark.parametrize("kind", ["dinov3_vit", "siglip_vision_model"])
def test_other_image_encoders_are_trained_and_loaded_again(
    run: Run, tiny_info: CheckpointInfo, tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(1)
    image_encoder_from_config({**tiny_info.image_config, "model_type": kind}).save_pretrained(
        tmp_path / "encoder"
    )
    values = {
        "size": {"height": 48, "width": 48},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.3, 0.2, 0.1],
    }
    (tmp_path / "encoder" / "preprocessor_config.json").write_text(json.dumps(values))
    loaded = load_checkpoint(
        run(image_encoder=str(tmp_path / "encoder"), resizing=Resizing.NATIVE_CROP)
    )
    assert loaded.info.image_config["model_type"] == kind
    # SigLIP has positions for one size, DINOv3 for any.
    size = 48 if kind == "dinov3_vit" else 32
    assert loaded.info.image == ImageSpec(
        size, Resizing.NATIVE_CROP, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1)
    )


def test_a_checkpoint_of_another_architecture_is_refused(
    run: Run, tiny_info: CheckpointInfo
) -> None:
    best = run()
    config = json.loads((best / "config.json").read_text())
    (best / "config.json").write_text(json.dumps({**config, "fusion_hidden": 13}))
    with pytest.raises(
        CheckpointError,
        match=r"weights do not fit the architecture: .*of another shape \(fusion.bias",
    ):
        load_checkpoint(best)
    (best / "config.json").write_text(
        json.dumps(
            {
                **config,
                "image_config": {**config["image_config"], "model_type": "siglip_vision_model"},
            }
        )
    )
    with pytest.raises(CheckpointError, match="weights do not fit the architecture"):
        load_checkpoint(best)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(
    run: Run, tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    (tmp_path / "small.json").write_text(json.dumps({**tiny_info.text_config, "vocab_size": 1000}))
    message = refusal(run, UsageError, text_encoder=str(tmp_path / "small.json"))
    assert "has 30522 tokens, but the text encoder has embeddings for 1000" in message
    assert message.endswith("give the `tokenizer` that the encoder was trained with")
    assert not (tmp_path / "run").exists()


def test_a_config_without_a_tokenizer_asks_for_one(run: Run, encoders: dict[str, str]) -> None:
    message = refusal(run, UsageError, tokenizer=None)
    file = encoders["text_encoder"]
    assert message == f"{file}: a config comes without a tokenizer: give `tokenizer`"


def test_a_folder_without_a_tokenizer_asks_for_one(run: Run, minilm: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        shutil.copyfile(minilm / name, tmp_path / "bare" / name)
    message = refusal(run, CheckpointError, text_encoder=str(tmp_path / "bare"), tokenizer=None)
    assert message.startswith(f"{tmp_path / 'bare'}: no tokenizer.json: ")
    assert message.endswith("give `tokenizer`")


def test_an_unreachable_hub_id_asks_for_a_tokenizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without this the hub's client tries again for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError,
        match=r"no-such-owner/no-such-model: no tokenizer.json: .*give `tokenizer`",
    ):
        find_tokenizer("no-such-owner/no-such-model")


def test_a_missing_tokenizer_file_is_refused(run: Run, tmp_path: Path) -> None:
    assert "nowhere.json: no such file" in refusal(
        run, UsageError, tokenizer=tmp_path / "nowhere.json"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as an encoder's config"),
        ("[]", "expected an object, got list"),
        ('{"hidden_size": 16}', "model_type is missing"),
        ('{"model_type": "bert", "hidden_size": "wide"}', "hidden_size"),
    ],
)
def test_an_unusable_config_is_named(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    refused = refusal(run, UsageError, text_encoder=str(tmp_path / "bad.json"))
    assert refused.startswith(str(tmp_path / "bad.json"))
    assert message in refused


@pytest.mark.parametrize("which", ["text_encoder", "image_encoder"])
@pytest.mark.parametrize("name", ["gone.json", "gone"])
def test_a_missing_encoder_is_named(run: Run, tmp_path: Path, which: str, name: str) -> None:
    assert str(tmp_path / name) in refusal(run, UsageError, **{which: str(tmp_path / name)})


def test_a_folder_that_cannot_be_written_to_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refusal(run, UsageError, folder=tmp_path / "file" / "run")
    assert message.startswith(f"`folder` {tmp_path / 'file' / 'run'}: cannot be written to: ")


def test_encoders_are_loaded_before_the_folder_is_made(run: Run, tmp_path: Path) -> None:
    refusal(run, UsageError, image_encoder=str(tmp_path / "gone.json"))
    assert not (tmp_path / "run").exists()


def save_image_encoder(info: CheckpointInfo, folder: Path, seed: int, blocks: int = 2) -> str:
    torch.manual_seed(seed)
    config = {**info.image_config, "num_hidden_layers": blocks}
    image_encoder_from_config(config).save_pretrained(folder)
    return str(folder)


def test_an_inner_block_s_features_are_trained_saved_and_resumed(
    run: Run, tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    encoder = save_image_encoder(tiny_info, tmp_path / "encoder", 1)
    cut = {"image_encoder": encoder, "image_layer": 0, "image_pooling": ImagePooling.CLS_MEAN}
    loaded = load_checkpoint(run(**cut))
    assert loaded.info.image_config["num_hidden_layers"] == 1
    width = loaded.info.text_config["hidden_size"] + 2 * loaded.info.image_config["hidden_size"]
    assert loaded.model.fusion.in_features == width
    assert run(**cut, resume=True) == tmp_path / "run" / "best"
    message = refusal(run, UsageError, resume=True, **{**cut, "image_layer": 1})
    assert "`image_layer` (was 0, is 1)" in message
    message = refusal(run, UsageError, resume=True, image_encoder=encoder)
    assert '`image_pooling` (was "cls+mean", is null)' in message


def test_a_block_beyond_the_last_is_refused_before_training(
    run: Run, encoders: dict[str, str], tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    folder = save_image_encoder(tiny_info, tmp_path / "encoder", 1)
    for encoder, last in ((encoders["image_encoder"], 0), (folder, 1)):
        message = refusal(run, UsageError, image_encoder=encoder, image_layer=2)
        assert message.startswith(encoder)
        assert f"`image_layer` must be from 0 to {last}, the encoder's last block: got 2" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoder", ["text_encoder", "image_encoder"])
def test_adapters_in_the_place_of_an_encoder_are_refused_with_their_base(
    run: Run, encoder: str, tmp_path: Path
) -> None:
    base = {"base_model_name_or_path": "someone/some-encoder", "peft_type": "LORA"}
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text(json.dumps(base))
    message = refusal(run, CheckpointError, **{encoder: str(tmp_path / "adapters")})
    assert "adapters of the encoder someone/some-encoder, not an encoder: merge them" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_is_not_resumed_with_the_weights_of_another_encoder(
    run: Run, tuning: str, tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    first, other = (save_image_encoder(tiny_info, tmp_path / str(seed), seed) for seed in (1, 2))
    training = TrainingConfig(epochs=1, batch_rows=2, encoders=tuning, lora_rank=2)
    run(image_encoder=first, training=training)
    message = refusal(run, UsageError, resume=True, image_encoder=other, training=training)
    assert message.endswith(
        "holds a run with other settings or data: `image_encoder`: give the same again, or choose "
        "another `folder`"
    )
    # The same encoder may be at another place.
    moved = shutil.copytree(first, tmp_path / "moved")
    assert run(resume=True, image_encoder=str(moved), training=training)
