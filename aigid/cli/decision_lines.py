"""Lines that say how a fitted model decides."""

from collections.abc import Iterator, Mapping

from aigid.contract import ModelContract
from aigid.records import OTHER


def decision_lines(
    contract: ModelContract, refused: Mapping[str, str], found_by: Mapping[str, float]
) -> Iterator[str]:
    """Yield a line for each threshold, for the source "other", and for what was not fitted.

    `found_by` has the share of AI-generated rows that a rate's threshold finds.
    """
    for rate, threshold in contract.thresholds.items():
        yield (
            f"--max-fpr {rate}: p_ai from {threshold.p_ai:.6g} on; finds {found_by[rate]:.1%} of "
            "the AI-generated rows"
        )
    if contract.open_set is not None:
        yield (
            f"source {OTHER}: known_score below {contract.open_set.threshold:.4g}; "
            f"{contract.open_set.known_rate:.1%} of {contract.open_set.rows:,} rows of known "
            "generators keep their name"
        )
    yield from (f"not fitted: {reason}" for reason in refused.values())
