"""Schedules by images seen, and Adam that follows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import losses
from keras_gen.optimizers import ScheduledAdam
from keras_gen.schedules import CosineSchedule, value_at


def test_a_cosine_goes_from_one_value_to_the_other_and_stays():
    schedule = CosineSchedule(2.0, 1.0, 100)
    found = [float(schedule(seen)) for seen in (0, 25, 50, 100, 1000)]
    expected = [2, 1.5 + 0.5 * np.cos(np.pi / 4), 1.5, 1, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert value_at(3.0, 7) == 3.0
    with pytest.raises(ValueError, match="images=0"):
        CosineSchedule(2.0, 1.0, 0)


def test_a_penalty_may_have_a_schedule_as_its_weight():
    penalty = losses.R1(CosineSchedule(2.0, 1.0, 100))
    penalty = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(penalty))
    images = tf.ones([3, 2, 2, 1])
    for seen, weight in ((0, 2), (50, 1.5), (200, 1)):
        found = penalty(lambda x: tf.reduce_sum(x, [1, 2, 3]), images, images, None, seen)
        np.testing.assert_allclose(found, [0.5 * weight * 4] * 3, rtol=1e-6)


def test_it_is_adam_where_nothing_is_scheduled():
    weights = []
    for optimizer in (keras.optimizers.Adam(0.1, 0.5, 0.9), ScheduledAdam(0.1, 0.5, 0.9)):
        weight = keras.Variable([1.0, 2.0])
        optimizer.build([weight])
        for gradient in ([1.0, -2.0], [0.5, 3.0]):
            if isinstance(optimizer, ScheduledAdam):
                optimizer.follow(5)
            optimizer.apply([keras.ops.array(gradient)], [weight])
        weights.append(weight.numpy())
    np.testing.assert_allclose(*weights, rtol=1e-6)


def test_the_rate_and_the_second_moment_follow_the_images():
    optimizer = ScheduledAdam(
        0.1, 0.0, CosineSchedule(0.9, 0.99, 100), CosineSchedule(1.0, 0.5, 100)
    )
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    optimizer.follow(100)
    assert float(optimizer.learning_rate) == pytest.approx(0.05)
    assert float(optimizer.beta_2) == pytest.approx(0.99)
    optimizer.learning_rate = 0.2
    assert float(optimizer.learning_rate) == pytest.approx(0.2)
    names = [variable.name for variable in optimizer.variables]
    assert {"beta_2", "factor"} <= set(names)
    again = ScheduledAdam.from_config(optimizer.get_config())
    again.build([weight])
    again.follow(50)
    assert float(again.learning_rate) == pytest.approx(0.3)
    assert float(again.beta_2) == pytest.approx(0.945)
