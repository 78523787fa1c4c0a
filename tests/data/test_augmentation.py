"""Augmentations: gradients, identities, rows, and that they do not leak into what is generated."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import models, networks, randomness
from keras_gen.data import augmentation as a

IMAGES = tf.constant(np.random.default_rng(0).uniform(-1, 1, (6, 8, 12, 3)), tf.float32)
KEY = randomness.key(3)
EVERY = tuple(a.OPERATIONS)


def slope(images, operations):
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.square(a.DiffAugment(operations)(images, KEY)))
    return tape.gradient(loss, images)


@pytest.mark.parametrize("name", EVERY)
def test_every_operation_has_gradients(name):
    gradient = slope(IMAGES, [name]).numpy()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).reshape(6, -1).max(1) > 0).all()
    assert (a.DiffAugment([name])(IMAGES, KEY).numpy() != IMAGES.numpy()).any()


def test_xla_compiles_them_all():
    compiled = tf.function(lambda images: slope(images, EVERY), jit_compile=True)
    assert np.isfinite(compiled(IMAGES)).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_row_depends_on_its_own_image_alone(name):
    augment = a.DiffAugment([name])
    changed = tf.concat([IMAGES[:1], IMAGES[1:] * 0.5], 0)
    np.testing.assert_array_equal(augment(IMAGES, KEY)[0], augment(changed, KEY)[0])


def test_probability_zero_is_the_identity_and_keys_differ():
    augment = a.DiffAugment(EVERY)
    np.testing.assert_array_equal(augment(IMAGES, KEY, 0.0), IMAGES)
    first, again, other = (augment(IMAGES, k) for k in (KEY, KEY, randomness.key(4)))
    np.testing.assert_array_equal(first, again)
    assert (first.numpy() != other.numpy()).any()


def test_translation_moves_whole_pixels():
    draws = tf.constant([[0.99, 0.5, 0, 0], [0.5, 0.0, 0, 0], [0.5, 0.5, 0, 0]])
    moved = a.translation(IMAGES[:3], draws, 0.25).numpy()
    np.testing.assert_allclose(moved[0, 2:], IMAGES[0, :-2], atol=1e-6)
    assert not moved[0, :2].any()
    np.testing.assert_allclose(moved[1, :, :-3], IMAGES[1, :, 3:], atol=1e-6)
    np.testing.assert_allclose(moved[2], IMAGES[2], atol=1e-6)


def test_neutral_draws_change_nothing():
    half = tf.fill([6, 4], 0.5)
    for name in ("color", "translation", "scale", "flip"):
        np.testing.assert_allclose(a.OPERATIONS[name](IMAGES, half), IMAGES, atol=1e-5)


def test_cutout_hides_a_box():
    cut = a.cutout(tf.ones([1, 8, 12, 1]), tf.constant([[0.5, 0.5, 0, 0]])).numpy()[0, :, :, 0]
    assert (cut == 0).sum() == 4 * 6 and not cut[2:6, 3:9].any()


def test_the_probability_follows_the_target():
    ada = a.AdaptiveAugmentation(target=0.5, images=100)
    for confidence, before, after in ((1.0, 0.2, 0.3), (0.0, 0.2, 0.1), (0.0, 0.05, 0.0)):
        assert float(ada.adapted(before, confidence, 10)) == pytest.approx(after)
    assert float(ada.adapted(0.95, 1.0, 10)) == 1
    again = a.AdaptiveAugmentation.from_config(ada.get_config())
    assert again.get_config() == ada.get_config()


def test_bad_arguments_are_named():
    for match, arguments in (
        ("operations=\\['blur'\\]", {"operations": ["blur"]}),
        ("probability=2", {"probability": 2}),
    ):
        with pytest.raises(ValueError, match=match):
            a.DiffAugment(**arguments)
    with pytest.raises(ValueError, match="target=3"):
        a.AdaptiveAugmentation(target=3)
    with pytest.raises(ValueError, match="augmentation='x'"):
        a.get_augmentation("x")


def test_augmentations_do_not_leak_into_what_is_generated():
    """Toy set: white boxes at one place. Moved boxes must not come out."""
    real = np.full((256, 8, 8, 1), -1, "float32")
    bright = np.random.default_rng(0).uniform(0.5, 1, (256, 1, 1, 1))
    real[:, 3:5, 3:5] = bright
    translate = a.DiffAugment(["translation"], 0.7)
    model = models.GAN(
        (8, 8, 1),
        generator=networks.mlp.generator((8, 8, 1), 4, (32,)),
        discriminator=networks.mlp.discriminator((8, 8, 1), (64,), seed=1),
        augmentation=translate,
        recipe="gan",
        ema=0.9,
    )
    model.compile(keras.optimizers.Adam(4e-3, 0.5), keras.optimizers.Adam(4e-3, 0.5))
    data = tf.data.Dataset.from_tensor_slices(real).repeat().batch(128)
    model.fit(data, steps_per_epoch=300, verbose=0)
    made = model.generate(64).astype("float32") / 127.5 - 1
    inside = made[:, 3:5, 3:5].mean()
    outside = np.delete(made.reshape(64, 64), [27, 28, 35, 36], 1).mean()
    assert inside > 0.2 and outside < -0.9
