import numpy as np
import pytest

from keras_gen.metrics.diversity import mean_pairwise_distance, vendi_score


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_vendi_counts_different_images():
    different = 7.0 * np.eye(6)
    assert vendi_score(different) == pytest.approx(6, rel=1e-12)
    assert vendi_score(np.repeat(different, 5, axis=0)) == pytest.approx(6, rel=1e-12)
    assert vendi_score(np.ones((20, 6))) == pytest.approx(1, rel=1e-12)
    assert vendi_score(np.ones((3, 6))) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(30, 80), (80, 30), (40, 40)])
def test_vendi_from_either_side(n, d):
    features = gaussian(n, d) + 0.5
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    weights = np.linalg.eigvalsh(rows @ rows.T / n)
    weights = weights[weights > 1e-14]
    expected = np.exp(-np.sum(weights * np.log(weights)))
    assert vendi_score(features) == pytest.approx(expected, rel=1e-9)
    assert vendi_score(features, block=7) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_vendi_has_no_scale(scale):
    assert vendi_score(gaussian(20, 5) * scale) == pytest.approx(vendi_score(gaussian(20, 5)))


def test_vendi_of_float32():
    features = gaussian(50, 5).astype(np.float32)
    assert vendi_score(features) == vendi_score(features.astype(np.float64))


def test_vendi_errors():
    features = gaussian(20, 5)
    features[13] = 0
    with pytest.raises(ValueError, match=r"Received: features\[13\] all zero"):
        vendi_score(features, block=6)
    with pytest.raises(ValueError, match="Received: features of shape"):
        vendi_score(np.zeros(5))


@pytest.mark.parametrize("block", [1, 16, 1000])
def test_mean_pairwise_distance(block):
    features = gaussian(60, 5) + 10
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    expected = distances.sum() / (60 * 59)
    assert mean_pairwise_distance(features, block) == pytest.approx(expected, rel=1e-12)
    assert mean_pairwise_distance(np.ones((9, 4)), block) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="Received: features of shape"):
        mean_pairwise_distance(features[:1])
