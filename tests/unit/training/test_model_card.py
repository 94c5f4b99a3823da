"""Model cards: the hub reads their front matter; they are the same for the same model."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from aigid.contract import (
    FittedOn,
    MissThreshold,
    ModelContract,
    OpenSet,
    Temperatures,
    Threshold,
)
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from aigid.training.fusion_model import FusionModel
from aigid.training.model_card import (
    CARD_FILE,
    checkpoint_card,
    recalibrated_card,
    repository_card,
    write_card,
)

TRAINING: dict[str, Any] = {
    "config": {"epochs": 3, "loss": {"weight_b": 0.5}},
    "data": {"train": "my_train", "validation": "OWNER/NAME/data/validation-*"},
    "metrics": {
        "a": {
            "macro_f1": 0.91234,
            "auroc": 0.95,
            "balanced_accuracy": None,
            "real_rows": 1500,
            "ai_rows": 7500,
            "intervals": {"macro_f1": [0.9, 0.93]},
        },
        "b": {"rows": 8999, "macro_f1": 0.5, "accuracy": 0.6, "intervals": {}},
        "constant": {"a": {"macro_f1": 0.4545}, "b": {"macro_f1": 0.0476, "accuracy": 0.1667}},
    },
}
THRESHOLDS = {"0.001": Threshold(0.99, 3000, 0.95), "0.01": Threshold(0.875, 3000, 0.95)}


@pytest.fixture
def info(tiny_info: CheckpointInfo) -> CheckpointInfo:
    return replace(
        tiny_info,
        temperatures=Temperatures(1.25, 0.75),
        thresholds=THRESHOLDS,
        miss_thresholds={"0.01": MissThreshold(0.125, 7500, 0.95)},
        open_set=OpenSet(0.3125, 0.955, 700),
        fitted_on=FittedOn("OWNER/NAME/data/validation-*", 9000, 1500, "torch fp32"),
        training=TRAINING,
    )


@pytest.fixture
def contract(info: CheckpointInfo) -> ModelContract:
    return ModelContract(
        name=info.name,
        notice=info.notice,
        text_features=16,
        image_features=16,
        fingerprint="f" * 64,
        encoders_fingerprint="e" * 64,
        version=3,
        thresholds=info.thresholds,
        miss_thresholds=info.miss_thresholds,
        open_set=info.open_set,
    )


def test_the_hub_reads_the_front_matter(info: CheckpointInfo) -> None:
    data = ModelCard(checkpoint_card(info)).data
    assert (data.library_name, data.pipeline_tag) == ("aigid", "image-classification")
    assert "license" not in data.to_dict()
    assert data.model_name == "tiny"
    results = {(one.metric_name, one.metric_type): one for one in data.eval_results}
    assert {key: one.metric_value for key, one in results.items()} == {
        ("macro-F1 of A (AI-generated or real)", "f1"): 0.9123,
        ("AUROC of A", "roc_auc"): 0.95,
        ("macro-F1 of B (which generator)", "f1"): 0.5,
        ("accuracy of B", "accuracy"): 0.6,
    }
    for one in results.values():
        assert one.dataset_name == "OWNER/NAME/data/validation-*"
        assert (one.dataset_type, one.dataset_split) == ("OWNER/NAME", "validation")
    assert data.metrics == sorted({one.metric_type for one in results.values()})


def test_the_card_says_what_the_model_is(info: CheckpointInfo) -> None:
    card = checkpoint_card(info)
    for part in (
        "# tiny\n",
        "> Random weights, for tests.",
        "real, sd21, sdxl, sd3, dalle3, midjourney",
        "| text encoder | `bert`, width 16, 1 layers; at most 64 tokens |",
        "`clip_vision_model`, width 16, 1 layers, patches of 8; 32 pixels, `shorter_side`",
        "Trained on my\\_train. The settings: `epochs` 3, `loss.weight_b` 0.5.",
        "1,500 real, 7,500 AI-generated, 8,999 in B",
        "| macro-F1 of A (AI-generated or real) | 0.9123 | 0.9000 to 0.9300 | 0.4545 |",
        "| AUROC of A | 0.9500 | - | - |",
        "1.250 for A and 0.750 for B",
        "with torch fp32: 9,000 rows, 1,500 of them real",
        "| 0.01 | 0.8750 | 3,000 | 95 % |\n| 0.001 | 0.9900 | 3,000 | 95 % |",
        "below 0.3125. Of 700 rows of known generators, 95.5 % keep their name",
        "aigid build FOLDER MODEL --calibration TRAIN --validation VALIDATION",
        "hf upload OWNER/NAME FOLDER",
    ):
        assert part in card, part


def test_an_encoder_that_is_cut_says_what_its_features_are(tiny_info: CheckpointInfo) -> None:
    config = {**tiny_info.image_config, "image_pooling": "cls+mean"}
    card = checkpoint_card(replace(tiny_info, image_config=config))
    assert "| image features | of the last of these layers, tokens pooled by `cls+mean` |" in card


def test_a_model_without_a_run_has_a_card_without_results(tiny_info: CheckpointInfo) -> None:
    card = checkpoint_card(tiny_info)
    assert not ModelCard(card).data.eval_results
    assert "## Results" not in card
    assert "## Training" not in card
    assert "None is stored" in card
    assert "the model knows no other" in card


def test_the_class_other_is_explained(tiny_info: CheckpointInfo) -> None:
    card = checkpoint_card(replace(tiny_info, labels=("real", "other")))
    assert "`other` is the class of all generators that are not among them" in card


@pytest.mark.parametrize(
    "training",
    [
        {"metrics": []},
        {"metrics": {"a": {"macro_f1": "high"}, "b": 3}},
        {"metrics": {"a": {"macro_f1": 0.5, "intervals": [1]}}, "data": "none"},
        {"metrics": {"a": {"macro_f1": True, "intervals": {"macro_f1": ["x", None]}}}},
        {"config": [1, 2], "data": {"train": 7, "validation": ["a"]}},
        {"converted_from": "elsewhere"},
    ],
)
def test_records_of_other_versions_give_a_card(
    tiny_info: CheckpointInfo, training: dict[str, Any]
) -> None:
    card = checkpoint_card(replace(tiny_info, training=training))
    assert ModelCard(card).data.library_name == "aigid"


def test_names_are_shown_as_they_are(tiny_info: CheckpointInfo) -> None:
    labels = ("real", "a|b", "<script>", "[x](y)")
    name = "my: model\n---\nlicense: none"
    card = checkpoint_card(replace(tiny_info, name=name, labels=labels, training=TRAINING))
    read = ModelCard(card)
    assert read.data.model_name == name
    assert "license" not in read.data.to_dict()
    assert "# my: model --- license: none\n" in card
    assert r"real, a\|b, \<script\>, \[x\](y)" in card


def test_a_checkpoint_has_its_card_and_the_same_one_anywhere(
    tiny_model: FusionModel, info: CheckpointInfo, tokenizer_file: Path, tmp_path: Path
) -> None:
    cards = []
    for folder in (tmp_path / "one", tmp_path / "two" / "other"):
        save_checkpoint(tiny_model, info, tokenizer_file, folder)
        cards.append((folder / CARD_FILE).read_text())
    assert cards[0] == cards[1] == checkpoint_card(load_checkpoint(folder).info)
    assert str(tmp_path) not in cards[0]
    assert not re.search(r"20\d\d-\d\d", cards[0])


def test_the_card_of_a_repository_has_its_version_and_the_checkpoint_s_training(
    info: CheckpointInfo, contract: ModelContract
) -> None:
    card = repository_card(contract, info)
    assert ModelCard(card).data.eval_results
    assert "version 3, and CPUs run its int8 graphs" in card
    assert "aigid scan IMAGES --model FOLDER --out results/" in card
    assert "## Training" in card
    alone = repository_card(contract)
    assert "## Training" not in alone
    assert "## Thresholds" in alone


def test_a_calibration_changes_the_thresholds_and_nothing_else(
    info: CheckpointInfo, contract: ModelContract
) -> None:
    card = repository_card(contract, info)
    calibrated = replace(
        contract,
        version=contract.version + 7,
        temperatures=Temperatures(3.0, 4.0),
        thresholds={"0.05": Threshold(0.625, 60, 0.95)},
        fitted_on=FittedOn("mine", 200, 60, "int8"),
    )
    changed = recalibrated_card(card, calibrated)
    assert "3.000 for A and 4.000 for B" in changed
    assert "| 0.05 | 0.6250 | 60 | 95 % |" in changed
    assert f"This is version {contract.version + 7}, and CPUs" in changed
    assert "0.8750" not in changed
    assert recalibrated_card(changed, contract) == card
    assert recalibrated_card(None, contract) == repository_card(contract)
    assert recalibrated_card("# My own words\n", contract) == "# My own words\n"


def test_miss_thresholds_have_a_table_where_there_are_some(
    contract: ModelContract, info: CheckpointInfo
) -> None:
    for card in (repository_card(contract), checkpoint_card(info)):
        assert "| 0.01 | 0.1250 | 7,500 | 95 % |" in card
        assert "`unsure` between" in card
    assert "miss rate" not in repository_card(replace(contract, miss_thresholds={}))


def test_a_card_that_somebody_rewrote_stays(
    info: CheckpointInfo, contract: ModelContract, tmp_path: Path
) -> None:
    card, file = repository_card(contract, info), tmp_path / CARD_FILE
    write_card("first <!-- no marker -->", tmp_path)
    write_card(card, tmp_path)
    assert file.read_text() == "first <!-- no marker -->"
    file.write_text(card.replace("---\n", "---\nlicense: mit\n", 1))
    write_card(card, tmp_path)
    assert file.read_text() == card
    own = "".join(line for line in card.splitlines(True) if "Written by aigid" not in line)
    file.write_text(own)
    write_card(card, tmp_path)
    assert file.read_text() == own
    assert json.dumps(ModelCard(own).data.to_dict())
