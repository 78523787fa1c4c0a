"""Likelihoods against closed forms: exact densities, entropies and sums of probabilities."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_gen import diffusion, randomness
from keras_gen.diffusion import likelihood
from tests.diffusion.exact import Gaussian, Mixture, levels

PATH_NAMES = sorted(diffusion.PATHS)
LEVELS = np.arange(256) / 127.5 - 1


def normal(shape, purpose, dtype="float64"):
    return randomness.normal(shape, randomness.key(0, purpose), dtype)


@pytest.mark.parametrize("deviation", [1e-3, 0.01, 0.2, 5.0])
@pytest.mark.parametrize("mean", [-1.2, -1.0, 0.0, 0.3, 0.999])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_all_levels_add_up_to_one(mean, deviation, dtype):
    values = tf.constant(LEVELS, dtype)
    surprise = likelihood.level_surprise(
        values, tf.fill([256], tf.constant(mean, dtype)), deviation
    )
    assert np.isfinite(surprise).all() and (surprise.numpy() >= 0).all()
    assert np.exp(-surprise).sum() == pytest.approx(1, rel=1e-5 if dtype == "float32" else 1e-12)


def test_surprise_of_a_level_is_that_of_its_bin():
    edges = np.concatenate([[-np.inf], LEVELS[:-1] + 1 / 255, [np.inf]])
    for mean in (0.1, -0.6):
        probabilities = np.diff(stats.norm.cdf(edges, mean, 0.3))
        made = likelihood.level_surprise(tf.constant(LEVELS), tf.fill([256], np.float64(mean)), 0.3)
        np.testing.assert_allclose(made, -np.log(probabilities), rtol=1e-9)


def test_far_tails_match_scipy():
    x = np.array([-300.0, -40, -25.001, -24.999, -8, -1, 0, 3, 9])
    np.testing.assert_allclose(
        likelihood._log_normal_cdf(tf.constant(x)), stats.norm.logcdf(x), rtol=1e-10, atol=1e-15
    )


def test_normal_divergence_is_its_integral():
    made = likelihood.normal_divergence(tf.constant(0.4, tf.float64), 0.25, 0.7)
    first, second = stats.norm(0.4, 0.5), stats.norm(0, np.sqrt(0.7))
    expected = first.expect(lambda x: first.logpdf(x) - second.logpdf(x))
    assert float(made) == pytest.approx(expected, rel=1e-9)
    assert float(likelihood.normal_divergence(tf.constant(0.0), 0.7, 0.7)) == 0


def quantized_gaussian(gaussian, count):
    """Grey levels drawn from a normal variable rounded to them, and the entropy in bits."""
    edges = np.concatenate([[-np.inf], LEVELS[:-1] + 1 / 255, [np.inf]])
    probabilities = np.diff(stats.norm.cdf(edges, gaussian.mean, gaussian.deviation))
    draws = np.random.default_rng(0).choice(LEVELS, count, p=probabilities)
    return draws, -np.log2(probabilities[np.searchsorted(LEVELS, draws - 1e-9)])


def bound(path, gaussian, data, times, variance):
    return tf.function(
        lambda: diffusion.variational_bound(
            gaussian.denoise(path),
            path,
            data,
            times,
            lambda step: randomness.normal(data.shape, randomness.key(0, step), data.dtype),
            variance,
        )
    )()


def test_bound_with_the_exact_denoiser_is_near_the_truth_and_never_below():
    """And nearer with more steps. The forward variance is the best for well-spread data."""
    path, gaussian = diffusion.Linear(), Gaussian(0.0, 0.3)
    draws, surprise = quantized_gaussian(gaussian, 10_000)
    data = tf.constant(draws.reshape(4, 25, 100))
    gaps = []
    for steps in (10, 100, 1000):
        terms = bound(path, gaussian, data, diffusion.uniform(path, steps), "forward")
        assert terms["steps"].shape == [steps - 1, 4] and terms["total"].shape == [4]
        assert min(terms["steps"].numpy().min(), terms["prior"].numpy().min()) >= 0
        parts = terms["prior"] + tf.reduce_sum(terms["steps"], 0) + terms["decoder"]
        np.testing.assert_allclose(terms["total"], parts, rtol=1e-12)
        gaps.append(terms["total"].numpy().mean() - surprise.mean())
    assert gaps[0] > gaps[1] > gaps[2]
    assert -0.03 < gaps[2] < 0.05  # the standard error is 0.011


def test_steps_with_the_posterior_variance_are_differences_of_snr():
    """Kingma et al. 2021, eq. 14: the expected term is (SNR(s) - SNR(t)) / 2 times the error."""
    path, gaussian = diffusion.Linear(), Gaussian(0.0, 0.3)
    times = diffusion.uniform(path, 50)
    data = 0.3 * normal([1, 20_000], "data")
    made = bound(path, gaussian, data, times, "posterior")["steps"][:, 0]
    alpha, sigma = path.alpha(times[:-1]), path.sigma(times[:-1])
    snr, lost = (alpha / sigma) ** 2, 0.3**2 * sigma**2 / gaussian.variance(alpha, sigma)
    expected = (snr[1:] - snr[:-1]) / 2 * lost[:-1] / np.log(2)
    np.testing.assert_allclose(made, expected, rtol=0.06)


def test_terms_of_the_bound_are_those_of_the_paper():
    path, steps = diffusion.Linear(4, 0.1, 0.5), 4
    data = tf.constant(LEVELS[np.array([[3, 250, 90], [128, 17, 200]])])
    denoise = Gaussian().denoise(path)
    bar = np.concatenate([[1], np.cumprod(1 - path.betas)])
    tilde = path.betas * (1 - bar[:-1]) / (1 - bar[1:])
    made = bound(path, Gaussian(), data, diffusion.uniform(path, steps), "forward")
    for step, k in enumerate((4, 3, 2, 1)):
        noise = randomness.normal(data.shape, randomness.key(0, step), data.dtype)
        x = np.sqrt(bar[k]) * data + np.sqrt(1 - bar[k]) * noise
        estimate = denoise(x, tf.fill([2], tf.constant(k / 4, tf.float64)))
        beta = path.betas[k - 1]
        if k == 1:
            expected = likelihood.level_surprise(data, estimate, np.sqrt(beta))
            made_term = made["decoder"]
        else:
            weight = np.sqrt(bar[k - 1]) * beta / (1 - bar[k])
            shift = (weight * (data - estimate)).numpy() ** 2
            ratio = tilde[k - 1] / beta
            expected = 0.5 * (shift / beta + ratio - 1 - np.log(ratio))
            made_term = made["steps"][step]
        np.testing.assert_allclose(made_term, np.mean(expected, 1) / np.log(2), rtol=1e-7)
    expected = 0.5 * (bar[4] * data**2 + (1 - bar[4]) - 1 - np.log(1 - bar[4]))
    np.testing.assert_allclose(made["prior"], np.mean(expected, 1) / np.log(2), rtol=1e-7)


@pytest.mark.parametrize("path", PATH_NAMES)
def test_bound_is_finite_on_every_path_in_float32(path):
    path = diffusion.get_path(path)
    data = tf.constant(LEVELS[::16].reshape(2, 8), tf.float32)
    terms = bound(path, Gaussian(), data, diffusion.logsnr(path, 20), "posterior")
    assert all(np.isfinite(term).all() for term in terms.values())


def ode(path, distribution, data, probes, steps=150):
    """On a grid in log-SNR that begins, on every path, at the noise of EDM's 0.002."""
    log_snrs = np.linspace(path.log_snr_range[0], 2 * np.log(500), steps)[1:]
    times = np.concatenate([[path.t_max], path.time(log_snrs), [0]])
    return tf.function(
        lambda x: diffusion.ode_log_likelihood(distribution.denoise(path), path, x, times, probes)
    )(data)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("distribution", [Gaussian(), Mixture()], ids=["gaussian", "mixture"])
