import numpy as np
import pytest

from keras_gen.metrics.precision_recall import density_coverage, precision_recall
from keras_gen.metrics.result import MetricWarning


def gaussian(n, d, seed, spread=1.0, dtype=np.float64):
    return (spread * np.random.default_rng(seed).normal(size=(n, d))).astype(dtype)


def distances(first, second):
    return np.linalg.norm(first[:, None] - second[None], axis=2)


def radii(features, k):
    return np.sort(distances(features, features), axis=1)[:, k]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "block"), [(3, 50), (1, 1000), (10, 33)])
def test_precision_recall_as_defined(k, block, dtype):
    real, fake = gaussian(210, 6, 0, dtype=dtype), gaussian(200, 6, 1, spread=0.7, dtype=dtype)
    between = distances(real.astype(np.float64), fake.astype(np.float64))
    real_radii = radii(real.astype(np.float64), k)
    fake_radii = radii(fake.astype(np.float64), k)
    assert precision_recall(real, fake, k, block) == {
        "precision": np.mean(np.any(between <= real_radii[:, None], axis=0)),
        "recall": np.mean(np.any(between <= fake_radii, axis=1)),
    }


@pytest.mark.parametrize(("k", "block"), [(5, 50), (1, 1000)])
def test_density_coverage_as_defined(k, block):
    real, fake = gaussian(210, 6, 0), gaussian(150, 6, 1, spread=0.7)
    inside = distances(real, fake) < radii(real, k)[:, None]
    assert density_coverage(real, fake, k, block) == {
        "density": pytest.approx(np.mean(inside.sum(axis=0)) / k, rel=1e-12),
        "coverage": np.mean(inside.any(axis=1)),
    }


def test_collapsed_fakes_are_precise_and_recall_nothing():
    real = gaussian(500, 8, 0)
    fake = real[7] + 1e-3 * gaussian(500, 8, 1)
    result = precision_recall(real, fake)
    assert result["precision"] == 1
    assert result["recall"] <= 1 / 500
    assert density_coverage(real, fake)["coverage"] < 0.05


def test_dispersed_fakes_are_imprecise_and_recall_all():
    real, fake = gaussian(500, 8, 0), gaussian(500, 8, 1, spread=20)
    result = precision_recall(real, fake)
    assert result["precision"] < 0.05
    assert result["recall"] > 0.95
    assert density_coverage(real, fake)["density"] < 0.05


def test_fakes_elsewhere_have_neither():
    real = gaussian(200, 8, 0)
    assert precision_recall(real, real + 100) == {"precision": 0, "recall": 0}
    assert density_coverage(real, real + 100) == {"density": 0, "coverage": 0}


def test_exact_copies_have_both():
    real = gaussian(300, 8, 0)
    copies = real[np.random.default_rng(1).permutation(300)]
    assert precision_recall(real, copies) == {"precision": 1, "recall": 1}
    assert density_coverage(real, copies)["coverage"] == 1


def test_exchanged_sets_exchange_precision_and_recall():
    real, fake = gaussian(300, 5, 0), gaussian(300, 5, 1, spread=0.5)
    one, other = precision_recall(real, fake), precision_recall(fake, real)
    assert one["precision"] == other["recall"] and one["recall"] == other["precision"]
    assert one["precision"] > one["recall"]


def test_equal_distributions_have_density_one_and_the_known_coverage():
    results = [density_coverage(gaussian(800, 4, i), gaussian(800, 4, i + 50)) for i in range(5)]
    assert np.mean([result["density"] for result in results]) == pytest.approx(1, abs=0.03)
    known = 1 - 1 / 2**5
    assert np.mean([result["coverage"] for result in results]) == pytest.approx(known, abs=0.01)


def test_all_images_alike():
    alike = np.ones((50, 3))
    assert precision_recall(alike, alike) == {"precision": 1, "recall": 1}
    assert density_coverage(alike, alike) == {"density": 0, "coverage": 0}  # `<`, radius 0


def test_very_unequal_numbers_are_warned_of():
    with pytest.warns(MetricWarning, match="500 real and 100 fake"):
        precision_recall(gaussian(500, 3, 0), gaussian(100, 3, 1))


@pytest.mark.parametrize("metric", [precision_recall, density_coverage])
@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"real": np.zeros((9, 4))}, "real of shape"),
        ({"fake": np.full((9, 5), np.inf)}, r"fake\[0\] not finite"),
        ({"k": 0}, "k=0"),
        ({"k": 9}, "k=9"),
        ({"real": np.zeros((1, 5)), "k": 1}, "1 real and 9 fake"),
    ],
)
def test_errors(metric, arguments, received):
    arguments = {"real": np.zeros((9, 5)), "fake": np.zeros((9, 5)), **arguments}
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        metric(**arguments)
