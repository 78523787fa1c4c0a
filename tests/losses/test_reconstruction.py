"""The reconstruction losses against their formulas."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import losses

IMAGES, MADE = np.random.default_rng(0).uniform(-1, 1, (2, 4, 3, 5, 2)).astype("float32")


def test_errors_are_means_over_pixels_of_each_image():
    for name, power in (("squared_error", 2), ("absolute_error", 1)):
        expected = (np.abs(IMAGES - MADE) ** power).mean((1, 2, 3))
        found = losses.get_reconstruction_loss(name)(IMAGES, MADE)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_is_least_at_the_image_and_finite_at_its_opposite():
    least = losses.cross_entropy(IMAGES, IMAGES)
    p = (IMAGES + 1) / 2
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean((1, 2, 3))
    np.testing.assert_allclose(least, expected, rtol=1e-3)
    assert (least.numpy() < losses.cross_entropy(IMAGES, MADE).numpy()).all()
    black = -tf.ones([1, 2, 2, 1])
    assert 5 < losses.cross_entropy(black, -black)[0] < 20
    assert losses.cross_entropy(black, -9 * black) == losses.cross_entropy(black, -black)


def test_cross_entropy_has_a_slope_where_a_pixel_is_most_wrong():
    """Through tanh of 7, all but 1, where the image is black: 1 for each of the logit's halves."""
    logit = tf.constant([[[[7.0], [-7.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(logit)
        loss = 2 * losses.cross_entropy(-tf.ones_like(logit), tf.tanh(logit / 2))[0]
    wrong, right = tf.reshape(tape.gradient(loss, logit), [-1]).numpy()
    assert 0.95 < wrong < 1 and 0 < right < 0.01


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match="loss='mse'"):
        losses.get_reconstruction_loss("mse")
