"""Likelihoods of images: what a decoder says of every pixel and channel, and how likely that is.

A likelihood is one object. Its parameters are what a decoder puts out, float32
[..., height, width, `parameters` * channels]: the first parameter of all channels, then the second.
Images are float32 [..., height, width, channels] in [-1, 1]; log-probabilities are nats, float32
[...], summed over the pixels and channels.
"""

import math

import keras
import tensorflow as tf

from keras_gen import randomness
from keras_gen.losses import levels
from keras_gen.losses.levels import BIN
from keras_gen.strategies import Strategy, positive, resolve


class Likelihood(Strategy):
    """Base of the likelihoods.

    Attributes:
        parameters: how many numbers describe one pixel in one channel.
        shared: how many of these, the last, are the same for all pixels in all images: one learned
            number for each channel (`keras_gen.layers.SharedChannels`).
        random: whether `observed` draws something.
        data: str, what `log_prob` is the log-probability of, to be said beside it.
        bin_width: of one level in `log_prob`, where that is a density; else 1.
    """

    parameters = 1
    shared = 0
    random = False
    data = "256 levels, not binarized"
    bin_width = 1.0

    def observed(self, images, key=None):
        """What is taken for the observation of images, such as their binarization.

        Args:
            images: float32 [..., height, width, channels] in [-1, 1].
            key: of `keras_gen.randomness`, where the observation is drawn at random. None: what
                would be drawn is left as it is.
        """
        return images

    def log_prob(self, images, parameters):
        """log p(images), nats, float32 [...], for images as from `observed`; both may broadcast."""
        raise NotImplementedError

    def mean(self, parameters):
        """The expected images, or of distributions that reach beyond [-1, 1] their middle, clipped;
        float32 [..., height, width, channels] in [-1, 1]."""
        raise NotImplementedError

    def sample(self, parameters, key):
        """Images drawn pixel by pixel, float32 [..., height, width, channels] in [-1, 1]."""
        raise NotImplementedError

    def bits_per_dimension(self, log_prob, dimensions):
        """-log2 p of the levels, or an upper bound of it, divided by the `dimensions` (height *
        width * channels) of an image; `data` says where it is neither."""
        return levels.bits_per_dimension(log_prob, dimensions, self.bin_width)


@keras.saving.register_keras_serializable("keras_gen")
class Bernoulli(Likelihood):
    """Every pixel is black (-1) or white (1); the parameter is the logit of white.

    A grey pixel x counts as the probability (x + 1) / 2 of white: its "log-likelihood" is the mean
    over its random binarizations, the cross-entropy that is usual in VAEs of grey images. That is
    no likelihood of the grey image, and to be compared with nothing but its like. Likelihoods are
    honest where the images are binary, or are binarized here.

    Args:
        binarization: None: images are taken as they are. "stochastic": each pixel is drawn anew
            from its probability whenever it is seen (Salakhutdinov and Murray 2008). Or a float in
            (0, 1): pixels are white where their probability reaches it.

    Raises:
        ValueError: for another `binarization`.
    """

    def __init__(self, binarization=None):
        levels.check_binarization(binarization)
        self.binarization = binarization

    @property
    def random(self):
        return self.binarization == "stochastic"

    @property
    def data(self):
        if self.binarization is None:
            return "black and white; of grey pixels the mean over binarizations, no likelihood"
        return levels.describe_binarization(self.binarization)

    def observed(self, images, key=None):
        if self.binarization is None or (self.random and key is None):
            return images
        uniforms = randomness.uniform(_shape(images), key) if self.random else None
        return 2 * tf.cast(levels.binarized(images, self.binarization, uniforms), tf.float32) - 1

    def log_prob(self, images, parameters):
        return _sum((images + 1) / 2 * parameters - tf.nn.softplus(parameters))

    def mean(self, parameters):
        return 2 * tf.sigmoid(parameters) - 1

    def sample(self, parameters, key):
        white = randomness.uniform(_shape(parameters), key) < tf.sigmoid(parameters)
        return 2 * tf.cast(white, tf.float32) - 1

    def get_config(self):
        return {"binarization": self.binarization}


