"""The gradient penalties on discriminators whose gradients are known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import losses, randomness

KEY = randomness.key(0)
SLOPE = tf.constant(np.arange(4).reshape(2, 2, 1), tf.float32)  # squared norm 14
REAL, FAKE = tf.ones([3, 2, 2, 1]), tf.zeros([3, 2, 2, 1])


def linear(images):
    return tf.reduce_sum(images * SLOPE, [1, 2, 3])


def quadratic(images):
    """Gradient 2 x: its squared norm is 4 |x|^2, which tells where it was taken."""
    return tf.reduce_sum(images**2, [1, 2, 3])


def test_r1_and_r2_are_half_the_weighted_squared_norm():
    np.testing.assert_allclose(losses.R1(3.0)(linear, REAL, FAKE, KEY), [1.5 * 14] * 3)
    np.testing.assert_allclose(losses.R2(3.0)(linear, REAL, FAKE, KEY), [1.5 * 14] * 3)


def test_r1_is_taken_at_real_images_and_r2_at_fakes():
    np.testing.assert_allclose(losses.R1(2.0)(quadratic, REAL, FAKE, KEY), [16] * 3)
    np.testing.assert_allclose(losses.R2(2.0)(quadratic, REAL, FAKE, KEY), [0] * 3)


def test_the_gradient_penalty_wants_a_norm_of_one():
    expected = 10 * (np.sqrt(14) - 1) ** 2
    penalty = losses.GradientPenalty(10.0)
    np.testing.assert_allclose(penalty(linear, REAL, FAKE, KEY), [expected] * 3, rtol=1e-6)
    unit = penalty(lambda x: linear(x) / np.sqrt(14), REAL, FAKE, KEY)
    np.testing.assert_allclose(unit, [0] * 3, atol=1e-10)


def test_the_gradient_penalty_interpolates_uniformly_one_number_for_each_pair():
    count = 4000
    real, fake = tf.ones([count, 2, 2, 1]), tf.zeros([count, 2, 2, 1])
    seen = []
    losses.GradientPenalty()(lambda x: seen.append(x) or quadratic(x), real, fake, KEY)
    mix = seen[0].numpy().reshape(count, -1)
    assert (mix == mix[:, :1]).all()
    assert (mix >= 0).all() and (mix < 1).all()
    quantiles = np.quantile(mix[:, 0], [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.03)


def test_the_gradient_of_a_flat_discriminator_is_finite():
    scale = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        penalty = losses.GradientPenalty()(lambda x: scale * linear(x), REAL, FAKE, KEY)
    assert np.isfinite(tape.gradient(penalty, scale))


@pytest.mark.parametrize("penalty", [losses.R1, losses.R2, losses.GradientPenalty])
def test_a_penalty_trains_the_discriminator(penalty):
    scale = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        value = penalty(1.0)(lambda x: scale * linear(x), REAL, FAKE, KEY)
    assert tape.gradient(value, scale) > 0


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="Received: weight=-1"):
        losses.R1(-1)
