"""The likelihoods against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_gen import losses, randomness
from keras_gen.images import from_uint8
from keras_gen.losses import likelihoods

LEVELS = np.linspace(-1, 1, 256)
KEY = randomness.key(0, "test")
EVERY = [
    losses.Bernoulli(),
    losses.Bernoulli(binarization=0.5),
    losses.Gaussian(),
    losses.Gaussian("predicted"),
    losses.Gaussian(0.3),
    losses.DiscretizedLogistic(),
]


def pixels(values):
    """One pixel of one channel an image."""
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


def told(*values):
    """The same parameters for all 256 levels."""
    return tf.tile(tf.constant(values, tf.float32)[None, None, None], [256, 1, 1, 1])


def test_bernoulli_is_its_formula():
    logits = np.random.default_rng(0).normal(size=(3, 2, 2, 3)).astype("float32")
    binary = np.random.default_rng(1).integers(0, 2, (3, 2, 2, 3)).astype("float32")
    expected = stats.bernoulli.logpmf(binary, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    found = losses.Bernoulli().log_prob(2 * binary - 1, logits)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_grey_counts_as_the_mean_over_binarizations():
    likelihood, logits = losses.Bernoulli(), told(0.7)
    black, white = (likelihood.log_prob(pixels([v] * 256), logits) for v in (-1, 1))
    share = (LEVELS + 1) / 2
    found = likelihood.log_prob(pixels(LEVELS), logits)
    np.testing.assert_allclose(found, share * white + (1 - share) * black, rtol=1e-5)


def test_binarizations():
    grey = pixels(np.repeat([-1.0, -0.5, 0.5, 1.0], 10_000))
    drawn = losses.Bernoulli("stochastic").observed(grey, KEY).numpy().reshape(4, -1)
    assert set(np.unique(drawn)) == {-1, 1}
    np.testing.assert_allclose(drawn.mean(1), [-1, -0.5, 0.5, 1], atol=0.03)
    assert (drawn[0] == -1).all() and (drawn[3] == 1).all()
    np.testing.assert_array_equal(losses.Bernoulli("stochastic").observed(grey), grey)
    cut = losses.Bernoulli(0.25).observed(grey).numpy().reshape(4, -1)
    np.testing.assert_array_equal(cut[:, 0], [-1, 1, 1, 1])
    for level in (51, 102, 153, 204):  # which reach the threshold, though float32 may fall short
        levels = from_uint8(np.array([level - 1, level], np.uint8).reshape(2, 1, 1, 1))
        cut = losses.Bernoulli(level / 255).observed(levels)
        np.testing.assert_array_equal(np.ravel(cut), [-1, 1])


@pytest.mark.parametrize("deviation", ["shared", "predicted", 0.3])
def test_gaussian_is_its_formula(deviation):
    likelihood = losses.Gaussian(deviation, least=1e-9)
    random = np.random.default_rng(0)
    images, mean = random.normal(size=(2, 4, 3, 3, 2)).astype("float32")
    log_deviation = random.normal(size=(4, 3, 3, 2)).astype("float32")
    given, spread = np.concatenate([mean, log_deviation], -1), np.exp(log_deviation)
    if deviation == 0.3:
        given, spread = mean, 0.3
    expected = stats.norm.logpdf(images, mean, spread).sum((1, 2, 3))
    np.testing.assert_allclose(likelihood.log_prob(images, given), expected, rtol=1e-4)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.2, 1.0, 1.4])
@pytest.mark.parametrize("log_scale", [-20.0, -5.0, -1.0, 2.0])
def test_the_256_levels_of_the_discretized_logistic_sum_to_1(mean, log_scale):
    found = losses.DiscretizedLogistic().log_prob(pixels(LEVELS), told(mean, log_scale))
    assert np.isfinite(found).all() and (found.numpy() <= 0).all()
    np.testing.assert_allclose(np.exp(found.numpy().astype(float)).sum(), 1, atol=1e-4)


def test_discretized_logistic_is_its_formula():
    found = losses.DiscretizedLogistic(1e-9).log_prob(pixels(LEVELS), told(0.1, -3.0))
    edges = np.concatenate([[-np.inf], LEVELS[:-1] + 1 / 255, [np.inf]])
    expected = np.diff(stats.logistic.cdf(edges, 0.1, np.exp(-3)))
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-3, atol=1e-7)


def test_far_levels_keep_a_gradient():
    """Where float32 probabilities are 0, the mean is still pulled towards the pixel."""
    parameters = tf.Variable(told(0.9, -6.0)[:1])
    with tf.GradientTape() as tape:
        surprise = -losses.DiscretizedLogistic().log_prob(pixels([-0.9]), parameters)
    gradient = tape.gradient(surprise, parameters).numpy().ravel()
    assert np.isfinite(gradient).all() and gradient[0] > 1 and gradient[1] < -1


def test_bits_per_dimension():
    # a uniform density over the range of 256 bins is 8 bits
    uniform = 12 * np.log(1 / (256 * likelihoods.BIN))
    assert losses.bits_per_dimension(uniform, 12, losses.BIN) == pytest.approx(8, rel=1e-12)
    # 256 equal levels take 8 bits a dimension; a density of them is 1 / 2 in [-1, 1]
    nats = -12 * np.log(256)
    assert losses.DiscretizedLogistic().bits_per_dimension(nats, 12) == pytest.approx(8)
    density = losses.Gaussian().bits_per_dimension(-12 * np.log(2), 12)
    assert density == pytest.approx(np.log2(255))
    assert losses.Bernoulli().bits_per_dimension(-12 * np.log(2), 12) == pytest.approx(1)


def test_dequantized_images_stay_within_their_levels():
    images = pixels(LEVELS)
    spread = losses.Gaussian().observed(images, KEY)
    assert 0.002 < np.std(spread - images) < 0.0025  # a uniform one over 2/255 has 0.00226
    assert np.abs(spread - images).max() <= 1 / 255 + 1e-6
    np.testing.assert_array_equal(losses.Gaussian(dequantize=False).observed(images, KEY), images)


def test_the_density_of_whole_levels_says_nothing_of_bits():
    assert losses.Gaussian(dequantize=False).data.endswith("bits per dimension mean nothing")
    assert "bits" not in losses.Gaussian().data


@pytest.mark.parametrize("likelihood", EVERY, ids=lambda x: f"{x.__class__.__name__}{x.parameters}")
def test_samples_have_the_mean_that_is_said(likelihood):
    parameters = tf.tile(
        tf.constant([0.4] + [-3.0] * (likelihood.parameters - 1))[None, None, None],
        [20_000, 1, 1, 1],
    )
    drawn = likelihood.sample(parameters, KEY).numpy()
    mean = likelihood.mean(parameters).numpy()
    assert drawn.shape == mean.shape == (20_000, 1, 1, 1)
    assert drawn.std() > 0 and np.abs(drawn).max() <= 1
    np.testing.assert_allclose(drawn.mean(), mean[0, 0, 0, 0], atol=0.02)
    if isinstance(likelihood, losses.DiscretizedLogistic):
        levels = (drawn + 1) * 127.5
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_parameters_come_channel_after_channel():
    """All means, then all log-deviations."""
    parameters = tf.constant([0.1, 0.2, 0.3, -9.0, -9.0, -9.0])[None, None, None]
    for likelihood in (losses.Gaussian(), losses.DiscretizedLogistic()):
        np.testing.assert_allclose(likelihood.mean(parameters)[0, 0, 0], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("likelihood", EVERY, ids=lambda x: f"{x.__class__.__name__}{x.parameters}")
def test_objects_are_saved_with_their_settings(likelihood):
    serialized = keras.saving.serialize_keras_object(likelihood)
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is type(likelihood)
    assert vars(again) == vars(likelihood)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: losses.get_likelihood("normal"), "likelihood='normal'"),
        (lambda: losses.Bernoulli(1.0), "binarization=1.0"),
        (lambda: losses.Bernoulli("random"), "binarization='random'"),
        (lambda: losses.Gaussian("learned"), "deviation='learned'"),
        (lambda: losses.Gaussian(0.0), "deviation=0.0"),
        (lambda: losses.DiscretizedLogistic(-1), "least=-1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_give_their_objects():
    for name, kind in likelihoods.LIKELIHOODS.items():
        assert type(losses.get_likelihood(name)) is kind
