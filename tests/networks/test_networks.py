"""Shapes, ranges, precision and initial weights of the networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.networks import dcgan, inputs, mlp

SHAPES = [(28, 28, 1), (64, 64, 3), (32, 32, 3), (8, 8, 1), (24, 40, 3), (30, 50, 1), (4, 4, 1)]


def pair(module, shape, num_classes=None, **kwargs):
    narrow = {"width": 4} if module is dcgan else {"hidden": (8,)}
    return (
        module.generator(shape, latent_dim=6, num_classes=num_classes, **narrow, **kwargs),
        module.discriminator(shape, num_classes=num_classes, **narrow, **kwargs),
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("module", [mlp, dcgan], ids=["mlp", "dcgan"])
def test_shapes_ranges_and_float32_outputs(module, shape, num_classes, policy):
    keras.config.set_dtype_policy(policy)
    generator, discriminator = pair(module, shape, num_classes)
    label = None if num_classes is None else tf.constant([0, 2])
    latent = 100 * tf.constant(np.random.default_rng(0).normal(size=(2, 6)), tf.float32)
    images = inputs.call(generator, latent, label)
    assert images.shape == (2, *shape) and images.dtype == "float32"
    assert np.abs(images).max() <= 1
    logits = inputs.call(discriminator, images, label)
    assert logits.shape == (2, 1) and logits.dtype == "float32"


def test_dcgan_at_28_pixels_is_the_well_known_one():
    generator, discriminator = dcgan.generator((28, 28, 1)), dcgan.discriminator((28, 28, 1))
    assert generator.get_layer("smallest").output.shape == (None, 7, 7, 256)
    widths = [generator.get_layer(name).output.shape for name in ("stem", "up_1", "image")]
    assert widths == [(None, 7, 7, 128), (None, 14, 14, 64), (None, 28, 28, 1)]
    kernels = 100 * 7 * 7 * 256 + 25 * (256 * 128 + 128 * 64 + 64) + 1
    normalization = 2 * (256 + 128 + 64)
    trained = sum(np.prod(weight.shape) for weight in generator.trainable_weights)
    assert trained == kernels + normalization
    assert [discriminator.get_layer(f"down_{i}").filters for i in (1, 2)] == [64, 128]


def test_dcgan_at_64_pixels_begins_with_four_by_four():
    generator = dcgan.generator((64, 64, 3), kernel_size=4)
    assert generator.get_layer("smallest").output.shape == (None, 4, 4, 512)
    ups = [generator.get_layer(f"up_{i}").output.shape[1:] for i in (1, 2, 3)]
    assert ups == [(8, 8, 256), (16, 16, 128), (32, 32, 64)]


def test_mlp_has_the_documents_layers():
    units = [layer.units for layer in mlp.generator((28, 28, 1)).layers if hasattr(layer, "units")]
    assert units == [256, 256, 784]


@pytest.mark.parametrize("module", [mlp, dcgan], ids=["mlp", "dcgan"])
def test_the_label_matters(module):
    generator, discriminator = pair(module, (8, 8, 1), 3)
    latent, images = tf.ones([2, 6]), tf.ones([2, 8, 8, 1])
    made = inputs.call(generator, latent, tf.constant([0, 1])).numpy()
    judged = inputs.call(discriminator, images, tf.constant([0, 1])).numpy()
    assert (made[0] != made[1]).any()
    assert judged[0] != judged[1]


@pytest.mark.parametrize("module", [mlp, dcgan], ids=["mlp", "dcgan"])
def test_initial_weights_are_a_function_of_the_seed(module):
    for network in (0, 1):
        first, again, other = (
            pair(module, (8, 8, 1), 3, seed=seed)[network].get_weights() for seed in (4, 4, 5)
        )
        for a, b in zip(first, again):
            np.testing.assert_array_equal(a, b)
        kernels = [(a, c) for a, c in zip(first, other) if a.ndim > 1]
        assert all((a != c).all() for a, c in kernels)


def test_kernels_of_one_shape_differ():
    first, second = (
        layer.kernel.numpy() for layer in mlp.generator((4, 4, 1), 8, (8, 8)).layers[1:4:2]
    )
    assert first.shape == second.shape and (first != second).all()


@pytest.mark.parametrize("batch_normalization", [False, True])
def test_the_discriminator_judges_each_image_alone_in_inference(batch_normalization):
    network = dcgan.discriminator((8, 8, 1), width=4, batch_normalization=batch_normalization)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(network(images)[:2], network(images[:2]), atol=1e-5)
