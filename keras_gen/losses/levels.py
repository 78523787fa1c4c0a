"""What likelihoods of pixels share: levels, binarization, logistic bins, nats as bits."""

import math

import numpy as np
import tensorflow as tf

BIN = 2 / 255  # the width of one of the 256 grey levels in [-1, 1]


def bits_per_dimension(log_prob, dimensions, width=1.0):
    """-log2 p, divided by the dimensions of an image.

    Args:
        log_prob: nats, an array, a tensor or a number; of levels, or a density.
        dimensions: height * width * channels.
        width: of the bin that a level is in each dimension, where `log_prob` is a density. Of
            images that are spread uniformly over their bins the result is then an upper bound of
            the bits of the levels (Theis et al. 2016).
    """
    return -(log_prob / dimensions + math.log(width)) / math.log(2)


def values_of(levels, count):
    """Levels, integers in [0, count), as values float32 in [-1, 1]."""
    return tf.cast(levels, tf.float32) * (2 / (count - 1)) - 1


def check_binarization(rule):
    """Raises a ValueError unless `rule` is None, "stochastic" or a threshold in (0, 1)."""
    threshold = isinstance(rule, (float, np.floating)) and 0 < rule < 1
    if not (threshold or rule is None or rule == "stochastic"):
        raise ValueError(
            '`binarization` must be None, "stochastic" or a threshold, a float in (0, 1). '
            f"Received: binarization={rule!r}"
        )


def binarized(images, rule, uniforms=None):
    """Which pixels are white.

    Args:
        images: float32 in [-1, 1].
        rule: a threshold in (0, 1): white where (pixel + 1) / 2 reaches it; or "stochastic": white
            with that probability (Salakhutdinov and Murray 2008).
        uniforms: float32 in [0, 1), shaped as `images`, for "stochastic".

    Returns:
        bool tensor shaped as `images`.
    """
    pixels = (images + 1) / 2
    if rule == "stochastic":  # strictly below, so that black stays black; a draw is below 1
        return uniforms < pixels
    return pixels >= rule - 1e-6  # of a level that reaches it, float32 may fall short


def describe_binarization(rule):
    """The rule in words, to be said beside a likelihood."""
    if rule == "stochastic":
        return "binarized at random by the seed: 1 with the pixel's value as probability"
    return f"binarized: 1 where the pixel is at least {rule:g}"


def logistic_log_prob(values, mean, log_scale, half):
    """log-probability of levels under a discretized logistic (Kingma et al. 2016; Salimans et al.
    2017, eq. 2).

    A level has what the distribution has within `half` of its value. The bins of the first level,
    -1, and of the last, 1, reach to infinity, so that all levels sum to 1.

    Args:
        values: float32 in [-1, 1], on levels 2 `half` apart.
        mean, log_scale: of the logistic distribution; they broadcast with `values`.
        half: float, half the width of a bin.

    Returns:
        nats, float32.
    """
    precision = tf.exp(-log_scale)
    offset = values - mean
    below = tf.math.log_sigmoid((offset + half) * precision)
    above = tf.math.log_sigmoid((half - offset) * precision)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), s the sigmoid, which keeps its digits anywhere
    within = below + above + tf.math.log(-tf.math.expm1(-2 * half * precision))
    log_prob = tf.where(values > 1 - half, above, within)
    return tf.where(values < half - 1, below, log_prob)
