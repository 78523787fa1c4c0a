"""`Autoencoder`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_gen as kg
from keras_gen.models import gaussian_fit
from tests.conformance.cases import autoencoder, digits, one_step

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    model = autoencoder(SHAPE, 10)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(digits(count=512).batches(64, seed=0), epochs=10, verbose=0)
    return model


@pytest.fixture(scope="module")
def pictures():
    return digits().take(20, seed=0)


# The distribution of the latents


def test_the_fit_is_that_of_the_examples():
    z = np.random.default_rng(0).normal(size=(500, 3)).astype("float32") @ np.array(
        [[1.0, 2, 0], [0, 1, 0], [0, 0, 3]], "float32"
    )
    labels = np.arange(500) % 2
    sums = gaussian_fit.sums_of(tf.constant(z), tf.constant(labels, tf.int32), 3)
    sums += 1e-6 * gaussian_fit.first_sums(3, 3)
    mean, covariance = gaussian_fit.moments(sums)
    for kind in (0, 1):
        own = z[labels == kind]
        np.testing.assert_allclose(mean[kind], own.mean(0), atol=1e-4)
        np.testing.assert_allclose(covariance[kind], np.cov(own.T, bias=True), atol=1e-3)
    # no example of the last kind: the standard normal distribution
    np.testing.assert_allclose(mean[2], np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(covariance[2], np.eye(3), atol=1e-6)


def test_noise_is_given_the_distribution():
    z = np.random.default_rng(0).normal(size=(2000, 2)).astype("float32")
    z = z @ np.array([[1, 2], [0, 0.5]], "float32") + np.array([3, -1], "float32")
    sums = gaussian_fit.sums_of(tf.constant(z), None, 1)
    noise = np.random.default_rng(1).normal(size=(50_000, 2)).astype("float32")
    drawn = gaussian_fit.transformed(tf.constant(noise), sums).numpy()
    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(z.T), atol=0.1)


def test_one_example_is_enough_to_draw():
    sums = gaussian_fit.sums_of(tf.constant([[1.0, 2.0]]), None, 1)
    drawn = gaussian_fit.transformed(tf.ones([3, 2]), sums)
    np.testing.assert_allclose(drawn, [[1, 2]] * 3, atol=1e-3)


def test_constant_and_correlated_latents_can_be_drawn():
    random = np.random.default_rng(0)
    z = random.normal(size=(3000, 8)) @ random.normal(size=(8, 60)) * 5 + 50
    z = np.concatenate([z, np.full((3000, 40), 20.0)], 1).astype("float32")
    sums = gaussian_fit.first_sums(1, 100)
    for part in np.split(z, 30):
        sums = 0.999 * sums + gaussian_fit.sums_of(tf.constant(part), None, 1)
    drawn = gaussian_fit.transformed(tf.ones([2, 100]), sums)
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(drawn[:, 60:], 20, atol=1)


def test_the_hash_names_the_distribution_of_the_latents(trained):
    before = trained.weights_hash()
    old = trained.latent_sums.numpy()
    trained.latent_sums.assign(2 * old)
    assert trained.weights_hash() != before
    trained.latent_sums.assign(old)


def test_training_follows_the_latents_of_each_class(trained):
    images, labels = digits(count=512).take(512, seed=0)
    latents = trained.encode(images, labels)
    mean, covariance = (part.numpy() for part in gaussian_fit.moments(trained.latent_sums.value))
    for label in (0, 7):
        own = latents[labels == label]
        spread = own.std(0)
        assert (np.abs(mean[label] - own.mean(0)) < spread).mean() > 0.8
        deviations = np.sqrt(np.diag(covariance[label]))
        assert 0.4 < np.median(deviations / spread) < 2.5


def test_evaluation_and_compiling_do_not_move_the_fit(trained):
    before = trained.latent_sums.numpy()
    trained.evaluate(digits().batches(64), verbose=0)
    trained.compile()
    np.testing.assert_array_equal(trained.latent_sums.numpy(), before)
    assert before[:, 0, 0].min() > 1


def test_generated_images_are_drawn_from_the_fit(trained):
    seeds = np.arange(6)
    noise = kg.randomness.row_normal(seeds, [8])
    label = tf.constant([3] * 6)
    latents = gaussian_fit.transformed(noise, trained.latent_sums.value, label)
    expected = trained.decode(latents, 3).astype(int)
    assert np.abs(trained.generate(6, 3, seed=seeds) - expected).max() <= 1


# Training and latents


def test_the_default_learns_where_most_pixels_are_black():
    """With a tanh at its end all its pixels become black, whose squared error has no slope."""
    images = np.zeros((256, 28, 28, 1), np.uint8)
    for image, row in zip(images, np.random.default_rng(0).integers(0, 20, 256)):
        image[row : row + 8, 10:18] = 255
    model = kg.models.Autoencoder((28, 28, 1))
    model.compile()
    model.fit(kg.data.load(images).batches(32, seed=0), epochs=8, verbose=0)
    error = np.square(model.reconstruct(images[:32]).astype(float) - images[:32]).mean()
    assert error < 0.85 * np.square(images[:32].astype(float)).mean()


@pytest.mark.parametrize("loss", kg.losses.RECONSTRUCTION_LOSSES)
def test_every_loss_is_what_it_is_called(loss):
    model = autoencoder(SHAPE, None, loss=loss)
    x = tf.constant(next(iter(digits(labelled=False).batches(8, seed=0))))
    found = model.compute_loss(x, training=False)["loss"]
    expected = getattr(kg.losses, loss)(x, model.decoder(model.encoder(x)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    model.compile(run_eagerly=True)
    assert np.isfinite(one_step(model, x)["loss"]).all()


def test_reconstructions_come_near_and_follow_the_images(trained, pictures):
    images, labels = pictures
    latents = trained.encode(images, labels)
    assert latents.shape == (20, 8)
    again = trained.reconstruct(images, labels)
    np.testing.assert_array_equal(again, trained.decode(latents, labels))
    error = np.square(again.astype(float) - images).mean()
    shuffled = np.square(again.astype(float) - np.roll(images, 1, 0)).mean()
    assert error < 0.5 * shuffled


def test_interpolation_and_traversal(trained, pictures):
    images, labels = pictures
    between = trained.interpolate(images[:2], images[2:4], 3, labels=1)
    np.testing.assert_array_equal(between[:, 0], trained.reconstruct(images[:2], 1))
    np.testing.assert_array_equal(between[:, 2], trained.reconstruct(images[2:4], 1))
    assert trained.traverse(images[:2], labels=labels[:2]).shape == (2, 8, 9, *SHAPE)


def test_a_manifold_lies_where_the_latents_are():
    image, latent = keras.Input(SHAPE), keras.Input((2,))
    encoder = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    made = keras.layers.Reshape(SHAPE)(keras.layers.Dense(64, "tanh")(latent))
    model = kg.models.Autoencoder(SHAPE, None, encoder, keras.Model(latent, made))
    z = np.array([[5, 1], [7, 1], [5, 3], [7, 3]], "float32")  # mean (6, 2), deviations 1
    model.latent_sums.assign(gaussian_fit.sums_of(tf.constant(z), None, 1))
    step = stats.norm.ppf(3 / 4)
    expected = model.decode([[6 - step, 2 + step], [6 + step, 2 + step]])
    difference = model.manifold(2)[0].astype(int) - expected
    assert np.abs(difference).max() <= 1


def test_signatures(trained, pictures, tmp_path):
    images, labels = pictures
    trained.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1").signatures
    assert set(served) == {"serving_default", "png_bytes", "encode", "decode", "reconstruct"}
    given = {"image": tf.constant(images), "label": tf.constant(labels)}
    latents = trained.encode(images, labels)
    np.testing.assert_array_equal(served["encode"](**given)["latent"], latents)
    again = served["reconstruct"](**given)["images"]
    np.testing.assert_array_equal(again, trained.reconstruct(images, labels))


def test_a_generator_of_a_gan_can_be_the_decoder():
    decoder = kg.networks.dcgan.generator(SHAPE, 5, width=4)
    model = kg.models.Autoencoder(SHAPE, decoder=decoder)
    assert model.latent_dim == 5 and model.encoder.output_shape == (None, 5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"loss": "mse"}, "loss='mse'"),
        ({"loss": kg.losses.squared_error}, "must be one of"),
        ({"encoder": kg.networks.autoencoder.dense_encoder(SHAPE, 5)}, r"make \(8,\)"),
        ({"latent_dim": -1}, "latent_dim=-1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        kg.models.Autoencoder(SHAPE, **{"latent_dim": 8, **arguments})


def test_a_network_of_half_precision_is_told_to_put_out_float32():
    latent = keras.Input((8,))
    units = keras.layers.Dense(64, dtype="mixed_bfloat16")(latent)
    decoder = keras.Model(latent, keras.layers.Reshape(SHAPE, dtype="bfloat16")(units))
    with pytest.raises(ValueError, match=r"decoder must put out float32.*that puts out bfloat16"):
        kg.models.Autoencoder(SHAPE, latent_dim=8, decoder=decoder)
