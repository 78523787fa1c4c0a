"""Stochastic layers above a VAE's latent, against linear-Gaussian ones, whose density is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_gen as kg
from keras_gen.models import hierarchy
from tests.conformance.cases import digits

SHAPE = (8, 8, 1)


def linear(weight, bias, variances):
    """A network that gives N(x weight + bias, variances)."""
    made = len(variances)
    network = keras.Sequential([keras.Input((len(weight),)), keras.layers.Dense(2 * made)])
    kernel = np.hstack([weight, np.zeros_like(weight)])
    network.set_weights([kernel, np.hstack([bias, np.log(variances)])])
    return network


class LinearHierarchy:
    """t ~ N(0, 1), u | t ~ N(c t, s), z | u ~ N(a u + b, diag(spread)): z is normal as well."""

    a, b = np.array([[0.8, -0.5, 1.2]]), np.array([0.3, 0.0, -0.4])
    spread, c, s = np.array([0.5, 0.7, 1.1]), 0.9, 0.4

    def decoders(self, count):
        return [
            linear(self.a, self.b, self.spread),
            linear(np.array([[self.c]]), [0.0], [self.s]),
        ][:count]

    def variance_of_u(self, count):
        """Of u, which is the highest of one layer."""
        return 1.0 if count == 1 else self.c**2 + self.s

    def layers(self, count):
        """With the true posteriors for encoders."""
        variance = 1 / (1 / self.variance_of_u(count) + (self.a**2 / self.spread).sum())
        to_u = variance * (self.a / self.spread).T
        encoders = [linear(to_u, -self.b @ to_u, [variance])]
        variance = 1 / (1 + self.c**2 / self.s)
        encoders.append(linear(np.array([[variance * self.c / self.s]]), [0.0], [variance]))
        return list(zip(encoders, self.decoders(count)))

    def density(self, count):
        covariance = self.variance_of_u(count) * self.a.T @ self.a + np.diag(self.spread)
        return stats.multivariate_normal(self.b, covariance)


@pytest.fixture(scope="module")
def known():
    return LinearHierarchy()


@pytest.mark.parametrize("count", [1, 2])
def test_one_draw_of_true_posteriors_gives_the_density(known, count):
    random = np.random.default_rng(0)
    z, noise = random.normal(size=(20, 3)), random.normal(size=(20, count))
    found = hierarchy.log_prior(
        known.layers(count), *(tf.constant(t, tf.float32) for t in (z, noise))
    )
    np.testing.assert_allclose(found, known.density(count).logpdf(z), rtol=1e-4)


def test_other_posteriors_give_less_on_average(known):
    z = tf.constant(known.density(1).rvs(2000, random_state=0), tf.float32)
    noise = tf.constant(np.random.default_rng(1).normal(size=(2000, 1)), tf.float32)
    ((encoder, decoder),) = known.layers(1)
    weight, bias = encoder.get_weights()
    encoder.set_weights([weight, bias + [0.5, 0.0]])
    variance = np.exp(bias[1])
    gap = known.density(1).logpdf(z) - hierarchy.log_prior([(encoder, decoder)], z, noise)
    # the divergence of the shifted posterior from the true one
    assert np.mean(gap) == pytest.approx(0.5**2 / variance / 2, rel=0.15)


@pytest.mark.parametrize("count", [1, 2])
def test_the_closed_form_is_the_mean_of_the_draws(known, count):
    layers, random = known.layers(count), np.random.default_rng(0)
    encoder = layers[0][0]
    weight, bias = encoder.get_weights()
    encoder.set_weights([weight, bias + [0.5, 0.3]])  # no longer the true posterior
    z = tf.constant(np.repeat(random.normal(size=(1, 3)), 20_000, 0), tf.float32)
    noise = tf.constant(random.normal(size=(20_000, count)), tf.float32)
    drawn, closed = (
        hierarchy.log_prior(layers, z, noise, closed_form=closed).numpy()
        for closed in (False, True)
    )
    assert closed.mean() == pytest.approx(drawn.mean(), abs=0.03)
    assert (drawn != closed).any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_noise_becomes_draws_of_the_density(known, count):
    noise = np.random.default_rng(0).normal(size=(40_000, 3 + count)).astype(np.float32)
    drawn = hierarchy.descended(known.decoders(count), tf.constant(noise)).numpy()
    if count == 0:
        np.testing.assert_array_equal(drawn, noise)
        return
    np.testing.assert_allclose(drawn.mean(0), known.density(count).mean, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), known.density(count).cov, atol=0.06)


def small(**kwargs):
    return kg.models.VAE(SHAPE, latent_dim=6, ema=0.9, **kwargs)


def test_generated_images_are_those_of_descended_latents():
    model = small(hierarchy=[3, 2])
    latents = kg.control.random_latents(model, 5, seed=1)
    assert latents.shape == (5, 6)
    np.testing.assert_array_equal(model.decode(latents), model.generate(5, seed=1))
    many = kg.control.random_latents(model, 40, seed=1)
    np.testing.assert_array_equal(many[:5], latents)
    lowest = tf.constant(kg.randomness.row_normal(kg.randomness.row_seeds(1, 5), [11]))
    assert np.abs(latents - lowest[:, :6]).max() > 0.01


def test_a_layer_learns_what_units_have_in_common():
    random = np.random.default_rng(0)
    density = stats.multivariate_normal(np.zeros(3), 2 * np.ones((3, 3)) + 0.05 * np.eye(3))
    z = density.rvs(4000, random_state=0).astype(np.float32)
    between = kg.networks.autoencoder.between_latents
    layer = between(3, 1, hidden=(32,)), between(1, 3, hidden=(32,), seed=1)
    variables = [v for network in layer for v in network.trainable_variables]
    optimizer = keras.optimizers.Adam(5e-3)
    optimizer.build(variables)

    @tf.function
    def step(z, noise):
        with tf.GradientTape() as tape:
            nats = -tf.reduce_mean(hierarchy.log_prior([layer], z, noise, training=True))
        optimizer.apply_gradients(zip(tape.gradient(nats, variables), variables))

    for _ in range(600):
        rows = random.integers(0, 4000, 256)
        step(z[rows], random.normal(size=(256, 1)).astype(np.float32))
    noise = random.normal(size=(4000, 4)).astype(np.float32)
    found = np.mean(hierarchy.log_prior([layer], z, noise[:, :1]))
    each = stats.norm(0, z.std()).logpdf(z).sum(1).mean()
    truth = density.logpdf(z).mean()
    assert each + 1 < truth - 0.3 < found < truth, (each, found, truth)
    drawn = hierarchy.descended([layer[1]], tf.constant(noise))
    assert (np.corrcoef(np.transpose(drawn)) > 0.9).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hierarchy": 3}, "Received: hierarchy=3"),
        ({"hierarchy": [0]}, "Received: hierarchy=0"),
        ({"hierarchy": [(1, 2)]}, r"Received: \(1, 2\)"),
        ({"hierarchy": [4], "free_bits": 0.5}, "free_bits=0.5 with hierarchy"),
    ],
)
def test_bad_hierarchies_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_networks_that_do_not_fit_are_named():
    between = kg.networks.autoencoder.between_latents
    with pytest.raises(ValueError, match=r"above 6 units.*\[\(5,\), \(8,\)\]"):
        small(hierarchy=[(between(5, 4), between(4, 6))])
    assert small(hierarchy=[(between(6, 4), between(4, 6))]).noise_dim == 10


def test_bound_and_loss_are_their_formulas():
    """With averages that are not the weights, and labels."""
    model = kg.models.VAE(SHAPE, 10, latent_dim=6, hierarchy=[3, 2], ema=0.9)
    random = np.random.default_rng(0)
    for average, _ in model.averages.pairs:
        average.assign(average + 0.1 * random.normal(size=average.shape))
    images, labels = digits().take(4)
    x, seeds, label = kg.images.from_uint8(images), np.arange(4), tf.constant(labels, tf.int32)

    def terms(encoder, decoder, above, noise):
        """log p(x | z), and log p(z, u, ...) - log q(z, u, ... | x)."""

        def normal(network, taken):
            mean, log_variance = np.split(np.asarray(network(taken)), 2, axis=1)
            return mean, np.exp(log_variance / 2)

        parts = np.split(noise, [6, 9], axis=1)
        mean, deviation = normal(encoder, [x, label])
        z = (mean + deviation * parts[0]).astype(np.float32)
        decoded = model.likelihood.log_prob(x, decoder([tf.constant(z), label]))
        ratio, below = -stats.norm.logpdf(z, mean, deviation).sum(1), z
        for (up, down), part in zip(above, parts[1:]):
            mean, deviation = normal(up, below)
            u = (mean + deviation * part).astype(np.float32)
            ratio -= stats.norm.logpdf(u, mean, deviation).sum(1)
            ratio += stats.norm.logpdf(below, *normal(down, u)).sum(1)
            below = u
        return np.asarray(decoded), ratio + stats.norm.logpdf(below).sum(1), (mean, deviation, u)

    noise = np.asarray(kg.randomness.row_normal(seeds, [3, 11], "importance", 0))
    averaged = model.averaged_encoder, model.averaged_decoder, model.averaged_layers_above
    weights = [sum(terms(*averaged, noise[:, i])[:2]) for i in range(3)]
    found = model.log_prob(images, labels, samples=3, seed=seeds)["log_prob"]
    np.testing.assert_allclose(found, np.log(np.exp(weights).mean(0)), rtol=1e-4)

    key = model.step_key()
    noise = np.asarray(kg.randomness.normal([4, 11], kg.randomness.key(key, "latent")))
    losses = model.compute_loss(x, label)
    networks = model.encoder, model.decoder, model.layers_above
    decoded, ratio, (mean, deviation, u) = terms(*networks, noise)
    # the highest latent's divergence in closed form
    drawn = (stats.norm.logpdf(u, mean, deviation) - stats.norm.logpdf(u)).sum(1)
    closed = ((mean**2 + deviation**2 - 1) / 2 - np.log(deviation)).sum(1)
    np.testing.assert_allclose(losses["reconstruction"], -decoded, rtol=1e-4)
    np.testing.assert_allclose(losses["kl"], -ratio - drawn + closed, rtol=1e-3, atol=1e-3)


def test_a_manifold_has_nothing_above_it():
    with pytest.raises(ValueError, match="latent_dim=2 of noise_dim=5"):
        kg.models.VAE(SHAPE, latent_dim=2, hierarchy=[3]).manifold(3)
    with pytest.raises(ValueError, match="latent_dim=1 of noise_dim=2"):
        kg.models.VAE(SHAPE, latent_dim=1, hierarchy=[1]).manifold(3)
