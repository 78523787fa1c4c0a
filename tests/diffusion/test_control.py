"""Inpainting and interpolation, against a normal distribution whose conditionals are known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import diffusion as d

COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


def exact(path):
    """E[x_0 | x_t] where x_0 is normal with COVARIANCE."""

    def denoise(x, t):
        alpha, sigma = path.alpha(t[0]), path.sigma(t[0])
        noisy = tf.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * np.eye(2))
        return x @ tf.transpose(alpha * COVARIANCE @ noisy)

    return denoise


def drawn(seed, shape):
    return lambda i: tf.random.stateless_normal(
        shape, tf.stack([seed, tf.cast(i, tf.int32)]), dtype=tf.float64
    )


def in_a_graph(function):
    return tf.function(function, autograph=False)().numpy()


def test_inpainting_draws_from_the_conditional():
    path = d.Cosine()
    shape = [4000, 2]
    known = tf.constant(np.tile([1.5, 99.0], (4000, 1)))
    start = tf.random.stateless_normal(shape, [1, 1], dtype=tf.float64)
    arguments = known, tf.constant([0.0, 1.0]), drawn(7, shape)
    times = d.uniform(path, 96)
    x = in_a_graph(lambda: d.inpaint(d.ddpm, exact(path), path, start, times, *arguments, 6))
    np.testing.assert_array_equal(x[:, 0], 1.5)
    # x_2 given x_1 = 1.5: mean 0.8 * 1.5, variance 1 - 0.8²
    assert abs(x[:, 1].mean() - 1.2) < 0.12
    assert abs(x[:, 1].var() - 0.36) < 0.12


@pytest.mark.parametrize("path", ["rectified_flow", "cosine", "edm"])
def test_every_repeat_starts_at_the_noise_of_its_time(path):
    """With the true data for estimates, x given at time t is a draw of q(x_t | x_0)."""
    path, seen = d.get_path(path), []
    data = tf.constant(np.full((20000, 1), 0.7))

    def denoise(x, t):
        seen.append((float(t[0]), x.numpy() - float(path.alpha(t[0])) * 0.7))
        return data

    noise = tf.random.stateless_normal([20000, 1], [1, 1], dtype=tf.float64)
    start = path.mix(data, noise, tf.constant(path.t_max, tf.float64))
    times = d.karras(path, 4)
    arguments = data, tf.constant([1.0]), drawn(3, [20000, 1]), 3
    x = d.inpaint(d.ddpm, denoise, path, start, times, *arguments)
    np.testing.assert_array_equal(x, data)
    np.testing.assert_allclose([t for t, _ in seen], np.repeat(times[:-1], 3))
    for t, difference in seen:
        sigma = float(path.sigma(tf.constant(t, tf.float64)))
        np.testing.assert_allclose(difference.std(), sigma, rtol=0.03)


def test_repeats_bring_the_parts_together():
    path = d.RectifiedFlow()
    shape = [4000, 2]
    known = tf.constant(np.tile([1.5, 0.0], (4000, 1)))

    def mean(repeats):
        start = tf.random.stateless_normal(shape, [1, 1], dtype=tf.float64)
        arguments = known, tf.constant([0.0, 1.0]), drawn(3, shape), repeats
        times = d.uniform(path, 12)
        x = in_a_graph(lambda: d.inpaint(d.ddpm, exact(path), path, start, times, *arguments))
        return x[:, 1].mean()

    assert abs(mean(4) - 1.2) < abs(mean(1) - 1.2)


@pytest.mark.parametrize("path", ["rectified_flow", "cosine", "linear", "edm"])
def test_renoising_keeps_the_marginal(path):
    path = d.get_path(path)
    s, t = (tf.constant(f * path.t_max, tf.float64) for f in (0.2, 0.7))
    data = tf.ones([20000, 1], tf.float64)
    noise = [tf.random.stateless_normal([20000, 1], [i, 0], dtype=tf.float64) for i in range(2)]
    x = d.renoise(path, path.mix(data, noise[0], s), s, t, noise[1]).numpy()
    deviation = float(path.sigma(t))
    assert abs(x.mean() - float(path.alpha(t))) < 0.03 * max(1, deviation)
    assert abs(x.std() / deviation - 1) < 0.03


def test_slerp_ends_at_both_and_keeps_the_length():
    first, second = (tf.random.stateless_normal([3, 8, 8, 1], [i, 0]) for i in range(2))
    np.testing.assert_allclose(d.slerp(first, second, 0.0), first, atol=1e-5)
    np.testing.assert_allclose(d.slerp(first, second, 1.0), second, atol=1e-5)
    middle = d.slerp(first, second, [0.5, 0.3, 0.7]).numpy()
    lengths = np.linalg.norm(middle.reshape(3, -1), axis=1)
    assert (lengths > 6).all() and (lengths < 10).all()  # about 8 = sqrt(64)
    np.testing.assert_allclose(
        d.slerp(first, -2 * first, [0.0, 0.5, 1.0]),
        [first[0], 0 * first[1], -2 * first[2]],
        atol=1e-2,
    )
    same = d.slerp(first, first, 0.5).numpy()
    np.testing.assert_allclose(same, first, rtol=1e-3, atol=1e-4)
