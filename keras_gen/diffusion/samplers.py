"""Samplers: free functions that take x at the first of a grid of times to the last.

All have one signature, so that one can stand for another:

    sampler(denoise, path, x, times, draw=None, callback=None) -> x at times[-1]

- `denoise(x, t)`: the estimate of x_0, shaped as x; t is [batch], of the dtype of x.
- `path`: `Path`.
- `x`: float32 or float64 [batch, ...]: x at `times[0]`, `path.prior(noise)` where that is `t_max`.
- `times`: [steps + 1], as from `grids`; the number of steps may be dynamic. Where the last is 0,
  what is returned is the last estimate of x_0 exactly, without noise.
- `draw(step)`: standard normal noise shaped as x for step 0, 1, ... (an int32 scalar tensor). Only
  samplers that add noise call it.
- `callback(step, t_next, x, x_0) -> x`: called after every step with the new x, the time that it
  has reached (float64 scalar) and the estimate that the step was made with; what it returns goes
  on. Traced once where the sampler runs in a `tf.function`.

Coefficients are float64 and cast where they meet x. The loop is a `tf.while_loop`.

The deterministic samplers solve the probability-flow ODE (Song et al. 2021, eq. 13). Written as
dx = x_0 d(alpha) + noise d(sigma), with both estimates taken from `denoise`, it is finite
wherever sigma > 0: at alpha = 0, the first time of the rectified flow, nothing is divided by alpha.
No sampler evaluates `denoise` at sigma = 0.
"""

import functools

import numpy as np
import tensorflow as tf

from keras_gen.diffusion.paths import combine
from keras_gen.strategies import resolve_function


def ddim(denoise, path, x, times, draw=None, callback=None, eta=0.0):
    """DDIM (Song et al. 2021, Denoising Diffusion Implicit Models, eq. 12). Order 1.

    With `eta` 0, times that rise, from one above 0 on, encode data as noise.

    Args:
        denoise, path, x, times, draw, callback: as in the module.
        eta: in [0, 1]: 0 is deterministic, 1 has the moments of `ddpm`.

    Raises:
        ValueError: when `eta` is out of range, or is not 0 and there is no `draw`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"`eta` must lie in [0, 1]. Received: eta={eta!r}")
    if eta > 0:
        _check_draw("ddim with eta > 0", draw)

    def step(i, t, s, x, data, memory):
        noise = noise_estimate(path, x, data, t)
        if eta == 0:
            return _sum(x.dtype, (path.alpha(s), data), (path.sigma(s), noise)), memory
        removed = tf.math.expm1(path.log_snr(t) - path.log_snr(s))  # in [-1, 0]
        kept = path.sigma(s) * tf.sqrt(1 + eta**2 * removed)
        fresh = eta * path.sigma(s) * tf.sqrt(-removed)
        return _sum(x.dtype, (path.alpha(s), data), (kept, noise), (fresh, draw(i))), memory

    return _iterate(step, denoise, x, times, callback)


def ddpm(denoise, path, x, times, draw=None, callback=None, variance="posterior"):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), between any two times of any path.

    Args:
        denoise, path, x, times, draw, callback: as in the module; `draw` is needed.
        variance: "posterior", the variance of q(x_s | x_t, x_0) (their beta tilde), or "forward",
            that of q(x_t | x_s) (their beta).

    Raises:
        ValueError: when `variance` is neither or `draw` is missing.
    """
    check_variance(variance)
    _check_draw("ddpm", draw)

    def step(i, t, s, x, data, memory):
        on_x, on_data, removed = path.posterior(t, s)
        if variance == "forward":
            removed = tf.where(path.sigma(s) > 0, path.transition_variance(t, s), 0)
        terms = (on_x, x), (on_data, data), (tf.sqrt(removed), draw(i))
        return _sum(x.dtype, *terms), memory

    return _iterate(step, denoise, x, times, callback)


