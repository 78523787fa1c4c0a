import warnings

import numpy as np
import pytest

from keras_gen.metrics.frechet import (
    frechet_distance,
    frechet_distance_infinity,
    frechet_distance_interval,
)
from keras_gen.metrics.result import MetricWarning
from keras_gen.metrics.statistics import FeatureStatistics


def gaussian(n, d, seed, mean=0.0, factor=None, dtype=np.float64):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (mean + (rows if factor is None else rows @ factor)).astype(dtype)


def with_moments(mean, covariance, n=400, seed=0):
    """Rows whose sample mean and covariance are exactly these, but for rounding."""
    rows = gaussian(n, len(mean), seed)
    rows -= rows.mean(axis=0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(rows.T)))).T
    return rows @ np.linalg.cholesky(covariance).T + mean


def closed_form(mean1, covariance1, mean2, covariance2):
    """With the principal square root itself, independent of the code under test."""
    import scipy.linalg

    root = scipy.linalg.sqrtm(covariance1 @ covariance2)
    trace = np.trace(covariance1 + covariance2 - 2 * np.real(root))
    return float(np.sum((mean1 - mean2) ** 2) + trace)


def random_covariance(d, seed, decay=0.0):
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(d, d)))[0]
    return (basis * np.exp(-decay * np.arange(d) / d)) @ basis.T


def test_known_gaussians_in_one_dimension():
    real = with_moments(np.array([1.0]), np.array([[4.0]]))
    fake = with_moments(np.array([4.0]), np.array([[0.25]]))
    assert frechet_distance(real, fake) == pytest.approx(9 + (2 - 0.5) ** 2, rel=1e-12)


def test_known_diagonal_gaussians():
    scales1, scales2 = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    real = with_moments(np.zeros(3), np.diag(scales1**2))
    fake = with_moments(np.ones(3), np.diag(scales2**2))
    expected = 3 + np.sum((scales1 - scales2) ** 2)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_any_covariances_as_with_the_matrix_root(seed):
    covariances = random_covariance(20, seed, 3), random_covariance(20, seed + 10, 2)
    means = gaussian(2, 20, seed)
    real, fake = (with_moments(mean, covariance) for mean, covariance in zip(means, covariances))
    expected = closed_form(means[0], covariances[0], means[1], covariances[1])
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-10)


def test_features_statistics_and_float32_agree():
    real = gaussian(300, 12, 1, dtype=np.float32)
    fake = gaussian(200, 12, 2, mean=0.1, dtype=np.float32)
    expected = frechet_distance(real, fake)
    assert isinstance(expected, float)
    statistics = FeatureStatistics.of(real), FeatureStatistics.of(fake)
    assert frechet_distance(*statistics) == expected
    assert frechet_distance(statistics[0], fake) == expected
    assert frechet_distance(real.astype(np.float64), fake.astype(np.float64)) == expected


@pytest.mark.parametrize("n", [15, 39, 40, 41, 200])
@pytest.mark.filterwarnings("ignore::keras_gen.metrics.result.MetricWarning")
def test_exact_copies_have_no_distance(n):
    real = gaussian(n, 40, 0, mean=3)
    assert 0 <= frechet_distance(real, real.copy()) < 1e-11
    statistics = FeatureStatistics.of(real)
    assert 0 <= frechet_distance(statistics, statistics) < 1e-6


@pytest.mark.parametrize(("n", "m"), [(10, 15), (10, 100), (100, 10), (31, 30), (30, 31), (2, 2)])
@pytest.mark.filterwarnings("ignore::keras_gen.metrics.result.MetricWarning")
def test_fewer_rows_than_features(n, m):
    """Against the full-rank formula on the span of all rows, where nothing is lost."""
    real, fake = gaussian(n, 30, 1, mean=0.3), gaussian(m, 30, 2)
    root = np.linalg.svd(
        (real - real.mean(axis=0)) @ (fake - fake.mean(axis=0)).T, compute_uv=False
    ).sum() / np.sqrt((n - 1) * (m - 1))
    expected = (
        np.sum((real.mean(axis=0) - fake.mean(axis=0)) ** 2)
        + np.sum(np.var(real, axis=0, ddof=1) + np.var(fake, axis=0, ddof=1))
        - 2 * root
    )
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-11)
    statistics = FeatureStatistics.of(real), FeatureStatistics.of(fake)
    assert frechet_distance(*statistics) == pytest.approx(expected, rel=1e-6)


def test_a_steep_spectrum_keeps_its_digits():
    """Spread over seven powers of ten, as of real features; the covariances commute."""
    scales = np.logspace(0, -7, 60)
    real = with_moments(np.zeros(60), np.diag(scales**2))
    fake = with_moments(np.zeros(60), np.diag((1.01 * scales) ** 2))
    expected = np.sum((0.01 * scales) ** 2)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_dead_and_dependent_features():
    real, fake = gaussian(300, 10, 1), gaussian(300, 10, 2, mean=0.2)
    expected = frechet_distance(real, fake)
    dead = np.zeros((300, 4))
    assert frechet_distance(np.hstack([real, dead]), np.hstack([dead, fake])[:, ::1]) > expected
    both = frechet_distance(np.hstack([real, dead]), np.hstack([fake, dead]))
    assert both == pytest.approx(expected, rel=1e-10)
    doubled = frechet_distance(np.hstack([real, real]), np.hstack([fake, fake]))
    assert doubled == pytest.approx(2 * expected, rel=1e-6)


