"""The codebook's mathematics against NumPy and closed forms."""

import numpy as np
import tensorflow as tf

from keras_gen.models import codebook


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_nearest_code_is_that_of_all_distances():
    vectors, codes = drawn(50, 3), drawn(7, 3, seed=1)
    squared = ((vectors[:, None] - codes) ** 2).sum(-1)
    found, distances = codebook.nearest(tf.constant(vectors), tf.constant(codes))
    np.testing.assert_array_equal(found, squared.argmin(1))
    np.testing.assert_allclose(distances, squared.min(1), rtol=1e-5)


def test_codes_are_moving_averages_of_the_vectors_that_they_stand_for():
    """Kept as in the paper: N and m averaged apart, e = m / N."""
    decay, size = 0.8, 5
    book, counts = drawn(size, 3), np.zeros(size, np.float32)
    n, m = np.zeros(size), np.zeros((size, 3))
    expected = book.astype(np.float64)
    for step in range(6):
        vectors = drawn(40, 3, seed=step)
        codes, _ = codebook.nearest(vectors, book)
        batch_counts, batch_sums = codebook.sums_of(vectors, codes, size)
        book, counts = codebook.moved(book, counts, batch_counts, batch_sums, decay)
        own = np.eye(size)[codes.numpy()]
        np.testing.assert_array_equal(batch_counts, own.sum(0))
        n, m = decay * n + 0.2 * own.sum(0), decay * m + 0.2 * own.T @ vectors
        expected = np.where(n[:, None] > 0, m / np.maximum(n, 1e-9)[:, None], expected)
        np.testing.assert_allclose(counts, n, rtol=1e-5)
        np.testing.assert_allclose(book, expected, rtol=1e-4, atol=1e-6)


def test_without_memory_it_is_the_step_of_k_means():
    vectors, book = drawn(60, 2), drawn(4, 2, seed=1) + [[0, 0], [0, 0], [0, 0], [90, 0]]
    book = tf.constant(book, tf.float32)
    codes, _ = codebook.nearest(vectors, book)
    moved, _ = codebook.moved(book, tf.ones(4), *codebook.sums_of(vectors, codes, 4), 0.0)
    for code in range(3):
        np.testing.assert_allclose(moved[code], vectors[codes == code].mean(0), rtol=1e-4)
    np.testing.assert_array_equal(moved[3], book[3])  # far away, the code of no vector


def test_dead_codes_take_the_vectors_in_turn_and_count_as_the_mean():
    book, counts = drawn(5, 2), np.array([6.0, 0.1, 3.0, 0.0, 0.9], np.float32)  # the mean is 2
    vectors = drawn(2, 2, seed=1)
    found, found_counts = codebook.restarted(book, counts, vectors, 0.5)
    expected = book.copy()
    expected[[1, 3, 4]] = vectors[[0, 1, 0]]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_counts, [6, 2, 3, 2, 2])
    same, _ = codebook.restarted(book, counts, vectors, 0.0)
    np.testing.assert_array_equal(same, book)


def test_candidates_of_parts_are_those_of_the_whole():
    vectors, uniforms = drawn(20, 3), np.random.default_rng(1).uniform(size=20).astype(np.float32)
    distances = np.arange(20, dtype=np.float32)
    whole, priorities = codebook.candidates(vectors, distances, uniforms, 6)
    parts = [
        codebook.candidates(vectors[part], distances[part], uniforms[part], 6)
        for part in (slice(0, 4), slice(4, 20))
    ]
    gathered = [tf.concat(both, 0) for both in zip(*parts)]
    assert len(gathered[0]) == 4 + 6  # a part may have fewer than are wanted
    again, same = codebook.highest(gathered[1], gathered[0], 6)
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(same, priorities, rtol=1e-6)
    assert len(np.unique(whole, axis=0)) == 6  # without replacement
    assert not (np.asarray(whole) == vectors[0]).all(1).any()  # which lies where its code is


def test_candidates_are_drawn_by_their_squared_distances():
    kinds = np.arange(60_000) % 3
    weights = np.array([1.0, 2.0, 5.0], np.float32)[kinds]
    uniforms = np.random.default_rng(0).uniform(size=60_000).astype(np.float32)
    first, _ = codebook.candidates(kinds[:, None].astype(np.float32), weights, uniforms, 1000)
    shares = np.bincount(first.numpy()[:, 0].astype(int), minlength=3) / 1000
    np.testing.assert_allclose(shares, np.array([1, 2, 5]) / 8, atol=0.04)


def test_perplexity_is_the_number_of_codes_in_equal_use():
    np.testing.assert_allclose(codebook.perplexity(tf.fill([12], 7.0)), 12, rtol=1e-6)
    np.testing.assert_allclose(codebook.perplexity([4.0, 4.0, 0.0, 0.0]), 2, rtol=1e-6)
    np.testing.assert_allclose(codebook.perplexity([0.0, 9.0, 0.0]), 1, rtol=1e-6)
    expected = np.exp(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    np.testing.assert_allclose(codebook.perplexity([1.0, 3.0]), expected, rtol=1e-6)
