import numpy as np
import pytest
import scipy.stats

from keras_gen.metrics.sliced_wasserstein import sliced_wasserstein_distance


def gaussian(n, d, seed, mean=0.0):
    return mean + np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 75), (64, 7), (1, 9)])
def test_one_dimension_as_scipy(n, m):
    real, fake = gaussian(n, 1, 0), gaussian(m, 1, 1, mean=0.5)
    expected = scipy.stats.wasserstein_distance(real[:, 0], fake[:, 0])
    assert sliced_wasserstein_distance(real, fake, 3, order=1) == pytest.approx(expected, rel=1e-12)


def test_repeated_rows_change_nothing():
    real, fake = gaussian(40, 3, 0), gaussian(30, 3, 1)
    value = sliced_wasserstein_distance(real, fake)
    repeated = sliced_wasserstein_distance(np.repeat(real, 3, axis=0), np.repeat(fake, 2, axis=0))
    assert repeated == pytest.approx(value, rel=1e-12)


def test_a_shift():
    """Order 2: the mean over directions of (shift·direction)² is |shift|² / d."""
    real = gaussian(200, 10, 0)
    shift = np.full(10, 3.0)
    value = sliced_wasserstein_distance(real, real + shift, num_projections=5000)
    assert value == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("order", [1, 2])
def test_copies_in_another_order_have_none(order):
    real = gaussian(200, 10, 0)
    assert sliced_wasserstein_distance(real, real[::-1], order=order) < 1e-13


def test_seeded_and_symmetric():
    real, fake = gaussian(100, 10, 0), gaussian(80, 10, 1)
    value = sliced_wasserstein_distance(real, fake)
    assert isinstance(value, float)
    assert value == sliced_wasserstein_distance(real, fake, seed=0)
    assert value != sliced_wasserstein_distance(real, fake, seed=1)
    assert value == pytest.approx(sliced_wasserstein_distance(fake, real), rel=1e-12)


def test_images_are_vectors():
    random = np.random.default_rng(0)
    real, fake = (random.integers(0, 256, (60, 4, 5, 3), np.uint8) for _ in range(2))
    as_vectors = [images.reshape(60, -1).astype(np.float64) for images in (real, fake)]
    value = sliced_wasserstein_distance(real, fake, num_projections=100)
    expected = sliced_wasserstein_distance(*as_vectors, num_projections=100)
    assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"real": np.zeros((9, 4))}, "real of shape"),
        ({"real": np.zeros(9)}, "real of shape"),
        ({"real": np.zeros((9, 5), np.uint8)}, "real of uint8, fake of float64"),
        ({"fake": np.full((9, 5), np.nan)}, r"fake\[0\] not finite"),
        ({"num_projections": 0}, "num_projections=0"),
        ({"order": 3}, "order=3"),
    ],
)
def test_errors(arguments, received):
    arguments = {"real": np.zeros((9, 5)), "fake": np.zeros((9, 5)), **arguments}
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        sliced_wasserstein_distance(**arguments)
