"""Weights of the loss over time.

A weighting multiplies the squared error *of the network's own output*: the training loss of one
example is weight(t) * mean((output - target)^2). Each is derived from a weight w of the squared
error of x_0, by the squared error of x_0 that an error of 1 in the output amounts to; so one
weighting means the same for every prediction on every path.
"""

import keras
import tensorflow as tf

from keras_gen.strategies import Strategy, positive, resolve


class Weighting(Strategy):
    """Base of the weightings."""

    def __call__(self, path, prediction, t):
        """Weights shaped as t, at least 0, of the squared error of `prediction` on `path`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen")
class UniformWeighting(Weighting):
    """1 at every t, whatever is predicted: DDPM's "simple" loss, and flow matching's."""

    def __call__(self, path, prediction, t):
        return tf.ones_like(tf.convert_to_tensor(t))


@keras.saving.register_keras_serializable("keras_gen")
class MinSNRWeighting(Weighting):
    """Min-SNR-gamma (Hang et al. 2023): w = min(SNR, gamma).

    Thus min(SNR, gamma) for the data, min(SNR, gamma) / SNR for the noise and, on a
    variance-preserving path, min(SNR, gamma) / (SNR + 1) for the velocity. Finite at both ends.

    Args:
        gamma: signal-to-noise ratio above which easy times gain no further weight.
    """

    def __init__(self, gamma=5.0):
        positive(gamma=gamma)
        self.gamma = float(gamma)

    def get_config(self):
        return {"gamma": self.gamma}

    def __call__(self, path, prediction, t):
        of_data, of_noise = prediction.squared_errors(path, t)
        return tf.minimum(of_noise, self.gamma * of_data)


@keras.saving.register_keras_serializable("keras_gen")
class EDMWeighting(Weighting):
    """EDM's w = SNR + 1 / sigma_data^2 (Karras et al. 2022, table 1, lambda = 1 / c_out^2).

    It is 1 at every t for the "edm" prediction of the same `sigma_data`. For the data it grows
    without bound towards t = 0, for the noise towards alpha = 0.

    Args:
        sigma_data: standard deviation of the data.
    """

    def __init__(self, sigma_data=0.5):
        positive(sigma_data=sigma_data)
        self.sigma_data = float(sigma_data)

    def get_config(self):
        return {"sigma_data": self.sigma_data}

    def __call__(self, path, prediction, t):
        of_data, of_noise = prediction.squared_errors(path, t)
        return of_noise + of_data / self.sigma_data**2


WEIGHTINGS = {"uniform": UniformWeighting, "min_snr": MinSNRWeighting, "edm": EDMWeighting}


def get_weighting(identifier):
    """A `Weighting` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, WEIGHTINGS, Weighting, "weighting")
