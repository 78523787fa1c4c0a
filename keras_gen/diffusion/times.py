"""Times to train at. A sampler of times is called with a shape and a key and returns float32."""

import keras
import tensorflow as tf

from keras_gen import randomness
from keras_gen.strategies import Strategy, checked_count, positive, resolve


class TimeSampler(Strategy):
    """Base of the samplers of training times."""

    def __call__(self, shape, key):
        """Times float32 of the given shape, a function of the key alone."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen")
class UniformTimes(TimeSampler):
    """Uniform in (0, 1]."""

    def __call__(self, shape, key):
        return 1 - randomness.uniform(shape, key)


@keras.saving.register_keras_serializable("keras_gen")
class StratifiedTimes(TimeSampler):
    """Uniform in (0, 1], one in each of as many equal parts as there are times.

    The mean over a batch varies less (Kingma et al. 2021, appendix I.1). Times rise along the
    batch, whose examples must therefore come in random order.
    """

    def __call__(self, shape, key):
        count = tf.reduce_prod(shape)
        offsets = tf.reshape(1 - randomness.uniform(shape, key), [-1])
        part = tf.cast(tf.range(count), tf.float32)
        return tf.reshape((part + offsets) / tf.cast(count, tf.float32), shape)


@keras.saving.register_keras_serializable("keras_gen")
class LogitNormalTimes(TimeSampler):
    """The sigmoid of a normal variable, in (0, 1): mostly the middle (Esser et al. 2024).

    Args:
        mean: of the normal variable; negative favours data, positive noise.
        std: of the normal variable.
    """

    def __init__(self, mean=0.0, std=1.0):
        positive(std=std)
        self.mean, self.std = float(mean), float(std)

    def get_config(self):
        return {"mean": self.mean, "std": self.std}

    def __call__(self, shape, key):
        return tf.sigmoid(self.mean + self.std * randomness.normal(shape, key))


@keras.saving.register_keras_serializable("keras_gen")
class LogNormalTimes(TimeSampler):
    """The exponential of a normal variable: EDM's sigma, which is that path's time.

    Args:
        mean: of log sigma (Karras et al. 2022, table 1: -1.2).
        std: of log sigma (theirs: 1.2).
    """

    def __init__(self, mean=-1.2, std=1.2):
        positive(std=std)
        self.mean, self.std = float(mean), float(std)

    def get_config(self):
        return {"mean": self.mean, "std": self.std}

    def __call__(self, shape, key):
        return tf.exp(self.mean + self.std * randomness.normal(shape, key))


@keras.saving.register_keras_serializable("keras_gen")
class DiscreteTimes(TimeSampler):
    """k / T for whole k uniform in 1..T, the steps of a `DiscretePath`.

    Args:
        timesteps: T.
    """

    def __init__(self, timesteps=1000):
        self.timesteps = checked_count("timesteps", timesteps)

    def get_config(self):
        return {"timesteps": self.timesteps}

    def __call__(self, shape, key):
        steps = randomness.uniform(shape, key, 1, self.timesteps + 1, dtype="int32")
        return tf.cast(steps, tf.float32) / self.timesteps


TIME_SAMPLERS = {
    "uniform": UniformTimes,
    "stratified": StratifiedTimes,
    "logit_normal": LogitNormalTimes,
    "log_normal": LogNormalTimes,
    "discrete": DiscreteTimes,
}


def get_time_sampler(identifier):
    """A `TimeSampler` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, TIME_SAMPLERS, TimeSampler, "times")
