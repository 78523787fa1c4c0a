import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import Gate

ACTIVATIONS = {"tanh": np.tanh, "linear": np.asarray}


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(scale=2, size=shape).astype(np.float32)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_half_is_scaled_by_the_sigmoid_of_the_other(activation, training):
    x = normal((2, 3, 4, 6))
    expected = ACTIVATIONS[activation](x[..., :3]) / (1 + np.exp(-x[..., 3:]))
    found = Gate(activation)(x, training=training)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_of_training_is_that_of_the_formula(activation, dtype, tolerance):
    layer = Gate(activation, dtype=dtype)
    x, weights = tf.constant(normal((2, 3, 4, 6))), normal((2, 3, 4, 3), seed=1)

    def gradient(training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            made = tf.cast(layer(x, training=training), tf.float32)
            total = tf.reduce_sum(weights * made)
        return tape.gradient(total, x).numpy()

    formula = gradient(False)
    assert abs(formula).max() > 0.5
    np.testing.assert_allclose(gradient(True), formula, atol=tolerance * abs(formula).max())


def test_any_batch_is_taken_and_the_layer_is_saved():
    features = keras.Input((None, None, 4))
    model = keras.Model(features, Gate("linear")(features))
    loaded = keras.Model.from_config(model.get_config())
    x = normal((3, 2, 2, 4))
    train = tf.function(lambda x: loaded(x, training=True))
    for count in (3, 1):
        np.testing.assert_allclose(train(x[:count]), model(x[:count]), atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`activation` must be 'tanh' or 'linear'.*'relu'"):
        Gate("relu")
    with pytest.raises(ValueError, match=r"two halves. Received: shape \(2, 3\)"):
        Gate()(tf.ones([2, 3]))
