import numpy as np
import pytest

from keras_gen.metrics.kernel import kernel_distance, kernel_distance_all_pairs
from keras_gen.metrics.result import MetricWarning


def gaussian(n, d, seed, mean=0.0, dtype=np.float64):
    return (mean + np.random.default_rng(seed).normal(size=(n, d))).astype(dtype)


def by_definition(real, fake):
    """Sums over pairs, one by one."""

    def kernel(first, second):
        return (np.dot(first, second) / len(first) + 1) ** 3

    def within(rows):
        pairs = [kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return np.mean(pairs)

    return within(real) + within(fake) - 2 * np.mean([kernel(a, b) for a in real for b in fake])


@pytest.mark.parametrize("block", [1, 7, 100])
def test_all_pairs_as_defined(block):
    real, fake = gaussian(23, 5, 0), gaussian(31, 5, 1, mean=0.5)
    value = kernel_distance_all_pairs(real, fake, block)
    assert isinstance(value, float)
    assert value == pytest.approx(by_definition(real, fake), rel=1e-11)
    assert kernel_distance_all_pairs(fake, real, block) == pytest.approx(value, rel=1e-11)


def test_unbiased():
    """The population value is known: E[k(x, y)] for Gaussians, from the moments of x·y."""
    d, mean = 4, 0.3
    values = [
        kernel_distance_all_pairs(gaussian(50, d, 2 * i), gaussian(60, d, 2 * i + 1, mean))
        for i in range(600)
    ]

    def expected_kernel(first, second):
        # the moments of the product of two coordinates, then of their sum x·y
        one, two = first * second, (1 + first**2) * (1 + second**2)
        three = (first**3 + 3 * first) * (second**3 + 3 * second)
        sum_one, sum_two = d * one, d * two + d * (d - 1) * one**2
        sum_three = d * three + 3 * d * (d - 1) * two * one + d * (d - 1) * (d - 2) * one**3
        return 1 + 3 * sum_one / d + 3 * sum_two / d**2 + sum_three / d**3

    expected = expected_kernel(0, 0) + expected_kernel(mean, mean) - 2 * expected_kernel(0, mean)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error
    assert error < expected / 10


def test_equal_distributions_are_around_zero():
    values = [
        kernel_distance_all_pairs(gaussian(100, 8, 2 * i), gaussian(100, 8, 2 * i + 1))
        for i in range(100)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 4 * np.std(values) / 10


def test_subsets_average_to_all_pairs():
    real, fake = gaussian(600, 8, 0), gaussian(500, 8, 1, mean=0.4)
    result = kernel_distance(real, fake, num_subsets=200, subset_size=100)
    error = result["std"] / np.sqrt(200)
    assert abs(result["value"] - kernel_distance_all_pairs(real, fake)) < 4 * error


def test_subsets_are_those_of_the_seed():
    real, fake = gaussian(300, 8, 0), gaussian(250, 8, 1)
    options = {"num_subsets": 3, "subset_size": 50}
    first, again, other = (kernel_distance(real, fake, **options, seed=s) for s in (0, 0, 1))
    assert first == again and first != other
    random = np.random.RandomState(7)
    expected = []
    for _ in range(3):
        fake_rows = random.choice(250, 50, replace=False)
        real_rows = random.choice(300, 50, replace=False)
        expected.append(by_definition(real[real_rows], fake[fake_rows]))
    result = kernel_distance(real, fake, **options, seed=7)
    assert result["value"] == pytest.approx(np.mean(expected), rel=1e-10)
    assert result["std"] == pytest.approx(np.std(expected), rel=1e-10)


def test_float32_features_lose_nothing():
    real, fake = gaussian(300, 8, 0, dtype=np.float32), gaussian(200, 8, 1, dtype=np.float32)
    value = kernel_distance_all_pairs(real, fake)
    assert value == kernel_distance_all_pairs(real.astype(np.float64), fake.astype(np.float64))


@pytest.mark.parametrize(
    ("mean", "scale"), [(0, 1), (10, 1), (1000, 1), (0, 1e-8), (0, 1e14), (1, 1e10)]
)
@pytest.mark.parametrize("num_subsets", [3, 300])
@pytest.mark.filterwarnings("error")
def test_subsets_of_float32_features_keep_their_digits(mean, scale, num_subsets):
    real, fake = gaussian(400, 64, 0, mean), gaussian(300, 64, 1, mean + 0.1)
    real, fake = (scale * real).astype(np.float32), (scale * fake).astype(np.float32)
    options = {"num_subsets": num_subsets, "subset_size": 60}
    result = kernel_distance(real, fake, **options)
    expected = kernel_distance(real.astype(np.float64), fake.astype(np.float64), **options)
    assert result == pytest.approx(expected, rel=1e-5)


def test_a_set_and_itself():
    real = gaussian(40, 5, 0)
    assert kernel_distance_all_pairs(real, real) == kernel_distance_all_pairs(real, real.copy())


def test_few_images_are_warned_of():
    real, fake = gaussian(2000, 4, 0), gaussian(300, 4, 1)
    with pytest.warns(MetricWarning, match="300 images are fewer than the subsets of 1,000"):
        result = kernel_distance(real, fake, num_subsets=5)
    assert result["std"] > 0
    assert result == kernel_distance(real, fake, num_subsets=5, subset_size=150)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"real": np.zeros((9, 4))}, "real of shape"),
        ({"fake": np.zeros((3, 5))}, "fake of shape"),
        ({"fake": np.full((9, 5), np.nan)}, r"fake\[0\] not finite"),
        ({"num_subsets": 0}, "num_subsets=0"),
        ({"subset_size": 1}, "subset_size=1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_errors(arguments, received):
    arguments = {"real": np.zeros((9, 5)), "fake": np.zeros((9, 5)), **arguments}
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        kernel_distance(**arguments)
