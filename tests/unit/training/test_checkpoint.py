import json
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aigid.contract import ImageSpec, PromptSpec, Temperatures, Threshold
from aigid.errors import CheckpointError
from aigid.training.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointInfo,
    load_checkpoint,
    new_model,
    save_checkpoint,
)
from aigid.training.fusion_model import FusionModel


@pytest.fixture
def folder(
    tiny_model: FusionModel, tiny_info: CheckpointInfo, tokenizer_file: Path, tmp_path: Path
) -> Path:
    save_checkpoint(tiny_model, tiny_info, tokenizer_file, tmp_path / "runs" / "saved")
    return tmp_path / "runs" / "saved"


FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_checkpoint_comes_back_bit_by_bit(
    folder: Path, tiny_model: FusionModel, tiny_info: CheckpointInfo
) -> None:
    loaded = load_checkpoint(folder)
    assert loaded.info == tiny_info
    assert not loaded.model.training
    state = loaded.model.state_dict()
    assert state.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in tiny_model.state_dict().items())


def test_everything_in_a_checkpoint_comes_back(
    tiny_model: FusionModel, tiny_info: CheckpointInfo, tokenizer_file: Path, tmp_path: Path
) -> None:
    info = replace(
        tiny_info,
        image=ImageSpec(32, "native_crop", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
        prompt=PromptSpec(32, (4, 32)),
        temperatures=Temperatures(1.25, 0.1 + 0.2),
        thresholds={"0.01": Threshold(0.9876543210123, 300, 0.95)},
        training={"config": {"epochs": 3}, "validation": {"loss": None}},
    )
    save_checkpoint(tiny_model, info, tokenizer_file, tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved")
    assert loaded.info == info
    assert loaded.tokenizer_file.read_bytes() == tokenizer_file.read_bytes()


def test_a_checkpoint_is_four_files_and_none_is_a_pickle(folder: Path) -> None:
    assert sorted(contents(folder)) == FILES
    for path in folder.iterdir():
        assert not zipfile.is_zipfile(path)
        # Every pickle of protocol 2 or later begins with this byte.
        assert not path.read_bytes().startswith(b"\x80")
    assert json.loads((folder / CONFIG_FILE).read_text())["name"] == "tiny"


def test_half_precision_halves_the_file_and_is_read_as_float32(
    folder: Path,
    tiny_model: FusionModel,
    tiny_info: CheckpointInfo,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    save_checkpoint(tiny_model, tiny_info, tokenizer_file, tmp_path / "half", half=True)
    assert (tmp_path / "half" / WEIGHTS_FILE).stat().st_size < 0.51 * (
        folder / WEIGHTS_FILE
    ).stat().st_size
    state = load_checkpoint(tmp_path / "half").model.state_dict()
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(state[name], value.half().float()), name


def test_the_fingerprint_covers_what_changes_answers(
    folder: Path,
    tiny_model: FusionModel,
    tiny_info: CheckpointInfo,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    def fingerprint(info: CheckpointInfo) -> str:
        save_checkpoint(tiny_model, info, tokenizer_file, tmp_path / "other")
        return load_checkpoint(tmp_path / "other").fingerprint

    same = load_checkpoint(folder).fingerprint
    assert fingerprint(tiny_info) == same
    assert (
        fingerprint(
            replace(
                tiny_info,
                name="renamed",
                notice="",
                training={"a": 1},
                thresholds={"0.5": Threshold(0.5, 300, 0.95)},
            )
        )
        == same
    )
    assert fingerprint(replace(tiny_info, temperatures=Temperatures(1.5, 1.0))) != same
    assert fingerprint(replace(tiny_info, image=ImageSpec(32, "native_crop"))) != same
    with torch.no_grad():
        tiny_model.head_a.bias += 1e-6
    assert fingerprint(tiny_info) != same


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(
        CheckpointError, match=f"{folder}: not a whole checkpoint: it has no {name}"
    ):
        load_checkpoint(folder)


def test_a_model_repository_is_refused(tiny_repository: Path) -> None:
    with pytest.raises(CheckpointError, match="a model repository, not a checkpoint"):
        load_checkpoint(tiny_repository)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: not a whole checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("data", [b"", b"no safetensors", b"\xff" * 100])
def test_damaged_weights_are_refused(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="model.safetensors: damaged"):
        load_checkpoint(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:-4])
    with pytest.raises(CheckpointError, match="model.safetensors: damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(colour="red"), r"unknown keys \['colour'\]"),
        (lambda config: config.pop("notice"), r"missing keys \['notice'\]"),
        (
            lambda config: config["prompt"].pop("buckets"),
            r"config.json.prompt: .*missing keys \['buckets'\]",
        ),
        (lambda config: config["temperatures"].update(a=0), "temperatures must be positive"),
        (lambda config: config["image"].update(resizing="puzzle"), "puzzle"),
        (lambda config: config["text_config"].update(hidden_size="wide"), "hidden_size"),
        (lambda config: config["text_config"].update(num_attention_heads=3), "multiple"),
        (lambda config: config["image_config"].update(model_type="vit"), "model_type is vit"),
        (
            lambda config: config.update(fusion_hidden="many"),
            "fusion_hidden must be a whole number above 0: got 'many'",
        ),
        (lambda config: config.update(fusion_hidden=0), "fusion_hidden"),
        (
            lambda config: config.update(text_config=[]),
            "text_config and image_config must be objects",
        ),
    ],
)
def test_an_invalid_config_is_refused(
    folder: Path, change: Callable[[dict], object], message: str
) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    change(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as refused:
        load_checkpoint(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_config_that_is_not_an_object_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        load_checkpoint(folder)


def test_weights_of_another_architecture_are_named(folder: Path) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    del state["head_a.bias"]
    state["fusion.weight"] = torch.zeros(24, 33)
    state["head_c.weight"] = torch.zeros(2)
    save_file(state, folder / WEIGHTS_FILE)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(folder)
    for message in (
        "1 missing (head_a.bias)",
        "1 unknown (head_c.weight)",
        "1 of another shape (fusion.weight)",
    ):
        assert message in str(refused.value)


def test_a_new_model_has_the_same_architecture_and_other_weights(
    tiny_model: FusionModel, tiny_info: CheckpointInfo
) -> None:
    torch.manual_seed(8)
    other = new_model(tiny_info)
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    assert shapes == {name: value.shape for name, value in tiny_model.state_dict().items()}
    assert not torch.equal(other.fusion.weight, tiny_model.fusion.weight)


def changed(model: FusionModel) -> FusionModel:
    with torch.no_grad():
        model.head_a.bias += 1
    return model


def test_a_new_checkpoint_replaces_the_old_one(
    folder: Path, tiny_model: FusionModel, tiny_info: CheckpointInfo, tokenizer_file: Path
) -> None:
    (folder / "left-over.txt").write_text("of the old one")
    save_checkpoint(changed(tiny_model), tiny_info, tokenizer_file, folder)
    assert torch.equal(load_checkpoint(folder).model.head_a.bias, tiny_model.head_a.bias)
    assert len(contents(folder)) == len(FILES)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_save_that_fails_leaves_the_old_checkpoint(
    folder: Path, tiny_model: FusionModel, tiny_info: CheckpointInfo, tmp_path: Path
) -> None:
    before = contents(folder)
    with pytest.raises(FileNotFoundError):
        save_checkpoint(changed(tiny_model), tiny_info, tmp_path / "no-tokenizer.json", folder)
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("rename", [1, 2])
def test_a_save_interrupted_at_its_last_step_leaves_the_old_checkpoint(
    folder: Path,
    tiny_model: FusionModel,
    tiny_info: CheckpointInfo,
    tokenizer_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    rename: int,
) -> None:
    before = contents(folder)
    real, calls = Path.rename, iter(range(1, 9))

    def interrupted(self: Path, target: Path) -> Path:
        if next(calls) == rename:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(changed(tiny_model), tiny_info, tokenizer_file, folder)
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("umask", "folder_mode", "file_mode"), [(0o022, 0o755, 0o644), (0o027, 0o750, 0o640)]
)
def test_the_umask_decides_who_can_read_a_checkpoint(
    tiny_model: FusionModel,
    tiny_info: CheckpointInfo,
    tokenizer_file: Path,
    tmp_path: Path,
    umask: int,
    folder_mode: int,
    file_mode: int,
) -> None:
    before = os.umask(umask)
    try:
        save_checkpoint(tiny_model, tiny_info, tokenizer_file, tmp_path / "saved")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == folder_mode
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()
    }
    assert modes == dict.fromkeys(FILES, file_mode)


def test_equal_models_are_equal_files(
    folder: Path,
    tiny_model: FusionModel,
    tiny_info: CheckpointInfo,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    save_checkpoint(tiny_model, tiny_info, tokenizer_file, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_answers_are_the_same_after_a_round_trip(folder: Path, tiny_model: FusionModel) -> None:
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    )
    ids = torch.tensor([[101, 2417, 102], [101, 3899, 102]])
    with torch.no_grad():
        found, expected = (
            model(image, ids, torch.ones_like(ids))
            for model in (load_checkpoint(folder).model, tiny_model)
        )
    assert torch.equal(found.a, expected.a)
    assert torch.equal(found.b, expected.b)
