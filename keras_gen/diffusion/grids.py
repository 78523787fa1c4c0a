"""Grids of times for samplers: float64 [steps + 1], falling from `path.t_max` to 0 exactly.

`steps` is an int or an int32 scalar tensor, so that one graph serves every number of steps. A grid
of integer steps made elsewhere is as good: step n of 0..T-1 is time (n + 1) / T of a
`DiscretePath`, and 0 follows the last.
"""

import tensorflow as tf

from keras_gen.strategies import checked_count, resolve_function


def uniform(path, steps):
    """Equal steps in time. With T steps, each step of a `DiscretePath`."""
    steps = _checked(steps)
    return path.t_max * tf.cast(tf.range(steps, -1, -1), tf.float64) / tf.cast(steps, tf.float64)


def logsnr(path, steps):
    """Equal steps in log-SNR over `path.log_snr_range`; then 0 (Lu et al. 2022, section 3.4)."""
    noisiest, cleanest = path.log_snr_range
    fractions = _fractions(steps)
    return _ended(path, noisiest + fractions * (cleanest - noisiest))


def karras(path, steps, rho=7.0):
    """Equal steps in (sigma / alpha)^(1 / rho) over `path.log_snr_range`; then 0.

    Karras et al. 2022, eq. 5, on any path. A larger `rho` puts more of the steps near the data.
    """
    if not rho > 0:
        raise ValueError(f"`rho` must be positive. Received: rho={rho!r}")
    largest, smallest = (tf.exp(tf.constant(-x / 2 / rho, tf.float64)) for x in path.log_snr_range)
    roots = largest + _fractions(steps) * (smallest - largest)
    return _ended(path, -2 * rho * tf.math.log(roots))


def jumps(path, steps):
    """Karras's grid without its cleanest time: for consistency models, which jump to the data from
    everywhere, and gain nothing from where there is hardly any noise."""
    times = karras(path, _checked(steps) + 1)
    return tf.concat([times[:-2], times[-1:]], 0)


def _ended(path, log_snrs):
    """The times of `log_snrs`, the first moved to `t_max` exactly, followed by 0."""
    times = path.time(log_snrs)
    return tf.concat([tf.constant([path.t_max], tf.float64), times[1:], [0]], 0)


def _fractions(steps):
    """`steps` equally spaced numbers from 0 to 1, or 0 alone."""
    steps = _checked(steps)
    return tf.cast(tf.range(steps), tf.float64) / tf.cast(tf.maximum(steps - 1, 1), tf.float64)


def _checked(steps):
    return tf.cast(steps if tf.is_tensor(steps) else checked_count("steps", steps), tf.int32)


GRIDS = {"uniform": uniform, "logsnr": logsnr, "karras": karras, "jumps": jumps}


def get_grid(identifier):
    """A grid function `(path, steps) -> times` from its name, or a function as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve_function(identifier, GRIDS, "grid")
