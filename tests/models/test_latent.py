"""`LatentDiffusion`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from tests.conformance.cases import digits, one_step, state, vae, vqvae
from tests.models.test_diffusion import lively

SHAPE, LATENT = (8, 8, 1), (4, 4, 2)


def spatial_vae(**kwargs):
    networks = kg.networks.autoencoder
    encoder = networks.spatial_encoder(SHAPE, LATENT, width=8, blocks=1)
    decoder = networks.spatial_decoder(SHAPE, LATENT, width=8, blocks=1, seed=1)
    return kg.models.VAE(SHAPE, encoder=encoder, decoder=decoder, beta=0.1, **kwargs)


def prior(num_classes=10, shape=LATENT, **kwargs):
    network = kg.networks.unet.denoiser(
        shape, num_classes, width=16, multipliers=(1,), blocks=1, attention=()
    )
    return kg.models.Diffusion(shape, num_classes, network, **{"clip": False, "steps": 4, **kwargs})


@pytest.fixture(scope="module")
def trained_vae():
    model = spatial_vae()
    model.compile(keras.optimizers.Adam(4e-3))
    model.fit(digits(SHAPE, labelled=False).batches(64, seed=0), epochs=10, verbose=0)
    return model


def test_latents_have_mean_zero_and_deviation_one(trained_vae):
    source = digits(SHAPE)
    model = kg.models.LatentDiffusion.measured(trained_vae, prior(), source)
    codes = trained_vae.codes(source.take(256, seed=1)[0])
    latents = model.normalized(codes).numpy()
    assert latents.shape == (256, *LATENT)
    np.testing.assert_allclose(latents.mean((0, 1, 2)), 0, atol=0.05)
    np.testing.assert_allclose(latents.std((0, 1, 2)), 1, atol=0.05)


def test_training_leaves_the_autoencoder_as_it_is(trained_vae):
    model = kg.models.LatentDiffusion.measured(trained_vae, prior(), digits(SHAPE))
    model.compile()
    before = [w.copy() for w in model.autoencoder.get_weights()]
    model.fit(digits(SHAPE).batches(64, seed=0), epochs=1, verbose=0)
    for old, new in zip(before, model.autoencoder.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert int(model.diffusion.step) == int(model.step) == 4


def test_images_are_the_decoded_latents(trained_vae):
    model = kg.models.LatentDiffusion(trained_vae, prior(), mean=[0.5, -1.0], deviation=[2.0, 0.5])
    seeds, labels = np.arange(16), np.arange(16) % 10
    tensors = tf.constant(seeds), tf.constant(labels, tf.int32)
    drawn = model.diffusion.generate_step(*tensors).numpy() * [2.0, 0.5] + [0.5, -1.0]
    expected = trained_vae.decode(drawn.reshape(16, -1).astype(np.float32))
    made = model.generate(16, labels, seeds)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_sampling_is_told_as_in_diffusion(trained_vae):
    model = kg.models.LatentDiffusion(trained_vae, lively(prior()))
    ticks = []
    few = model.generate(3, labels=1, steps=1, progress=lambda done, total: ticks.append(total))
    many = model.generate(3, labels=1, steps=6, sampler="ddim", guidance_scale=2.0)
    assert ticks == [1] and few.shape == many.shape == (3, *SHAPE)
    assert (few != many).any()


def test_the_hash_names_both_models(trained_vae):
    model = kg.models.LatentDiffusion(trained_vae, prior())
    first = model.weights_hash()
    for weight in (model.diffusion.averaged_network, model.autoencoder.averaged_decoder):
        variable = weight.weights[0]
        old = variable.numpy()
        variable.assign(old + 1)
        assert model.weights_hash() != first
        variable.assign(old)
    assert model.weights_hash() == first


def test_an_autoencoder_with_the_same_classes():
    model = kg.models.LatentDiffusion(vae(SHAPE, 10), prior(shape=(2, 2, 2)))
    model.compile()
    batch = next(iter(digits(SHAPE).batches(16, seed=0)))
    assert np.isfinite(one_step(model, batch)["loss"]).all()
    assert model.generate(2, labels=[3, 4]).shape == (2, *SHAPE)


def test_the_vectors_of_a_vqvae():
    autoencoder, source = vqvae(SHAPE, None), digits(SHAPE)
    diffusion = prior(shape=(4, 4, 4), steps=1)
    model = kg.models.LatentDiffusion.measured(autoencoder, diffusion, source)
    vectors = autoencoder.latents(source.take(256, seed=0)[0]).reshape(-1, 4)
    np.testing.assert_allclose(model.statistics[0], vectors.mean(0), rtol=1e-4, atol=1e-6)
    images, labels = next(iter(source.batches(16, seed=0)))
    assert np.isfinite(model.compute_loss(images, labels)["loss"]).all()
    seeds, labels = tf.range(16, dtype=tf.int64), tf.fill([16], 3)
    mean, deviation = model.statistics.numpy()
    drawn = model.diffusion.generate_step(seeds, labels).numpy() * deviation + mean
    expected = autoencoder.decode_step(drawn.reshape(16, -1))
    np.testing.assert_allclose(model.generate_step(seeds, labels), expected, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: (prior(), prior()), "a VAE, VQVAE or Autoencoder, `diffusion` a Diffusion"),
        (lambda: (spatial_vae(), spatial_vae()), "a VAE, VQVAE or Autoencoder"),
        (lambda: (spatial_vae(), prior(shape=(4, 4, 3))), "numbers, the units"),
        (lambda: (spatial_vae(), prior(clip=True)), "clip=False"),
        (lambda: (vae(SHAPE, 10), prior(3, (2, 2, 2))), "classes"),
        (lambda: (vae(SHAPE, 10), prior(None, (2, 2, 2))), "classes"),
        (lambda: (spatial_vae(), prior(), 0.0, [1.0, 0.0]), "positive"),
        (lambda: (spatial_vae(), prior(), [1.0, 2.0, 3.0]), "one number or 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        kg.models.LatentDiffusion(*make())
    assert "Received:" in str(error.value)
    if len(make()) == 2:
        with pytest.raises(ValueError, match=message):
            kg.models.LatentDiffusion.measured(*make(), digits(SHAPE))


def test_the_models_that_are_given_stay_as_they_are(trained_vae):
    diffusion = prior()
    diffusion.compile()
    diffusion.step.assign(100)
    first = kg.models.LatentDiffusion(trained_vae, diffusion)
    second = kg.models.LatentDiffusion(trained_vae, diffusion, mean=3.0)
    assert int(first.step) == 100  # the noise and the average go on
    before = state(diffusion) + state(trained_vae)
    first.compile(keras.optimizers.SGD(0.1))
    one_step(first, next(iter(digits(SHAPE).batches(16, seed=0))))
    for old, new in zip(before, state(diffusion) + state(trained_vae)):
        np.testing.assert_array_equal(old, new)
    assert trained_vae.trainable_weights
    assert (first.generate(2, 1) != second.generate(2, 1)).any()  # nothing compiled is shared


def test_statistics_are_saved_with_the_weights_and_named(trained_vae, tmp_path):
    model = kg.models.LatentDiffusion(trained_vae, prior(), [0.5, -1.0], [2.0, 0.5])
    other = kg.models.LatentDiffusion(trained_vae, prior())
    assert model.weights_hash() != other.weights_hash()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.weights_hash() == model.weights_hash()
    assert not loaded.autoencoder.compiled
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.generate(3, 1), model.generate(3, 1))
