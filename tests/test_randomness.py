"""Draws are functions of their keys."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import layers, randomness


def test_keys_differ_by_every_part_of_the_path():
    keys = [
        randomness.key(seed, purpose, step).numpy().tolist()
        for seed in (0, 1, -1, 2**40)
        for purpose in ("latent", "label")
        for step in (0, 1, 2)
    ]
    assert len({tuple(key) for key in keys}) == len(keys)


def test_a_key_goes_on_from_a_key():
    together = randomness.key(3, "training", 7)
    apart = randomness.key(randomness.key(3, "training"), 7)
    np.testing.assert_array_equal(together, apart)


def test_graph_and_eager_draw_the_same():
    def draw(step):
        key = randomness.key(5, "noise", step)
        return randomness.normal([8], key), randomness.uniform([8], key)

    for a, b in zip(draw(tf.constant(3)), tf.function(draw)(tf.constant(3, tf.int64))):
        np.testing.assert_array_equal(a, b)


def test_another_process_draws_the_same():
    code = (
        "from keras_gen import randomness as r;"
        "print(r.normal([3], r.key(1, 'noise', 2)).numpy().tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = randomness.normal([3], randomness.key(1, "noise", 2)).numpy().tolist()
    assert out.stdout.strip().splitlines()[-1] == str(here)


def test_philox_gives_its_published_numbers():
    # Known answers of Random123 for Philox-4x32-10, of which a draw takes four words at a time.
    def words(key, low, high):
        place = randomness._philox(*(tf.constant([part], tf.int64) for part in (key, low, high)))
        draws = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[4], **place, dtype=tf.uint32)
        return [f"{word:08x}" for word in draws.numpy()]

    assert words(0, 0, 0) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert words(-1, -1, -1) == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_neighbouring_seeds_have_nothing_to_do_with_each_other():
    rows = tf.function(randomness.row_normal)(tf.range(4_000, dtype=tf.int64), [3]).numpy()
    together = np.concatenate([rows[:-1], rows[1:]], axis=1)
    np.testing.assert_allclose(np.corrcoef(together.T), np.eye(6), atol=0.07)
    np.testing.assert_allclose(rows.mean(0), 0, atol=0.07)
    np.testing.assert_allclose(rows.std(0), 1, atol=0.05)


def test_a_derived_key_is_none_of_its_parents_draws():
    parent = randomness.key(7, "parent")
    child = set(randomness.key(parent, 0).numpy().tolist())
    place = randomness._start(parent)
    numbers = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[64], **place, dtype=tf.int64)
    assert not child & set(numbers.numpy().tolist())


def test_normal_and_uniform_have_their_moments():
    normal = randomness.normal([200_000], randomness.key(0)).numpy()
    uniform = randomness.uniform([200_000], randomness.key(0)).numpy()
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01
    assert abs(uniform.mean() - 0.5) < 0.01 and uniform.min() >= 0 and uniform.max() < 1
    between = randomness.uniform([200_000], randomness.key(0), -3, 5).numpy()
    assert between.min() >= -3 and between.max() < 5 and abs(between.mean() - 1) < 0.03
    faces = randomness.uniform([60_000], randomness.key(0), 1, 7, "int32").numpy()
    np.testing.assert_allclose(np.bincount(faces), [0, *[10_000] * 6], atol=500)


def test_bytes_are_uniform():
    drawn = randomness.random_bytes([50, 401, 3], randomness.key(0)).numpy()
    assert drawn.shape == (50, 401, 3)
    counts = np.bincount(drawn.ravel(), minlength=256)
    assert len(counts) == 256
    expected = drawn.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-squared, 255 degrees of freedom


def test_each_row_is_a_function_of_its_seed_and_purpose():
    seeds = np.array([4, -1, 2**60, 4])
    rows = randomness.row_normal(seeds, [2, 3]).numpy()
    assert rows.shape == (4, 2, 3)
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_array_equal(randomness.row_normal(seeds[2:3], [2, 3])[0], rows[2])
    assert (randomness.row_normal(seeds, [2, 3], "other").numpy() != rows).all()
    assert randomness.row_normal(seeds[:0], [2, 3]).shape == (0, 2, 3)


def test_seeds_of_different_calls_do_not_overlap():
    drawn = [randomness.row_seeds(seed, 1000) for seed in (-1, 0, 1, 2**31 - 1, -(2**31))]
    assert len(np.unique(np.concatenate(drawn))) == 5000
    np.testing.assert_array_equal(randomness.row_seeds(0, 3), [0, 1, 2])
    np.testing.assert_array_equal(randomness.row_seeds(2, 3), 2 * 2**32 + np.arange(3))
    np.testing.assert_array_equal(randomness.row_seeds([9, 8], 2), [9, 8])


@pytest.mark.parametrize("seed", [2**31, -(2**31) - 1, 0.5, "a", [1, 2, 3], [[1, 2]]])
def test_seeds_that_do_not_fit_are_refused(seed):
    with pytest.raises(ValueError, match="Received: seed"):
        randomness.row_seeds(seed, 2)


def test_dropout_draws_from_the_scope_and_its_name():
    ones = tf.ones([50, 40])
    one, other = layers.Dropout(0.3, name="one"), layers.Dropout(0.3, name="other")

    def masks(key):
        with randomness.scope(key):
            return one(ones, training=True).numpy(), other(ones, training=True).numpy()

    first, again, later = (masks(randomness.key(0, step)) for step in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any() and (first[0] != later[0]).any()
    assert abs((first[0] == 0).mean() - 0.3) < 0.05
    kept = 1 - round(256 * 0.3) / 256
    np.testing.assert_allclose(first[0][first[0] > 0], 1 / kept, rtol=1e-6)
    assert randomness.current_key() is None


def test_dropout_passes_through_in_inference_and_asks_for_a_scope_in_training():
    layer = layers.Dropout(0.5)
    np.testing.assert_array_equal(layer(tf.ones([3, 3])), np.ones([3, 3]))
    with pytest.raises(ValueError, match="outside"):
        layer(tf.ones([3, 3]), training=True)
    with pytest.raises(ValueError, match=r"Received: rate=1"):
        layers.Dropout(1)


def test_dropout_draws_for_each_row_from_a_key_of_its_own():
    layer = layers.Dropout(0.5, name="one")
    ones = tf.ones([4, 5, 7])

    def masks(seeds):
        with randomness.scope(randomness.row_keys(np.array(seeds), "purpose")):
            return layer(ones[: len(seeds)], training=True).numpy()

    together = masks([3, -8, 3, 2**40])
    np.testing.assert_array_equal(together[0], together[2])
    assert (together[0] != together[1]).any() and (together[1] != together[3]).any()
    np.testing.assert_array_equal(masks([-8]), together[1:2])
    with randomness.scope(randomness.key(3, "purpose")):
        whole = layer(ones, training=True).numpy()
    assert (whole[0] != whole[1]).any()
