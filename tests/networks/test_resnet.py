"""The residual networks: shapes, ranges, initial weights, outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.networks import inputs, resnet

SHAPES = [(28, 28, 1), (64, 64, 3), (8, 8, 1), (30, 50, 1), (4, 4, 1)]


def pair(shape, num_classes=None, **kwargs):
    kwargs = {"width": 8, "num_classes": num_classes, **kwargs}
    return resnet.generator(shape, 6, **kwargs), resnet.discriminator(shape, **kwargs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_shapes_ranges_and_float32_outputs(shape, num_classes):
    keras.config.set_dtype_policy("mixed_bfloat16" if num_classes else "float32")
    generator, discriminator = pair(shape, num_classes)
    label = None if num_classes is None else tf.constant([0, 2])
    latent = 100 * tf.constant(np.random.default_rng(0).normal(size=(2, 6)), tf.float32)
    images = inputs.call(generator, latent, label)
    assert images.shape == (2, *shape) and images.dtype == "float32"
    assert np.abs(images).max() <= 1
    logits = inputs.call(discriminator, images, label)
    assert logits.shape == (2, 1) and logits.dtype == "float32"


def test_the_width_follows_the_sides():
    assert resnet.channels_of((28, 28, 1), 64) == [16, 64, 128]
    assert resnet.channels_of((64, 64, 3), 64) == [16, 32, 64, 128, 128]
    assert resnet.channels_of((128, 128, 3), 64) == [16, 16, 32, 64, 128, 128]


def test_blocks_begin_as_the_identity():
    shape = (8, 8, 1)
    generator, without = (resnet.generator(shape, 6, 8, blocks=blocks) for blocks in (2, 0))
    latent = tf.ones([2, 6])
    for network in (generator, without):
        for layer in network.layers:
            if layer.name in ("project", "smallest", "up_1", "pixels"):
                layer.set_weights([np.full_like(w, 0.3) for w in layer.get_weights()])
    np.testing.assert_allclose(generator(latent), without(latent), atol=1e-6)


@pytest.mark.parametrize("normalization", resnet.NORMALIZATIONS)
def test_signals_keep_their_size_at_first(normalization):
    _, discriminator = pair((28, 28, 1), width=32, normalization=normalization)
    images = np.random.default_rng(0).uniform(-1, 1, (16, 28, 28, 1)).astype("float32")
    for _ in range(5):
        logits = discriminator(images, training=True).numpy()
    assert np.isfinite(logits).all() and 1e-3 < logits.std() < 30


def test_all_options_at_once():
    shape = (16, 16, 1)
    own = {"attention": [8], "minibatch_std": 4, "normalization": "spectral"}
    network = resnet.discriminator(
        shape, 8, num_classes=3, classifier=True, code_parameters=4, **own
    )
    outputs = network(tf.zeros([5, *shape]))
    assert [tuple(x.shape) for x in outputs] == [(5, 1), (5, 3), (5, 4)]
    assert len(network.inputs) == 1
    network.get_layer("level_1_attention")
    copy = network.__class__.from_config(network.get_config())
    assert copy.count_params() == network.count_params()


def attention(channels=16, **kwargs):
    net = resnet._Builder(**{"seed": 0, "normalization": None, "blocks": 1, "depth": 1, **kwargs})
    image = keras.Input((4, 4, channels))
    return keras.Model(image, net.attended(image, "attention"))


def test_attention_begins_as_the_identity_and_then_mixes_positions():
    network = attention(attention=[4])
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 16)), tf.float32)
    np.testing.assert_array_equal(network(x), x)
    network.get_layer("attention_scale").scale.assign(1.0)
    parts = "query", "key", "value", "out"
    query, key, value, out = (
        network.get_layer(f"attention_{part}").kernel.numpy()[0, 0] for part in parts
    )
    assert query.shape == key.shape == (16, 2) and value.shape == (16, 8)
    flat = x.numpy()[1].reshape(16, 16)
    scores = flat @ query @ (flat @ key).T
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = flat + weights @ flat @ value @ out
    np.testing.assert_allclose(network(x)[1].numpy().reshape(16, 16), expected, atol=1e-5)


@pytest.mark.parametrize("normalization", ["spectral", "equalized"])
def test_kernels_of_attention_are_normalized_too(normalization):
    network = attention(attention=[4], normalization=normalization)
    for part in ("query", "key", "value", "out"):
        network.get_layer(f"attention_{part}_{normalization}")


def test_equalized_kernels_begin_alike_and_the_logits_as_large_as_of_others():
    shape, images = (28, 28, 1), tf.random.stateless_normal([64, 28, 28, 1], [0, 1])
    equalized, plain = (
        resnet.discriminator(shape, 16, normalization=name) for name in ("equalized", None)
    )
    kernels = [w.numpy() for w in equalized.weights if "kernel" in w.path and w.numpy().any()]
    deviations = [kernel.std() for kernel in kernels if kernel.size > 100]
    assert min(deviations) > 0.3 and max(deviations) < 1.5
    sizes = [np.sqrt(np.mean(np.square(net(images)))) for net in (equalized, plain)]
    assert 1 / 3 < sizes[0] / sizes[1] < 3


@pytest.mark.parametrize("shape", [(128, 128, 3), (64, 96, 3)])
def test_larger_images(shape):
    generator, discriminator = pair(shape)
    made = generator(tf.zeros([1, generator.inputs[0].shape[-1]]))
    assert made.shape == (1, *shape) and discriminator(made).shape == (1, 1)


def test_the_label_matters_and_the_seed_makes_the_weights():
    generator, discriminator = pair((8, 8, 1), 3)
    latent, images, label = tf.ones([2, 6]), tf.ones([2, 8, 8, 1]), tf.constant([0, 1])
    made, judged = generator([latent, label]).numpy(), discriminator([images, label]).numpy()
    assert (made[0] != made[1]).any() and judged[0] != judged[1]
    again, other = (resnet.generator((8, 8, 1), 6, 8, num_classes=3, seed=s) for s in (0, 1))
    for a, b, c in zip(generator.get_weights(), again.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
        assert not a.any() or (a != c).any()


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="normalization='batch'"):
        resnet.generator((8, 8, 1), normalization="batch")
    for make in (resnet.generator, resnet.discriminator):
        with pytest.raises(ValueError, match=r"\[.*\]. Received: attention=\[14, 16\]"):
            make((28, 28, 1), attention=[14, 16])
    with pytest.raises(ValueError, match="needs classes"):
        resnet.discriminator((8, 8, 1), classifier=True)
