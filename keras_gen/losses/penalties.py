"""Gradient penalties on the discriminator.

A penalty is one object: `penalty(discriminate, real, fake, key, seen)` gives float32 [batch]. Here
`discriminate` maps images [batch, ...] to logits [batch], so labels and networks are none of its
business; `real` and `fake` have the same shape; `key` is a key of `keras_gen.randomness`; `seen` is
how many images the model has seen, which a weight may be a function of (`keras_gen.schedules`).
"""

import keras
import tensorflow as tf

from keras_gen import randomness
from keras_gen.schedules import value_at
from keras_gen.strategies import Strategy, is_number


class Judged:
    """A function of images that remembers what it gave for which: a penalty at images that the loss
    has judged needs no other pass through the discriminator.

    Args:
        discriminate: function images [batch, ...] -> logits [batch].
    """

    def __init__(self, discriminate):
        self.discriminate = discriminate
        self._known = []

    def __call__(self, images, discriminate=None):
        """The logits of images; `discriminate`, in place of the usual function, at first sight."""
        return self._judge(images, discriminate or self.discriminate)[1]

    def _judge(self, images, discriminate):
        for known, logits, tape in self._known:
            if known is images:
                return known, logits, tape
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = discriminate(images)
        self._known.append((images, logits, tape))
        return self._known[-1]

    def squared_gradient_norm(self, images):
        """Squared norm of the gradient of each image's logit in that image, [batch]."""
        _, logits, tape = self._judge(images, self.discriminate)
        gradient = tape.gradient(logits, images)
        return tf.reduce_sum(tf.square(gradient), axis=list(range(1, images.shape.rank)))


def squared_gradient_norm(discriminate, images):
    """As `Judged.squared_gradient_norm`, for any function of images."""
    judged = discriminate if isinstance(discriminate, Judged) else Judged(discriminate)
    return judged.squared_gradient_norm(images)


class Penalty(Strategy):
    """Base of the penalties; `name` is what its term is called in the training history.

    Args:
        weight: float that is not negative, or a schedule.
    """

    name = None

    def __init__(self, weight):
        if not callable(weight) and not (is_number(weight) and weight >= 0):
            raise ValueError(
                "`weight` must be a number that is not negative, or a schedule. "
                f"Received: weight={weight!r}"
            )
        self.weight = weight

    def __call__(self, discriminate, real, fake, key, seen=0):
        raise NotImplementedError

    def get_config(self):
        weight = self.weight
        return {
            "weight": keras.saving.serialize_keras_object(weight) if callable(weight) else weight
        }

    @classmethod
    def from_config(cls, config):
        weight = config["weight"]
        if isinstance(weight, dict):
            weight = keras.saving.deserialize_keras_object(weight)
        return cls(**{**config, "weight": weight})


@keras.saving.register_keras_serializable("keras_gen")
class R1(Penalty):
    """weight / 2 * |gradient at real images|^2 (Mescheder et al. 2018, eq. 9)."""

    name = "r1_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key, seen=0):
        return 0.5 * value_at(self.weight, seen) * squared_gradient_norm(discriminate, real)


@keras.saving.register_keras_serializable("keras_gen")
class R2(Penalty):
    """weight / 2 * |gradient at generated images|^2 (Mescheder et al. 2018, eq. 10)."""

    name = "r2_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key, seen=0):
        return 0.5 * value_at(self.weight, seen) * squared_gradient_norm(discriminate, fake)


@keras.saving.register_keras_serializable("keras_gen")
class GradientPenalty(Penalty):
    """WGAN-GP: weight * (|gradient| - 1)^2 between real and fake (Gulrajani et al. 2017, eq. 3).

    The interpolation coefficient is uniform in [0, 1), one for each pair. A small epsilon under the
    root keeps the derivative finite where the gradient vanishes.
    """

    name = "gradient_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key, seen=0):
        shape = [tf.shape(real)[0]] + [1] * (real.shape.rank - 1)
        mix = randomness.uniform(shape, randomness.key(key, "interpolation"))
        squared = squared_gradient_norm(discriminate, real + mix * (fake - real))
        return value_at(self.weight, seen) * tf.square(tf.sqrt(squared + 1e-12) - 1)


def checked_penalties(penalties):
    """A list of penalties.

    Raises:
        ValueError: when one is no penalty, or has no name, by which its term is logged, or the
            name of another.
    """
    is_list = isinstance(penalties, (list, tuple))
    if not is_list or not all(isinstance(penalty, Penalty) for penalty in penalties):
        raise ValueError(
            "`penalties` must be a list of `keras_gen.losses.Penalty`, such as [losses.R1(10.0)]. "
            f"Received: penalties={penalties!r}"
        )
    penalties = list(penalties)
    names = [penalty.name for penalty in penalties]
    if None in names or len(set(names)) < len(names):
        raise ValueError(f"Penalties must have a `name` each, all different. Received: {names}")
    return penalties
