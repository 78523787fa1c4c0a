"""Predictions: conversions at every time, and what the weightings mean for each of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import diffusion, randomness

PATH_NAMES = sorted(diffusion.PATHS)
NAMES = sorted(diffusion.PREDICTIONS)
SHAPE = [1001, 2, 3]


def example(path, dtype="float64"):
    """(data, noise, t, x_t) at 1001 times, both ends among them."""
    data = randomness.uniform(SHAPE, randomness.key(1, "data"), -1, 1, dtype)
    noise = randomness.normal(SHAPE, randomness.key(1, "noise"), dtype)
    t = tf.constant(np.linspace(0, path.t_max, SHAPE[0]), dtype)
    return data, noise, t, path.mix(data, noise, t)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_data_and_noise_come_back_from_the_target(path, name):
    path, prediction = diffusion.get_path(path), diffusion.get_prediction(name)
    data, noise, t, x = example(path)
    target = prediction.target(path, data, noise, t)
    # Only what the output does not say at all is lost: see the two tests below.
    known = slice(None, -1) if name == "noise" and path.alpha(t)[-1] == 0 else slice(None)
    made = prediction.to_data(path, target, x, t)
    np.testing.assert_allclose(made[known], data[known], rtol=1e-9, atol=1e-9)
    known = slice(1, None) if name == "data" else slice(None)
    made = prediction.to_noise(path, target, x, t)
    np.testing.assert_allclose(made[known], noise[known], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("destination", NAMES)
def test_every_prediction_converts_to_every_other(path, source, destination):
    path = diffusion.get_path(path)
    source, destination = (diffusion.get_prediction(name) for name in (source, destination))
    data, noise, t, x = example(path)
    output = source.target(path, data, noise, t)
    made = diffusion.convert(output, x, t, path, source, destination)
    expected = destination.target(path, data, noise, t)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(made[1:-1], expected[1:-1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", ["velocity", "edm"])
def test_conversion_in_float32_is_as_precise_as_float32_at_every_time(path, name):
    path, prediction = diffusion.get_path(path), diffusion.get_prediction(name)
    data, noise, t, x = example(path, "float32")
    target = prediction.target(path, data, noise, t)
    scale = np.maximum(1, path.sigma(t).numpy())[:, None, None]
    assert np.max(np.abs(prediction.to_data(path, target, x, t) - data) / scale) < 5e-6
    assert np.max(np.abs(prediction.to_noise(path, target, x, t) - noise)) < 5e-6


def test_what_an_output_does_not_say_is_zero():
    path, ones = diffusion.RectifiedFlow(), tf.ones([2, 3])
    noise = diffusion.NoisePrediction().to_data(path, ones, ones, 1.0)
    data = diffusion.DataPrediction().to_noise(path, ones, ones, 0.0)
    assert not noise.numpy().any() and not data.numpy().any()


def test_velocity_is_what_each_paper_calls_it():
    velocity = diffusion.VelocityPrediction()
    flow, linear, edm = diffusion.RectifiedFlow(), diffusion.Linear(), diffusion.EDM()
    data, noise, t, _ = example(flow)
    np.testing.assert_array_equal(velocity.target(flow, data, noise, t), noise - data)
    np.testing.assert_array_equal(velocity.target(edm, data, noise, 3.0), noise)
    alpha, sigma = linear.alpha(t)[:, None, None], linear.sigma(t)[:, None, None]
    made = velocity.target(linear, data, noise, t)
    np.testing.assert_allclose(made, alpha * noise - sigma * data, atol=1e-15)


def test_preconditioning_is_table_1_of_edm():
    path, prediction = diffusion.EDM(), diffusion.PreconditionedPrediction(0.5)
    sigma = tf.constant([0.002, 0.5, 80.0], tf.float64)
    x = randomness.normal([3, 4], randomness.key(0, "x"), "float64")
    output = randomness.normal([3, 4], randomness.key(0, "f"), "float64")
    column = sigma[:, None]
    c_skip = 0.25 / (column**2 + 0.25)
    c_out = column * 0.5 / tf.sqrt(0.25 + column**2)
    made = prediction.to_data(path, output, x, sigma)
    np.testing.assert_allclose(made, c_skip * x + c_out * output, rtol=1e-12)
    np.testing.assert_allclose(
        prediction.input(path, x, sigma), x / tf.sqrt(column**2 + 0.25), rtol=1e-12
    )
    np.testing.assert_allclose(prediction.condition(path, sigma), np.log(sigma) / 4, rtol=1e-12)
    ends = prediction.condition(diffusion.RectifiedFlow(), tf.constant([0.0, 1.0]))
    np.testing.assert_array_equal(ends, [-3, 3])


@pytest.mark.parametrize("path", PATH_NAMES)
def test_preconditioned_input_and_target_have_unit_variance(path):
    path, prediction = diffusion.get_path(path), diffusion.PreconditionedPrediction(0.5)
    t = tf.constant(np.linspace(0, path.t_max, 101))
    on_data, on_noise = prediction.target_coefficients(path, t)
    np.testing.assert_allclose((0.5 * on_data) ** 2 + on_noise**2, 1, rtol=1e-12)
    # the input is c_in (alpha x_0 + sigma noise)
    c_in = prediction.input(path, tf.ones([101], tf.float64), t)
    variance = c_in**2 * ((0.5 * path.alpha(t)) ** 2 + path.sigma(t) ** 2)
    np.testing.assert_allclose(variance, 1, rtol=1e-12)


def test_preconditioning_on_a_variance_preserving_path_is_the_velocity():
    path = diffusion.Linear()
    data, noise, t, _ = example(path)
    preconditioned = diffusion.PreconditionedPrediction(1.0).target(path, data, noise, t)
    velocity = diffusion.VelocityPrediction().target(path, data, noise, t)
    np.testing.assert_allclose(preconditioned, -velocity, atol=1e-12)


def test_min_snr_is_the_published_weight_of_each_prediction():
    path, weighting = diffusion.Linear(), diffusion.MinSNRWeighting(5.0)
    t = tf.constant(np.linspace(0.001, 1, 1000))
    snr = np.exp(path.log_snr(t))
    clipped = np.minimum(snr, 5)
    expected = {"data": clipped, "noise": clipped / snr, "velocity": clipped / (snr + 1)}
    for name, weights in expected.items():
        made = weighting(path, diffusion.get_prediction(name), t)
        np.testing.assert_allclose(made, weights, rtol=1e-9)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_min_snr_is_finite_at_both_ends(path, name, dtype):
    path, prediction = diffusion.get_path(path), diffusion.get_prediction(name)
    t = tf.constant([0.0, path.t_max], dtype)
    weights = diffusion.MinSNRWeighting()(path, prediction, t)
    assert weights.dtype == t.dtype and np.isfinite(weights).all()
    if name in ("data", "noise"):
        assert (weights[0], weights[1] > 0.9) == ((5, False) if name == "data" else (0, True))


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("weighting", ["min_snr", "edm"])
def test_a_weighting_means_the_same_for_every_prediction(path, weighting):
    """The weighted error does not depend on the space in which the network's error is counted."""
    path, weighting = diffusion.get_path(path), diffusion.get_weighting(weighting)
    data, noise, t, x = (v[1:-1] for v in example(path))
    estimate = data + 0.1 * tf.sin(5 * data)
    data_prediction = diffusion.DataPrediction()
    losses = []
    for name in NAMES:
        prediction = diffusion.get_prediction(name)
        output = diffusion.convert(estimate, x, t, path, data_prediction, prediction)
        error = tf.square(output - prediction.target(path, data, noise, t))
        losses.append(weighting(path, prediction, t) * tf.reduce_mean(error, [1, 2]))
    for loss in losses[1:]:
        np.testing.assert_allclose(loss, losses[0], rtol=1e-6)