def euler(denoise, path, x, times, draw=None, callback=None):
    """Euler's method for the probability-flow ODE. Order 1.

    A step holds both estimates: x moves by x_0 times the change of alpha plus the noise times the
    change of sigma. On the rectified flow that is Euler's step in t, on EDM's path in sigma, and on
    every path it is DDIM without noise.
    """
    return ddim(denoise, path, x, times, callback=callback)


def heun(denoise, path, x, times, draw=None, callback=None):
    """Heun's method for the probability-flow ODE. Order 2, two evaluations a step.

    An Euler step, then the same step with the mean of the estimates at its two ends. On the
    rectified flow that is Heun in t, on EDM's path algorithm 1 of Karras et al. 2022. A step to
    sigma = 0 stays an Euler step.
    """

    def step(i, t, s, x, data, memory):
        noise = noise_estimate(path, x, data, t)
        ahead = _sum(x.dtype, (path.alpha(s), data), (path.sigma(s), noise))

        def corrected():
            data_ahead = data_estimate(denoise, ahead, s)
            noise_ahead = noise_estimate(path, ahead, data_ahead, s)
            change = _sum(
                x.dtype,
                ((path.alpha(s) - path.alpha(t)) / 2, data_ahead - data),
                ((path.sigma(s) - path.sigma(t)) / 2, noise_ahead - noise),
            )
            return ahead + change

        return tf.cond(path.sigma(s) > 0, corrected, lambda: ahead), memory

    return _iterate(step, denoise, x, times, callback)


def heun_step(denoise, path, x, t, s):
    """One step of `heun`, each row from a time of its own to another: t and s are [batch], s < t.

    Args:
        denoise, path, x: as in the module.
        t, s: float32 or float64 [batch], t positive.

    Returns:
        x at the times s.
    """
    t, s = tf.cast(t, x.dtype), tf.cast(s, x.dtype)

    def estimates(x, t):
        data = tf.cast(denoise(x, t), x.dtype)
        return data, combine(1 / path.sigma(t), x, -path.alpha(t) / path.sigma(t), data)

    data, noise = estimates(x, t)
    ahead = path.mix(data, noise, s)
    last = s <= 0
    data_ahead, noise_ahead = estimates(ahead, tf.where(last, t, s))
    changes = path.alpha(s) - path.alpha(t), path.sigma(s) - path.sigma(t)
    share_of_data, share_of_noise = (
        tf.where(last, tf.zeros_like(change), change / 2) for change in changes
    )
    corrected = combine(share_of_data, data_ahead - data, share_of_noise, noise_ahead - noise)
    return ahead + corrected