def test_ode_likelihood_is_the_prior_carried_by_the_flow(path, distribution):
    path, h = diffusion.get_path(path), 1e-4
    data = np.array([[-0.9], [-0.4], [0.0], [0.3], [1.1]])
    left, there, right = (
        distribution.flow(path, data + shift, 0, path.t_max) for shift in (-h, 0, h)
    )
    stretch = np.log((right - left) / (2 * h))
    expected = (stats.norm.logpdf(there, 0, path.prior_scale) + stretch)[:, 0]
    made = ode(path, distribution, data, diffusion.unit_probes(data.shape, "float64"), 600)
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_ode_likelihood_is_the_density_of_the_data():
    path, gaussian = diffusion.RectifiedFlow(), Gaussian()
    data = 0.3 + 0.5 * normal([3, 2, 2, 1], "data")
    made = ode(path, gaussian, data, diffusion.unit_probes([3, 2, 2, 1], "float64"), 300)
    np.testing.assert_allclose(made, gaussian.log_density(data), atol=4e-3)


def test_random_probes_estimate_the_divergence():
    """With a denoiser that couples the dimensions: unbiased, and exact where J is diagonal."""
    path, data = diffusion.RectifiedFlow(), 0.5 * normal([2, 3], "data")
    probes = diffusion.rademacher([2, 3], randomness.key(0, "probes"), 1, "float64")
    assert set(np.unique(probes)) == {-1, 1} and probes.shape == [1, 2, 3]
    exact = diffusion.unit_probes([2, 3], "float64")
    np.testing.assert_allclose(
        ode(path, Gaussian(), data, probes), ode(path, Gaussian(), data, exact), rtol=1e-9
    )

    class Coupled:
        mixing = np.array([[0.5, 0.3, 0.1], [0.2, 0.4, -0.2], [0.0, 0.1, 0.6]])

        def denoise(self, path):
            return lambda x, t: (1 - t[:, None] ** 2) * tf.tanh(x @ self.mixing)

    many = [np.array([(i >> k & 1) * 2.0 - 1 for k in range(3)]) for i in range(8)]
    many = tf.constant(np.stack([np.stack([signs] * 2) for signs in many]))
    one = ode(path, Coupled(), data, many[:1], 20)
    all_signs, exact = ode(path, Coupled(), data, many, 20), ode(path, Coupled(), data, exact, 20)
    np.testing.assert_allclose(all_signs, exact, rtol=1e-9)
    assert np.abs(one - exact).max() > 1e-3


