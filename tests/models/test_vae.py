"""`VAE`: what the conformance suite does not ask of every model."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_gen as kg
from keras_gen import randomness
from keras_gen.models import hierarchy
from tests.conformance.cases import digits, one_step, vae

SHAPE = (8, 8, 1)


def linear_networks(latent_dim=2, shape=(2, 3, 1), parameters=1):
    """An encoder and a decoder of one dense layer each."""
    image, latent = keras.Input(shape), keras.Input((latent_dim,))
    code = keras.layers.Dense(2 * latent_dim, name="code")(keras.layers.Flatten()(image))
    size = int(np.prod(shape))
    pixels = keras.layers.Dense(size * parameters, name="pixels")(latent)
    made = keras.layers.Reshape((*shape[:2], shape[2] * parameters))(pixels)
    return keras.Model(image, code), keras.Model(latent, made)


class PPCA:
    """Probabilistic PCA (Tipping and Bishop 1999), x = W z + mu + deviation * noise, as a VAE.

    The columns of W are orthogonal, so that the true posterior has a diagonal covariance, which an
    encoder can say: N(M^-1 W' (x - mu), deviation^2 M^-1), M = W' W + deviation^2.
    """

    deviation = 0.3

    def __init__(self):
        random = np.random.default_rng(0)
        columns, _ = np.linalg.qr(random.normal(size=(6, 2)))
        self.w, self.mu = columns * [0.8, 0.5], random.normal(size=6) * 0.2
        self.precision = np.diag(self.w.T @ self.w) + self.deviation**2

    def vae(self, shift=0.0, widen=1.0):
        """The VAE; its posterior is the true one, unless it is shifted or widened."""
        encoder, decoder = linear_networks()
        to_mean = self.w / self.precision
        bias = -self.mu @ to_mean + shift
        log_variance = np.log(widen * self.deviation**2 / self.precision)
        encoder.set_weights(
            [np.hstack([to_mean, np.zeros((6, 2))]), np.hstack([bias, log_variance])]
        )
        decoder.set_weights([self.w.T, self.mu])
        likelihood = kg.losses.Gaussian(self.deviation, dequantize=False)
        return kg.models.VAE((2, 3, 1), None, encoder, decoder, likelihood=likelihood)

    def log_likelihood(self, pictures):
        covariance = self.w @ self.w.T + self.deviation**2 * np.eye(6)
        x = pictures.reshape(-1, 6) / 127.5 - 1
        return stats.multivariate_normal.logpdf(x, self.mu, covariance)


@pytest.fixture(scope="module")
def ppca():
    return PPCA()


@pytest.fixture(scope="module")
def six_pixels():
    return np.random.default_rng(1).integers(0, 256, (12, 2, 3, 1), np.uint8)


@pytest.fixture(scope="module")
def trained():
    """A labelled VAE, a little trained; its averages are its weights."""
    model = vae(SHAPE, 10)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(digits().batches(64, seed=0), epochs=12, verbose=0)
    return model


@pytest.fixture(scope="module")
def pictures():
    return digits().take(20, seed=0)


# The bound


@pytest.mark.parametrize("samples", [1, 3, 60])
def test_the_bound_of_a_true_posterior_is_the_likelihood(ppca, six_pixels, samples):
    found = ppca.vae().log_prob(six_pixels, samples=samples)
    np.testing.assert_allclose(found["log_prob"], ppca.log_likelihood(six_pixels), rtol=1e-4)


def test_more_samples_close_the_gap_of_a_wrong_posterior(ppca, six_pixels):
    many, model = np.repeat(six_pixels, 10, 0), ppca.vae(shift=0.4, widen=2.0)
    exact = ppca.log_likelihood(many)
    gaps = [
        (exact - model.log_prob(many, samples=samples)["log_prob"]).mean()
        for samples in (1, 5, 5000)
    ]
    assert gaps[0] > 2 * gaps[1] > 20 * abs(gaps[2]), gaps


def test_the_bound_is_its_formula(ppca, six_pixels):
    """Also where the last chunk is not full."""
    model, seeds = ppca.vae(shift=0.4, widen=2.0), np.arange(12)
    found = model.log_prob(six_pixels, samples=75, seed=seeds)
    assert found["estimator"] == "importance-weighted bound, k = 75"
    found = found["log_prob"]
    noise = np.concatenate(
        [kg.randomness.row_normal(seeds, [50, 2], "importance", i) for i in (0, 1)], 1
    )[:, :75]
    mean, log_variance = (part[:, None] for part in model.encode(six_pixels))
    deviation = np.exp(log_variance / 2)
    z = mean + deviation * noise
    x = six_pixels.reshape(-1, 1, 6) / 127.5 - 1
    log_weights = (
        stats.norm.logpdf(x, z @ ppca.w.T + ppca.mu, ppca.deviation).sum(2)
        + stats.norm.logpdf(z).sum(2)
        - stats.norm.logpdf(z, mean, deviation).sum(2)
    )
    expected = np.log(np.exp(log_weights).mean(1))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_bound_does_not_depend_on_the_batch_and_traces_once(ppca, six_pixels):
    model = ppca.vae(shift=0.4)
    whole = model.log_prob(six_pixels, samples=70, seed=3)["log_prob"]
    seeds = (3 << 32) + np.arange(12)
    part = model.log_prob(six_pixels[5:], samples=70, seed=seeds[5:], batch_size=2)
    np.testing.assert_allclose(part["log_prob"], whole[5:], rtol=1e-5)
    assert (model.log_prob(six_pixels, samples=71, seed=4)["log_prob"] != whole).all()
    (function,) = model._functions.values()
    assert function.experimental_get_tracing_count() == 1


def test_bits_per_dimension_of_a_constant_decoder():
    """One that puts the same wide logistic at every pixel."""
    encoder, decoder = linear_networks(parameters=2)
    decoder.set_weights([np.zeros((2, 12)), np.tile([0.0, 1.0], 6)])
    encoder.set_weights([np.zeros((6, 4)), np.zeros(4)])
    model = kg.models.VAE((2, 3, 1), None, encoder, decoder, likelihood="discretized_logistic")
    grey = np.full((2, 2, 3, 1), 128, np.uint8)
    found = model.log_prob(grey, samples=2)
    (level,) = np.diff(stats.logistic.cdf([0, 2 / 255], 0, np.exp(1.0)))
    np.testing.assert_allclose(found["bits_per_dimension"], -np.log2(level), rtol=1e-3)
    nats = -found["bits_per_dimension"] * 6 * np.log(2)
    np.testing.assert_allclose(found["log_prob"], nats)


def test_labels_count_in_the_likelihood(trained, pictures):
    images, labels = pictures
    right = trained.log_prob(images, labels, samples=10)["log_prob"]
    wrong = trained.log_prob(images, (labels + 1) % 10, samples=10)["log_prob"]
    assert right.mean() > wrong.mean() + 1


def test_stochastic_binarization_is_drawn_from_the_seed(pictures):
    """Of greys: of black and white nothing is drawn, and other latents alone tell seeds apart."""
    labels = np.zeros(20, np.int32)
    model = vae(SHAPE, 10, likelihood=kg.losses.Bernoulli("stochastic"))
    spread = []
    for level in (0, 128):
        grey = np.full((20, *SHAPE), level, np.uint8)
        first, again, other = (
            model.log_prob(grey, labels, samples=200, seed=seed)["log_prob"] for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        spread.append(np.abs(first - other).mean())
    assert spread[1] > 2 * spread[0] and spread[1] > 0.1


def test_what_is_observed_is_learned_encoded_and_judged(pictures):
    """Thresholded: the same whatever the grey levels on either side."""
    grey, labels = pictures
    black_or_white = np.where(grey >= 128, 255, 0).astype(np.uint8)
    model, plain = (vae(SHAPE, 10, likelihood=kg.losses.Bernoulli(b)) for b in (0.5, None))

    def told(model, images):
        x = kg.images.from_uint8(images)
        losses = model.compute_loss(x, tf.constant(labels))
        nats = model.log_prob(images, labels, samples=2)["log_prob"]
        return [*losses.values(), *model.encode(images, labels), nats]

    for found, same, other in zip(
        told(model, grey), told(model, black_or_white), told(plain, grey)
    ):
        np.testing.assert_array_equal(found, same)
        assert np.abs(np.asarray(found) - other).max() > 1e-4


def test_what_is_drawn_at_random_is_learned_and_judged(pictures):
    grey, labels = pictures
    labels, x = tf.constant(labels), kg.images.from_uint8(grey)
    likelihood = kg.losses.Bernoulli("stochastic")
    model = vae(SHAPE, 10, likelihood=likelihood)
    plain = vae(SHAPE, 10, likelihood=kg.losses.Bernoulli())  # of the same weights
    drawn = likelihood.observed(x, randomness.key(model.step_key(), "observed"))
    assert set(np.unique(drawn)) == {-1, 1}
    expected = plain.compute_loss(drawn, labels)
    for name, term in model.compute_loss(x, labels).items():
        np.testing.assert_allclose(term, expected[name], rtol=1e-5)

    seeds = tf.constant((5 << 32) + np.arange(len(grey)))
    drawn = [likelihood.observed(a, randomness.key(s, "observed")) for a, s in zip(x, seeds)]
    expected = plain.importance_bound(tf.stack(drawn), seeds, labels, samples=2, chunk=2)
    found = model.log_prob(grey, labels, samples=2, seed=5)["log_prob"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# The loss


def test_the_divergence_is_that_of_the_integral():
    z = np.linspace(-12, 12, 20_001)
    for mean, log_variance in ((0.0, 0.0), (1.5, -1.0), (-0.3, 0.7)):
        q = stats.norm(mean, np.exp(log_variance / 2))
        integral = np.trapezoid(q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), z)
        found = hierarchy.kl_divergence(tf.constant(mean), tf.constant(log_variance))
        np.testing.assert_allclose(found, integral, atol=1e-5)


def test_the_loss_is_the_negative_lower_bound_per_dimension(ppca, six_pixels):
    """With the true posterior, reconstruction + kl of any one draw has the mean -log p(x)."""
    x = tf.constant(np.repeat(six_pixels[:1], 4000, 0) / 127.5 - 1, tf.float32)
    terms = ppca.vae().compute_loss(x)
    assert list(terms) == ["loss", "reconstruction", "kl"]
    assert all(term.shape == (4000,) for term in terms.values())
    np.testing.assert_allclose(
        terms["loss"], (terms["reconstruction"] + terms["kl"]) / 6, rtol=1e-5
    )
    assert np.std(terms["reconstruction"]) > 0.1  # each example has its own draw
    exact = ppca.log_likelihood(six_pixels[:1])
    np.testing.assert_allclose(-6 * np.mean(terms["loss"]), exact, atol=0.1)


def test_beta_and_free_bits(ppca, six_pixels):
    x = tf.constant(six_pixels / 127.5 - 1, tf.float32)
    model = ppca.vae()
    plain = model.compute_loss(x)
    model.beta = 4.0
    weighted = model.compute_loss(x)
    np.testing.assert_allclose(weighted["kl"], plain["kl"])
    difference = 6 * (weighted["loss"] - plain["loss"])
    np.testing.assert_allclose(difference, 3 * plain["kl"], rtol=1e-3)
    model.beta, model.free_bits = 1.0, 100.0
    free = model.compute_loss(x)
    np.testing.assert_allclose(free["kl"], plain["kl"])
    np.testing.assert_allclose(6 * free["loss"], free["reconstruction"] + 200, rtol=1e-4)


def test_free_bits_leave_the_posterior_alone():
    """No gradient pushes a unit that says less than the free bits towards the prior."""
    steps = []
    for beta in (0.0, 1.0):
        model = vae(SHAPE, None, free_bits=50.0, beta=beta)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        one_step(model, next(iter(digits(labelled=False).batches(16, seed=0))))
        steps.append(model.encoder.get_weights())
    for a, b in zip(*steps):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_divergence_warms_up():
    model = vae(SHAPE, None, beta=2.0, warm_up=4)
    weights = []
    for step in (0, 1, 4, 9):
        model.step.assign(step)
        weights.append(float(model.kl_weight()))
    assert weights == [0, 0.5, 2, 2]
    model.step.assign(0)
    assert model.kl_weight(training=False) == 2


def test_every_likelihood_trains_and_generates():
    for likelihood in (
        kg.losses.Bernoulli("stochastic"),
        kg.losses.Gaussian(),
        kg.losses.Gaussian("predicted"),
        kg.losses.DiscretizedLogistic(),
    ):
        encoder, decoder = linear_networks(4, SHAPE, likelihood.parameters)
        model = kg.models.VAE(SHAPE, None, encoder, decoder, likelihood=likelihood)
        model.compile(keras.optimizers.Adam(0.02), run_eagerly=True)
        batch = next(iter(digits(labelled=False).batches(32, seed=0)))
        losses = [one_step(model, batch)["loss"][0] for _ in range(6)]
        assert losses[-1] < losses[0], (likelihood, losses)
        assert model.generate(2).shape == (2, *SHAPE)


def test_a_shared_deviation_is_learned():
    decoder = kg.networks.autoencoder.dense_decoder(
        SHAPE, 4, hidden=(16,), parameters=2, shared=1, batch_normalization=False
    )
    encoder, _ = linear_networks(4, SHAPE)
    model = kg.models.VAE(SHAPE, None, encoder, decoder, likelihood="gaussian")
    before = float(model.decoder.get_layer("shared").value[0])
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(digits(labelled=False).batches(64, seed=0), epochs=2, verbose=0)
    assert float(model.decoder.get_layer("shared").value[0]) < before - 0.02


# Latents


def test_encode_says_the_posterior_and_reconstruct_decodes_its_mean(trained, pictures):
    images, labels = pictures
    mean, log_variance = trained.encode(images, labels)
    assert mean.shape == log_variance.shape == (20, 8) and mean.dtype == np.float32
    assert (log_variance < 0).any()
    again = trained.reconstruct(images, labels)
    np.testing.assert_array_equal(again, trained.decode(mean, labels))
    others = trained.reconstruct(images, np.roll(labels, 1)).astype(float)
    error, other = (np.square(made - images).mean() for made in (again.astype(float), others))
    assert error < other


def test_rows_do_not_depend_on_their_batch(trained, pictures):
    images, labels = pictures
    whole = trained.encode(images, labels)
    part = trained.encode(images[7:9], labels[7:9], batch_size=1)
    np.testing.assert_array_equal(part[0], whole[0][7:9])
    np.testing.assert_array_equal(part[1], whole[1][7:9])
    made = trained.decode(whole[0], labels)
    np.testing.assert_array_equal(trained.decode(whole[0][7:], labels[7:]), made[7:])


def test_interpolation_ends_at_the_reconstructions(trained, pictures):
    images, labels = pictures[0][:6], pictures[1][:3]
    between = trained.interpolate(images[:3], images[3:], 5, labels)
    assert between.shape == (3, 5, *SHAPE)
    np.testing.assert_array_equal(between[:, 0], trained.reconstruct(images[:3], labels))
    np.testing.assert_array_equal(between[:, -1], trained.reconstruct(images[3:], labels))
    half = (trained.encode(images[:3], labels)[0] + trained.encode(images[3:], labels)[0]) / 2
    difference = between[:, 2].astype(int) - trained.decode(half, labels)
    assert np.abs(difference).max() <= 1


def test_a_traversal_sets_one_unit(trained, pictures):
    images, labels = pictures[0][:2], pictures[1][:2]
    made = trained.traverse(images, [-2, 0, 3], units=[5, 1], labels=labels)
    assert made.shape == (2, 2, 3, *SHAPE)
    latents = trained.encode(images, labels)[0]
    latents[:, 1] = 3
    np.testing.assert_array_equal(made[:, 1, 2], trained.decode(latents, labels))
    assert trained.traverse(images, labels=labels).shape == (2, 8, 9, *SHAPE)


def test_a_manifold_has_equal_steps_of_probability(ppca):
    model = ppca.vae()
    made = model.manifold(3)
    assert made.shape == (3, 3, 2, 3, 1)
    step = stats.norm.ppf(5 / 6)
    expected = model.decode([[-step, step], [0, 0], [step, -step]])
    np.testing.assert_array_equal([made[0, 0], made[1, 1], made[2, 2]], expected)


def test_active_units_are_those_that_vary(six_pixels):
    encoder, decoder = linear_networks(3)
    kernel = np.zeros((6, 6), np.float32)
    kernel[0, 1], kernel[1, 2] = 1.0, 1e-3
    encoder.set_weights([kernel, np.arange(6.0)])
    model = kg.models.VAE((2, 3, 1), None, encoder, decoder)
    np.testing.assert_array_equal(model.active_units(six_pixels), [False, True, False])


def test_active_units_come_to_the_history(pictures):
    model = vae(SHAPE, 10)
    model.compile()
    callback = kg.callbacks.ActiveUnits(*pictures)
    history = model.fit(digits().batches(256), epochs=2, callbacks=[callback], verbose=0).history
    assert history["active_units"][-1] == model.active_units(*pictures).sum()
    gan = kg.models.GAN(SHAPE, recipe="gan")
    gan.compile()
    callbacks = [kg.callbacks.ActiveUnits(pictures[0][:, 1:], pictures[1])]
    with pytest.raises(ValueError, match="Pictures must be"):
        model.fit(digits().batches(8), callbacks=callbacks, verbose=0)
    with pytest.raises(ValueError, match="ActiveUnits needs a model"):
        gan.fit(digits().batches(8), callbacks=[callback], verbose=0)


def test_a_collapse_is_warned_of():
    batch = next(iter(digits(labelled=False).batches(64, seed=0)))
    collapsing = vae(SHAPE, None, beta=1000.0)
    collapsing.compile(keras.optimizers.Adam(1e-2))
    with pytest.warns(UserWarning, match="has collapsed"):
        collapsing.fit(tf.data.Dataset.from_tensors(batch).repeat(40), epochs=2, verbose=0)
    free = vae(SHAPE, None, beta=0.0)
    free.compile()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has collapsed")
        one_step(free, batch)


def test_only_the_averages_are_asked(pictures):
    images, labels = pictures
    model = vae(SHAPE, 10)

    def answers():
        mean, log_variance = model.encode(images, labels)
        bound = model.log_prob(images, labels, samples=2)["log_prob"]
        made = model.reconstruct(images, labels), model.generate(3, 1)
        return mean, log_variance, bound, *made

    before = answers()
    for network in (model.encoder, model.decoder):
        network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    for a, b in zip(before, answers()):
        np.testing.assert_array_equal(a, b)
    for network in (model.averaged_encoder, model.averaged_decoder):
        network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    for a, b in zip(before, answers()):
        assert (a != b).any()


def test_generated_images_are_decoded_from_the_prior(trained):
    seeds = np.arange(4)
    latents = kg.randomness.row_normal(seeds, [8])
    np.testing.assert_array_equal(
        trained.generate(4, 3, seed=seeds), trained.decode(latents, [3] * 4)
    )


def test_signatures(trained, pictures, tmp_path):
    images, labels = pictures
    trained.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1").signatures
    label = tf.constant(labels)
    posterior = served["encode"](image=tf.constant(images), label=label)
    mean, log_variance = trained.encode(images, labels)
    np.testing.assert_array_equal(posterior["mean"], mean)
    np.testing.assert_array_equal(posterior["log_variance"], log_variance)
    decoded = served["decode"](latent=tf.constant(mean), label=label)["images"]
    again = served["reconstruct"](image=tf.constant(images), label=label)["images"]
    np.testing.assert_array_equal(decoded, trained.decode(mean, labels))
    np.testing.assert_array_equal(again, decoded)
    for bad in (label + 10, label[:3]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            served["encode"](image=tf.constant(images), label=bad)

    answer = served["log_prob"](image=tf.constant(images), label=label)
    found = trained.log_prob(images, labels, trained.exported_samples, np.zeros(20, int))
    for name in ("log_prob", "bits_per_dimension"):
        np.testing.assert_allclose(answer[name], found[name], rtol=1e-5)
    last = served["log_prob"](image=tf.constant(images[17:]), label=label[17:])
    np.testing.assert_array_equal(last["log_prob"], answer["log_prob"][17:])


def test_only_a_random_observation_asks_for_a_seed_in_log_prob():
    def names(likelihood):
        parts = linear_networks(parameters=likelihood.parameters)
        model = kg.models.VAE((2, 3, 1), None, *parts, likelihood=likelihood)
        return [spec.name for spec in model.signatures()["log_prob"][1]]

    assert names(kg.losses.Bernoulli(0.5)) == ["image"]
    assert names(kg.losses.Bernoulli("stochastic")) == ["image", "seed"]
    assert names(kg.losses.Gaussian(0.5)) == ["image", "seed"]


# Errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"beta": -1.0}, "beta=-1.0"),
        ({"free_bits": -0.1}, "free_bits=-0.1"),
        ({"beta": "1"}, "beta='1'"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"warm_up": 0.5}, "warm_up=0.5"),
        ({"latent_dim": 2.5}, "latent_dim=2.5"),
        ({"likelihood": "normal"}, "likelihood='normal'"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"latent_dim": 3}, r"encoder must take \(2, 3, 1\) and make \(6,\)"),
        ({"likelihood": "gaussian"}, r"decoder must take \(2,\) and make \(2, 3, 2\)"),
        ({"num_classes": 3}, "encoder must have two inputs"),
        ({"image_shape": (3, 2, 1)}, r"take \(3, 2, 1\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    encoder, decoder = linear_networks()
    given = {"image_shape": (2, 3, 1), "encoder": encoder, "decoder": decoder, **arguments}
    with pytest.raises(ValueError, match=message):
        kg.models.VAE(**given)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, p: m.encode(p), "need their labels"),
        (lambda m, p: m.encode(p, 10), "labels=10"),
        (lambda m, p: m.encode(p[:, :4], 1), r"shape \(20, 4, 8, 1\)"),
        (lambda m, p: m.decode(np.zeros((2, 7)), 1), r"latents of shape \(2, 7\)"),
        (lambda m, p: m.decode(np.zeros((2, 8)), [1]), "one integer for each of the 2"),
        (lambda m, p: m.interpolate(p[:2], p[:3], 4, 1), "2 and 3 images"),
        (lambda m, p: m.interpolate(p[:2], p[:2], 1, 1), "count=1"),
        (lambda m, p: m.interpolate(p[:2], p[:2], 2.5, 1), "count=2.5"),
        (lambda m, p: m.encode(p, 1, batch_size=0), "batch_size=0"),
        (lambda m, p: m.generate(3, 1, batch_size=-1), "batch_size=-1"),
        (lambda m, p: m.traverse(p, units=[1.0], labels=1), r"units=\[1.0\]"),
        (lambda m, p: m.traverse(p, units=[8], labels=1), r"units=\[8\]"),
        (lambda m, p: m.manifold(3, 1), "latent_dim=8"),
        (lambda m, p: m.log_prob(p, 1, samples=0), "samples=0"),
        (lambda m, p: m.log_prob(p / 255, 1), "dtype=float64"),
    ],
)
def test_bad_calls_are_named(trained, pictures, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained, pictures[0])


def test_works_with_no_further_argument():
    model = kg.models.VAE((28, 28, 1))
    assert model.latent_dim == 32 and model.decoder.output_shape == (None, 28, 28, 1)
    decoder = kg.networks.autoencoder.dense_decoder(SHAPE, 5)
    assert kg.models.VAE(SHAPE, decoder=decoder).encoder.output_shape == (None, 10)


def test_pictures_of_four_channels():
    model = kg.models.VAE((8, 8, 4), latent_dim=2)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 4), np.uint8)
    assert model.encode(pictures)[0].shape == (3, 2)
    assert model.reconstruct(pictures).shape == pictures.shape
    assert np.isfinite(model.log_prob(pictures, samples=2)["log_prob"]).all()


def test_one_hot_labels_are_refused_by_name():
    model = kg.models.VAE((8, 8, 1), 10, latent_dim=2)
    model.compile()
    images = np.zeros((10, 8, 8, 1), np.float32)
    for given in ((images, np.eye(10)), (tf.data.Dataset.from_tensors((images, np.eye(10))),)):
        with pytest.raises(ValueError, match=r"needs labels \[batch\].*argmax.*shape \(10, 10\)"):
            model.fit(*given, verbose=0)
