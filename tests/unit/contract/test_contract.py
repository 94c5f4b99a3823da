"""The contract: a round trip, refusals of wrong values, and finding the model repository."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.manifests import REPOSITORY

from aigid.contract import (
    CONTRACT_FILE,
    FittedOn,
    ImageSpec,
    MissThreshold,
    ModelContract,
    OpenSet,
    PromptSpec,
    Resizing,
    Temperatures,
    Threshold,
    find_model,
    fingerprint_of,
    load_contract,
    save_contract,
)
from aigid.errors import ContractError
from aigid.records import DEFAULT_LABELS, Mode

PLAIN = ModelContract(
    "tiny",
    "for tests",
    text_features=16,
    image_features=24,
    fingerprint="ab12",
    encoders_fingerprint="cd34",
)
THRESHOLD = Threshold(0.93, 3000, 0.95)
RICH = dataclasses.replace(
    PLAIN,
    version=3,
    cpu_precision="fp32",
    image=ImageSpec(
        size=32, resizing=Resizing.NATIVE_CROP, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    ),
    prompt=PromptSpec(max_tokens=64, buckets=(8, 64)),
    temperatures=Temperatures(a=1.7, b=0.6),
    labels=("real", "flux", "sd15"),
    thresholds={"0.01": THRESHOLD, "0.001": Threshold(0.99, 3000, 0.95)},
    miss_thresholds={"0.01": MissThreshold(0.25, 6000, 0.95)},
    open_set=OpenSet(0.4, 0.97, 500),
    fitted_on=FittedOn("validation", 9000, 1500, "int8"),
)

Values = dict[str, Any]


def values_of(contract: ModelContract, folder: Path) -> Values:
    save_contract(contract, folder)
    return dict(json.loads((folder / CONTRACT_FILE).read_text(encoding="utf-8")))


def refusal(values: object, folder: Path) -> str:
    (folder / CONTRACT_FILE).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        load_contract(folder)
    assert str(folder / CONTRACT_FILE) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("contract", [PLAIN, RICH], ids=["plain", "rich"])
def test_a_contract_survives_a_round_trip(contract: ModelContract, tmp_path: Path) -> None:
    save_contract(contract, tmp_path)
    assert load_contract(tmp_path) == contract


def test_the_defaults_are_those_of_the_paper() -> None:
    assert (PLAIN.image.size, PLAIN.image.resizing) == (224, "shorter_side")
    assert (PLAIN.prompt.max_tokens, PLAIN.prompt.buckets) == (128, (16, 32, 64, 128))
    assert PLAIN.labels == ("real", "sd21", "sdxl", "sd3", "dalle3", "midjourney")


def test_native_crop_is_written_by_its_name(tmp_path: Path) -> None:
    assert values_of(RICH, tmp_path)["image"]["resizing"] == "native_crop"
    assert load_contract(tmp_path).image.resizing is Resizing.NATIVE_CROP


def test_a_missing_contract_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such file") as caught:
        load_contract(tmp_path)
    assert str(tmp_path / CONTRACT_FILE) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"format: 1", b'{"name": "\xff"}'])
def test_a_contract_that_is_not_json_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / CONTRACT_FILE).write_bytes(data)
    with pytest.raises(ContractError, match="not readable") as caught:
        load_contract(tmp_path)
    assert str(tmp_path / CONTRACT_FILE) in str(caught.value)


@pytest.mark.parametrize("value", [2, "3", None, 3.5])
def test_another_format_is_refused(value: object, tmp_path: Path) -> None:
    assert "its format is not 3" in refusal(
        values_of(PLAIN, tmp_path) | {"format": value}, tmp_path
    )


@pytest.mark.parametrize("values", [[], None, "text", {}])
def test_a_contract_without_a_format_is_refused(values: object, tmp_path: Path) -> None:
    assert "its format is not 3" in refusal(values, tmp_path)


@pytest.mark.parametrize("part", ["", "image", "prompt", "temperatures", "open_set", "fitted_on"])
def test_an_unknown_key_is_refused_and_named(part: str, tmp_path: Path) -> None:
    values = values_of(RICH, tmp_path)
    (values[part] if part else values)["colour"] = 1
    said = refusal(values, tmp_path)
    assert "unknown keys ['colour']" in said
    assert part in said


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("", field.name) for field in dataclasses.fields(ModelContract)),
        *(("image", field.name) for field in dataclasses.fields(ImageSpec)),
        *(("prompt", field.name) for field in dataclasses.fields(PromptSpec)),
        *(("temperatures", field.name) for field in dataclasses.fields(Temperatures)),
        *(("open_set", field.name) for field in dataclasses.fields(OpenSet)),
        *(("fitted_on", field.name) for field in dataclasses.fields(FittedOn)),
    ],
)
def test_a_missing_key_is_refused_and_named(part: str, key: str, tmp_path: Path) -> None:
    values = values_of(RICH, tmp_path)
    del (values[part] if part else values)[key]
    said = refusal(values, tmp_path)
    assert f"missing keys ['{key}']" in said
    assert part in said


WRONG_TYPES = [
    ("", "name", 5),
    ("", "name", None),
    ("", "notice", ["a", "b"]),
    ("", "text_features", "16"),
    ("", "text_features", 16.0),
    ("", "text_features", True),
    ("", "image_features", None),
    ("", "fingerprint", 12),
    ("", "version", "1"),
    ("", "version", 1.5),
    ("", "cpu_precision", 8),
    ("", "image", 224),
    ("", "image", None),
    ("", "prompt", [128]),
    ("", "labels", "real"),
    ("", "labels", 6),
    ("", "temperatures", 1.0),
    ("", "thresholds", ["0.01"]),
    ("", "thresholds", {"0.01": "0.9"}),
    ("", "thresholds", {"0.01": None}),
    ("", "thresholds", {"0.01": 0.9}),
    ("", "thresholds", {"0.01": {"p_ai": "0.9", "real_rows": 300, "confidence": 0.95}}),
    ("", "thresholds", {"0.01": {"p_ai": 0.9, "real_rows": 300.5, "confidence": 0.95}}),
    ("", "miss_thresholds", {"0.01": 0.2}),
    ("", "miss_thresholds", {"0.01": {"p_ai": 0.2, "ai_rows": "300", "confidence": 0.95}}),
    ("", "encoders_fingerprint", None),
    ("", "open_set", 0.5),
    ("", "fitted_on", "validation"),
    ("open_set", "threshold", None),
    ("open_set", "rows", "500"),
    ("fitted_on", "rows", None),
    ("fitted_on", "graphs", 8),
    ("image", "size", "224"),
    ("image", "size", 224.5),
    ("image", "size", True),
    ("image", "resizing", 1),
    ("image", "mean", "abc"),
    ("image", "mean", 0.5),
    ("image", "mean", [0.1, None, 0.3]),
    ("image", "std", {"0": 1, "1": 1, "2": 1}),
    ("prompt", "max_tokens", "128"),
    ("prompt", "buckets", 128),
    ("prompt", "buckets", [16.5, 64]),
    ("prompt", "buckets", ["16", "64"]),
    ("temperatures", "a", "1"),
    ("temperatures", "b", None),
    ("temperatures", "b", float("nan")),
    ("image", "mean", [0.1, float("nan"), 0.3]),
    ("image", "std", [0.1, 0.2, float("inf")]),
]


@pytest.mark.parametrize(("part", "key", "value"), WRONG_TYPES)
def test_a_wrong_type_is_refused_and_its_key_named(
    part: str, key: str, value: object, tmp_path: Path
) -> None:
    values = values_of(RICH, tmp_path)
    (values[part] if part else values)[key] = value
    assert key in refusal(values, tmp_path)


def test_an_int_passes_for_a_float(tmp_path: Path) -> None:
    values = values_of(RICH, tmp_path)
    values["temperatures"]["a"] = 2
    (tmp_path / CONTRACT_FILE).write_text(json.dumps(values), encoding="utf-8")
    assert load_contract(tmp_path).temperatures.a == 2.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ImageSpec(size=0), "size must be positive"),
        (lambda: ImageSpec(size=-1), "size must be positive"),
        (lambda: ImageSpec(mean=(0.1, 0.2)), "three numbers"),
        (lambda: ImageSpec(std=(0.1, 0.2, 0.3, 0.4)), "three numbers"),
        (lambda: ImageSpec(std=(0.1, 0.2, 0.0)), "std above 0"),
        (lambda: PromptSpec(buckets=()), "buckets"),
        (lambda: PromptSpec(buckets=(16, 64)), "max_tokens"),
        (lambda: PromptSpec(buckets=(32, 16, 128)), "rise"),
        (lambda: PromptSpec(buckets=(16, 16, 128)), "rise"),
        (lambda: PromptSpec(buckets=(1, 128)), "from 2"),
        (lambda: Temperatures(a=0), "positive"),
        (lambda: Temperatures(b=-1), "positive"),
        (lambda: dataclasses.replace(PLAIN, labels=DEFAULT_LABELS[::-1]), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=("real",)), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=()), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=("real", "flux", "flux")), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=("real", "")), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=("real", " flux")), "labels must be"),
        (lambda: dataclasses.replace(PLAIN, labels=("real", "a\nb")), "labels must be"),
        (lambda: dataclasses.replace(RICH, labels=("real", "flux", "other")), "open_set must be"),
        (lambda: Threshold(0.9, 0, 0.95), "real_rows above 0"),
        (lambda: Threshold(0.9, 300, 1.0), "confidence"),
        (lambda: MissThreshold(0.1, 0, 0.95), "ai_rows above 0"),
        (lambda: MissThreshold(0.1, 300, 0), "confidence"),
        (
            lambda: dataclasses.replace(PLAIN, miss_thresholds={"2": MissThreshold(0.1, 9, 0.95)}),
            "miss_thresholds: a rate",
        ),
        (lambda: OpenSet(0.5, 0.9, 0), "rows above 0"),
        (lambda: OpenSet(0.5, 1.1, 10), "known_rate"),
        (lambda: dataclasses.replace(PLAIN, text_features=0), "text_features"),
        (lambda: dataclasses.replace(PLAIN, image_features=-1), "image_features"),
        (lambda: dataclasses.replace(PLAIN, version=0), "version"),
        (lambda: dataclasses.replace(PLAIN, thresholds={"one percent": THRESHOLD}), "one percent"),
        (lambda: dataclasses.replace(PLAIN, thresholds={"nan": THRESHOLD}), "nan"),
        (lambda: dataclasses.replace(PLAIN, thresholds={"1.5": THRESHOLD}), "1.5"),
    ],
)
def test_an_impossible_value_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        make()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "labels", ["sdxl", "real", "sd21"]),
        ("", "thresholds", {"1 %": dataclasses.asdict(THRESHOLD)}),
        ("image", "resizing", "puzzle"),
        ("image", "std", [0.1, 0.2, 0.0]),
        ("prompt", "buckets", [64, 8]),
        ("temperatures", "a", 0),
    ],
)
def test_a_file_with_an_impossible_value_is_refused_and_its_key_named(
    part: str, key: str, value: object, tmp_path: Path
) -> None:
    values = values_of(RICH, tmp_path)
    (values[part] if part else values)[key] = value
    said = refusal(values, tmp_path)
    assert key in said
    assert part in said


def test_an_unknown_resizing_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    values = values_of(RICH, tmp_path)
    values["image"]["resizing"] = "puzzle"
    said = refusal(values, tmp_path)
    assert "puzzle" in said
    assert "native_crop" in said


@pytest.mark.parametrize(("max_fpr", "expected"), [(0.01, 0.93), (0.001, 0.99)])
def test_the_threshold_is_that_of_exactly_the_rate(max_fpr: float, expected: float) -> None:
    assert RICH.threshold_for(max_fpr).p_ai == expected


@pytest.mark.parametrize(("max_fpr", "rows"), [(0.0001, "29,956"), (0.009, "332"), (0.02, "149")])
def test_a_rate_that_is_not_stored_is_refused_with_what_it_needs(max_fpr: float, rows: str) -> None:
    stored = r"it has 0\.001 \(3,000 real rows\), 0\.01 \(3,000 real rows\) of validation, int8"
    needs = rf"{max_fpr} needs {rows} real rows.*aigid calibrate .* --max-fpr {max_fpr}$"
    with pytest.raises(
        ContractError, match=rf"^`max_fpr` {max_fpr}: model tiny .*{stored}; {needs}"
    ):
        RICH.threshold_for(max_fpr)


def test_the_smallest_rate_there_is_has_no_threshold_either() -> None:
    with pytest.raises(ContractError, match="needs 9,223,372,036,854,775,80. real rows"):
        RICH.threshold_for(5e-324)


@pytest.mark.parametrize("max_fpr", [0.0, 1.0])
def test_a_rate_that_no_number_of_rows_can_show_is_refused(max_fpr: float) -> None:
    with pytest.raises(ContractError, match="it has none$"):
        PLAIN.threshold_for(max_fpr)


def test_the_origin_of_a_threshold_names_rows_data_and_graphs() -> None:
    said = RICH.threshold_origin(0.01)
    assert (
        "a false-positive rate of 0.01 was measured on 3,000 real rows of validation, int8" in said
    )
    unknown = dataclasses.replace(RICH, fitted_on=None)
    assert "3,000 real rows: on images" in unknown.threshold_origin(0.001)


def test_the_thresholds_of_a_mode_are_those_of_its_rate() -> None:
    ai, real = RICH.verdict_thresholds(Mode.BALANCED, 0.01)
    assert (ai.p_ai, real.p_ai) == (0.93, 0.25)


@pytest.mark.parametrize(
    ("contract", "mode", "rate", "said"),
    [
        (
            RICH,
            Mode.HIGH_PRECISION,
            0.001,
            "none for a miss rate of 0.001, which needs 2,995 AI-generated rows: fit",
        ),
        (
            dataclasses.replace(RICH, thresholds={}),
            Mode.BALANCED,
            0.01,
            "none for a false-positive rate of 0.01, which needs 299 real rows: fit",
        ),
        (PLAIN, Mode.BALANCED, 0.01, "299 real rows, and none for a miss rate of 0.01"),
    ],
)
def test_a_mode_without_thresholds_is_refused_with_what_they_need(
    contract: ModelContract, mode: Mode, rate: float, said: str
) -> None:
    with pytest.raises(ContractError, match=rf"^`mode` {mode}: .*aigid calibrate") as caught:
        contract.verdict_thresholds(mode, rate)
    assert said in str(caught.value)


def test_the_origin_of_verdicts_names_rows_of_both_classes() -> None:
    said = RICH.verdict_origin(Mode.BALANCED, 0.01)
    assert "measured on 3,000 real and 6,000 AI-generated rows of validation, int8" in said


def test_a_fingerprint_depends_on_each_part_and_on_its_length() -> None:
    prints = [
        fingerprint_of([b"weights", b"tokenizer"], {"size": 32}),
        fingerprint_of([b"weightz", b"tokenizer"], {"size": 32}),
        fingerprint_of([b"weights", b"tokenizes"], {"size": 32}),
        fingerprint_of([b"weights", b"tokenizer"], {"size": 33}),
        fingerprint_of([b"weightst", b"okenizer"], {"size": 32}),
        fingerprint_of([b"", b"weightstokenizer"], {"size": 32}),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(value) == 64 for value in prints)


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint_of([], {"a": 1, "b": 2}) == fingerprint_of([], {"b": 2, "a": 1})


def test_the_sources_have_other_where_there_is_an_open_set() -> None:
    assert PLAIN.sources == PLAIN.labels
    assert RICH.sources == ("real", "flux", "sd15", "other")


def test_the_graphs_of_the_encoders_carry_their_own_fingerprint() -> None:
    parts = ("bert", "clip_vision", "fusion_heads")
    assert [PLAIN.graph_fingerprint(part) for part in parts] == ["cd34", "cd34", "ab12"]


def test_the_demo_model_is_found_without_a_path() -> None:
    assert find_model(None) == REPOSITORY
    assert find_model(str(REPOSITORY)) == find_model(REPOSITORY) == REPOSITORY


def checkpoint(folder: Path) -> Path:
    """Return a folder with the files of a checkpoint."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).touch()
    return folder


def a_file(path: Path) -> Path:
    path.touch()
    return path


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "no such folder"),
        (a_file, "a file, not the folder of a model repository"),
        (a_folder, "not a model repository: it has no contract.json"),
        (
            checkpoint,
            "a checkpoint, not a model repository; build one from it: "
            "aigid build '{path}' REPOSITORY --calibration MANIFEST --validation MANIFEST",
        ),
        (lambda path: path.with_name("x" * 300), "cannot be read: File name too long"),
    ],
    ids=["missing", "file", "other folder", "checkpoint", "impossible name"],
)
def test_a_path_that_is_no_model_repository_is_refused_with_the_reason(
    make: Callable[[Path], Path], reason: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "my model")
    with pytest.raises(ContractError) as caught:
        find_model(path)
    assert str(caught.value).startswith(f"`model` {path}: {reason.format(path=path)}")


def test_a_missing_demo_model_is_told_with_the_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigid.contract.repository._DEMO_MODELS", ())
    with pytest.raises(ContractError, match="name a model repository with `repository`"):
        find_model(None, parameter="repository")
