import numpy as np
import pytest

from keras_gen.metrics.neighbours import count_balls, count_pairs, nearest_neighbours


def brute_force(queries, references, k, exclude_self=False):
    difference = queries[:, None].astype(np.float64) - references[None].astype(np.float64)
    distances = np.linalg.norm(difference, axis=2)
    if exclude_self:
        np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices


def gaussian(n, d, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [7, 64, 1000])
def test_neighbours_equal_brute_force(dtype, block):
    queries, references = gaussian(90, 12, 1, dtype), gaussian(131, 12, 2, dtype)
    distances, indices = nearest_neighbours(queries, references, k=4, block=block)
    expected_distances, expected_indices = brute_force(queries, references, 4)
    assert distances.dtype == np.float64 and indices.dtype == np.int64
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-14)


@pytest.mark.parametrize("block", [10, 50, 200])
def test_a_row_is_not_its_own_neighbour_but_its_duplicate_is(block):
    features = gaussian(100, 5)
    features[70] = features[20]
    distances, indices = nearest_neighbours(features, features, 3, exclude_self=True, block=block)
    np.testing.assert_array_equal(indices, brute_force(features, features, 3, True)[1])
    assert distances[70, 0] == 0 and indices[70, 0] == 20


def test_distances_do_not_depend_on_the_blocks():
    queries, references = gaussian(60, 33, 1), gaussian(80, 33, 2)
    results = [nearest_neighbours(queries, references, 5, block=block) for block in (3, 17, 99)]
    for distances, indices in results[1:]:
        np.testing.assert_array_equal(distances, results[0][0])
        np.testing.assert_array_equal(indices, results[0][1])


def test_close_neighbours_far_from_the_origin_are_told_apart():
    references = 1e4 + 1e-6 * gaussian(200, 20, 3)
    queries = references[:50] + 1e-9 * gaussian(50, 20, 4)
    distances, indices = nearest_neighbours(queries, references)
    expected_distances, expected_indices = brute_force(queries, references, 1)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(indices[:, 0], np.arange(50))
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_scale(scale):
    queries, references = gaussian(40, 6, 1) * scale, gaussian(60, 6, 2) * scale
    _, indices = nearest_neighbours(queries, references, 2)
    np.testing.assert_array_equal(indices, brute_force(queries, references, 2)[1])


def test_an_outlier_does_not_spoil_the_others():
    queries, references = gaussian(40, 6, 1), gaussian(60, 6, 2)
    queries[3], references[7] = 1e25, -1e18
    distances, indices = nearest_neighbours(queries, references, 2)
    others = np.arange(40) != 3
    expected_distances, expected_indices = brute_force(queries, references, 2)
    np.testing.assert_array_equal(indices[others], expected_indices[others])
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-14)


def test_many_equal_references_come_in_order():
    references = np.repeat(gaussian(3, 8), 150, axis=0)
    distances, indices = nearest_neighbours(references[:5], references, k=4, block=100)
    np.testing.assert_array_equal(distances, 0)
    np.testing.assert_array_equal(indices, np.tile(np.arange(4), (5, 1)))


def test_all_references():
    queries, references = gaussian(4, 3, 1), gaussian(90, 3, 2)
    distances, indices = nearest_neighbours(queries, references, k=90, block=32)
    np.testing.assert_array_equal(indices, brute_force(queries, references, 90)[1])
    assert np.all(np.diff(distances, axis=1) >= 0)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("block", [9, 500])
def test_balls_equal_brute_force(strict, block):
    centers, queries = gaussian(150, 10, 1), gaussian(120, 10, 2)
    radii = nearest_neighbours(centers, centers, 3, exclude_self=True)[0][:, -1]
    distances = np.linalg.norm(queries[:, None] - centers[None], axis=2)
    inside = distances < radii if strict else distances <= radii
    counts = count_balls(queries, centers, radii, strict, block)
    np.testing.assert_array_equal(counts, inside.sum(axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [150, 300, 512])
@pytest.mark.parametrize(("k", "exclude_self"), [(1, True), (3, True), (5, False), (40, True)])
def test_the_same_rows_on_both_sides(dtype, block, k, exclude_self):
    features = gaussian(900, 16, 6, dtype) * np.logspace(0, -3, 16).astype(dtype) + 5
    features = np.concatenate([features, features[:30], features[:1].repeat(100, axis=0)])
    found = nearest_neighbours(features, features, k, exclude_self, block)
    other = nearest_neighbours(features, features.copy(), k, exclude_self, block)
    _, expected = brute_force(features, features, k, exclude_self)
    np.testing.assert_array_equal(found[1], expected)
    np.testing.assert_array_equal(found[1], other[1])
    np.testing.assert_array_equal(found[0], other[0])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("block", [9, 500])
def test_pairs_equal_brute_force(strict, block):
    first, second = gaussian(130, 4, 1, np.float32), gaussian(90, 4, 2, np.float32)
    distances = np.linalg.norm(first[:, None].astype(np.float64) - second[None], axis=2)
    limits = [distances[:, 3:4].copy(), distances[7:8].copy()]
    counts = count_pairs(first, second, limits, strict, block=block)
    some = count_pairs(first, second, limits, strict, any_only=True, block=block)
    for axis, limit in enumerate(limits):
        inside = distances < limit if strict else distances <= limit
        np.testing.assert_array_equal(counts[axis][0], inside.sum(axis=1))
        np.testing.assert_array_equal(counts[axis][1], inside.sum(axis=0))
        np.testing.assert_array_equal(some[axis][1 - axis] > 0, inside.any(axis=axis))


def test_the_point_that_defines_a_radius_is_on_it_exactly():
    centers = gaussian(200, 37, 5, np.float32)
    distances, indices = nearest_neighbours(centers, centers, 1, exclude_self=True, block=50)
    for center in range(20):
        other = centers[indices[center]]
        one = slice(center, center + 1)
        assert count_balls(other, centers[one], distances[one, 0])[0] == 1
        assert count_balls(other, centers[one], distances[one, 0], strict=True)[0] == 0


def test_radius_zero_holds_copies_alone():
    centers = gaussian(30, 4)
    queries = np.concatenate([centers, centers + 1e-12])
    counts = count_balls(queries, centers, np.zeros(30))
    np.testing.assert_array_equal(counts, np.repeat([1, 0], 30))
    np.testing.assert_array_equal(count_balls(queries, centers, np.zeros(30), strict=True), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": np.zeros((3, 2))}, "queries of shape"),
        ({"queries": np.zeros(5)}, "queries of shape"),
        ({"references": np.full((4, 5), np.nan)}, r"references\[0\] not finite"),
        ({"k": 5}, "k=5"),
        ({"k": 0}, "k=0"),
        ({"k": 4, "exclude_self": True, "queries": np.zeros((4, 5))}, "k=4"),
        ({"exclude_self": True}, "3 queries and 4 references"),
        ({"block": 0}, "block=0"),
        ({"queries": np.array([["a"] * 5])}, "queries of <U1"),
    ],
)
def test_errors(arguments, message):
    arguments = {"queries": np.zeros((3, 5)), "references": np.zeros((4, 5)), **arguments}
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        nearest_neighbours(**arguments)


def test_radii_must_fit():
    with pytest.raises(ValueError, match="Received: radii"):
        count_balls(np.zeros((3, 2)), np.zeros((4, 2)), np.zeros(3))