def test_constant_features():
    real, fake = np.zeros((10, 3)), np.ones((10, 3))
    assert frechet_distance(real, fake) == 3
    assert frechet_distance(real, real) == 0


def test_collapsed_fakes_have_the_distance_of_the_lost_spread():
    real = with_moments(np.zeros(6), np.eye(6))
    assert frechet_distance(real, np.zeros((50, 6))) == pytest.approx(6, rel=1e-10)


def test_bias_falls_as_one_over_n():
    """Of equal distributions; to second order it is d (d + 1) / 4n + d / n for each set."""
    d, distances = 64, {}
    for n in (1000, 2000, 4000):
        pairs = [(gaussian(n, d, 2 * seed), gaussian(n, d, 2 * seed + 1)) for seed in range(3)]
        distances[n] = np.mean([frechet_distance(*pair) for pair in pairs])
    assert distances[1000] / distances[4000] == pytest.approx(4, rel=0.1)
    assert distances[4000] == pytest.approx((d * (d + 1) / 2 + 2 * d) / 4000, rel=0.05)


@pytest.mark.parametrize(("n", "m", "named"), [(20, 300, "20 real"), (300, 12, "12 fake")])
def test_too_few_images_are_warned_of(n, m, named):
    with pytest.warns(MetricWarning, match=f"{named} images are not more than the 20 features"):
        frechet_distance(gaussian(n, 20, 0), gaussian(m, 20, 1))


def test_enough_images_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(gaussian(21, 20, 0), gaussian(21, 20, 1))


@pytest.mark.parametrize(
    ("real", "fake", "received"),
    [
        (np.zeros(5), np.zeros((9, 5)), "real of shape"),
        (np.zeros((9, 5)), np.zeros((9, 3, 3)), "fake of shape"),
        (np.zeros((9, 5)), np.zeros((9, 4)), "real of 5 features, fake of 4"),
        (np.zeros((9, 5)), np.zeros((1, 5)), "fake of shape"),
        (np.full((9, 5), np.nan), np.zeros((9, 5)), r"real\[0\] not finite"),
    ],
)
def test_errors(real, fake, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        frechet_distance(real, fake)


def test_other_extractors_are_not_compared():
    real = FeatureStatistics.of(gaussian(9, 2, 0), extractor="inception_v3")
    fake = FeatureStatistics.of(gaussian(9, 2, 0), extractor="digits classifier")
    with pytest.raises(ValueError, match=r"Received: real.extractor='inception_v3'"):
        frechet_distance(real, fake)


def test_infinity_removes_the_bias_of_the_fakes():
    d = 16
    real = FeatureStatistics.of(gaussian(200_000, d, 0))
    fake = gaussian(2000, d, 1)
    result = frechet_distance_infinity(real, fake)
    assert result["distances"][-1] == pytest.approx(frechet_distance(real, fake), rel=1e-10)
    assert abs(result["value"]) < result["distances"][-1] / 4
    assert result["slope"] > 0
    assert result["sizes"][0] == 200 and result["sizes"][-1] == 2000 and len(result["sizes"]) == 15


def test_infinity_is_seeded():
    real, fake = gaussian(500, 4, 0), gaussian(400, 4, 1)
    first, again, other = (frechet_distance_infinity(real, fake, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["value"] != other["value"]


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"num_points": 1}, "num_points=1"),
        ({"smallest": 1}, "smallest=1"),
        ({"smallest": 400}, "smallest=400"),
    ],
)
def test_infinity_errors(options, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        frechet_distance_infinity(gaussian(500, 4, 0), gaussian(400, 4, 1), **options)


def test_interval_has_the_spread_of_fresh_samples():
    d, n = 8, 400
    real = FeatureStatistics.of(gaussian(50_000, d, 0))
    factor = np.diag(np.linspace(0.5, 1.2, d))
    samples = [gaussian(n, d, seed, mean=0.3, factor=factor) for seed in range(1, 151)]
    spread = np.std([frechet_distance(real, fake) for fake in samples], ddof=1)
    errors = [frechet_distance_interval(real, fake)["standard_error"] for fake in samples[:20]]
    assert np.mean(errors) == pytest.approx(spread, rel=0.2)
    result = frechet_distance_interval(real, samples[0], confidence=0.6826895)
    assert result["value"] == frechet_distance(real, samples[0])
    low, high = result["interval"]
    assert high - low == pytest.approx(2 * result["standard_error"], rel=1e-6)


def test_interval_errors():
    with pytest.raises(ValueError, match="Received: fake of shape"):
        frechet_distance_interval(gaussian(50, 8, 0), gaussian(8, 8, 1))
    with pytest.raises(ValueError, match="Received: confidence=95"):
        frechet_distance_interval(gaussian(50, 8, 0), gaussian(80, 8, 1), confidence=95)
