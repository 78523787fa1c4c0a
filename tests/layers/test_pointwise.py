import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import Pointwise


@pytest.mark.parametrize("use_bias", [True, False])
def test_training_computes_and_derives_what_dense_does(use_bias):
    x = tf.random.stateless_normal([2, 5, 4, 3], [0, 1])
    layer = Pointwise(6, activation="elu", use_bias=use_bias, bias_initializer="random_normal")

    def values_and_gradients(training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            made = layer(x, training=training)
            total = tf.reduce_sum(tf.square(made))
        return made, *tape.gradient(total, [x, *(weight.value for weight in layer.weights)])

    for found, expected in zip(values_and_gradients(True), values_and_gradients(False)):
        assert abs(expected.numpy()).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
