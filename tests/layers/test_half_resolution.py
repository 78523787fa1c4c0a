"""A network at half the resolution: what it sees, whole and piece by piece."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import CausalConv, HalfResolution
from keras_gen.layers.causal_conv import empty_memory, remembering


def network(direction, shape, channels=2):
    """Features through a layer, a causal convolution within it, and what that says."""
    fold = 4 if direction == "down" else 2
    folded = keras.Input((None, None, fold * channels))
    convolution = CausalConv(fold * 3, direction, size=2, name="within")(folded)
    told = [keras.layers.Dense(4, name="told")(convolution)] if direction == "down" else []
    low = keras.Model(folded, [convolution, *told])
    image = keras.Input((*shape, channels))
    return keras.Model(image, HalfResolution(low, direction, name="half")(image))


def at_most(direction, row, column, shape):
    """The positions that may be seen: of the squares and pairs before, to their first position."""
    rows, columns = np.indices(shape)
    if direction == "down":
        return (rows <= row // 2 * 2) & (columns >= 0)
    return (rows == row) & (columns <= column // 2 * 2)


@pytest.mark.parametrize("direction", ["down", "right"])
@pytest.mark.parametrize("shape", [(6, 8), (5, 7)])
def test_nothing_below_or_to_the_right_is_seen(direction, shape):
    net = network(direction, shape)
    x = tf.random.stateless_normal([1, *shape, 2], [0, 1])
    for row, column in np.ndindex(*shape):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = tf.nest.flatten(net(x))
            found = tf.add_n([tf.reduce_sum(output[0, row, column]) for output in outputs])
        seen = (tape.gradient(found, x).numpy()[0] != 0).any(-1)
        assert not seen[~at_most(direction, row, column, shape)].any()
        assert seen[row // 2 * 2 if direction == "down" else row, column // 2 * 2]


@pytest.mark.parametrize("direction", ["down", "right"])
@pytest.mark.parametrize("shape", [(6, 8), (5, 7)])
def test_row_by_row_or_pixel_by_pixel_is_the_same(direction, shape):
    net = network(direction, shape)
    x = tf.random.stateless_normal([3, *shape, 2], [0, 1])
    x = x if direction == "down" else x[:, :1]
    axis = 1 if direction == "down" else 2
    whole = tf.nest.flatten(net.get_layer("half")(x))
    memory, parts = empty_memory(net, 3, shape[1]), []
    for piece in tf.split(x, x.shape[axis], axis):
        with remembering(memory):
            parts.append(tf.nest.flatten(net.get_layer("half")(piece)))
    for all_at_once, pieces in zip(whole, zip(*parts)):
        np.testing.assert_array_equal(tf.concat(pieces, axis), all_at_once)


def test_other_outputs_are_repeated():
    shape = (5, 7)
    _, told = network("down", shape)(tf.random.stateless_normal([2, *shape, 2], [0, 1]))
    assert told.shape == (2, 5, 7, 4)
    np.testing.assert_array_equal(told[:, 1::2], told[:, 0:4:2])
    np.testing.assert_array_equal(told[:, :, 1::2], told[:, :, 0:6:2])


def test_it_is_saved_with_its_network():
    net = network("down", (4, 4))
    again = net.from_config(net.get_config())
    again.set_weights(net.get_weights())
    x = tf.random.stateless_normal([2, 4, 4, 2], [0, 1])
    for a, b in zip(net(x), again(x)):
        np.testing.assert_array_equal(a, b)


def test_another_direction_is_refused():
    with pytest.raises(ValueError, match="Received: direction='up'"):
        HalfResolution(None, "up")


@pytest.mark.parametrize("direction", ["down", "right"])
def test_sides_may_be_unknown(direction):
    layer = network(direction, (5, 7)).get_layer("half")
    x = tf.random.stateless_normal([3, 5, 7, 2], [0, 1])
    of_any_size = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 2])])
    for found, expected in zip(tf.nest.flatten(of_any_size(x)), tf.nest.flatten(layer(x))):
        np.testing.assert_array_equal(found, expected)
