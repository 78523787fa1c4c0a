"""Latent codes with a meaning (InfoGAN, Chen et al. 2016)."""

import keras
import numpy as np
import tensorflow as tf

from keras_gen.strategies import Strategy, checked_count, positive


@keras.saving.register_keras_serializable("keras_gen")
class Codes(Strategy):
    """Codes that are a part of the latent and can be told from the image.

    The discriminator predicts them from generated images; both networks minimize the negative
    logarithm of what it predicts for the codes that were used, which bounds their mutual
    information with the image (eq. 5). Categorical codes are one-hot, of equal probability;
    continuous ones are uniform in [-1, 1], predicted with a deviation of 1.

    Args:
        categorical: numbers of values of the categorical codes.
        continuous: number of continuous codes.
        weight: of the term, lambda.

    Raises:
        ValueError: when there is no code.
    """

    name = "information_loss"

    def __init__(self, categorical=(), continuous=0, weight=1.0):
        if np.ndim(categorical) != 1:
            raise ValueError(
                "`categorical` must be a list: how many values each code has. "
                f"Received: categorical={categorical!r}"
            )
        self.categorical = tuple(checked_count("categorical", n, least=2) for n in categorical)
        self.continuous = checked_count("continuous", continuous, least=0)
        positive(weight=weight)
        self.weight = weight
        if not self.dim:
            raise ValueError(
                "There must be a code. Received: "
                f"categorical={categorical!r}, continuous={continuous!r}"
            )

    @property
    def dim(self):
        """Numbers of the latent that are codes, its last ones; as many describe them."""
        return sum(self.categorical) + self.continuous

    @property
    def draws(self):
        """Uniform numbers that make the codes of one image."""
        return len(self.categorical) + self.continuous

    def codes(self, uniforms):
        """Codes float32 [batch, dim] of numbers uniform in [0, 1), [batch, draws]."""
        parts = []
        for i, values in enumerate(self.categorical):
            index = tf.minimum(tf.cast(uniforms[:, i] * values, tf.int32), values - 1)
            parts.append(tf.one_hot(index, values))
        return tf.concat([*parts, 2 * uniforms[:, len(parts) :] - 1], 1)

    def encode(self, categorical=None, continuous=None):
        """Codes of chosen values, to be given to `generate`.

        Args:
            categorical: ints [n, categorical codes], or [n] where there is one.
            continuous: floats [n, continuous codes], or [n] where there is one.

        Returns:
            NumPy float32 [n, dim].

        Raises:
            ValueError: when a code is missing, or out of range.
        """
        parts = []
        given = {"categorical": categorical, "continuous": continuous}
        for (name, values), count in zip(given.items(), (len(self.categorical), self.continuous)):
            values = None if values is None else np.asarray(values, np.float32)
            values = values[:, None] if values is not None and values.ndim == 1 else values
            if (values is None) != (count == 0) or (count and values.shape[1:] != (count,)):
                raise ValueError(
                    f"`{name}` must give {count} codes for each image. Received: {name}={values!r}"
                )
            if name == "continuous":
                if values is not None and not (np.abs(values) <= 1).all():
                    raise ValueError(
                        f"Continuous codes must lie in [-1, 1]. Received: {name}={values!r}"
                    )
                parts += [] if values is None else [values]
                continue
            for i, size in enumerate(self.categorical):
                if not np.isin(values[:, i], range(size)).all():
                    raise ValueError(
                        f"Categorical code {i} must lie in [0, {size}). Received: {values[:, i]}"
                    )
                parts.append(np.eye(size, dtype=np.float32)[values[:, i].astype(int)])
        if len({len(part) for part in parts}) != 1:
            raise ValueError(
                "There must be as many continuous as categorical codes. Received: those of "
                f"{[len(part) for part in parts]} images"
            )
        return np.concatenate(parts, 1)

    def __call__(self, parameters, codes):
        """weight * nats of the codes [batch, dim] under predictions [batch, dim], float32
        [batch]."""
        nats, first = 0.0, 0
        for size in self.categorical:
            nats += tf.nn.softmax_cross_entropy_with_logits(
                codes[:, first : first + size], parameters[:, first : first + size]
            )
            first += size
        nats += 0.5 * tf.reduce_sum(tf.square(codes[:, first:] - parameters[:, first:]), 1)
        return self.weight * nats

    def get_config(self):
        return {
            "categorical": list(self.categorical),
            "continuous": self.continuous,
            "weight": self.weight,
        }
