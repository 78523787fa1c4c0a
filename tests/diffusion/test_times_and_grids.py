"""Times to train at, and grids of times to sample at."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_gen import diffusion, randomness

PATH_NAMES = sorted(diffusion.PATHS)
GRID_NAMES = sorted(diffusion.GRIDS)


def draws(sampler, count=20_000, seed=0):
    times = sampler([count], randomness.key(seed, "times"))
    assert times.dtype == tf.float32 and times.shape == [count]
    return times.numpy()


@pytest.mark.parametrize(
    ("sampler", "distribution"),
    [
        (diffusion.UniformTimes(), stats.uniform()),
        (diffusion.StratifiedTimes(), stats.uniform()),
        (diffusion.LogNormalTimes(), stats.lognorm(1.2, scale=np.exp(-1.2))),
    ],
    ids=["uniform", "stratified", "log_normal"],
)
def test_times_have_the_distribution_they_say(sampler, distribution):
    assert stats.kstest(draws(sampler), distribution.cdf).pvalue > 1e-3


def test_logit_normal_times():
    logits = stats.norm(-0.5, 1.5)
    t = draws(diffusion.LogitNormalTimes(-0.5, 1.5)).astype("float64")
    assert stats.kstest(np.log(t / (1 - t)), logits.cdf).pvalue > 1e-3


def test_discrete_times_are_the_steps_of_a_discrete_path():
    steps = draws(diffusion.DiscreteTimes(10)) * 10
    values, counts = np.unique(np.round(steps), return_counts=True)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-5)
    np.testing.assert_array_equal(values, np.arange(1, 11))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_stratified_times_fill_every_part_once():
    t = draws(diffusion.StratifiedTimes(), 64)
    np.testing.assert_array_equal(np.ceil(t * 64 - 1e-4), np.arange(1, 65))


@pytest.mark.parametrize("name", sorted(diffusion.TIME_SAMPLERS))
def test_times_are_a_function_of_the_key_and_in_range(name):
    sampler = diffusion.get_time_sampler(name)
    np.testing.assert_array_equal(draws(sampler), draws(sampler))
    assert (draws(sampler) != draws(sampler, seed=1)).mean() > 0.9
    assert draws(sampler).min() > 0
    if name != "log_normal":
        assert draws(sampler).max() <= 1
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(sampler))
    np.testing.assert_array_equal(draws(sampler), draws(copy))

    traced = tf.function(lambda n: sampler([n], randomness.key(0, "times")))
    eager = sampler([8], randomness.key(0, "times"))
    np.testing.assert_allclose(traced(tf.constant(8)), eager, rtol=1e-6)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", GRID_NAMES)
@pytest.mark.parametrize("steps", [1, 2, 18, 1000])
def test_a_grid_falls_from_pure_noise_to_data(path, name, steps):
    path = diffusion.get_path(path)
    times = diffusion.get_grid(name)(path, steps)
    assert times.dtype == tf.float64 and times.shape == [steps + 1]
    assert times[0] == path.t_max and times[-1] == 0
    assert (np.diff(times) < 0).all()


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", GRID_NAMES)
def test_the_number_of_steps_may_be_dynamic(path, name):
    path, grid = diffusion.get_path(path), diffusion.get_grid(name)
    traced = tf.function(lambda steps: grid(path, steps))
    for steps in (1, 2, 37):
        np.testing.assert_allclose(traced(tf.constant(steps)), grid(path, steps), rtol=1e-14)
    assert traced.experimental_get_tracing_count() == 1


def test_a_uniform_grid_of_all_steps_is_every_step():
    path = diffusion.Linear()
    np.testing.assert_array_equal(diffusion.uniform(path, 1000), np.arange(1000, -1, -1) / 1000)
    trailing = diffusion.uniform(path, 4)
    np.testing.assert_array_equal(trailing, [1, 0.75, 0.5, 0.25, 0])


def test_karras_is_equation_5_of_edm():
    i, steps, rho = np.arange(18), 18, 7
    sigmas = (80 ** (1 / rho) + i / (steps - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    np.testing.assert_allclose(diffusion.karras(diffusion.EDM(), 18)[:-1], sigmas, rtol=1e-12)


@pytest.mark.parametrize("path", PATH_NAMES)
def test_logsnr_is_even_in_log_snr(path):
    path = diffusion.get_path(path)
    widths = np.diff(path.log_snr(diffusion.logsnr(path, 30)[1:-1]))
    np.testing.assert_allclose(widths, np.diff(path.log_snr_range)[0] / 29, rtol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`times` must be one of .*Received: times='beta'"):
        diffusion.get_time_sampler("beta")
    with pytest.raises(ValueError, match=r"`std` must be positive. Received: std=0"):
        diffusion.LogitNormalTimes(std=0)
    with pytest.raises(ValueError, match=r"`grid` must be one of .*Received: grid='sgm'"):
        diffusion.get_grid("sgm")
    with pytest.raises(ValueError, match=r"`steps` must be a positive integer. Received: steps=0"):
        diffusion.uniform(diffusion.EDM(), 0)
    with pytest.raises(ValueError, match=r"`rho` must be positive. Received: rho=0"):
        diffusion.karras(diffusion.EDM(), 10, rho=0)
