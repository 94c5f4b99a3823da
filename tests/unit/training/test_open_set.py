"""Of rows of three generators, and of two kinds of rows that no known generator made."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from aigid.contract import Temperatures
from aigid.decisions import decide_source
from aigid.training.calibration import probabilities
from aigid.training.heads import Heads, Logits
from aigid.training.open_set import KNOWN_RATE, ROWS_NEEDED, fit_open_set

LABELS = ("real", "one", "two", "three")
CENTRES = torch.tensor(
    [[-6.0, 0, 0, 0], [5, 6, -3, -3], [5, -3, 6, -3], [5, -3, -3, 6]], dtype=torch.float64
)


def drawn(centre: torch.Tensor, rows: int, seed: int) -> torch.Tensor:
    """Return logits [rows, 4], correlated, around a centre: head A's, then the generators'."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.3, 0, 0], [0, 1, 0.4, 0], [0.2, 0, 1, 0], [0, 0, 0.5, 0.7]])
    noise = torch.randn(rows, 4, generator=generator) @ mixing
    return centre + noise.double()


def as_logits(evidence: torch.Tensor) -> Logits:
    """Return logits with an arbitrary one of "real" in head B."""
    real = torch.full((len(evidence), 1), 7.0, dtype=evidence.dtype)
    return Logits(evidence[:, 0], torch.cat([real, evidence[:, 1:]], dim=1))


def labelled(rows: int, seed: int = 0) -> tuple[Logits, torch.Tensor]:
    """Return logits of so many rows of each label, and their labels."""
    parts = [drawn(centre, rows, seed * 10 + label) for label, centre in enumerate(CENTRES)]
    return as_logits(torch.cat(parts)), torch.arange(4).repeat_interleave(rows)


def score(heads: Heads, logits: Logits) -> np.ndarray:
    _, p_source = probabilities(logits, Temperatures())
    narrow = Logits(logits.a.float(), logits.b.float())
    return heads.known_score(narrow, p_source.float()).numpy()


@pytest.fixture
def heads() -> Heads:
    return Heads(2, 3, 4, len(LABELS))


def test_known_rows_keep_their_name_and_others_get_the_source_other(heads: Heads) -> None:
    fitted = fit_open_set(heads, *labelled_for_fit(400), LABELS)
    assert fitted.refused == ""
    open_set = fitted.open_set
    assert open_set is not None
    assert open_set.rows == 1200
    assert open_set.known_rate == pytest.approx(KNOWN_RATE, abs=0.001)

    def sources(logits: Logits) -> np.ndarray:
        p_ai, p_source = (part.numpy() for part in probabilities(logits, Temperatures()))
        return decide_source(p_ai >= 0.5, p_source, score(heads, logits), open_set)

    logits, label_b = labelled(400, seed=1)
    known = label_b.numpy() > 0
    assert np.mean(sources(logits)[known] == label_b.numpy()[known]) > 0.93
    # Between two generators, and more extreme than either: a softmax is sure of the second.
    between = drawn((CENTRES[1] + CENTRES[2]) / 2, 400, 8)
    beyond = drawn(2.5 * CENTRES[1], 400, 9)
    for unknown in (between, beyond):
        assert np.mean(sources(as_logits(unknown)) == len(LABELS)) > 0.9
    assert score(heads, as_logits(beyond)).max() < torch.softmax(beyond[:, 1:], 1).amax(1).min()


def labelled_for_fit(rows: int) -> tuple[Logits, Temperatures, torch.Tensor]:
    logits, label_b = labelled(rows)
    return logits, Temperatures(), label_b


def test_the_distance_is_mahalanobis_to_the_nearest_generator(heads: Heads) -> None:
    logits, temperatures, label_b = labelled_for_fit(2000)
    fit_open_set(heads, logits, temperatures, label_b, LABELS)
    evidence = logits.evidence().numpy()
    # Head B's logits count by their differences: the last one's differences to the others.
    rows = np.column_stack([evidence[:, 0], evidence[:, 1:3] - evidence[:, 3:]])
    groups = [rows[label_b.numpy() == label] for label in (1, 2, 3)]
    inverse = np.linalg.inv(np.mean([np.cov(group.T) for group in groups], axis=0))
    expected = [
        min(mahalanobis(row, group.mean(axis=0), inverse) ** 2 for group in groups)
        for row in rows[::100]
    ]
    _, p_source = probabilities(logits, temperatures)
    typical = score(heads, logits) / p_source[:, 1:].amax(dim=1).numpy()
    np.testing.assert_allclose(typical[::100], 1 / (1 + np.array(expected) / 3), rtol=0.02)


