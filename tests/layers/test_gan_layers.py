"""The layers of GANs against closed forms and explicit computations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import randomness
from keras_gen.layers import (
    EqualizedLearningRate,
    HistoryBuffer,
    MinibatchStd,
    ResampledConv,
    SpectralNormalization,
)
from keras_gen.layers.history_buffer import exchanged

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return tf.constant(RANDOM.normal(size=shape), tf.float32)


def filtered(pixels):
    """[1, 2, 1] / 4 along both axes of one channel, zeros outside, by NumPy."""
    padded = np.pad(pixels, 1)
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_halving_is_the_filter_and_then_every_second_pixel(shape):
    layer = ResampledConv(1, "down", "ones")
    x = RANDOM.normal(size=shape).astype("float32")
    result = layer(x[None, :, :, None])[0, :, :, 0].numpy()
    first = [(side + 1) % 2 for side in shape]  # as TensorFlow pads sides that are even
    np.testing.assert_allclose(result, filtered(x)[first[0] :: 2, first[1] :: 2], atol=1e-6)


def test_doubling_spreads_pixels_and_keeps_the_mean():
    layer = ResampledConv(1, "up", "ones")
    x = RANDOM.normal(size=(5, 4)).astype("float32")
    spread = np.zeros((10, 8), "float32")
    spread[1::2, 1::2] = 4 * x
    result = layer(x[None, :, :, None])[0, :, :, 0].numpy()
    np.testing.assert_allclose(result, filtered(spread), atol=1e-6)
    flat = layer(tf.ones([1, 6, 6, 1]))[0, 1:-1, 1:-1, 0]
    np.testing.assert_allclose(flat, np.ones((10, 10)), atol=1e-6)


def test_resampling_mixes_channels_as_a_convolution_does():
    layer = ResampledConv(3, "down")
    x = normal(2, 8, 8, 2)
    result = layer(x).numpy()
    one = ResampledConv(1, "down", "ones")
    halved = np.stack([one(x[..., i : i + 1])[..., 0] for i in range(2)], -1)
    np.testing.assert_allclose(result, halved @ layer.kernel.numpy()[0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="direction='left'"):
        ResampledConv(3, "left")


def test_the_kernel_has_a_spectral_norm_of_one():
    layer = SpectralNormalization(keras.layers.Dense(5, bias_initializer="ones"), seed=1)
    x = normal(4, 7)
    for _ in range(50):
        layer(x, training=True)
    kernel = layer.layer.kernel.numpy()
    norm = np.linalg.svd(kernel, compute_uv=False)[0]
    np.testing.assert_allclose(layer.norm(), norm, rtol=1e-4)
    np.testing.assert_allclose(layer(x), x.numpy() @ kernel / norm + 1, atol=1e-5)


def test_the_gradient_goes_through_the_spectral_norm():
    layer = SpectralNormalization(keras.layers.Dense(5, use_bias=False), seed=1)
    x, direction = normal(4, 7), RANDOM.normal(size=(7, 5)).astype("float32")
    for _ in range(200):
        layer(x, training=True)
    kernel = layer.layer.kernel.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    gradient = tape.gradient(loss, layer.layer.kernel).numpy()
    slope = (gradient * direction).sum()
    # A kernel that only grows gives the same layer.
    assert abs((gradient * kernel).sum()) < 1e-3 * np.abs(gradient * kernel).sum()

    def exact(step):
        moved = (kernel + step * direction).astype("float64")
        return ((x.numpy() @ (moved / np.linalg.svd(moved)[1][0])) ** 2).sum()

    assert slope == pytest.approx((exact(1e-4) - exact(-1e-4)) / 2e-4, rel=1e-2)


def test_only_training_moves_the_singular_vector():
    layer = SpectralNormalization(keras.layers.Conv2D(3, 3), seed=1)
    x = normal(2, 8, 8, 2)
    layer(x)
    before = layer.vector.numpy()
    first, second = layer(x), layer(x)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before, layer.vector.numpy())
    layer(x, training=True)
    assert (before != layer.vector.numpy()).any()
    assert [w.path.split("/")[-1] for w in layer.non_trainable_weights] == ["vector"]


def test_equalized_kernels_are_scaled_when_used():
    layer = EqualizedLearningRate(keras.layers.Conv2D(3, 3, use_bias=False))
    x = normal(2, 8, 8, 2)
    result = layer(x)
    expected = tf.nn.conv2d(x, layer.layer.kernel.value * np.sqrt(2 / 18), 1, "VALID")
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("batch", [8, 6, 3])
def test_the_deviation_of_a_group_is_a_channel(batch):
    x = normal(batch, 2, 3, 4)
    result = MinibatchStd(4)(x).numpy()
    np.testing.assert_array_equal(result[..., :4], x)
    for first in range(0, batch, 4):
        group = x.numpy()[first : first + 4]
        deviation = np.sqrt(group.var(0) + 1e-8).mean()
        np.testing.assert_allclose(result[first : first + 4, ..., 4], deviation, rtol=1e-4)


def taken_in_turn(buffer, count, images, coins, slots):
    """What a history of fakes is, image after image."""
    buffer, shown = list(buffer), []
    for image, coin, slot in zip(images, coins, slots):
        if count < len(buffer):
            buffer[count], count = image, count + 1
            shown.append(image)
        elif coin:
            shown.append(buffer[slot])
            buffer[slot] = image
        else:
            shown.append(image)
    return shown, buffer, count


@pytest.mark.parametrize("size, batch", [(1, 3), (4, 3), (5, 16), (50, 4)])
def test_a_batch_is_exchanged_as_its_images_one_after_another(size, batch):
    rng, function = np.random.default_rng(size), tf.function(exchanged)
    buffer, count = np.full(size, -1), 0
    for step in range(20):
        images = batch * step + np.arange(batch)
        coins, slots = rng.random(batch) < 0.5, rng.integers(0, size, batch).astype("int32")
        known = np.concatenate([buffer, images])
        shown, held, own_count = function(size, tf.constant(count), coins, slots)
        expected, buffer, count = taken_in_turn(buffer, count, images, coins, slots)
        np.testing.assert_array_equal(known[shown], expected)
        np.testing.assert_array_equal(known[held], buffer)
        assert own_count == count


def test_the_buffer_keeps_images_with_their_labels_and_gives_about_half_back():
    buffer, earlier = HistoryBuffer((1, 1, 1), 6), 0
    for i in range(25):
        labels = tf.range(4) + 4 * i
        images = tf.reshape(tf.cast(labels, tf.float32), [4, 1, 1, 1])
        mixed, mixed_labels = buffer(images, labels, randomness.key(i))
        np.testing.assert_array_equal(mixed.numpy().ravel(), mixed_labels)
        if i == 0:
            np.testing.assert_array_equal(mixed, images)
        earlier += (mixed_labels.numpy() < 4 * i).sum()
    assert 25 < earlier < 70  # of 94 that found the buffer full, half and less: of this batch too
    assert (buffer.images.numpy().ravel() == buffer.labels.numpy()).all() and buffer.count == 6
    with pytest.raises(ValueError, match="size=0"):
        HistoryBuffer((1, 1, 1), 0)
