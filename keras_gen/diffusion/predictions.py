"""What the network predicts, and how to get the data and the noise out of it.

Every prediction is linear in the data x_0 and the noise, given x_t = alpha x_0 + sigma noise; so
each can be turned into any other. The network's output, x, data and noise share one shape
[batch, ...]; t is a scalar or [batch].
"""

import keras
import tensorflow as tf

from keras_gen.diffusion.paths import as_time, combine, rows_like
from keras_gen.strategies import Strategy, positive, resolve


class Prediction(Strategy):
    """Base of the predictions. A subclass gives three pairs of coefficients, shaped as t."""

    def target_coefficients(self, path, t):
        """(a, b) of the target a x_0 + b noise."""
        raise NotImplementedError

    def data_coefficients(self, path, t):
        """(c, d) of x_0 = c x_t + d output."""
        raise NotImplementedError

    def noise_coefficients(self, path, t):
        """(e, f) of noise = e x_t + f output."""
        raise NotImplementedError

    def target(self, path, data, noise, t):
        """What the network should put out, shaped as `data`."""
        on_data, on_noise = self.target_coefficients(path, as_time(t))
        return combine(on_data, data, on_noise, noise)

    def to_data(self, path, output, x, t):
        """The estimate of x_0 in the network's output, shaped as `x`."""
        on_x, on_output = self.data_coefficients(path, as_time(t))
        return combine(on_x, x, on_output, output)

    def to_noise(self, path, output, x, t):
        """The estimate of the noise in the network's output, shaped as `x`."""
        on_x, on_output = self.noise_coefficients(path, as_time(t))
        return combine(on_x, x, on_output, output)

    def squared_errors(self, path, t):
        """What a squared error of 1 in the output amounts to, as (of x_0, of the noise).

        Shaped as t. The second is the first times the signal-to-noise ratio.
        """
        t = as_time(t)
        of_data = tf.square(self.data_coefficients(path, t)[1])
        return of_data, tf.square(self.noise_coefficients(path, t)[1])

    def input(self, path, x, t):
        """What the network sees of x."""
        return x

    def condition(self, path, t):
        """What the network sees of t."""
        return t


@keras.saving.register_keras_serializable("keras_gen")
class VelocityPrediction(Prediction):
    """The velocity dx/du of the path, u being the path's own parameter.

    - Rectified flow: u = t, velocity noise - x_0 (Liu et al. 2022).
    - Variance-preserving (linear, cosine): u the angle whose tangent is sigma / alpha, velocity
      alpha noise - sigma x_0, the v-prediction of Salimans and Ho 2022.
    - EDM: u = sigma, so the velocity is the noise (Karras et al. 2022, eq. 1).

    With these parameters the velocity a x_0 + b noise has alpha b - sigma a = 1, so that
    x_0 = b x - sigma velocity and noise = alpha velocity - a x: no division at any t.
    """

    def target_coefficients(self, path, t):
        return path.velocity(t)

    def data_coefficients(self, path, t):
        return path.velocity(t)[1], -path.sigma(t)

    def noise_coefficients(self, path, t):
        return -path.velocity(t)[0], path.alpha(t)


@keras.saving.register_keras_serializable("keras_gen")
class NoisePrediction(Prediction):
    """The noise (Ho et al. 2020).

    Where alpha is 0 (t = 1 of the rectified flow) it says nothing of the data; `to_data` is 0
    there, the middle of the image range.
    """

    def target_coefficients(self, path, t):
        return tf.zeros_like(t), tf.ones_like(t)

    def data_coefficients(self, path, t):
        on_x = tf.math.reciprocal_no_nan(path.alpha(t))
        return on_x, -path.sigma(t) * on_x

    def noise_coefficients(self, path, t):
        return tf.zeros_like(t), tf.ones_like(t)

    def squared_errors(self, path, t):
        t = as_time(t)
        return tf.exp(-path.log_snr(t)), tf.ones_like(t)


@keras.saving.register_keras_serializable("keras_gen")
class DataPrediction(Prediction):
    """The data x_0. Where sigma is 0 it says nothing of the noise; `to_noise` is 0 there."""

    def target_coefficients(self, path, t):
        return tf.ones_like(t), tf.zeros_like(t)

    def data_coefficients(self, path, t):
        return tf.zeros_like(t), tf.ones_like(t)

    def noise_coefficients(self, path, t):
        on_x = tf.math.reciprocal_no_nan(path.sigma(t))
        return on_x, -path.alpha(t) * on_x

    def squared_errors(self, path, t):
        t = as_time(t)
        return tf.ones_like(t), tf.exp(path.log_snr(t))


@keras.saving.register_keras_serializable("keras_gen")
class PreconditionedPrediction(Prediction):
    """EDM's F in x_0 = c_skip x + c_out F(c_in x, c_noise) (Karras et al. 2022, table 1).

    Input and target have unit variance at every t. With V = alpha^2 sigma_data^2 + sigma^2:
    c_skip = alpha sigma_data^2 / V, c_out = sigma sigma_data / sqrt(V), c_in = 1 / sqrt(V) and
    c_noise = log(sigma / alpha) / 4, kept within [-3, 3] as alpha may be 0. On the EDM path, where
    alpha = 1, these are the paper's. On a variance-preserving path with sigma_data = 1, F is minus
    the v-prediction.

    Args:
        sigma_data: standard deviation of the data.
    """

    def __init__(self, sigma_data=0.5):
        positive(sigma_data=sigma_data)
        self.sigma_data = float(sigma_data)

    def get_config(self):
        return {"sigma_data": self.sigma_data}

    def _scales(self, path, t):
        """(alpha sigma_data / sqrt(V), sigma / sqrt(V), 1 / sqrt(V)); the first two lie on a
        circle."""
        signal, sigma = path.alpha(t) * self.sigma_data, path.sigma(t)
        deviation = tf.sqrt(tf.square(signal) + tf.square(sigma))
        return signal / deviation, sigma / deviation, 1 / deviation

    def target_coefficients(self, path, t):
        signal, noise, _ = self._scales(path, t)
        return noise / self.sigma_data, -signal

    def data_coefficients(self, path, t):
        signal, noise, c_in = self._scales(path, t)
        return signal * self.sigma_data * c_in, noise * self.sigma_data

    def noise_coefficients(self, path, t):
        signal, noise, c_in = self._scales(path, t)
        return noise * c_in, -signal

    def input(self, path, x, t):
        return rows_like(self._scales(path, as_time(t))[2], x) * x

    def condition(self, path, t):
        return tf.clip_by_value(-path.log_snr(t) / 8, -3, 3)


PREDICTIONS = {
    "velocity": VelocityPrediction,
    "noise": NoisePrediction,
    "data": DataPrediction,
    "edm": PreconditionedPrediction,
}


def get_prediction(identifier):
    """A `Prediction` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, PREDICTIONS, Prediction, "prediction")


def convert(output, x, t, path, source, destination):
    """One prediction turned into another.

    Args:
        output: what the network put out, [batch, ...].
        x: x_t, of that shape.
        t: scalar or [batch].
        path: `Path`.
        source: `Prediction` that `output` is.
        destination: `Prediction` that is wanted.

    Returns:
        Tensor shaped as `output`.
    """
    data = source.to_data(path, output, x, t)
    return destination.target(path, data, source.to_noise(path, output, x, t), t)
