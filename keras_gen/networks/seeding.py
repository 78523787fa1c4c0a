"""Initial weights that are a function of a seed."""

import itertools

import keras


class Initializers:
    """Makes initializers that each have a seed of their own, derived from one seed.

    Keras draws the initial weights from a process-wide generator unless each initializer is given
    its own seed; and two initializers with the same seed draw the same numbers.

    Args:
        seed: int.
    """

    def __init__(self, seed):
        self._seeds = (seed * 1_000_003 + i for i in itertools.count())

    def normal(self, stddev=0.02):
        """Normal of mean 0, as DCGAN initializes its kernels."""
        return keras.initializers.RandomNormal(stddev=stddev, seed=next(self._seeds))

    def glorot(self):
        """Glorot uniform, Keras's default for kernels."""
        return keras.initializers.GlorotUniform(seed=next(self._seeds))

    def he(self, scale=1.0):
        """Normal of deviation scale * sqrt(2 / inputs), which keeps the variance through ReLUs (He
        et al. 2015)."""
        return keras.initializers.VarianceScaling(2 * scale**2, seed=next(self._seeds))