def test_dequantized_images_stay_within_their_levels():
    images = tf.constant(np.tile(LEVELS, (200, 1)), tf.float32)
    spread = diffusion.dequantize(images, randomness.key(0, "dequantize")) - images
    assert np.abs(spread).max() <= 1 / 255 + 1e-6
    assert np.std(spread) == pytest.approx(2 / 255 / np.sqrt(12), rel=0.01)
    np.testing.assert_array_equal(tf.round((images + spread + 1) * 127.5)[0], np.arange(256))


def test_wrong_arguments_are_named():
    path, data = diffusion.Linear(), tf.zeros([1, 2])
    with pytest.raises(ValueError, match=r"`variance` must be .*Received: variance='beta'"):
        diffusion.variational_bound(None, path, data, [1, 0.5, 0], None, "beta")
    with pytest.raises(ValueError, match=r"needs at least two steps. Received: times="):
        diffusion.variational_bound(None, path, data, [1.0, 0.0], None)


def test_the_exact_flow_itself_is_consistent():
    """The closed forms of these tests: the flow carries each marginal into the other."""
    path = diffusion.Cosine()
    for distribution in (Gaussian(), Mixture()):
        x = np.array([-1.0, 0.1, 0.7])
        there = distribution.flow(path, x, 0.8, 0.2)
        np.testing.assert_allclose(distribution.flow(path, there, 0.2, 0.8), x, atol=1e-9)
    assert levels(path, 0.0) == (1, 0)
