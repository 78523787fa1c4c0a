"""How probable the values of a pixel are, given the numbers that a network puts out for it.

A likelihood is one object. Pixels are int32 [..., channels], levels in [0, levels); `parameters`
are float32 [..., parameters(levels, channels)]. It gives exact log-probabilities, and draws one
channel after another.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_gen.losses.levels import logistic_log_prob, values_of
from keras_gen.strategies import Strategy, checked_count, resolve


class PixelLikelihood(Strategy):
    """Base of the likelihoods of pixels.

    `sees_channels` says that the parameters of a channel must be a function of the channels before
    it in the same pixel too.
    """

    sees_channels = False

    def parameters(self, levels, channels):
        """How many numbers the network puts out for a pixel."""
        raise NotImplementedError

    def draws(self, channels):
        """How many uniform draws a pixel takes."""
        raise NotImplementedError

    def log_prob(self, parameters, pixels, levels):
        """Log-probability of each pixel in nats, float32 [...]."""
        raise NotImplementedError

    def draw(self, parameters, pixels, channel, uniforms, levels):
        """Draws one channel of pixels.

        Args:
            parameters: float32 [batch, parameters].
            pixels: int32 [batch, channels], drawn up to the channel.
            channel: int, which to draw.
            uniforms: float32 [batch, draws] in [0, 1), the same for all channels.
            levels: int.

        Returns:
            int32 [batch] in [0, levels).
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen")
class Categorical(PixelLikelihood):
    """Each level of each channel has a probability of its own (van den Oord et al. 2016).

    p(level) = softmax(logits)[level], the logits of a channel being functions of the channels
    before it: red, then green, then blue.
    """

    sees_channels = True

    def parameters(self, levels, channels):
        return levels * channels

    def draws(self, channels):
        return channels

    def log_prob(self, parameters, pixels, levels):
        logits = tf.reshape(parameters, tf.concat([tf.shape(pixels), [levels]], 0))
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=pixels, logits=logits)
        return -tf.reduce_sum(nats, -1)

    def draw(self, parameters, pixels, channel, uniforms, levels):
        logits = parameters[:, channel * levels : (channel + 1) * levels]
        return _index_of(uniforms[:, channel], logits)


@keras.saving.register_keras_serializable("keras_gen")
class LogisticMixture(PixelLikelihood):
    """Discretized mixture of logistic distributions (PixelCNN++, Salimans et al. 2017, eqs. 1-3).

    With values v in [-1, 1], levels 2 h apart, and the logistic function s,

        p(v) = sum_i w_i prod_c [s((v_c + h - m_ic) / s_ic) - s((v_c - h - m_ic) / s_ic)],

    where -infinity and infinity take the places of v - h and v + h at the first and the last level.
    The mean m_ic is a linear function of the channels before c in the same pixel.

    Few numbers a pixel, however many the levels; near levels are alike from the start, for which
    the components' means begin spread over [-1, 1].

    Args:
        components: int, of the mixture.
        min_log_scale: float, least logarithm of a scale.
    """

    def __init__(self, components=10, min_log_scale=-7.0):
        self.components = checked_count("components", components)
        self.min_log_scale = min_log_scale

    def get_config(self):
        return {"components": self.components, "min_log_scale": self.min_log_scale}

    def parameters(self, levels, channels):
        # a weight, a mean and a scale for each channel, a coefficient for each pair of channels
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def draws(self, channels):
        return 1 + channels

    def log_prob(self, parameters, pixels, levels):
        values, half = values_of(pixels, levels), 1 / (levels - 1)
        weights, *rest = self._parts(parameters, pixels.shape[-1])
        total = tf.nn.log_softmax(weights)
        for channel in range(pixels.shape[-1]):
            mean, log_scale = self._logistic(*rest, values, channel)
            total += logistic_log_prob(values[..., channel, None], mean, log_scale, half)
        return tf.reduce_logsumexp(total, -1)

    def draw(self, parameters, pixels, channel, uniforms, levels):
        weights, *rest = self._parts(parameters, pixels.shape[-1])
        mean, log_scale = self._logistic(*rest, values_of(pixels, levels), channel)
        chosen = tf.one_hot(_index_of(uniforms[:, 0], weights), self.components)
        mean, log_scale = (tf.reduce_sum(chosen * part, -1) for part in (mean, log_scale))
        uniform = tf.clip_by_value(uniforms[:, 1 + channel], 1e-7, 1 - 1e-7)
        value = mean + tf.exp(log_scale) * (tf.math.log(uniform) - tf.math.log1p(-uniform))
        level = tf.round((tf.clip_by_value(value, -1, 1) + 1) / 2 * (levels - 1))
        return tf.cast(level, tf.int32)

    def _parts(self, parameters, channels):
        """Weights [..., k], and lists of [..., k]: means and log-scales of the channels,
        coefficients of the pairs."""
        pairs = channels * (channels - 1) // 2
        rows = [1 + 2 * channels + pairs, self.components]
        numbers = tf.reshape(parameters, tf.concat([tf.shape(parameters)[:-1], rows], 0))
        weights, *rest = tf.unstack(numbers, axis=-2)
        spread = (2 * np.arange(self.components) + 1) / self.components - 1
        means = [mean + spread.astype(np.float32) for mean in rest[:channels]]
        log_scales = [
            tf.maximum(log_scale - np.log(self.components), self.min_log_scale)
            for log_scale in rest[channels : 2 * channels]
        ]
        return weights, means, log_scales, [tf.tanh(pair) for pair in rest[2 * channels :]]

    @staticmethod
    def _logistic(means, log_scales, coefficients, values, channel):
        """Mean and log-scale [..., k] of a channel, given the values of the channels before it."""
        mean, first = means[channel], channel * (channel - 1) // 2
        for before in range(channel):
            mean += coefficients[first + before] * values[..., before, None]
        return mean, log_scales[channel]


def _index_of(uniform, logits):
    """Where the cumulative probabilities pass `uniform` [batch]; logits [batch, n]; int32 [batch].

    An index is never one of probability zero.
    """
    cumulative = tf.cumsum(tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True)), axis=-1)
    passed = cumulative <= (uniform * cumulative[:, -1])[:, None]
    # rounding may take uniform * total up to the total itself
    last = tf.cast(tf.argmax(cumulative, axis=-1), tf.int32)
    return tf.minimum(tf.reduce_sum(tf.cast(passed, tf.int32), -1), last)


PIXEL_LIKELIHOODS = {"categorical": Categorical, "logistic_mixture": LogisticMixture}


def get_pixel_likelihood(identifier):
    """A `PixelLikelihood` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, PIXEL_LIKELIHOODS, PixelLikelihood, "likelihood")
