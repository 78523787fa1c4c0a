import json

import numpy as np
import pytest

from keras_gen.metrics.statistics import FeatureStatistics


def features(n=3000, d=7, seed=0, offset=0.0):
    random = np.random.default_rng(seed)
    return offset + random.normal(size=(n, d)) @ random.normal(size=(d, d))


def in_batches(rows, cuts, **provenance):
    statistics = FeatureStatistics(**provenance)
    for batch in np.split(rows, cuts):
        statistics.update(batch)
    return statistics


def assert_equal_bits(first, second):
    assert first.n == second.n
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.covariance, second.covariance)


def assert_close(first, second, rtol=1e-12):
    assert first.n == second.n
    scale = np.abs(first.covariance).max()
    np.testing.assert_allclose(second.mean, first.mean, rtol=rtol)
    np.testing.assert_allclose(second.covariance, first.covariance, rtol=rtol, atol=rtol * scale)


def test_equals_numpy():
    rows = features(offset=5)
    statistics = FeatureStatistics.of(rows)
    assert statistics.n == 3000 and statistics.dimension == 7
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics.covariance, np.cov(rows, rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("trial", range(20))
def test_no_bit_depends_on_the_batches(trial):
    rows = features(offset=3)
    random = np.random.default_rng(trial)
    cuts = np.sort(random.integers(0, len(rows), size=random.integers(1, 60)))
    assert_equal_bits(FeatureStatistics.of(rows), in_batches(rows, cuts))


def test_single_rows():
    rows = features(n=1100, d=3)
    assert_equal_bits(FeatureStatistics.of(rows), in_batches(rows, np.arange(1, 1100)))


def test_reading_in_between_changes_nothing():
    rows = features(n=2500)
    statistics = FeatureStatistics()
    for batch in np.split(rows, 50):
        statistics.update(batch)
        if statistics.n > 1:
            assert np.isfinite(statistics.covariance).all()
    assert_equal_bits(FeatureStatistics.of(rows), statistics)


@pytest.mark.parametrize("trial", range(10))
def test_merging_is_adding_the_rows_in_any_grouping(trial):
    rows = features(offset=-4)
    cuts = np.sort(np.random.default_rng(trial).integers(1, len(rows), size=3))
    one, two, three, four = (FeatureStatistics.of(part) for part in np.split(rows, cuts))
    whole = FeatureStatistics.of(rows)
    assert_close(whole, FeatureStatistics.merged([one, two, three, four]))
    left = FeatureStatistics.merged([FeatureStatistics.merged([one, two, three]), four])
    right = FeatureStatistics.merged([one, FeatureStatistics.merged([two, three, four])])
    assert_close(whole, left)
    assert_close(left, right)
    assert_close(whole, FeatureStatistics.merged([four, two, one, three]))


def test_merging_leaves_the_parts_as_they_are():
    rows = features(n=2000)
    one, two = FeatureStatistics.of(rows[:700]), FeatureStatistics.of(rows[700:])
    FeatureStatistics.merged([one, two])
    assert_equal_bits(one, FeatureStatistics.of(rows[:700]))
    one.merge(two)
    assert_close(one, FeatureStatistics.of(rows))
    assert_equal_bits(two, FeatureStatistics.of(rows[700:]))


def test_merging_with_nothing_and_with_itself():
    rows = features(n=100)
    statistics = FeatureStatistics.of(rows)
    assert_equal_bits(statistics, FeatureStatistics.merged([FeatureStatistics(), statistics]))
    assert_equal_bits(statistics, FeatureStatistics.merged([statistics, FeatureStatistics()]))
    twice = FeatureStatistics.merged([statistics, statistics])
    assert_close(FeatureStatistics.of(np.concatenate([rows, rows])), twice)


def test_updates_after_a_merge():
    rows = features(n=2600)
    statistics = FeatureStatistics.of(rows[:900]).merge(FeatureStatistics.of(rows[900:1200]))
    assert_close(FeatureStatistics.of(rows), statistics.update(rows[1200:]))


@pytest.mark.parametrize("d", [1, 2, 37, 200])
def test_covariance_is_exactly_symmetric(d):
    statistics = FeatureStatistics.of(features(n=2100, d=d, offset=1))
    statistics.merge(FeatureStatistics.of(features(n=50, d=d, seed=1)))
    np.testing.assert_array_equal(statistics.covariance, statistics.covariance.T)


def test_a_large_mean_costs_no_digits_of_the_spread():
    spread = features(n=5000, d=4)
    rows = spread + 2.0**26  # added exactly but for the last bits of the spread
    exact = np.cov(rows - 2.0**26, rowvar=False)
    np.testing.assert_allclose(FeatureStatistics.of(rows).covariance, exact, rtol=1e-9)


def test_float32_rows_are_summed_in_float64():
    rows = features(offset=100).astype(np.float32)
    statistics = FeatureStatistics.of(rows)
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64
    assert_equal_bits(statistics, FeatureStatistics.of(rows.astype(np.float64)))


def test_saved_and_loaded_bit_for_bit(tmp_path):
    rows = features(n=1500)
    statistics = FeatureStatistics.of(
        rows, extractor="digits", weights="ab12", resize="none", source="digits", split="train"
    )
    path = tmp_path / "made" / "real.npz"
    statistics.save(path)
    loaded = FeatureStatistics.load(path)
    assert_equal_bits(statistics, loaded)
    assert loaded.provenance == statistics.provenance
    assert [file.name for file in path.parent.iterdir()] == ["real.npz"]
    with np.load(path) as arrays:
        assert set(json.loads(str(arrays["provenance"]))) == {
            *("extractor", "weights", "resize", "source", "split"),
            *("n", "dimension", "keras_gen", "format"),
        }
    assert_close(FeatureStatistics.of(np.concatenate([rows, rows])), loaded.update(rows))


@pytest.mark.parametrize("damage", ["truncated", "text", "other arrays", "not finite", "shape"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "real.npz"
    FeatureStatistics.of(features(n=20)).save(path)
    with np.load(path) as arrays:
        arrays = dict(arrays)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "text":
        path.write_text("no statistics")
    elif damage == "other arrays":
        np.savez(path, mu=np.zeros(3))
    else:
        arrays["mean"] = arrays["mean"] * np.nan if damage == "not finite" else np.zeros(3)
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"Received: path=.*real\.npz"):
        FeatureStatistics.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        FeatureStatistics.load(tmp_path / "none.npz")


def test_joined_provenance():
    one = FeatureStatistics.of(features(9), extractor="a", source="mnist", split="train")
    two = FeatureStatistics.of(features(9), extractor="a", source="mnist", split="test")
    merged = FeatureStatistics.merged([one, two])
    assert (merged.extractor, merged.source, merged.split) == ("a", "mnist", "train + test")
    assert one.split == "train"


@pytest.mark.parametrize("key", ["extractor", "weights", "resize"])
def test_other_extractors_are_not_merged(key):
    one, two = (FeatureStatistics.of(features(9), **{key: value}) for value in "ab")
    with pytest.raises(ValueError, match=f"Received: self.{key}='a', other.{key}='b'"):
        one.merge(two)


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        (np.zeros(7), "features of shape"),
        (np.zeros((2, 3, 7)), "features of shape"),
        (np.zeros((2, 6)), "features of shape"),
        (np.array([[0.0] * 7, [np.nan] * 7]), r"features\[1\] not finite"),
        (np.full((1, 7), np.inf), r"features\[0\] not finite"),
        (np.zeros((2, 7), complex), "features of complex"),
    ],
)
def test_wrong_rows_are_refused_and_change_nothing(rows, received):
    statistics = FeatureStatistics.of(features(20))
    with pytest.raises(ValueError, match=f"Received: {received}"):
        statistics.update(rows)
    assert_equal_bits(statistics, FeatureStatistics.of(features(20)))


def test_too_few_rows(tmp_path):
    with pytest.raises(ValueError, match="Received: n=0"):
        _ = FeatureStatistics().mean
    with pytest.raises(ValueError, match="Received: n=0"):
        FeatureStatistics().save(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="Received: n=1"):
        _ = FeatureStatistics.of(np.zeros((1, 3))).covariance
    with pytest.raises(ValueError, match=r"Received: parts=\[\]"):
        FeatureStatistics.merged([])
