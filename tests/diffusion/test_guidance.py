"""Classifier-free guidance."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import diffusion, randomness

CONDITIONAL = randomness.normal([4, 2, 3], randomness.key(0, "conditional"))
UNCONDITIONAL = randomness.normal([4, 2, 3], randomness.key(0, "unconditional"))


def test_guidance_extrapolates():
    made = diffusion.guide(CONDITIONAL, UNCONDITIONAL, 3.0)
    np.testing.assert_allclose(made, 3 * CONDITIONAL - 2 * UNCONDITIONAL, atol=1e-5)
    np.testing.assert_allclose(
        diffusion.guide(CONDITIONAL, UNCONDITIONAL, 1.0), CONDITIONAL, atol=1e-6
    )


def test_each_row_may_have_a_scale_of_its_own():
    scale = tf.constant([0.0, 1.0, 2.0, 5.0])
    made = diffusion.guide(CONDITIONAL, UNCONDITIONAL, scale)
    for row in range(4):
        alone = diffusion.guide(
            CONDITIONAL[row : row + 1], UNCONDITIONAL[row : row + 1], scale[row]
        )
        np.testing.assert_array_equal(made[row : row + 1], alone)
    np.testing.assert_array_equal(made[0], UNCONDITIONAL[0])


@pytest.mark.parametrize("scale", [4.0, [4.0] * 4])
def test_an_interval_guides_only_within(scale):
    t = tf.constant([0.1, 0.2, 0.5, 0.51])
    scale = tf.constant(scale)
    made = diffusion.guide(CONDITIONAL, UNCONDITIONAL, scale, t, interval=(0.1, 0.5))
    everywhere = diffusion.guide(CONDITIONAL, UNCONDITIONAL, scale)
    np.testing.assert_array_equal(made[1:3], everywhere[1:3])
    np.testing.assert_allclose(made[0], CONDITIONAL[0], atol=1e-6)
    np.testing.assert_allclose(made[3], CONDITIONAL[3], atol=1e-6)


def test_guiding_any_prediction_guides_the_data():
    path = diffusion.Linear()
    x, t = randomness.normal([4, 2, 3], randomness.key(0, "x")), tf.constant([0.1, 0.4, 0.7, 1.0])
    for prediction in map(diffusion.get_prediction, diffusion.PREDICTIONS):
        guided = diffusion.guide(CONDITIONAL, UNCONDITIONAL, 2.5)
        estimates = (prediction.to_data(path, y, x, t) for y in (CONDITIONAL, UNCONDITIONAL))
        expected = diffusion.guide(*estimates, 2.5)
        made = prediction.to_data(path, guided, x, t)
        np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-4)


def test_an_interval_needs_times():
    with pytest.raises(ValueError, match=r"`interval` must be .* needs `t`. Received: interval="):
        diffusion.guide(CONDITIONAL, UNCONDITIONAL, 2.0, interval=(0.1, 0.5))