def dpmpp_2m(denoise, path, x, times, draw=None, callback=None):
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2). Order 2, one evaluation a step.

    The estimate is extrapolated in log-SNR from the last two. The first step, one to sigma = 0 and
    one after a step from alpha = 0 are of order 1, as there is no finite slope to extrapolate by.
    """

    def step(i, t, s, x, data, memory):
        last_data, last_width = memory
        width = path.log_snr(s) - path.log_snr(t)
        extrapolated = (i > 0) & (path.sigma(s) > 0)
        slope = tf.where(extrapolated, width / (2 * last_width), 0)
        estimate = _sum(x.dtype, (1 + slope, data), (-slope, last_data))
        on_data = -path.alpha(s) * tf.math.expm1(-width / 2)
        x = _sum(x.dtype, (path.sigma(s) / path.sigma(t), x), (on_data, estimate))
        return x, (data, width)

    memory = tf.zeros_like(x), tf.ones([], tf.float64)
    return _iterate(step, denoise, x, times, callback, memory)


def consistency(denoise, path, x, times, draw=None, callback=None):
    """Multistep consistency sampling (Song et al. 2023, algorithm 1), for consistency models.

    There `denoise` is no mean: it says where the probability-flow ODE ends. Each step jumps to that
    end and goes back with fresh noise, so that one step alone is enough and adds none.

    Raises:
        ValueError: when there is no `draw`.
    """
    _check_draw("consistency", draw)

    def step(i, t, s, x, data, memory):
        return _sum(x.dtype, (path.alpha(s), data), (path.sigma(s), draw(i))), memory

    return _iterate(step, denoise, x, times, callback)


def flow_map(denoise, path, x, times, draw=None, callback=None):
    """The jumps of a model that knows where the flow leads (MeanFlow, Geng et al. 2025, eq. 12).

    Args:
        denoise: here `denoise(x, t, s)`: where x at time t comes to at time s, both [batch].
        path, x, times, draw, callback: as in the module, but for x_0 of the callback: the new x.
    """
    x, times = tf.convert_to_tensor(x), as_times(times)

    def body(i, x):
        t, s = (tf.fill(tf.shape(x)[:1], tf.cast(times[i + j], x.dtype)) for j in (0, 1))
        new = tf.ensure_shape(tf.cast(denoise(x, t, s), x.dtype), x.shape)
        if callback is not None:
            new = tf.ensure_shape(callback(i, times[i + 1], new, new), x.shape)
        return i + 1, new

    steps = tf.shape(times)[0] - 1
    return tf.while_loop(lambda i, _: i < steps, body, (tf.constant(0), x))[1]


SAMPLERS = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "consistency": consistency,
}


def get_sampler(identifier):
    """A sampler from its name, or a function as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve_function(identifier, SAMPLERS, "sampler")


def plain(sampler):
    """The sampler itself, where `functools.partial` has given it arguments."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    return sampler


def data_estimate(denoise, x, t):
    """`denoise` at one time for the whole batch: the estimate of x_0, shaped and typed as x."""
    rows = tf.fill(tf.shape(x)[:1], tf.cast(t, x.dtype))
    return tf.ensure_shape(tf.cast(denoise(x, rows), x.dtype), x.shape)


def noise_estimate(path, x, data, t):
    """The noise in x at scalar time t, given the estimate of x_0. Needs sigma > 0."""
    sigma = path.sigma(t)
    return _sum(x.dtype, (1 / sigma, x), (-path.alpha(t) / sigma, data))


def as_times(times):
    """`times` as float64 [steps + 1].

    Raises:
        ValueError: when they are not a list of at least two.
    """
    if not tf.is_tensor(times):
        times = np.asarray(times, np.float64)
    times = tf.cast(times, tf.float64)
    if times.shape.rank != 1 or times.shape[0] in (0, 1):
        raise ValueError(
            f"`times` must be a list of at least two times. Received: times of shape {times.shape}"
        )
    return times


def check_variance(variance):
    """Raises a ValueError unless `variance` is "posterior" or "forward"."""
    if variance not in ("posterior", "forward"):
        raise ValueError(
            f"`variance` must be 'posterior' or 'forward'. Received: variance={variance!r}"
        )


def _iterate(step, denoise, x, times, callback, memory=()):
    """Applies `step(i, t, s, x, x_0, memory) -> x, memory` to every two neighbouring times."""
    x, times = tf.convert_to_tensor(x), as_times(times)

    def body(i, x, memory):
        t, s = times[i], times[i + 1]
        data = data_estimate(denoise, x, t)
        x, memory = step(i, t, s, x, data, memory)
        if callback is not None:
            x = callback(i, s, x, data)
        return i + 1, tf.ensure_shape(x, data.shape), memory

    steps = tf.shape(times)[0] - 1
    return tf.while_loop(lambda i, *_: i < steps, body, (tf.constant(0), x, memory))[1]


def _sum(dtype, *terms):
    """The sum of coefficient times tensor, each coefficient a float64 scalar."""
    return tf.add_n([tf.cast(coefficient, dtype) * tensor for coefficient, tensor in terms])


def _check_draw(name, draw):
    if draw is None:
        raise ValueError(f"`draw` is needed by {name}, which adds noise. Received: draw=None")