def test_edm_weights_are_one_for_its_own_prediction():
    path, t = diffusion.EDM(), tf.constant(np.geomspace(1e-4, 80, 100))
    prediction = diffusion.PreconditionedPrediction(0.3)
    np.testing.assert_allclose(diffusion.EDMWeighting(0.3)(path, prediction, t), 1, rtol=1e-12)
    of_data = diffusion.EDMWeighting(0.3)(path, diffusion.DataPrediction(), t)
    np.testing.assert_allclose(of_data, (t**2 + 0.3**2) / (t * 0.3) ** 2, rtol=1e-12)
    uniform = diffusion.UniformWeighting()(path, diffusion.DataPrediction(), t)
    np.testing.assert_array_equal(uniform, np.ones(100))


@pytest.mark.parametrize(
    "strategy",
    [
        *(kind() for kind in diffusion.PREDICTIONS.values()),
        diffusion.PreconditionedPrediction(0.7),
        diffusion.UniformWeighting(),
        diffusion.MinSNRWeighting(3.0),
        diffusion.EDMWeighting(0.7),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_config_round_trip(strategy):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(strategy))
    assert type(copy) is type(strategy) and copy.get_config() == strategy.get_config()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`prediction` must be .*Received: prediction='score'"):
        diffusion.get_prediction("score")
    with pytest.raises(ValueError, match=r"`weighting` must be .*Received: weighting=3"):
        diffusion.get_weighting(3)
    with pytest.raises(ValueError, match=r"`gamma` must be positive. Received: gamma=0"):
        diffusion.MinSNRWeighting(0)
    with pytest.raises(ValueError, match=r"`sigma_data` must be positive. Received: sigma_data=-1"):
        diffusion.EDMWeighting(-1)
