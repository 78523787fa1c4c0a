"""The adversarial losses against the formulas of their papers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import losses

REAL = np.array([-3.0, -0.5, 0.0, 2.0, 20.0], "float32")
FAKE = np.array([1.5, -2.0, 0.0, -30.0, 0.25], "float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def relu(x):
    return np.maximum(x, 0)


FORMULAS = {
    "minimax": (
        lambda r, f: -np.log(sigmoid(r)) - np.log(sigmoid(-f)),
        lambda r, f: np.log(sigmoid(-f)),
    ),
    "non_saturating": (
        lambda r, f: -np.log(sigmoid(r)) - np.log(sigmoid(-f)),
        lambda r, f: -np.log(sigmoid(f)),
    ),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2 + f**2) / 2,
        lambda r, f: (f - 1) ** 2 / 2,
    ),
    "hinge": (lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (
        lambda r, f: -np.log(sigmoid(r - f)),
        lambda r, f: -np.log(sigmoid(f - r)),
    ),
}


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_each_loss_is_its_formula(name):
    loss = losses.get_adversarial_loss(name)
    discriminator, generator = FORMULAS[name]
    np.testing.assert_allclose(
        loss.discriminator(REAL, FAKE), discriminator(REAL, FAKE), 1e-5, 1e-6
    )
    np.testing.assert_allclose(loss.generator(FAKE, REAL), generator(REAL, FAKE), 1e-5, 1e-6)


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_each_player_is_pushed_the_right_way(name):
    loss = losses.get_adversarial_loss(name)
    real, fake = tf.constant([0.3]), tf.constant([0.2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, fake])
        discriminator, generator = loss.discriminator(real, fake), loss.generator(fake, real)
    assert tape.gradient(discriminator, real)[0] < 0  # real logits up
    assert tape.gradient(discriminator, fake)[0] > 0  # fake logits down
    assert tape.gradient(generator, fake)[0] < 0  # fake logits up
    assert (tape.gradient(generator, real) is not None) == loss.pairs_real


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_extreme_logits_stay_finite(name):
    loss = losses.get_adversarial_loss(name)
    extreme = tf.constant([-1e4, 1e4])
    assert np.isfinite(loss.discriminator(extreme, -extreme)).all()
    assert np.isfinite(loss.generator(extreme, -extreme)).all()


def test_least_squares_can_do_without_the_half():
    half, whole = losses.LeastSquares(), losses.LeastSquares(scale=1.0)
    np.testing.assert_array_equal(whole.generator(FAKE), 2 * half.generator(FAKE))
    np.testing.assert_array_equal(
        whole.discriminator(REAL, FAKE), 2 * half.discriminator(REAL, FAKE)
    )
    assert losses.LeastSquares.from_config(whole.get_config()).scale == 1


def test_drift_adds_the_squared_real_logit():
    plain, drifting = losses.Wasserstein(), losses.Wasserstein(drift=0.25)
    difference = drifting.discriminator(REAL, FAKE) - plain.discriminator(REAL, FAKE)
    np.testing.assert_allclose(difference, 0.25 * REAL**2, rtol=1e-4)


@pytest.mark.parametrize(
    "value",
    [losses.Hinge(), losses.Wasserstein(drift=0.1), losses.R1(3.0), losses.GradientPenalty(2.0)],
)
def test_objects_are_saved_with_their_settings(value):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(value))
    assert type(again) is type(value)
    assert again.get_config() == value.get_config()


def test_weights_below_zero_are_named():
    with pytest.raises(ValueError, match="drift=-1"):
        losses.Wasserstein(drift=-1)
    with pytest.raises(ValueError, match="scale='2'"):
        losses.LeastSquares(scale="2")


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match=r"hinge.*Received: loss='hingee'"):
        losses.get_adversarial_loss("hingee")
