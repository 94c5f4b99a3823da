"""The lines that say how a new model decides."""

from pathlib import Path

from aigid.cli.decision_lines import decision_lines, model_line
from aigid.contract import FittedOn, MissThreshold, ModelContract, OpenSet, Threshold

CONTRACT = ModelContract(
    name="m",
    notice="",
    version=3,
    text_features=1,
    image_features=1,
    fingerprint="0123456789abcdef",
    encoders_fingerprint="e",
    thresholds={"0.05": Threshold(0.5, 1500, 0.95), "0.01": Threshold(0.9999, 1500, 0.95)},
    miss_thresholds={"0.01": MissThreshold(0.125, 7500, 0.95)},
    open_set=OpenSet(0.25, 0.96, 7000),
    fitted_on=FittedOn("validation", 9000, 1500, "int8"),
)


def test_a_model_is_named_with_its_version_and_the_start_of_its_fingerprint() -> None:
    line = model_line(Path("model"), CONTRACT)
    assert line == "model: model m, version 3, fingerprint 0123456789ab"


def test_each_decision_has_a_line_and_so_has_what_was_not_fitted() -> None:
    refused = {"0.001": "a false-positive rate of 0.001 needs 2,995 real rows: got 1,500"}
    assert list(decision_lines(CONTRACT, refused, {"0.05": 0.75})) == [
        "fitted on the int8 scores of validation: 9,000 rows, 1,500 of them real",
        "--max-fpr 0.05: p_ai from 0.5 on; finds 75.0% of the AI-generated rows",
        "--max-fpr 0.01: p_ai from 0.9999 on",
        "miss rate 0.01: p_ai below 0.125; measured on 7,500 AI-generated rows",
        "source other: known_score below 0.25; 96.0% of 7,000 rows of known generators keep their "
        "name",
        "not fitted: a false-positive rate of 0.001 needs 2,995 real rows: got 1,500",
    ]
