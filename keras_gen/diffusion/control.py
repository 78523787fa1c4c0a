"""Sampling that is told more than a label: inpainting, interpolation."""

import tensorflow as tf

from keras_gen.diffusion.paths import rows_like
from keras_gen.diffusion.samplers import as_times


def renoise(path, x, s, t, noise):
    """x at time s taken to the noisier time t: a draw of q(x_t | x_s).

    Args:
        path: `Path`.
        x: [batch, ...] at time s.
        s, t: float64 scalars, s < t.
        noise: standard normal, shaped as x.
    """
    kept = tf.cast(path.alpha(t) / path.alpha(s), x.dtype)
    added = tf.cast(tf.sqrt(path.transition_variance(t, s)), x.dtype)
    return kept * x + added * noise


def inpaint(sampler, denoise, path, x, times, known, mask, draw, repeats=1, callback=None):
    """RePaint (Lugmayr et al. 2022, algorithm 1), with any sampler on any path.

    After each step what is known is put in place, at the noise of the step's end. Repeats noise the
    result again and do the step anew, which lets the drawn part find its match with the known one.
    They also add up the errors of large steps: with few steps, a few repeats are best.

    Args:
        sampler: one of `samplers`; each step is a run of its own, so that methods of several steps
            fall back to their first.
        denoise, path, x, times: as in `samplers`.
        known: [batch, ...], the data.
        mask: broadcastable to `known`: 1 where to draw, 0 where `known` holds.
        draw: `draw(i)`: standard normal noise shaped as x for i = 0, 1, ...
        repeats: int or int32 scalar, how often each step is done.
        callback: as in `samplers`, after every repeat, with x in place of the estimate of x_0.

    Returns:
        x at times[-1]; where that is 0, exactly `known` outside the mask.
    """
    x, times = tf.convert_to_tensor(x), as_times(times)
    steps = tf.shape(times)[0] - 1
    mask = tf.cast(mask, x.dtype)

    def body(i, x):
        step, again = i // repeats, tf.math.floormod(i + 1, repeats) != 0
        t, s = times[step], times[step + 1]
        x = sampler(denoise, path, x, times[step : step + 2], lambda _: draw(3 * i))
        x = mask * x + (1 - mask) * path.mix(known, draw(3 * i + 1), tf.cast(s, x.dtype))
        if callback is not None:
            x = callback(step, s, x, x)
        x = tf.cond(again, lambda: renoise(path, x, s, t, draw(3 * i + 2)), lambda: x)
        return i + 1, tf.ensure_shape(x, known.shape)

    return tf.while_loop(lambda i, _: i < steps * repeats, body, (tf.constant(0), x))[1]


def slerp(first, second, fraction):
    """Spherical interpolation (Shoemake 1985): normal noise stays as long as normal noise is.

    The direction moves on the great circle, and the length evenly.

    Args:
        first, second: [batch, ...] of one shape.
        fraction: scalar or [batch], 0 for `first`, 1 for `second`.

    Returns:
        Tensor of that shape.
    """
    first, second = tf.convert_to_tensor(first), tf.convert_to_tensor(second)
    axes = list(range(1, first.shape.rank))

    def split(x):  # zero, which has no direction, is at a right angle to all
        length = tf.sqrt(tf.reduce_sum(tf.square(x), axes, keepdims=True))
        return tf.math.divide_no_nan(x, length), length

    (first, first_length), (second, second_length) = split(first), split(second)
    cosine = tf.reduce_sum(first * second, axes, keepdims=True)
    angle = tf.acos(tf.clip_by_value(cosine, -1 + 1e-6, 1 - 1e-6))
    fraction = rows_like(tf.convert_to_tensor(fraction), first)
    weights = tf.sin((1 - fraction) * angle), tf.sin(fraction * angle)
    direction = (weights[0] * first + weights[1] * second) / tf.sin(angle)
    return ((1 - fraction) * first_length + fraction * second_length) * direction
