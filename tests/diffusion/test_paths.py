"""The paths against the formulas of their papers, and their behaviour at both ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import diffusion, randomness

NAMES = sorted(diffusion.PATHS)


def times(path, count=1001):
    return tf.constant(np.linspace(0, path.t_max, count))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_parts_agree_at_every_time(name, dtype):
    path = diffusion.get_path(name)
    t = tf.cast(times(path), dtype)
    alpha, sigma, log_snr = path.alpha(t), path.sigma(t), path.log_snr(t)
    assert {alpha.dtype, sigma.dtype, log_snr.dtype} == {t.dtype}
    assert alpha[0] == 1 and sigma[0] == 0 and log_snr[0] == np.inf
    assert not np.isnan(log_snr).any() and (np.diff(log_snr) < 0).all()
    # Where log_snr is small it is known to the absolute precision of alpha and sigma.
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    inner = slice(1, -1)
    expected = 2 * np.log(alpha[inner] / sigma[inner])
    np.testing.assert_allclose(log_snr[inner], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_near_the_ends_in_float32(name):
    path = diffusion.get_path(name)
    t = np.array([1e-30, 1e-12, 1e-7, 1e-5, 1e-3, 0.5, 0.999, 1 - 2.0**-24], "float32")
    t = t * np.float32(path.t_max)
    for function in (path.alpha, path.sigma, path.log_snr):
        single, double = function(t).numpy(), function(t.astype("float64")).numpy()
        np.testing.assert_allclose(single, double, rtol=3e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_time_inverts_log_snr(name, dtype):
    path = diffusion.get_path(name)
    t = tf.cast(times(path), dtype)
    tolerance = {"float32": 1e-5, "float64": 1e-11}[dtype]
    back = path.time(path.log_snr(t))
    assert back.dtype == t.dtype and back.shape == t.shape
    np.testing.assert_allclose(back, t, rtol=tolerance)
    assert path.time(path.log_snr(t[7])).shape == []


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_range_is_finite_and_inside_the_path(name):
    path = diffusion.get_path(name)
    noisiest, cleanest = path.log_snr_range
    assert noisiest >= float(path.log_snr(np.float64(path.t_max))) - 1e-9
    assert noisiest < -8 and 8 < cleanest < 15


def test_linear_is_the_cumulative_product_of_ddpm():
    path = diffusion.Linear()
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(path.alpha(t) ** 2, expected, rtol=1e-12)
    np.testing.assert_allclose(path.sigma(t) ** 2, 1 - expected, rtol=1e-9)
    np.testing.assert_allclose(path.alpha(t.astype("float32")) ** 2, expected, rtol=1e-5)


def test_cosine_is_the_paper_with_clipped_betas():
    path = diffusion.Cosine()
    t = np.arange(1, 1001) / 1000
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(path.alpha(t[:-1]) ** 2, (f / f[0])[1:-1], rtol=1e-11)
    assert path.betas.max() == 0.999 == path.betas[-1] and (path.betas < 0.999).sum() == 999
    np.testing.assert_allclose(path.alpha(t[-1]) ** 2, 0.001 * (f / f[0])[-2], rtol=1e-11)


@pytest.mark.parametrize("steps", [30, 100, 400, 4000])
def test_a_linear_path_of_any_length_ends_in_noise(steps):
    path, thousand = diffusion.Linear(steps), diffusion.Linear()
    assert float(path.alpha(tf.constant(1.0))) < 0.01
    middle = tf.constant([0.2, 0.5])
    np.testing.assert_allclose(path.alpha(middle), thousand.alpha(middle), atol=0.1)


def test_between_its_steps_a_discrete_path_is_log_linear():
    path = diffusion.Linear(10)
    ends = path.log_alpha_bar(np.array([0.3, 0.4]))
    np.testing.assert_allclose(path.log_alpha_bar(0.325), 0.75 * ends[0] + 0.25 * ends[1])


@pytest.mark.parametrize("name", NAMES)
def test_velocity_is_the_derivative_in_the_parameter_of_the_path(name):
    path = diffusion.get_path(name)
    t = times(path)[1:-1]
    a, b = path.velocity(t)
    # However it is parametrized, the velocity points along the derivative.
    step = 1e-7 * path.t_max
    d_alpha, d_sigma = (f(t + step) - f(t - step) for f in (path.alpha, path.sigma))
    np.testing.assert_allclose(a * d_sigma, b * d_alpha, atol=3e-5 * np.abs(d_sigma).max())
    np.testing.assert_allclose(path.alpha(t) * b - path.sigma(t) * a, 1, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_marginals_of_the_mixed_data(name):
    path = diffusion.get_path(name)
    data = 0.4 + 0.3 * randomness.normal([4, 200_000], randomness.key(0, "data"), "float64")
    noise = randomness.normal([4, 200_000], randomness.key(0, "noise"), "float64")
    t = tf.constant([0.0, 0.2, 0.7, 1.0], tf.float64) * path.t_max
    x = path.mix(data, noise, t).numpy()
    alpha, sigma = path.alpha(t).numpy(), path.sigma(t).numpy()
    deviation = np.sqrt(0.3**2 * alpha**2 + sigma**2)
    assert (np.abs(x.mean(1) - 0.4 * alpha) < 5 * deviation / np.sqrt(200_000)).all()
    np.testing.assert_allclose(x.std(1), deviation, rtol=0.01)
    np.testing.assert_allclose(path.mix(data, noise, 0.0), data)


@pytest.mark.parametrize("name", NAMES)
def test_posterior_is_bayes_rule(name):
    path = diffusion.get_path(name)
    t, s = (np.array(v) * path.t_max for v in ([0.999, 0.5, 0.02], [0.9, 0.2, 0.001]))
    on_x, on_data, variance = path.posterior(t, s)
    # q(x_s | x_t, x_0) is proportional to q(x_s | x_0) q(x_t | x_s), normal in x_s.
    scale = path.alpha(t) / path.alpha(s)
    forward = path.transition_variance(t, s)
    np.testing.assert_allclose(forward, path.sigma(t) ** 2 - (scale * path.sigma(s)) ** 2)
    precision = 1 / path.sigma(s) ** 2 + scale**2 / forward
    np.testing.assert_allclose(variance, 1 / precision)
    np.testing.assert_allclose(on_x, scale / forward / precision)
    np.testing.assert_allclose(on_data, path.alpha(s) / path.sigma(s) ** 2 / precision)


@pytest.mark.parametrize("name", NAMES)
def test_posterior_at_the_ends_is_exact(name):
    path = diffusion.get_path(name)
    zero, end = tf.constant(0.0, tf.float64), tf.constant(path.t_max, tf.float64)
    assert [float(v) for v in path.posterior(end, zero)] == [0, 1, 0]
    assert np.isfinite(path.posterior(end, end / 2)).all()


def test_ddpm_step_variances():
    path = diffusion.Linear()
    t = np.arange(2, 1001) / 1000
    s = np.arange(1, 1000) / 1000
    np.testing.assert_allclose(path.transition_variance(t, s), path.betas[1:], rtol=1e-9)
    bar = np.cumprod(1 - path.betas)
    tilde = (1 - bar[:-1]) / (1 - bar[1:]) * path.betas[1:]
    np.testing.assert_allclose(path.posterior(t, s)[2], tilde, rtol=1e-9)


def test_prior_is_where_sampling_starts():
    noise = tf.constant([[1.0, -2.0]])
    np.testing.assert_array_equal(diffusion.EDM(sigma_max=50.0).prior(noise), 50 * noise)
    np.testing.assert_array_equal(diffusion.Linear().prior(noise), noise)


@pytest.mark.parametrize(
    "path",
    [
        diffusion.RectifiedFlow(),
        diffusion.EDM(0.01, 20.0),
        diffusion.Linear(50, 1e-3, 0.3),
        diffusion.Cosine(50, 0.01, 0.99),
    ],
    ids=lambda path: type(path).__name__,
)
def test_config_round_trip(path):
    config = keras.saving.serialize_keras_object(path)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(path) and copy.get_config() == path.get_config()
    t = times(path)
    np.testing.assert_array_equal(copy.log_snr(t), path.log_snr(t))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`path` must be one of .*Received: path='sine'"):
        diffusion.get_path("sine")
    with pytest.raises(ValueError, match=r"`sigma_max` must be larger.*Received: sigma_min=1"):
        diffusion.EDM(1.0, 0.5)
    with pytest.raises(ValueError, match=r"`sigma_min` must be positive. Received: sigma_min=0"):
        diffusion.EDM(0)
    with pytest.raises(ValueError, match=r"`betas` must be .* in \(0, 1\). Received: betas="):
        diffusion.Linear(10, 0.1, 1.5)
    with pytest.raises(
        ValueError, match=r"`timesteps` must be a positive integer. Received: timesteps=0"
    ):
        diffusion.Cosine(0)


def test_an_object_is_returned_as_it_is():
    path = diffusion.Linear(10)
    assert diffusion.get_path(path) is path


@pytest.mark.parametrize("name", NAMES)
def test_integer_times_are_times(name):
    path, x, noise = diffusion.get_path(name), tf.ones([2, 3]), tf.fill([2, 3], 2.0)
    np.testing.assert_array_equal(path.mix(x, noise, 1), path.mix(x, noise, 1.0))
    np.testing.assert_array_equal(path.sigma([0, 1]), path.sigma([0.0, 1.0]))
    for prediction in ("noise", "velocity", "data", "edm"):
        prediction = diffusion.get_prediction(prediction)
        found, expected = (prediction.to_data(path, x, noise, t) for t in (1, 1.0))
        np.testing.assert_array_equal(found, expected)
