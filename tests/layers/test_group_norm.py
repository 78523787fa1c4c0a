import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import GroupNorm, TimeEmbedding


def images(dtype=np.float32):
    return (np.random.default_rng(0).normal(size=(3, 5, 6, 8)) * 2 + 3).astype(dtype)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_is_keras_group_normalization(groups):
    ours, theirs = GroupNorm(groups), keras.layers.GroupNormalization(groups, epsilon=1e-5)
    x = tf.constant(images())
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-5)
    weights = [np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        results.append((y, *tape.gradient(loss, [x, *layer.trainable_weights])))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, atol=5e-4)


def test_modulation_scales_and_shifts_what_is_normalized():
    layer = GroupNorm(4)
    x = images()
    scale, shift = np.full((3, 8), 0.5), np.arange(24).reshape(3, 8)
    modulation = np.concatenate([scale, shift], axis=1).astype(np.float32)
    expected = layer(x) * 1.5 + shift[:, None, None]
    np.testing.assert_allclose(layer(x, modulation), expected, rtol=1e-4, atol=1e-4)


def test_sums_are_float32_under_mixed_precision():
    layer = GroupNorm(2, dtype="mixed_bfloat16")
    x = images()
    y = layer(x)
    assert y.dtype == tf.bfloat16
    exact = GroupNorm(2)(tf.cast(tf.cast(x, tf.bfloat16), tf.float32))
    np.testing.assert_allclose(tf.cast(y, tf.float32), exact, atol=0.05)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="groups=3"):
        GroupNorm(3)(images())


def test_time_embedding_holds_cosines_and_sines():
    layer = TimeEmbedding(6, max_frequency=100.0, dtype="mixed_bfloat16")
    t = np.array([0.0, 0.3, 0.999], np.float32)
    y = layer(t)
    assert y.dtype == tf.float32
    angles = t[:, None] * np.array([1, 10, 100])
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    with pytest.raises(ValueError, match="dim=5"):
        TimeEmbedding(5)


def test_time_embedding_tells_a_thousand_steps_apart():
    y = np.asarray(TimeEmbedding(64)(np.arange(1001, dtype=np.float32) / 1000))
    assert np.linalg.norm(y[1:] - y[:-1], axis=1).min() > 0.1
