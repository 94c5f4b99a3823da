import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from aigid.training.discriminants import fit_discriminants


def three_classes(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return normal features of three classes with one covariance that is far from round."""
    rng = np.random.default_rng(seed)
    classes = np.arange(rows) % 3
    means = 2 * np.random.default_rng(1).normal(size=(3, width))
    noise = rng.normal(size=(rows, width)) @ np.random.default_rng(2).normal(size=(width, width))
    return (5 + means[classes] + noise).astype(np.float32), classes


def test_with_many_rows_they_are_those_of_scikit_learn() -> None:
    features, classes = three_classes(20_000, 6)
    found = fit_discriminants(features, classes).evidence(features)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(features, classes)
    expected = theirs.decision_function(features)
    np.testing.assert_allclose(found, expected[:, 1:] - expected[:, :1], rtol=0.05, atol=0.3)


def test_fewer_rows_than_features_still_tell_classes_apart() -> None:
    features, classes = three_classes(60, 200)
    fresh, truth = three_classes(600, 200, seed=9)
    evidence = fit_discriminants(features, classes).evidence(fresh)
    answers = np.argmax(np.concatenate([np.zeros((600, 1)), evidence], axis=1), axis=1)
    assert np.isfinite(evidence).all()
    assert np.mean(answers == truth) > 0.5


def test_a_class_of_many_rows_counts_no_more_than_others() -> None:
    features, classes = three_classes(4_000, 6)
    some = (classes != 2) | (np.arange(4_000) < 400)
    all_rows = fit_discriminants(features, classes).evidence(features)
    fewer = fit_discriminants(features[some], classes[some]).evidence(features)
    # With the classes' shares as priors, the evidence would move by log(10) = 2.3.
    assert abs(float((fewer - all_rows)[:, 1].mean())) < 0.5


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
def test_a_constant_feature_changes_nothing(value: float) -> None:
    features, classes = three_classes(90, 5)
    constant = np.full((90, 2), value, np.float32)
    wider = np.concatenate([features, constant], axis=1)
    found = fit_discriminants(wider, classes)
    assert not found.weights[:, 5:].any()
    moved = np.concatenate([features, constant + 1], axis=1)
    np.testing.assert_array_equal(found.evidence(moved), found.evidence(wider))


def test_units_of_a_feature_change_nothing() -> None:
    features, classes = three_classes(90, 5)
    scale = np.array([1e-4, 1, 1e4, 10, 1], np.float32)
    np.testing.assert_allclose(
        fit_discriminants(features * scale, classes).evidence(features * scale),
        fit_discriminants(features, classes).evidence(features),
        rtol=1e-2,
        atol=1e-2,
    )


def test_unused_features_can_stand_before_the_others() -> None:
    features, classes = three_classes(90, 5)
    found = fit_discriminants(features, classes)
    before = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    wider = np.concatenate([before, features], axis=1)
    np.testing.assert_allclose(found.after(3).evidence(wider), found.evidence(features))
