"""Classifier-free guidance (Ho and Salimans 2022)."""

import tensorflow as tf

from keras_gen.diffusion.paths import rows_like


def guide(conditional, unconditional, scale, t=None, interval=None):
    """unconditional + scale (conditional - unconditional).

    Every prediction is linear in the estimate of x_0 with the same x, so it does not matter which
    prediction is guided.

    Args:
        conditional: the network's output with labels, [batch, ...].
        unconditional: its output without, of that shape.
        scale: scalar or [batch]; 0 ignores the labels, 1 is the conditional model, more follows
            the labels more closely than the data do.
        t: scalar or [batch]; needed with `interval` only.
        interval: (low, high): `scale` applies where low < t <= high, and 1 elsewhere
            (Kynkäänniemi et al. 2024). None: everywhere.

    Raises:
        ValueError: when there is an `interval` and no t, or it is not a pair.
    """
    if interval is not None:
        if t is None or len(interval) != 2:
            raise ValueError(
                "`interval` must be (low, high), and needs `t`. "
                f"Received: interval={interval!r}, t={t!r}"
            )
        inside = (t > interval[0]) & (t <= interval[1])
        scale = tf.where(inside, tf.cast(scale, conditional.dtype), 1)
    scale = rows_like(tf.convert_to_tensor(scale), conditional)
    return unconditional + scale * (conditional - unconditional)