@keras.saving.register_keras_serializable("keras_gen")
class Gaussian(Likelihood):
    """Every pixel is normal; the parameters are its mean and the logarithm of its deviation.

    Args:
        deviation: "shared": one learned number for each channel (sigma-VAE, Rybkin et al. 2021).
            "predicted": of every pixel by the decoder, which can drive it towards `least` where
            pixels never vary. Or a positive float, which leaves the mean as the one parameter: then
            the log-likelihood is -squared error / (2 deviation²) and a constant.
        least: deviations do not fall below it; half a grey level or so.
        dequantize: whether an observation is spread uniformly over its grey level, of 256. The
            density of whole levels has no bound: then bits per dimension mean nothing.

    Raises:
        ValueError: when an argument is unknown or not positive.
    """

    bin_width = BIN

    def __init__(self, deviation="shared", least=1 / 256, dequantize=True):
        if isinstance(deviation, str):
            if deviation not in ("shared", "predicted"):
                raise ValueError(
                    '`deviation` must be "shared", "predicted" or a number. '
                    f"Received: deviation={deviation!r}"
                )
        else:
            positive(deviation=deviation)
            deviation = float(deviation)
        positive(least=least)
        self.deviation, self.least, self.dequantize = deviation, least, bool(dequantize)
        self.parameters = 2 if isinstance(deviation, str) else 1
        self.shared = int(deviation == "shared")

    @property
    def random(self):
        return self.dequantize

    @property
    def data(self):
        if self.dequantize:
            return (
                "a density of images in [-1, 1], dequantized: spread uniformly over its grey level"
            )
        return "a density of images in [-1, 1], of whole levels: bits per dimension mean nothing"

    def observed(self, images, key=None):
        if key is None or not self.dequantize:
            return images
        return images + randomness.uniform(_shape(images), key, -BIN / 2, BIN / 2)

    def _split(self, parameters):
        """Means and logarithms of the deviations."""
        if self.parameters == 1:
            return parameters, tf.math.log(self.deviation)
        mean, raw = tf.split(parameters, 2, axis=-1)
        least = math.log(self.least)
        return mean, least + tf.nn.softplus(raw - least)

    def log_prob(self, images, parameters):
        mean, log_deviation = self._split(parameters)
        squares = tf.square((images - mean) * tf.exp(-log_deviation))
        return -_sum(squares / 2 + log_deviation + math.log(2 * math.pi) / 2)

    def mean(self, parameters):
        return tf.clip_by_value(self._split(parameters)[0], -1, 1)

    def sample(self, parameters, key):
        mean, log_deviation = self._split(parameters)
        noise = randomness.normal(_shape(mean), key)
        return tf.clip_by_value(mean + tf.exp(log_deviation) * noise, -1, 1)

    def get_config(self):
        return {
            "deviation": self.deviation,
            "least": self.least,
            "dequantize": self.dequantize,
        }


@keras.saving.register_keras_serializable("keras_gen")
class DiscretizedLogistic(Likelihood):
    """Every pixel is one of 256 levels (Kingma et al. 2016; Salimans et al. 2017, eq. 2).

    The parameters are the mean and the logarithm of the scale of a logistic distribution; the
    probability of a level is what that has within the level's bin, of width 2 / 255. The outer bins
    reach to infinity, so that the probabilities of the 256 levels sum to 1.

    Args:
        least: scales do not fall below it.
    """

    parameters = 2

    def __init__(self, least=1e-3):
        positive(least=least)
        self.least = least

    def _split(self, parameters):
        """Means and logarithms of the scales."""
        mean, raw = tf.split(parameters, 2, axis=-1)
        least = math.log(self.least)
        return mean, least + tf.nn.softplus(raw - least)

    def log_prob(self, images, parameters):
        mean, log_scale = self._split(parameters)
        return _sum(levels.logistic_log_prob(images, mean, log_scale, BIN / 2))

    def mean(self, parameters):
        return tf.clip_by_value(self._split(parameters)[0], -1, 1)

    def sample(self, parameters, key):
        mean, log_scale = self._split(parameters)
        share = randomness.uniform(_shape(mean), key, 1e-6, 1 - 1e-6)
        drawn = mean + tf.exp(log_scale) * (tf.math.log(share) - tf.math.log1p(-share))
        levels_drawn = tf.round((tf.clip_by_value(drawn, -1, 1) + 1) / BIN)
        return levels_drawn * BIN - 1

    def get_config(self):
        return {"least": self.least}


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretized_logistic": DiscretizedLogistic,
}


def get_likelihood(identifier):
    """A `Likelihood` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, LIKELIHOODS, Likelihood, "likelihood")


def _shape(images):
    """The shape of images, with what is known of it as ints."""
    dynamic = tf.shape(images)
    return [dynamic[i] if side is None else side for i, side in enumerate(images.shape)]


def _sum(values):
    return tf.reduce_sum(values, [-3, -2, -1])
