"""Muon: its update against the singular value decomposition, and what it leaves to Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.optimizers import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_become_one_and_directions_stay(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized(tf.constant(1000 * matrix)).numpy()
    values = np.diag(left.T @ found @ right.T)
    assert values.min() > 0.6 and values.max() < 1.25
    np.testing.assert_allclose(found, (left * values) @ right, atol=1e-4)


@pytest.mark.parametrize(
    "shape, name, matrix",
    [
        ((3, 3, 8, 16), "kernel", (72, 16)),
        ((20, 2, 8), "query", (20, 16)),
        ((2, 8, 20), "attention_output", (16, 20)),
        ((9, 8), "kernel", (9, 8)),
        ((3, 3, 16, 1), "depthwise", None),
        ((4, 30), "kernel", None),
        ((30,), "bias", None),
        ((30, 30), "modulation", None),
    ],
)
def test_what_is_a_matrix(shape, name, matrix):
    optimizer = Muon(exclude=["modulation"])
    assert optimizer.matrix_of(keras.Variable(np.zeros(shape), name=name)) == matrix


def test_a_matrix_moves_by_its_orthogonal_momentum_and_a_bias_by_adam():
    generator = np.random.default_rng(1)
    gradients = generator.normal(size=(2, 12, 8)).astype("float32")
    optimizer = Muon(0.1, momentum=0.9, adam_factor=0.5)
    matrix, bias = keras.Variable(np.zeros((12, 8))), keras.Variable(np.zeros(8))
    same_bias, adam = keras.Variable(np.zeros(8)), keras.optimizers.Adam(0.05)
    expected = np.zeros((12, 8))
    average = np.zeros((12, 8))
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient), tf.constant(gradient[0])], [matrix, bias])
        adam.apply([tf.constant(gradient[0])], [same_bias])
        average = 0.9 * average + gradient
        ahead = tf.constant(gradient + 0.9 * average, tf.float32)
        expected -= 0.1 * 0.2 * 12**0.5 * orthogonalized(ahead).numpy()
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), same_bias.numpy(), atol=1e-6)


def test_it_is_made_again_from_its_config():
    optimizer = Muon(0.1, 0.9, 0.5, 4, ["out"], beta_1=0.8, global_clipnorm=2.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
