"""The networks of Pix2Pix and CycleGAN: shapes, what an output sees, what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.layers import Dropout, GroupNorm
from keras_gen.networks import patchgan, translation

GENERATORS = [translation.unet, translation.residual]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 8, 3)], ids=str)
def test_shapes_ranges_and_float32_outputs(shape, policy):
    keras.config.set_dtype_policy(policy)
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (2, *shape)), tf.float32)
    for make in GENERATORS:
        made = make(shape, 4)(images)
        assert made.shape == images.shape and made.dtype == "float32"
        assert np.abs(made).max() <= 1
    logits = patchgan.discriminator(shape, conditional=True, width=4, depth=2)([images, images])
    assert logits.shape == (2, shape[0] // 4, shape[1] // 4, 1) and logits.dtype == "float32"


def test_the_unet_at_256_pixels_is_the_papers():
    network = translation.unet((256, 256, 3), width=2)  # 64 in the paper
    down = [network.get_layer(f"down_{i}").filters for i in range(1, 9)]
    up = [network.get_layer(f"up_{i}").filters for i in range(7, 0, -1)]
    assert down == [2, 4, 8, 16, 16, 16, 16, 16]
    assert up == [16, 16, 16, 16, 8, 4, 2]
    dropped = [layer.name for layer in network.layers if isinstance(layer, Dropout)]
    assert dropped == ["up_7_dropout", "up_6_dropout", "up_5_dropout"]
    # neither the first, nor what is a single position, nor the image is normalized
    norms = {layer.name for layer in network.layers if isinstance(layer, GroupNorm)}
    assert norms == {f"{d}_{i}_norm" for d, i in [("down", i) for i in range(2, 8)]} | {
        f"up_{i}_norm" for i in range(1, 8)
    }


def test_the_residual_generator_at_256_pixels_is_the_papers():
    network = translation.residual((256, 256, 3), width=2)  # 64 in the paper
    stages = ["stem", "down_1", "down_2", "block_9_2", "up_2", "up_1", "made"]
    channels = [network.get_layer(name).output.shape[1:] for name in stages]
    assert [c[2] for c in channels] == [2, 4, 8, 8, 4, 2, 3]
    assert [c[0] for c in channels] == [256, 128, 64, 64, 128, 256, 256]
    layers = {layer.name for layer in translation.residual((128, 128, 3), width=4).layers}
    assert "block_6" in layers and "block_7" not in layers


@pytest.mark.parametrize("depth, side", [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(depth, side):
    # Instance normalization lets every logit see the whole image a little: it is left out here.
    network = patchgan.discriminator((144, 144, 1), width=2, depth=depth)
    plain = keras.models.clone_model(
        network,
        call_function=lambda layer, *args, **kwargs: (
            args[0] if isinstance(layer, GroupNorm) else layer(*args, **kwargs)
        ),
        clone_function=lambda layer: layer,
    )
    image = tf.constant(np.random.default_rng(0).normal(size=(1, 144, 144, 1)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(image)
        logits = plain(image)
        middle = logits.shape[1] // 2
        one = logits[0, middle, middle, 0]
    seen = tape.gradient(one, image)[0, :, :, 0].numpy() != 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == side


def test_seventy_pixels_are_the_default():
    own, three = (patchgan.discriminator((8, 8, 1), width=2, **k) for k in ({}, {"depth": 3}))
    assert [w.shape for w in own.weights] == [w.shape for w in three.weights]


def test_the_conditional_discriminator_looks_at_both():
    network = patchgan.discriminator((8, 8, 1), conditional=True, width=4, depth=1)
    a, b = tf.zeros([1, 8, 8, 1]), tf.random.stateless_normal([1, 8, 8, 1], [0, 0])
    results = [network(taken).numpy() for taken in ([a, a], [a, b], [b, a])]
    assert len({result.tobytes() for result in results}) == 3


def test_initial_weights_are_a_function_of_the_seed():
    for make in [*GENERATORS, patchgan.discriminator]:
        one, same, other = (make((8, 8, 1), width=2, seed=seed).get_weights() for seed in (0, 0, 1))
        assert all((a == b).all() for a, b in zip(one, same))
        assert any((a != b).any() for a, b in zip(one, other))


@pytest.mark.parametrize("make", GENERATORS)
@pytest.mark.parametrize("shape", [(30, 32, 3), (4, 8, 1), (28, 50, 1)])
def test_sides_that_do_not_fit_are_named(make, shape):
    with pytest.raises(ValueError, match=rf"multiples of 4.*{shape[0]}, {shape[1]}"):
        make(shape)


def test_a_depth_that_does_not_fit_is_named():
    assert translation.unet((24, 40, 1), width=2).get_layer("down_3").output.shape[1:3] == (3, 5)
    for depth in (1, 4):
        with pytest.raises(ValueError, match=f"depth={depth}"):
            translation.unet((24, 40, 1), depth=depth)
    with pytest.raises(ValueError, match="depth=0"):
        patchgan.discriminator((8, 8, 1), depth=0)
