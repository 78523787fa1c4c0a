"""How likely data are under a diffusion model, by two roads.

Bits per dimension here mean images of 256 grey levels in [-1, 1]: a level is a bin of width 2/255.
`variational_bound` sums the probability over the bin; `ode_log_likelihood` is a density, of images
that `dequantize` has spread uniformly over their bins, which `keras_gen.losses.bits_per_dimension`
turns into a bound on the probability of the bin (Theis et al. 2016).
"""

import math

import numpy as np
import tensorflow as tf

from keras_gen import randomness
from keras_gen.diffusion.samplers import as_times, check_variance, data_estimate, noise_estimate


def variational_bound(
    denoise, path, data, times, draw, variance="posterior", decoder_variance=None
):
    """The variational bound of Ho et al. 2020, eq. 5, term by term. One evaluation a step.

    Args:
        denoise: as in `samplers`.
        path: `Path`.
        data: float32 or float64 [batch, ...] in [-1, 1], of 256 levels.
        times: [steps + 1] falling from `path.t_max` to 0; `grids.uniform(path, path.timesteps)`
            gives the bound of the papers.
        draw: `draw(step)`: standard normal noise shaped as `data` for step 0, 1, ...
        variance: of p(x_s | x_t): "posterior" or "forward", as in `samplers.ddpm`. The posterior
            variance of the last step is 0; there that of the step before it is used, as theirs is.
        decoder_variance: float scalar, of the last step, in place of that. Where steps are small,
            the square of `path.sigma(times[-2])` is right: what noise there is hides the data.

    Returns:
        Dict of the terms in bits per dimension, each an upper bound's part of -log2 p(data):
        "prior" [batch], L_T; "steps" [steps - 1, batch], the L_{t-1} from the noisiest on;
        "decoder" [batch], L_0; and "total" [batch], their sum.

    Raises:
        ValueError: when `variance` is unknown or `times` has not at least two steps.
    """
    check_variance(variance)
    data, times = tf.convert_to_tensor(data), as_times(times)
    if times.shape[0] == 2:
        raise ValueError(f"The bound needs at least two steps. Received: times={times!r}")
    last = tf.shape(times)[0] - 2

    def estimate(i, t):
        x = path.mix(data, draw(i), t)
        return x, data_estimate(denoise, x, t)

    def body(i, terms):
        t, s = times[i], times[i + 1]
        _, on_data, spread = path.posterior(t, s)
        # The means differ by `on_data` times the error of the estimate of x_0.
        error = tf.cast(on_data, data.dtype) * (data - estimate(i, t)[1])
        model_spread = path.transition_variance(t, s) if variance == "forward" else spread
        divergence = normal_divergence(error, spread, model_spread)
        return i + 1, terms.write(i, _bits(divergence))

    batch = data.shape[:1]
    terms = tf.TensorArray(data.dtype, size=last, element_shape=batch)
    steps = tf.while_loop(lambda i, _: i < last, body, (0, terms))[1].stack()

    first_step, t = times[last - 1], times[last]
    if decoder_variance is not None:
        spread = _double(decoder_variance)
    elif variance == "forward":
        spread = path.transition_variance(t, times[last + 1])
    else:
        spread = path.posterior(first_step, t)[2]
    decoder = _bits(level_surprise(data, estimate(last, t)[1], tf.sqrt(spread)))

    start = times[0]
    mean = tf.cast(path.alpha(start), data.dtype) * data
    prior = normal_divergence(mean, tf.square(path.sigma(start)), path.prior_scale**2)
    prior = _bits(prior)
    total = prior + tf.reduce_sum(steps, 0) + decoder
    return {"total": total, "prior": prior, "steps": steps, "decoder": decoder}


def normal_divergence(difference, variance, model_variance):
    """KL divergence of two normal distributions, in nats, for each element.

    Args:
        difference: of the means, any shape.
        variance: of the first, scalar.
        model_variance: of the second, scalar.

    Returns:
        Tensor shaped as `difference`.
    """
    model_variance = _double(model_variance)
    ratio = _double(variance) / model_variance
    same_mean = (ratio - 1 - tf.math.log(ratio)) / 2
    scale = tf.cast(0.5 / model_variance, difference.dtype)
    return tf.cast(same_mean, difference.dtype) + scale * tf.square(difference)


def level_surprise(data, mean, deviation, levels=256):
    """-log of the probability that a normal variable falls in the bin of `data`, in nats.

    Bins have width 2 / (levels - 1); the outer two reach to infinity (Ho et al. 2020, eq. 13).

    Args:
        data: values in [-1, 1] on the levels, any shape.
        mean: of that shape.
        deviation: scalar.
        levels: number of grey levels.

    Returns:
        Tensor shaped as `data`, at least 0.
    """
    values, mean = tf.cast(data, tf.float64), tf.cast(mean, tf.float64)
    half = 1 / (levels - 1)
    # Mirrored where needed, so that the bin lies below the mean: there the difference of two values
    # of the distribution function keeps its digits.
    below = values < mean
    lowest, highest = values < half - 1, values > 1 - half
    centre, deviation = -tf.abs(values - mean), _double(deviation)
    infinity = _double(math.inf)
    upper = tf.where(tf.where(below, highest, lowest), infinity, (centre + half) / deviation)
    lower = tf.where(tf.where(below, lowest, highest), -infinity, (centre - half) / deviation)
    log_upper, log_lower = _log_normal_cdf(upper), _log_normal_cdf(lower)
    return tf.cast(-log_upper - tf.math.log1p(-tf.exp(log_lower - log_upper)), data.dtype)


