"""The history of fakes against a model in NumPy that takes them one after another."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen.models.history import exchanged


def in_turn(history, count, fakes, coins, slots):
    history, shown = history.copy(), []
    for fake, coin, slot in zip(fakes, coins, slots):
        if count < len(history):
            history[count] = fake
            count += 1
            shown.append(fake)
        elif coin:
            shown.append(history[slot].copy())
            history[slot] = fake
        else:
            shown.append(fake)
    return np.array(shown), history, count


@pytest.mark.parametrize("size, batch", [(1, 3), (4, 3), (5, 16), (50, 4)])
def test_a_batch_is_as_its_images_one_after_another(size, batch):
    rng = np.random.default_rng(size)
    function = tf.function(exchanged)
    history, count = np.zeros((size, 2, 1), "float32"), 0
    mine, own_count = tf.constant(history), tf.constant(0)
    for step in range(20):
        fakes = np.arange(batch, dtype="float32")[:, None, None] + 100 * step + np.ones((1, 2, 1))
        fakes = fakes.astype("float32")
        coins, slots = rng.random(batch) < 0.5, rng.integers(0, size, batch).astype("int32")
        expected, history, count = in_turn(history, count, fakes, coins, slots)
        shown, mine, own_count = function(mine, own_count, fakes, coins, slots)
        np.testing.assert_array_equal(shown, expected)
        np.testing.assert_array_equal(mine, history)
        assert own_count == count
