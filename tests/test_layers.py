"""The convolution of stride 1 against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import layers


@pytest.mark.parametrize("kernel_size", [1, 3, (5, 3)])
def test_values_and_derivatives_are_those_of_keras(kernel_size):
    ours, theirs = (
        layers.Conv2D(4, kernel_size),
        keras.layers.Conv2D(4, kernel_size, padding="same"),
    )
    images = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), tf.float32)
    ours.build(images.shape)
    theirs.build(images.shape)
    theirs.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in theirs.weights])
    ours.set_weights(theirs.get_weights())

    def derivatives(layer):
        """Value, gradients, and the gradients of a penalty on a gradient."""
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = tf.tanh(layer(images))
            first = tape.gradient(value, images)
            penalty = tf.reduce_sum(first**2)
        with tf.GradientTape() as plain:
            loss = tf.reduce_sum(tf.sin(layer(images)))
        second = outer.gradient(penalty, [images, *layer.trainable_variables])
        return [value, first, *second, *plain.gradient(loss, layer.trainable_variables)]

    for a, b in zip(derivatives(ours), derivatives(theirs)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_works_in_a_functional_model_of_any_precision(tmp_path):
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        image = keras.Input((8, 8, 1))
        model = keras.Model(image, layers.Conv2D(2, 3, dtype=policy, name="conv")(image))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        ones = tf.ones([1, 8, 8, 1])
        np.testing.assert_array_equal(loaded(ones), model(ones))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(model(ones), tf.float32))
        gradient = tape.gradient(loss, model.trainable_variables)
        assert all(g.dtype == tf.float32 for g in gradient)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 4},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "dilation_rate": 2},
    ],
)
def test_what_it_cannot_do_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: kernel_size="):
        layers.Conv2D(4, **arguments)
