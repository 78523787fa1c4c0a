"""Adam against Keras's; Muon: its update against the singular value decomposition, and what it
leaves to Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.optimizers import Adam, Muon, orthogonalized


def compiled(optimizer, variables, jit_compile):
    return tf.function(
        lambda *gradients: optimizer.apply(list(gradients), variables),
        autograph=False,
        jit_compile=jit_compile,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta_1": 0.0, "beta_2": 0.99, "epsilon": 0.1},
        {"weight_decay": 0.1, "global_clipnorm": 0.5},
        {"gradient_accumulation_steps": 3},
        {"amsgrad": True},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
    ],
    ids=lambda settings: next(iter(settings), "default"),
)
def test_adam_makes_the_update_of_keras(settings, dtype="float32", jit_compile=False):
    generator = np.random.default_rng(0)
    settings = {"learning_rate": 0.1, "name": "adam", **settings}
    pairs = []
    for kind in (Adam, keras.optimizers.Adam):
        variables = [keras.Variable(np.ones(shape), dtype=dtype) for shape in ((5, 3), (4,))]
        optimizer = kind(**settings)
        optimizer.build(variables)
        pairs.append((optimizer, variables, compiled(optimizer, variables, jit_compile)))
    for _ in range(7):
        gradients = [tf.constant(generator.normal(size=v.shape), dtype) for v in pairs[0][1]]
        for _, _, apply in pairs:
            apply(*gradients)
    (ours, our_variables, _), (theirs, their_variables, _) = pairs
    for a, b in zip([*ours.variables, *our_variables], [*theirs.variables, *their_variables]):
        a, b = (np.asarray(x).astype("float32") for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert (np.asarray(our_variables[0]) != 1).any()
    assert ours.get_config() == theirs.get_config()


def test_adam_of_other_types_and_under_xla():
    test_adam_makes_the_update_of_keras({}, dtype="float64")
    test_adam_makes_the_update_of_keras({"global_clipnorm": 0.5}, jit_compile=True)


def test_a_step_of_adam_is_one_operation_a_variable():
    variables = [keras.Variable(np.ones(4), dtype="float32") for _ in range(3)]
    optimizer = Adam()
    optimizer.build(variables)
    step = tf.function(lambda x: optimizer.apply([x] * 3, variables), autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec([4])).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 3
    assert kinds.count("Sqrt") == 0


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
