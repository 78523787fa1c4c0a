"""Causal convolutions: what they see, whole and piece by piece."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import CausalConv, Shift
from keras_gen.layers.causal_conv import empty_memory, remembering

SHAPE = (6, 7, 2)


def seen_by(layer, row, column):
    """Which positions of the input move the output at a position, bool [height, width]."""
    x = tf.random.stateless_normal([1, *SHAPE], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = tf.reduce_sum(layer(x)[0, row, column])
    gradient = tape.gradient(out, x)
    return (gradient.numpy()[0] != 0).any(-1)


def at(*places):
    expected = np.zeros(SHAPE[:2], bool)
    expected[tuple(zip(*places))] = True
    return expected


def test_down_sees_its_own_row_and_rows_above():
    layer = CausalConv(4, "down", size=2, across=3)
    expected = at((2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (3, 4))
    np.testing.assert_array_equal(seen_by(layer, 3, 3), expected)
    np.testing.assert_array_equal(seen_by(layer, 0, 0), at((0, 0), (0, 1)))


def test_right_sees_its_own_pixel_and_pixels_to_the_left():
    layer = CausalConv(4, "right", size=3)
    np.testing.assert_array_equal(seen_by(layer, 3, 3), at((3, 1), (3, 2), (3, 3)))
    np.testing.assert_array_equal(seen_by(layer, 2, 0), at((2, 0)))


def test_dilation_spreads_what_is_seen():
    layer = CausalConv(4, "right", size=3, dilation=2)
    np.testing.assert_array_equal(seen_by(layer, 3, 5), at((3, 1), (3, 3), (3, 5)))
    layer = CausalConv(4, "down", size=2, across=3, dilation=2)
    expected = [(row, column) for row in (2, 4) for column in (1, 3, 5)]
    np.testing.assert_array_equal(seen_by(layer, 4, 3), at(*expected))


TRAINED = """
import tensorflow as tf
from keras_gen.layers import causal_conv

x = tf.random.stateless_normal([2, 6, 5, 3], [0, 1])
for direction, across, dilation in [("down", 3, 1), ("down", 3, 2), ("right", 1, 2)]:
    layer = causal_conv.CausalConv(4, direction, size=2, across=across, dilation=dilation)
    layer.build(x.shape)

    @tf.function(autograph=False)
    def values_and_gradients(training):
        weights = [x, layer.kernel.value, layer.bias.value]
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                made = layer(x, training=training)
                total = tf.reduce_sum(tf.sin(made))
            slopes = tape.gradient(total, weights)
            steepness = tf.reduce_sum(tf.square(slopes[0]))
        return made, *slopes, *outer.gradient(steepness, weights)

    for found, expected in zip(values_and_gradients(True), values_and_gradients(False)):
        tf.debugging.assert_near(found, expected, atol=1e-4, rtol=1e-4)
        assert tf.reduce_max(tf.abs(expected)) > 0.1
print(causal_conv._dilated_trains(tf.float32))
"""


@pytest.mark.parametrize("onednn", [False, True])
def test_training_computes_and_derives_the_same(onednn):
    made = subprocess.run(
        [sys.executable, "-c", TRAINED],
        env={
            **os.environ,
            "TF_ENABLE_ONEDNN_OPTS": str(int(onednn)),
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        capture_output=True,
        text=True,
    )
    assert made.stdout in ("True\n", "False\n"), made.stderr
    assert onednn or made.stdout == "False\n"  # so that both ways are taken


def test_shift_moves_by_one_pixel():
    x = tf.random.stateless_normal([2, *SHAPE], [0, 1])
    down, right = Shift("down")(x), Shift("right")(x)
    np.testing.assert_array_equal(down[:, 1:], x[:, :-1])
    np.testing.assert_array_equal(right[:, :, 1:], x[:, :, :-1])
    assert not down[:, 0].numpy().any() and not right[:, :, 0].numpy().any()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("size, dilation", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("direction", ["down", "right"])
def test_pieces_give_what_the_whole_gives(direction, size, dilation, policy):
    image = keras.Input((None, None, 2))
    layer = CausalConv(
        4,
        direction,
        size,
        across=3 if direction == "down" else 1,
        dilation=dilation,
        dtype=policy,
    )
    network = keras.Model(image, layer(image))
    x = tf.random.stateless_normal([3, *SHAPE], [0, 1])
    if direction == "right":
        x = x[:, :1]
    memory = empty_memory(network, 3, SHAPE[1])
    pieces = []
    for place in range(x.shape[layer.axis]):
        piece = x[:, place, None] if direction == "down" else x[:, :, place, None]
        with remembering(memory):
            pieces.append(network(piece))
    tolerance = 1e-6 if policy == "float32" else 2e-2
    together = tf.concat(pieces, layer.axis)
    np.testing.assert_allclose(
        tf.cast(together, tf.float32), tf.cast(network(x), tf.float32), atol=tolerance
    )


def test_what_is_remembered_ends_with_the_scope():
    layer = CausalConv(4, "right", size=2)
    x = tf.ones([1, 1, 3, 2])
    whole = layer(x)
    memory = {layer.name: tf.ones([1, 1, 1, 2])}
    with remembering(memory):
        assert (layer(x)[:, :, 0] != whole[:, :, 0]).numpy().any()
    np.testing.assert_array_equal(layer(x), whole)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"direction": "up"}, "`direction` must be one of.*Received: direction='up'"),
        ({"direction": "down", "across": 2}, "`across` must be odd.*Received: across=2"),
        ({"direction": "right", "across": 3}, "Received: across=3, direction='right'"),
        ({"direction": "down", "size": 0}, "must be at least 1.*size=0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalConv(4, **arguments)
