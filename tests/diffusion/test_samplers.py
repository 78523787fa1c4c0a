"""Samplers against exact solutions: orders of convergence, moments, ends and the step callback."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import diffusion, randomness
from tests.diffusion.exact import Gaussian, Mixture, levels

PATH_NAMES = sorted(diffusion.PATHS)
SAMPLER_NAMES = sorted(diffusion.SAMPLERS)
ORDERS = {"euler": (1, 0.1), "heun": (2, 0.2), "dpmpp_2m": (2, 0.2)}
STEPS = (24, 48, 96)


def drawer(shape, dtype="float64", seed=0):
    return lambda step: randomness.normal(shape, randomness.key(seed, "sampler", step), dtype)


def start(path, dtype="float64", seed=0, shape=(3, 4)):
    return path.prior(randomness.normal(shape, randomness.key(seed, "start"), dtype))


def error(distribution, path, sampler, grid):
    """RMS distance from the exact end of the flow, as a function of the number of steps."""

    @tf.function(
        input_signature=[tf.TensorSpec([9, 1], tf.float64), tf.TensorSpec([None], tf.float64)]
    )
    def run(x, times):
        return sampler(distribution.denoise(path), path, x, times)

    def measure(steps):
        times = grid(path, steps)
        alpha, sigma = levels(path, times[0])
        x = sigma * np.linspace(-2, 2, 9)[:, None] + 0.1 * alpha
        exact = distribution.flow(path, x, times[0], times[-1])
        return np.sqrt(np.mean((run(x, times) - exact) ** 2))

    return measure


def order(measure):
    return -np.polyfit(np.log(STEPS), [np.log(measure(steps)) for steps in STEPS], 1)[0]


@pytest.mark.parametrize("name", sorted(ORDERS))
@pytest.mark.parametrize(
    ("distribution", "path"),
    [(Mixture(), name) for name in PATH_NAMES] + [(Gaussian(), "edm"), (Gaussian(), "linear")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_order_of_convergence(path, name, distribution):
    path = diffusion.get_path(path)
    # Without the last step to 0: below the grid's smallest sigma nothing gets finer with `steps`.
    measure = error(
        distribution,
        path,
        diffusion.get_sampler(name),
        lambda path, steps: diffusion.logsnr(path, steps)[:-1],
    )
    expected, tolerance = ORDERS[name]
    assert abs(order(measure) - expected) < tolerance
    assert measure(96) < (0.03 if expected == 1 else 2e-3)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_order_from_pure_noise_to_data_on_the_rectified_flow(name):
    """alpha = 0 at the first time and sigma = 0 at the last, and still the full order."""
    sampler, path = diffusion.get_sampler(name), diffusion.RectifiedFlow()
    measured = order(error(Mixture(), path, sampler, diffusion.uniform))
    assert abs(measured - ORDERS[name][0]) < 0.1


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m"])
def test_a_grid_with_its_last_step_reaches_the_data(path, name):
    path = diffusion.get_path(path)
    measure = error(Gaussian(), path, diffusion.get_sampler(name), diffusion.karras)
    assert measure(64) < (5e-2 if name == "euler" else 5e-3)


def test_euler_is_ddim_without_noise_and_the_published_steps():
    x = start(diffusion.RectifiedFlow())
    for path, t, s in ((diffusion.RectifiedFlow(), 1.0, 0.7), (diffusion.EDM(), 80.0, 31.0)):
        denoise = Gaussian().denoise(path)
        data = denoise(x, tf.fill([3], tf.constant(t, tf.float64)))
        velocity = (x - data) / t  # both for rectified flow and for EDM
        made = diffusion.euler(denoise, path, x, [t, s])
        np.testing.assert_allclose(made, x + (s - t) * velocity, rtol=1e-12)
    path = diffusion.Linear()
    times, denoise = diffusion.uniform(path, 20), Gaussian().denoise(path)
    np.testing.assert_array_equal(
        diffusion.euler(denoise, path, x, times), diffusion.ddim(denoise, path, x, times)
    )


def test_heun_is_algorithm_1_of_edm():
    path = diffusion.EDM()
    denoise, x, sigmas = Gaussian().denoise(path), start(path), diffusion.karras(path, 7)
    expected = x
    for i in range(7):
        t, s = sigmas[i], sigmas[i + 1]
        slope = (expected - denoise(expected, tf.fill([3], t))) / t
        ahead = expected + (s - t) * slope
        if s != 0:
            slope_ahead = (ahead - denoise(ahead, tf.fill([3], s))) / s
            ahead = expected + (s - t) * (slope + slope_ahead) / 2
        expected = ahead
    np.testing.assert_allclose(
        diffusion.heun(denoise, path, x, sigmas), expected, rtol=1e-12, atol=1e-12
    )


def test_dpmpp_2m_is_algorithm_2_of_its_paper():
    path = diffusion.Linear()
    denoise, x, times = Gaussian().denoise(path), start(path), diffusion.uniform(path, 6)
    alphas, sigmas = path.alpha(times).numpy(), path.sigma(times).numpy()
    with np.errstate(divide="ignore"):
        half_log_snr = np.log(alphas / sigmas)
    expected, last, width = x, None, None
    for i in range(6):
        data = denoise(expected, tf.fill([3], times[i]))
        h = half_log_snr[i + 1] - half_log_snr[i]
        estimate = data
        if last is not None and i < 5:
            r = width / h
            estimate = (1 + 1 / (2 * r)) * data - last / (2 * r)
        ratio = sigmas[i + 1] / sigmas[i]
        expected = ratio * expected - alphas[i + 1] * np.expm1(-h) * estimate
        last, width = data, h
    made = diffusion.dpmpp_2m(denoise, path, x, times)
    np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", PATH_NAMES)
def test_ddim_with_eta_1_is_ddpm(path):
    path = diffusion.get_path(path)
    x, denoise, draw = start(path), Mixture().denoise(path), drawer([3, 4])
    times = diffusion.logsnr(path, 12)
    ddpm = diffusion.ddpm(denoise, path, x, times, draw)
    ddim = diffusion.ddim(denoise, path, x, times, draw, eta=1.0)
    np.testing.assert_allclose(ddim, ddpm, rtol=1e-9, atol=1e-9)


def test_ddpm_is_algorithm_2_of_its_paper():
    path = diffusion.Linear()
    x, denoise, draw = start(path), Gaussian().denoise(path), drawer([3, 4])
    bar = np.concatenate([[1], np.cumprod(1 - path.betas)])
    for variance in ("posterior", "forward"):
        expected = x
        for step, k in enumerate((1000, 999, 998)):
            data = denoise(expected, tf.fill([3], tf.constant(k / 1000, tf.float64)))
            noise = (expected - np.sqrt(bar[k]) * data) / np.sqrt(1 - bar[k])
            beta = path.betas[k - 1]
            mean = (expected - beta / np.sqrt(1 - bar[k]) * noise) / np.sqrt(1 - beta)
            spread = beta if variance == "forward" else beta * (1 - bar[k - 1]) / (1 - bar[k])
            expected = mean + np.sqrt(spread) * draw(step)
        times = np.array([1000, 999, 998, 997]) / 1000
        made = diffusion.ddpm(denoise, path, x, times, draw, variance=variance)
        np.testing.assert_allclose(made, expected, rtol=1e-9)


def test_ddim_of_integer_steps_is_the_formula_on_cumulative_products():
    """Leading spacing of 50 of the steps 0..999, as in other libraries: 980, 960, ..., 0."""
    path = diffusion.Linear()
    bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    integers = np.arange(980, -1, -20)
    x, denoise, draw, eta = start(path), Gaussian().denoise(path), drawer([3, 4]), 0.5
    expected = x
    for step, n in enumerate(integers):
        now, after = bar[n], bar[n - 20] if n else 1.0
        data = denoise(expected, tf.fill([3], tf.constant((n + 1) / 1000, tf.float64)))
        noise = (expected - np.sqrt(now) * data) / np.sqrt(1 - now)
        spread = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        expected = np.sqrt(after) * data + np.sqrt(1 - after - spread) * noise
        expected = expected + np.sqrt(spread) * draw(step)
    times = np.append((integers + 1) / 1000, 0)
    made = diffusion.ddim(denoise, path, x, times, draw, eta=eta)
    np.testing.assert_allclose(made, expected, rtol=1e-9, atol=1e-9)


def ancestral_moments(path, gaussian, times, variance):
    """Mean and deviation of what `ddpm` samples: each step is linear in x, and adds its noise."""
    t, s = times[:-1], times[1:]
    on_x, on_data, added = path.posterior(t, s)
    if variance == "forward":
        added = tf.where(s > 0, path.transition_variance(t, s), 0)
    alpha, sigma = path.alpha(t), path.sigma(t)
    signal = alpha * gaussian.deviation**2 / gaussian.variance(alpha, sigma)
    factors = (on_x + on_data * signal).numpy()
    offsets = (on_data * (1 - signal * alpha) * gaussian.mean).numpy()
    mean, spread = 0.0, path.prior_scale**2
    for factor, offset, noise in zip(factors, offsets, added.numpy()):
        mean, spread = factor * mean + offset, factor**2 * spread + noise
    return mean, np.sqrt(spread)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_ancestral_samples_have_the_moments_of_their_steps(path, variance):
    path, gaussian = diffusion.get_path(path), Gaussian()
    shape, times = (2000, 10), diffusion.karras(path, 30)
    x, draw = start(path, "float32", shape=shape), drawer(shape, "float32")
    run = tf.function(
        lambda x: diffusion.ddpm(gaussian.denoise(path), path, x, times, draw, variance=variance)
    )
    images = run(x).numpy().astype("float64")
    mean, deviation = ancestral_moments(path, gaussian, times, variance)
    assert images.mean() == pytest.approx(mean, abs=5 * deviation / np.sqrt(20_000))
    assert images.std() == pytest.approx(deviation, rel=5 / np.sqrt(2 * 20_000))


def test_many_ancestral_steps_give_the_distribution_of_the_data():
    path, gaussian = diffusion.Linear(), Gaussian()
    times = diffusion.uniform(path, 1000)
    mean, deviation = ancestral_moments(path, gaussian, times, "posterior")
    assert mean == pytest.approx(gaussian.mean, abs=0.003)
    assert deviation == pytest.approx(gaussian.deviation, rel=0.02)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", SAMPLER_NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_last_step_is_the_estimate_exactly(path, name, dtype):
    path, estimates = diffusion.get_path(path), []
    gaussian = Gaussian().denoise(path)

    def denoise(x, t):
        assert x.dtype == t.dtype == dtype and t.shape == [3]
        estimates.append(gaussian(x, t))
        return estimates[-1]

    x, draw = start(path, dtype), drawer([3, 4], dtype)
    made = diffusion.get_sampler(name)(denoise, path, x, diffusion.logsnr(path, 5), draw)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, estimates[-1])
    assert len(estimates) == (9 if name == "heun" else 5)


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("name", SAMPLER_NAMES)
@pytest.mark.parametrize("grid", ["uniform", "karras"])
def test_float32_loses_nothing_that_matters(path, name, grid):
    """From pure noise itself, on every path: finite, and where float64 arrives."""
    path, sampler = diffusion.get_path(path), diffusion.get_sampler(name)
    times, shape = diffusion.get_grid(grid)(path, 8), [3, 4]

    def run(dtype):
        def draw(step):
            return tf.cast(drawer(shape)(step), dtype)

        return sampler(Mixture().denoise(path), path, tf.cast(start(path), dtype), times, draw)

    np.testing.assert_allclose(run("float32"), run("float64"), atol=2e-3)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_one_graph_serves_every_number_of_steps_and_batch_size(name):
    path, sampler = diffusion.RectifiedFlow(), diffusion.get_sampler(name)

    def sample(x, steps):
        def draw(step):
            return randomness.normal(tf.shape(x), randomness.key(0, step), x.dtype)

        return sampler(Mixture().denoise(path), path, x, diffusion.uniform(path, steps), draw)

    signature = [tf.TensorSpec([None, 4], tf.float64), tf.TensorSpec([], tf.int32)]
    traced = tf.function(sample, input_signature=signature)
    for batch, steps in ((3, 1), (2, 9), (5, 30)):
        x = start(path, shape=(batch, 4))
        np.testing.assert_allclose(traced(x, steps), sample(x, steps), rtol=1e-10)
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_the_callback_sees_every_step_in_order(name):
    path, seen = diffusion.Linear(), []
    times, x, draw = diffusion.uniform(path, 6), start(path), drawer([3, 4])
    denoise = Gaussian().denoise(path)

    def callback(step, t_next, x, data):
        seen.append((int(step), float(t_next), x.numpy(), data.numpy()))
        return x

    made = diffusion.get_sampler(name)(denoise, path, x, times, draw, callback)
    assert [step for step, *_ in seen] == list(range(6))
    np.testing.assert_array_equal([t for _, t, *_ in seen], times[1:])
    np.testing.assert_array_equal(seen[-1][2], made)
    before = np.stack([x, *(x for *_, x, _ in seen[:-1])])
    for x, t, (*_, data) in zip(before, times, seen):
        np.testing.assert_array_equal(data, denoise(tf.constant(x), tf.fill([3], t)))


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_what_the_callback_returns_goes_on(name):
    """Inpainting by replacement: the known half of x is put back after every step, in a graph."""
    path, known = diffusion.RectifiedFlow(), tf.constant([True, True, False, False])
    truth, draw = 0.8 * tf.ones([3, 4], tf.float64), drawer([3, 4])

    def replace(step, t_next, x, data):
        return tf.where(known, path.mix(truth, draw(step), t_next), x)

    @tf.function
    def run(x, steps):
        times = diffusion.uniform(path, steps)
        sampler = diffusion.get_sampler(name)
        return sampler(Gaussian().denoise(path), path, x, times, draw, replace)

    made = run(start(path), tf.constant(5)).numpy()
    np.testing.assert_array_equal(made[:, :2], truth[:, :2])
    assert (made[:, 2:] != 0.8).all()


def test_times_that_rise_encode_data_as_noise():
    path, gaussian = diffusion.Cosine(), Gaussian()
    times, x = diffusion.logsnr(path, 100)[:-1], start(path)
    run = tf.function(lambda x, times: diffusion.heun(gaussian.denoise(path), path, x, times))
    back = run(run(x, times), tf.reverse(times, [0]))
    np.testing.assert_allclose(back, x, atol=1e-2)


def test_a_half_precision_estimate_is_cast():
    path = diffusion.RectifiedFlow()
    made = diffusion.heun(
        lambda x, t: tf.cast(0.5 * x, tf.bfloat16), path, tf.ones([2, 3]), [1.0, 0.5, 0.0]
    )
    assert made.dtype == tf.float32


def test_wrong_arguments_are_named():
    path, x = diffusion.RectifiedFlow(), tf.ones([2, 3])
    with pytest.raises(ValueError, match=r"`sampler` must be one of .*Received: sampler='unipc'"):
        diffusion.get_sampler("unipc")
    with pytest.raises(ValueError, match=r"`eta` must lie in \[0, 1\]. Received: eta=2"):
        diffusion.ddim(None, path, x, [1, 0], eta=2)
    for run in (diffusion.ddpm, lambda *arguments: diffusion.ddim(*arguments, eta=0.5)):
        with pytest.raises(ValueError, match=r"`draw` is needed by dd.*Received: draw=None"):
            run(None, path, x, [1, 0])
    with pytest.raises(ValueError, match=r"`variance` must be .*Received: variance='small'"):
        diffusion.ddpm(None, path, x, [1, 0], drawer([2, 3]), variance="small")
    with pytest.raises(ValueError, match=r"`times` must be .*Received: times of shape \(1,\)"):
        diffusion.euler(None, path, x, [1.0])


def test_functions_are_returned_as_they_are():
    assert diffusion.get_sampler(diffusion.heun) is diffusion.heun
    assert diffusion.get_grid(diffusion.karras) is diffusion.karras


@pytest.mark.parametrize("path", PATH_NAMES)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_consistency_sampling_draws_from_the_data(path, steps):
    """With the exact end of the flow for `denoise`, any number of steps gives the distribution."""
    path, gaussian, shape = diffusion.get_path(path), Gaussian(), [20000, 1]
    times = diffusion.karras(path, steps)

    def end_of_flow(x, t):
        return tf.constant(gaussian.flow(path, x.numpy(), float(t[0]), 0.0))

    x = path.mix(
        gaussian.mean + gaussian.deviation * drawer(shape, seed=1)(0),
        drawer(shape, seed=2)(0),
        times[0],
    )
    made = diffusion.consistency(end_of_flow, path, x, times, drawer(shape)).numpy()
    assert abs(made.mean() - gaussian.mean) < 0.02
    assert abs(made.std() - gaussian.deviation) < 0.02


def test_consistency_sampling_needs_noise():
    path = diffusion.RectifiedFlow()
    with pytest.raises(ValueError, match="draw=None"):
        diffusion.consistency(
            Gaussian().denoise(path), path, start(path), diffusion.uniform(path, 2)
        )


@pytest.mark.parametrize("path", ["rectified_flow", "cosine", "edm"])
def test_rows_may_step_between_times_of_their_own(path):
    path = diffusion.get_path(path)
    times = path.t_max * np.array([[1.0, 0.4], [0.5, 0.2], [0.3, 0.0]])
    x = tf.random.stateless_normal([3, 4], [0, 1], dtype=tf.float64)

    def denoise(x, t):
        return tf.sin(x) / (1 + t[:, None])

    together = diffusion.heun_step(denoise, path, x, times[:, 0], times[:, 1])
    for row, (t, s) in enumerate(times):
        alone = diffusion.heun(denoise, path, x[row : row + 1], [t, s])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-12)
