"""Lines that say which model a command made, and how it decides."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aigid.contract import ModelContract
from aigid.records import OTHER


def model_line(repository: Path, contract: ModelContract) -> str:
    """Return the line that names the new version of a model repository."""
    return (
        f"{repository}: model {contract.name}, version {contract.version}, "
        f"fingerprint {contract.fingerprint[:12]}"
    )


def decision_lines(
    contract: ModelContract, refused: Mapping[str, str], found_by: Mapping[str, float]
) -> Iterator[str]:
    """Yield what the decisions were fitted on, each of them, and what was not fitted.

    `found_by` has the share of AI-generated rows that a rate's threshold finds, where that was
    measured.
    """
    fitted = contract.fitted_on
    if fitted is not None:
        yield (
            f"fitted on the {fitted.graphs} scores of {fitted.data}: {fitted.rows:,} rows, "
            f"{fitted.real_rows:,} of them real"
        )
    for rate, threshold in contract.thresholds.items():
        finds = f"; finds {found_by[rate]:.1%} of the AI-generated rows" if rate in found_by else ""
        yield f"--max-fpr {rate}: p_ai from {threshold.p_ai:.6g} on{finds}"
    for rate, missed in contract.miss_thresholds.items():
        measured = f"measured on {missed.ai_rows:,} AI-generated rows"
        yield f"miss rate {rate}: p_ai below {missed.p_ai:.6g}; {measured}"
    if contract.open_set is not None:
        yield (
            f"source {OTHER}: known_score below {contract.open_set.threshold:.4g}; "
            f"{contract.open_set.known_rate:.1%} of {contract.open_set.rows:,} rows of known "
            "generators keep their name"
        )
    yield from (f"not fitted: {reason}" for reason in refused.values())
