import functools

import numpy as np
import pytest

from keras_gen.metrics.frechet import frechet_distance
from keras_gen.metrics.kernel import kernel_distance, kernel_distance_all_pairs
from keras_gen.metrics.precision_recall import precision_recall
from keras_gen.metrics.resampling import disjoint_subsets, half_sampling_interval, real_floor
from keras_gen.metrics.result import MetricWarning
from keras_gen.metrics.statistics import FeatureStatistics


def gaussian(n, d, seed, mean=0.0, spread=1.0):
    return mean + spread * np.random.default_rng(seed).normal(size=(n, d))


def test_subsets_share_no_row():
    real = np.arange(100.0)[:, None]
    reference, others = disjoint_subsets(real, 30)
    assert len(reference) == 70 and len(others) == 30
    np.testing.assert_array_equal(np.sort(np.concatenate([reference, others]), axis=0), real)
    again, other_seed = disjoint_subsets(real, 30)[1], disjoint_subsets(real, 30, seed=1)[1]
    np.testing.assert_array_equal(others, again)
    assert not np.array_equal(others, other_seed)


def test_too_few_reals_for_the_floor_are_warned_of():
    with pytest.warns(MetricWarning, match="100 real images are less than twice the 60 fakes"):
        reference, others = disjoint_subsets(gaussian(100, 2, 0), 60)
    assert len(reference) == len(others) == 50


def test_floor_is_what_fresh_real_images_get():
    real = gaussian(4000, 10, 0)
    floor = real_floor(frechet_distance, real, 1000, num_repeats=4)
    fresh = [frechet_distance(real[:3000], gaussian(1000, 10, seed)) for seed in range(1, 9)]
    assert floor == pytest.approx(np.mean(fresh), rel=0.3)


def test_floor_of_several_numbers():
    floor = real_floor(precision_recall, gaussian(400, 4, 0), 200)
    assert set(floor) == {"precision", "recall"}
    assert all(0.6 < value <= 1 for value in floor.values())
    metric = functools.partial(kernel_distance, num_subsets=5, subset_size=50)
    assert isinstance(real_floor(metric, gaussian(400, 4, 0), 200), float)


@pytest.mark.parametrize("n", [300, 301])
def test_interval_of_a_mean_is_the_textbook_one(n):
    fake = gaussian(n, 1, 0, mean=5, spread=2)
    result = half_sampling_interval(lambda rows: float(rows.mean()), fake, num_resamples=2000)
    error = np.std(fake, ddof=1) / np.sqrt(n)
    assert result["value"] == fake.mean()
    assert result["standard_error"] == pytest.approx(error, rel=0.05)
    low, high = result["interval"]
    assert (low + high) / 2 == pytest.approx(fake.mean())
    assert high - low == pytest.approx(2 * 1.959964 * result["standard_error"], rel=1e-6)


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance_all_pairs])
def test_interval_has_the_spread_of_fresh_samples(metric):
    real, n = gaussian(500, 6, 0), 300
    samples = [gaussian(n, 6, seed, mean=0.3, spread=0.9) for seed in range(1, 101)]
    spread = np.std([metric(real, fake) for fake in samples], ddof=1)
    errors = [
        half_sampling_interval(functools.partial(metric, real), fake, 40)["standard_error"]
        for fake in samples[:8]
    ]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)


def test_interval_of_nearest_neighbour_metrics():
    """Which duplicates of a bootstrap would ruin."""
    real, n = gaussian(300, 4, 0), 300
    samples = [gaussian(n, 4, seed, spread=0.8) for seed in range(1, 61)]
    metric = functools.partial(precision_recall, real)
    spread = np.std([metric(fake)["recall"] for fake in samples], ddof=1)
    errors = [half_sampling_interval(metric, fake, 30)["recall"] for fake in samples[:5]]
    ratio = np.mean([error["standard_error"] for error in errors]) / spread
    assert 0.7 < ratio < 1.6


@pytest.mark.filterwarnings("error")
def test_halves_are_not_warned_of_and_seeded():
    real = FeatureStatistics.of(gaussian(100, 20, 0))
    metric = functools.partial(frechet_distance, real)
    fake = gaussian(30, 20, 1)
    first, again, other = (half_sampling_interval(metric, fake, 5, seed=s) for s in (0, 0, 1))
    assert first == again and first != other


def test_a_spread_beside_the_value_is_no_metric():
    real, fake = gaussian(200, 4, 0), gaussian(200, 4, 1)
    metric = functools.partial(kernel_distance, real, num_subsets=5, subset_size=50)
    assert set(half_sampling_interval(metric, fake, 3)) == {"value", "standard_error", "interval"}


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"fake": np.zeros((3, 2))}, "fake of shape"),
        ({"num_resamples": 1}, "num_resamples=1"),
        ({"confidence": 1}, "confidence=1"),
    ],
)
def test_errors(options, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        half_sampling_interval(**{"metric": np.mean, "fake": np.zeros((9, 2)), **options})
    with pytest.raises(ValueError, match="Received: n_fake=0"):
        disjoint_subsets(np.zeros((9, 2)), 0)
