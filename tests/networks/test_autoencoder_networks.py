"""Shapes, precision and initial weights of encoders and decoders."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.networks import autoencoder, inputs

SHAPES = [(28, 28, 1), (64, 64, 3), (8, 8, 1), (24, 40, 3), (30, 50, 1), (4, 5, 3)]


def pair(kind, shape, num_classes=None, encoder=None, **kwargs):
    """An encoder and a decoder of 5 units, small."""
    if kind == "dense":
        functions, small = (autoencoder.dense_encoder, autoencoder.dense_decoder), {"hidden": (8,)}
    else:
        functions = autoencoder.encoder, autoencoder.decoder
        small = {"width": 4, "hidden": 8}
    small |= {"num_classes": num_classes, "seed": kwargs.pop("seed", 0)}
    return (
        functions[0](shape, latent_dim=5, **small, **(encoder or {})),
        functions[1](shape, latent_dim=5, **small, **kwargs),
    )


both = pytest.mark.parametrize("kind", ["dense", "convolutional"])


@both
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_float32_outputs(kind, shape, num_classes, policy):
    keras.config.set_dtype_policy(policy)
    encoder, decoder = pair(kind, shape, num_classes, parameters=2, shared=1)
    label = None if num_classes is None else tf.constant([0, 2])
    code = inputs.call(encoder, tf.ones([2, *shape]), label)
    assert code.shape == (2, 10) and code.dtype == "float32"
    made = inputs.call(decoder, code[:, :5], label)
    assert made.shape == (2, *shape[:2], 2 * shape[2]) and made.dtype == "float32"


@both
def test_the_last_channels_are_shared(kind):
    _, decoder = pair(kind, (8, 8, 3), parameters=2, shared=1)
    decoder.get_layer("shared").value.assign([0.1, 0.2, 0.3])
    made = decoder(np.random.default_rng(0).normal(size=(2, 5))).numpy()
    np.testing.assert_allclose(made[..., 3:], np.broadcast_to([1, 2, 3], (2, 8, 8, 3)), rtol=1e-6)
    assert made[..., :3].std() > 0


@both
def test_an_activation_bounds_the_output(kind):
    latent = 100 * tf.ones([2, 5])
    for activation, bounded in ((None, False), ("tanh", True)):
        _, decoder = pair(kind, (8, 8, 1), activation=activation)
        assert (np.abs(decoder(latent)).max() <= 1) == bounded


@both
def test_the_label_matters(kind):
    encoder, decoder = pair(kind, (8, 8, 1), 3)
    label = tf.constant([0, 1])
    for network, x in ((encoder, tf.ones([2, 8, 8, 1])), (decoder, tf.ones([2, 5]))):
        first, second = inputs.call(network, x, label).numpy()
        assert (first != second).any()


@both
def test_initial_weights_are_a_function_of_the_seed(kind):
    for network in (0, 1):
        first, again, other = (
            pair(kind, (8, 8, 1), 3, seed=seed)[network].get_weights() for seed in (4, 4, 5)
        )
        for a, b in zip(first, again):
            np.testing.assert_array_equal(a, b)
        kernels = [(a, c) for a, c in zip(first, other) if a.ndim > 1 and a.any()]
        assert kernels and all((a != c).all() for a, c in kernels)


def test_the_dense_networks_have_the_documents_layers():
    encoder = autoencoder.dense_encoder((28, 28, 1))
    units = [layer.units for layer in encoder.layers if hasattr(layer, "units")]
    assert units == [512, 256, 128, 64, 32]  # the last: means and log-variances of 16 units
    norms = [isinstance(layer, keras.layers.BatchNormalization) for layer in encoder.layers]
    assert sum(norms) == 4
    decoder = autoencoder.dense_decoder((28, 28, 1), batch_normalization=False)
    units = [layer.units for layer in decoder.layers if hasattr(layer, "units")]
    assert units == [64, 128, 256, 512, 784]


def test_feature_maps_are_halved_and_doubled_again():
    encoder, decoder = autoencoder.encoder((28, 28, 1)), autoencoder.decoder((28, 28, 1))
    downs = [encoder.get_layer(f"down_{i}").output.shape[1:] for i in (1, 2)]
    assert downs == [(14, 14, 32), (7, 7, 64)]
    ups = [decoder.get_layer(name).output.shape[1:] for name in ("smallest", "up_2", "image")]
    assert ups == [(7, 7, 64), (14, 14, 32), (28, 28, 1)]


def test_residual_branches_are_silent_at_first():
    encoder = autoencoder.encoder((8, 8, 1), blocks=2)
    for name in ("down_1_1_2", "down_1_2_2"):
        assert not encoder.get_layer(name).kernel.numpy().any()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "shape, latent", [((28, 28, 1), (7, 7, 4)), ((24, 40, 3), (3, 5, 2)), ((8, 8, 1), (8, 8, 3))]
)
def test_spatial_latents_are_small_images(shape, latent, policy):
    keras.config.set_dtype_policy(policy)
    encoder = autoencoder.spatial_encoder(shape, latent, width=4)
    decoder = autoencoder.spatial_decoder(shape, latent, width=4, parameters=2, shared=1)
    code = encoder(tf.ones([2, *shape]))
    units = int(np.prod(latent))
    assert code.shape == (2, 2 * units) and code.dtype == "float32"
    made = decoder(code[:, :units])
    assert made.shape == (2, *shape[:2], 2 * shape[2]) and made.dtype == "float32"


def test_a_position_of_a_spatial_latent_sees_its_part_of_the_image():
    encoder = autoencoder.spatial_encoder((32, 32, 1), (8, 8, 1), width=4, blocks=1)
    image = tf.Variable(np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype("float32"))
    with tf.GradientTape() as tape:
        value = tf.reshape(encoder(image)[:, :64], [8, 8])[0, 0]
    seen = np.abs(tape.gradient(value, image).numpy()[0, :, :, 0]) > 0
    assert seen[:4, :4].all() and not seen[20:].any() and not seen[:, 20:].any()


@pytest.mark.parametrize("latent", [(7, 7, 4), (8, 16, 4), (12, 12, 4)])
def test_sides_that_do_not_fit_are_refused(latent):
    with pytest.raises(ValueError, match=r"power of two.*Received: image_shape"):
        autoencoder.spatial_encoder((32, 32, 1), latent)