def ode_log_likelihood(denoise, path, data, times, probes):
    """log p(data) by the probability-flow ODE (Song et al. 2021, appendix D.2), with Heun's method.

    Args:
        denoise: as in `samplers`; differentiable in x.
        path: `Path`.
        data: float32 or float64 [batch, ...].
        times: as from `grids`, falling to 0. The ODE is solved from times[-2] to times[0]; the
            little noise below times[-2] is left out, so that one should be small against the data.
        probes: [n, batch, ...]: the divergence is the mean over n of probe . J probe. `rademacher`
            probes make it unbiased (Skilling 1989; Hutchinson 1990), `unit_probes` exact. Two
            evaluations a step and 2 n backward passes.

    Returns:
        Log-density in nats, [batch], under the prior N(0, `path.prior_scale`^2) at times[0].
    """
    data, times = tf.convert_to_tensor(data), as_times(times)
    dimensions = _dimensions(data)
    rising = tf.reverse(times[:-1], [0])
    probes = tf.unstack(tf.cast(probes, data.dtype))

    def estimates(x, t):
        """x_0, the noise, and the divergence of both in x."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            estimate = data_estimate(denoise, x, t)
            products = [tf.reduce_sum(estimate * probe) for probe in probes]
        traces = [_row_sum(tape.gradient(p, x) * q) for p, q in zip(products, probes)]
        trace = tf.add_n(traces) / len(probes)
        alpha, sigma = (tf.cast(value, x.dtype) for value in (path.alpha(t), path.sigma(t)))
        noise = noise_estimate(path, x, estimate, t)
        return estimate, noise, trace, (dimensions - alpha * trace) / sigma

    def body(i, x, divergence):
        t, s = rising[i], rising[i + 1]
        d_alpha = tf.cast(path.alpha(s) - path.alpha(t), x.dtype)
        d_sigma = tf.cast(path.sigma(s) - path.sigma(t), x.dtype)
        clean, noise, clean_trace, noise_trace = estimates(x, t)
        ahead = x + d_alpha * clean + d_sigma * noise
        clean_2, noise_2, clean_trace_2, noise_trace_2 = estimates(ahead, s)
        x = x + d_alpha * (clean + clean_2) / 2 + d_sigma * (noise + noise_2) / 2
        divergence += d_alpha * (clean_trace + clean_trace_2) / 2
        divergence += d_sigma * (noise_trace + noise_trace_2) / 2
        return i + 1, tf.ensure_shape(x, data.shape), divergence

    start = tf.cast(path.alpha(rising[0]), data.dtype)
    nothing = tf.zeros_like(_row_sum(data))
    state = (0, start * data, nothing)
    steps = tf.shape(rising)[0] - 1
    _, x, divergence = tf.while_loop(lambda i, *_: i < steps, body, state)
    scale = path.prior_scale
    at_prior = -0.5 * _row_sum(tf.square(x / scale))
    at_prior -= dimensions * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    return at_prior + divergence + dimensions * tf.math.log(start)


def rademacher(shape, key, count=1, dtype="float32"):
    """`count` probes of random signs, [count, *shape] for data of `shape`."""
    bits = randomness.uniform([count, *shape], key, 0, 2, dtype="int32")
    return tf.cast(2 * bits - 1, dtype)


def unit_probes(shape, dtype="float32"):
    """The probes that make the divergence exact, one for each dimension: for small data only.

    Args:
        shape: (batch, ...) of the data, static.
        dtype: of the data.

    Returns:
        [d, *shape], d the number of dimensions of one example.
    """
    dimensions = math.prod(shape[1:])
    units = tf.eye(dimensions, dtype=dtype) * math.sqrt(dimensions)
    units = tf.reshape(units, [dimensions, 1, *shape[1:]])
    return tf.broadcast_to(units, [dimensions, *shape])


def dequantize(images, key, levels=256):
    """Images in [-1, 1] of `levels` grey levels, each spread uniformly over its bin."""
    half = 1 / (levels - 1)
    return images + randomness.uniform(tf.shape(images), key, -half, half, dtype=images.dtype)


def _bits(nats):
    """The mean over the dimensions of each row, in bits."""
    return _row_sum(nats) / (_dimensions(nats) * math.log(2))


def _double(value):
    """A number or a tensor as float64; `tf.cast` alone would take a number through float32."""
    return tf.cast(value if tf.is_tensor(value) else np.float64(value), tf.float64)


def _row_sum(x):
    return tf.reduce_sum(tf.reshape(x, [tf.shape(x)[0], -1]), 1)


def _dimensions(x):
    return tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)


def _log_normal_cdf(x):
    """log of the standard normal distribution function, float64, for x of either sign."""
    far = x < -25
    near = tf.math.log(tf.math.erfc(-tf.where(far, tf.zeros_like(x), x) / math.sqrt(2)) / 2)
    square = tf.square(tf.where(far, x, -25))
    series = tf.math.log1p(-1 / square + 3 / square**2 - 15 / square**3)
    tail = series - (square + tf.math.log(2 * math.pi * square)) / 2
    return tf.where(far, tail, near)
