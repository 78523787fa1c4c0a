import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import Moved


def logits(shape, rows, columns, reach=2):
    """Logits whose distributions are all but certain: of a pixel below and to the right."""
    found = np.zeros((*shape[:3], 2, 2 * reach + 1), np.float32)
    found[..., 0, reach + rows] = found[..., 1, reach + columns] = 100
    return found.reshape(*shape[:3], -1)


@pytest.mark.parametrize("rows, columns", [(0, 0), (1, -2), (-2, 0)])
def test_pixels_move_and_the_border_is_a_mirror(rows, columns):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)], "symmetric")
    expected = padded[:, 2 + rows :, 2 + columns :][:, :5, :6]
    found = Moved(2)(x, logits(x.shape, rows, columns))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_pixel_moves_by_itself():
    x = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4, 1)
    ways = logits(x.shape, 0, 0)
    ways[0, 1, 2] = logits((1, 1, 1), -1, 1)
    found = Moved(2)(x, ways).numpy()[0, ..., 0]
    expected = x[0, ..., 0].copy()
    expected[1, 2] = x[0, 1, 3, 0]  # its neighbour's, whose own rows do not move
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_mean_is_that_of_both_distributions():
    x = np.zeros((1, 7, 7, 1), np.float32)
    x[0, 3, 3] = 1
    found = Moved(1, inertia=np.log(2.0))(x, np.zeros((1, 7, 7, 6), np.float32)).numpy()[0, ..., 0]
    one = np.array([0, 0, 0.25, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(found, np.outer(one, one), atol=1e-6)


def test_config_and_gradients():
    layer = Moved.from_config(Moved(2, 1.5).get_config())
    assert (layer.reach, layer.inertia) == (2, 1.5)
    x, ways = tf.random.stateless_normal([1, 4, 5, 1], [0, 1]), tf.zeros([1, 4, 5, 10])
    with tf.GradientTape() as tape:
        tape.watch([x, ways])
        loss = tf.reduce_sum(layer(x, ways) ** 2)
    assert all((np.abs(g) > 0).mean() > 0.9 for g in tape.gradient(loss, [x, ways]))
