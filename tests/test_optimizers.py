"""Adam against Keras's; Muon: its update against the singular value decomposition, and what it
leaves to Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.optimizers import Adam, Muon, ScheduledAdam, orthogonalized
from keras_gen.schedules import CosineSchedule


def compiled(optimizer, variables, **kwargs):
    return tf.function(
        lambda *gradients: optimizer.apply(list(gradients), variables), autograph=False, **kwargs
    )


@pytest.mark.parametrize(
    "settings, dtype, jit_compile",
    [
        ({}, "float32", False),
        ({"beta_1": 0.0, "beta_2": 0.99, "epsilon": 0.1}, "float32", False),
        ({"weight_decay": 0.1, "global_clipnorm": 0.5}, "float32", False),
        ({"gradient_accumulation_steps": 3}, "float32", False),
        ({"amsgrad": True}, "float32", False),
        (
            {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
            "float32",
            False,
        ),
        ({}, "float64", False),
        ({"global_clipnorm": 0.5}, "float32", True),
    ],
)
def test_adam_makes_the_update_of_keras(settings, dtype, jit_compile):
    generator = np.random.default_rng(0)
    settings = {"learning_rate": 0.1, "name": "adam", **settings}
    optimizers, variables, steps = [], [], []
    for kind in (Adam, keras.optimizers.Adam):
        own = [keras.Variable(np.ones(shape), dtype=dtype) for shape in ((5, 3), (4,))]
        optimizer = kind(**settings)
        optimizer.build(own)
        optimizers.append(optimizer)
        variables.append(own)
        steps.append(compiled(optimizer, own, jit_compile=jit_compile))
    for _ in range(7):
        gradients = [tf.constant(generator.normal(size=v.shape), dtype) for v in variables[0]]
        for step in steps:
            step(*gradients)
    ours, theirs = ([*o.variables, *own] for o, own in zip(optimizers, variables))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    assert (variables[0][0].numpy() != 1).any()
    assert optimizers[0].get_config() == optimizers[1].get_config()


def test_a_step_of_adam_is_one_operation_a_variable():
    variables = [keras.Variable(np.ones(4), dtype="float32") for _ in range(3)]
    optimizer = Adam()
    optimizer.build(variables)
    step = compiled(optimizer, variables)
    graph = step.get_concrete_function(*[tf.TensorSpec([4])] * 3).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 3
    assert kinds.count("Sqrt") == 0


def test_a_scheduled_rate_that_is_read_and_set_stays_what_it_is():
    optimizer = ScheduledAdam(0.1, factor=CosineSchedule(1.0, 0.25, 100))
    weight = keras.Variable(np.ones(3))
    optimizer.build([weight])
    optimizer.follow(100)
    assert float(optimizer.learning_rate) == pytest.approx(0.025)
    optimizer.learning_rate = float(optimizer.learning_rate)
    assert float(optimizer.learning_rate) == pytest.approx(0.025)
    optimizer.learning_rate = 0.01
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    optimizer.apply([tf.ones(3)], [weight])
    np.testing.assert_allclose(weight.numpy(), 0.99, rtol=1e-5)  # Adam's first step is the rate
    optimizer.follow(0)
    assert float(optimizer.learning_rate) == pytest.approx(0.04)
    assert optimizer.get_config()["learning_rate"] == pytest.approx(0.04)


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