def test_what_all_logits_of_head_b_have_in_common_does_not_count(heads: Heads) -> None:
    fit_open_set(heads, *labelled_for_fit(100), LABELS)
    logits, _ = labelled(50, seed=2)
    shifted = Logits(logits.a, logits.b + torch.linspace(-20, 20, len(logits.a))[:, None])
    np.testing.assert_allclose(score(heads, shifted), score(heads, logits), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6, 1e18])
def test_the_score_is_from_0_to_1_for_any_logits(heads: Heads, scale: float) -> None:
    fit_open_set(heads, *labelled_for_fit(100), LABELS)
    found = score(heads, as_logits(scale * drawn(CENTRES[1], 100, 3)))
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_a_row_s_score_is_the_same_in_any_company(heads: Heads) -> None:
    fit_open_set(heads, *labelled_for_fit(100), LABELS)
    logits, _ = labelled(20, seed=4)
    alone = [
        score(heads, Logits(logits.a[row : row + 1], logits.b[row : row + 1])) for row in range(80)
    ]
    np.testing.assert_allclose(np.concatenate(alone), score(heads, logits), rtol=1e-5)


def test_logits_without_any_spread_have_finite_constants(heads: Heads) -> None:
    label_b = torch.arange(4).repeat_interleave(30)
    fitted = fit_open_set(heads, as_logits(CENTRES[label_b]), Temperatures(), label_b, LABELS)
    assert fitted.open_set is not None
    assert torch.isfinite(heads.get_buffer("known_projection").half()).all()
    assert score(heads, as_logits(CENTRES)).min() > 0


@pytest.mark.parametrize(
    ("labels", "rows", "reason"),
    [
        (LABELS, (40, 24, 40, 0), "needs 25 rows of each generator: one has 24, three has 0"),
        (("real", "one"), (40, 40), "needs two known generators: there is 1"),
        (("real", "one", "two", "other"), (40, 40, 40, 40), "other is one of the labels"),
    ],
)
def test_without_enough_rows_no_source_is_other(
    labels: tuple[str, ...], rows: tuple[int, ...], reason: str
) -> None:
    heads = Heads(2, 3, 4, len(labels))
    heads.get_buffer("known_projection").fill_(3)
    label_b = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows))
    evidence = drawn(CENTRES[1], len(label_b), 5)[:, : len(labels)]
    fitted = fit_open_set(heads, as_logits(evidence), Temperatures(), label_b, labels)
    assert fitted.open_set is None
    assert reason in fitted.refused
    # The score is then the likeliest generator's probability alone.
    _, p_source = probabilities(as_logits(evidence), Temperatures())
    np.testing.assert_allclose(
        score(heads, as_logits(evidence)), p_source[:, 1:].amax(dim=1).numpy(), rtol=1e-6
    )


def test_rows_of_unknown_generators_and_rows_called_real_do_not_count(heads: Heads) -> None:
    logits, temperatures, label_b = labelled_for_fit(ROWS_NEEDED)
    fitted = fit_open_set(heads, logits, temperatures, label_b, LABELS)
    constants = heads.known_means.clone()
    strange = drawn(9 * CENTRES[2], 60, 6)
    more = Logits(torch.cat([logits.a, strange[:, 0]]), torch.cat([logits.b, as_logits(strange).b]))
    codes = torch.cat([label_b, torch.tensor([-1, -2]).repeat(30)])
    assert fit_open_set(heads, more, temperatures, codes, LABELS) == fitted
    assert torch.equal(heads.known_means, constants)
    called_real = Logits(logits.a - 100, logits.b)
    assert "called AI" in fit_open_set(heads, called_real, temperatures, label_b, LABELS).refused


def test_few_rows_do_not_flatter_the_threshold(heads: Heads) -> None:
    kept = []
    for seed in range(30):
        logits, label_b = labelled(ROWS_NEEDED, seed + 1)
        open_set = fit_open_set(heads, logits, Temperatures(), label_b, LABELS).open_set
        assert open_set is not None
        others, labels = labelled(300, seed + 100)
        kept.append(np.mean(score(heads, others)[labels.numpy() > 0] >= open_set.threshold))
    assert np.mean(kept) > KNOWN_RATE - 0.02
