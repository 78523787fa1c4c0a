"""Likelihoods of pixels against sums over all their values, closed forms and their own draws."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import losses


def parameters_for(likelihood, levels, channels, scale=1.0, rows=1, seed=0):
    shape = (rows, likelihood.parameters(levels, channels))
    return tf.constant(np.random.default_rng(seed).normal(scale=scale, size=shape), tf.float32)


def probabilities(likelihood, parameters, pixels, levels):
    """Of each pixel [n, channels] under one row of parameters, float64 [n]."""
    pixels = tf.constant(pixels, tf.int32)
    spread = tf.repeat(parameters, len(pixels), axis=0)
    return np.exp(likelihood.log_prob(spread, pixels, levels).numpy().astype(np.float64))


@pytest.mark.parametrize("name", losses.PIXEL_LIKELIHOODS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_256_grey_levels_sum_to_one(name, scale):
    likelihood = losses.get_pixel_likelihood(name)
    parameters = parameters_for(likelihood, 256, 1, scale)
    found = probabilities(likelihood, parameters, np.arange(256)[:, None], 256)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 5, 16])
def test_all_colours_sum_to_one(levels):
    likelihood = losses.LogisticMixture(components=3)
    parameters = parameters_for(likelihood, levels, 3, 2.0)
    colours = np.array(list(itertools.product(range(levels), repeat=3)))
    found = probabilities(likelihood, parameters, colours, levels)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


def test_256_levels_of_each_channel_sum_to_what_the_channels_before_it_have():
    """p(r, g, b) summed over b is p(r, g): the same for two mixtures that differ in b alone."""
    likelihood = losses.LogisticMixture(components=2)
    parameters = parameters_for(likelihood, 256, 3).numpy()
    other = parameters.copy()
    k = likelihood.components
    other[:, 3 * k : 4 * k] += 0.7  # the means of blue
    other[:, 6 * k : 7 * k] -= 0.4  # its scales
    other[:, 8 * k :] += 0.9  # its coefficients
    line = np.stack([np.full(256, 90), np.full(256, 140), np.arange(256)], 1)
    first, second = (
        probabilities(likelihood, tf.constant(p), line, 256) for p in (parameters, other)
    )
    assert abs(first - second).max() > 1e-3 * first.max()
    np.testing.assert_allclose(first.sum(), second.sum(), rtol=1e-4)


def test_one_component_is_the_discretized_logistic():
    likelihood = losses.LogisticMixture(components=1)
    mean, log_scale, levels = 0.2, -1.5, 16
    parameters = tf.constant([[0.0, mean, log_scale]])
    found = probabilities(likelihood, parameters, np.arange(levels)[:, None], levels)
    edges = (np.arange(1, levels) * 2 - levels) / (levels - 1)  # half-way between the values
    below = 1 / (1 + np.exp(-(edges - mean) / np.exp(log_scale)))
    np.testing.assert_allclose(found, np.diff([0, *below, 1]), rtol=1e-4)


def test_values_far_from_every_component_have_a_finite_gradient():
    likelihood = losses.LogisticMixture(components=1)
    parameters = tf.constant([[0.0, 1.0, -20.0]] * 3)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        nats = likelihood.log_prob(parameters, tf.constant([[0], [3], [255]]), 256)
    assert np.isfinite(nats).all() and nats[0] < -1000 < nats[2]
    assert np.isfinite(tape.gradient(nats, parameters)).all()


@pytest.mark.parametrize("name", losses.PIXEL_LIKELIHOODS)
def test_draws_have_the_probabilities_of_log_prob(name):
    likelihood, levels, rows = losses.get_pixel_likelihood(name), 3, 50_000
    parameters = parameters_for(likelihood, levels, 3)
    random = np.random.default_rng(1)
    uniforms = tf.constant(random.random((rows, likelihood.draws(3))), tf.float32)
    spread, pixels = tf.repeat(parameters, rows, axis=0), np.zeros((rows, 3), np.int32)
    for channel in range(3):
        given = tf.constant(pixels)
        pixels[:, channel] = likelihood.draw(spread, given, channel, uniforms, levels)
    colours = np.array(list(itertools.product(range(levels), repeat=3)))
    expected = probabilities(likelihood, parameters, colours, levels)
    counts = np.bincount(pixels @ [9, 3, 1], minlength=27)
    error = np.sqrt(expected * (1 - expected) / rows)
    assert (abs(counts / rows - expected) < 4.5 * error + 1e-6).all()


def test_the_ends_of_the_uniform_draw_are_possible_levels():
    likelihood = losses.Categorical()
    logits = tf.constant([[-np.inf, 0.0, 0.0, -np.inf]] * 2, tf.float32)
    uniforms = tf.constant([[0.0], [1 - 2.0**-24]])
    drawn = likelihood.draw(logits, tf.zeros([2, 1], tf.int32), 0, uniforms, 4)
    np.testing.assert_array_equal(drawn, [1, 2])


def test_an_unknown_likelihood_is_named():
    with pytest.raises(ValueError, match="Received: likelihood='gauss'"):
        losses.get_pixel_likelihood("gauss")
    with pytest.raises(ValueError, match="Received: components=0"):
        losses.LogisticMixture(components=0)
