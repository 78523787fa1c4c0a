"""Gradient penalties on the discriminator.

A penalty is one object: `penalty(discriminate, real, fake, key)` gives float32 [batch]. Here
`discriminate` maps images [batch, ...] to logits [batch], so labels and networks are none of its
business; `real` and `fake` have the same shape; `key` is a key of `keras_gen.randomness`.
"""

import keras
import tensorflow as tf

from keras_gen import randomness
from keras_gen.strategies import Strategy


def squared_gradient_norm(discriminate, images):
    """Squared norm of the gradient of each image's logit in that image, [batch]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = discriminate(images)
    gradient = tape.gradient(logits, images)
    return tf.reduce_sum(tf.square(gradient), axis=list(range(1, images.shape.rank)))


class Penalty(Strategy):
    """Base of the penalties; `name` is what its term is called in the training history."""

    name = None

    def __init__(self, weight):
        if weight < 0:
            raise ValueError(f"`weight` must not be negative. Received: weight={weight!r}")
        self.weight = weight

    def __call__(self, discriminate, real, fake, key):
        raise NotImplementedError

    def get_config(self):
        return {"weight": self.weight}


@keras.saving.register_keras_serializable("keras_gen")
class R1(Penalty):
    """weight / 2 * |gradient at real images|^2 (Mescheder et al. 2018, eq. 9)."""

    name = "r1_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key):
        return 0.5 * self.weight * squared_gradient_norm(discriminate, real)


@keras.saving.register_keras_serializable("keras_gen")
class R2(Penalty):
    """weight / 2 * |gradient at generated images|^2 (Mescheder et al. 2018, eq. 10)."""

    name = "r2_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key):
        return 0.5 * self.weight * squared_gradient_norm(discriminate, fake)


@keras.saving.register_keras_serializable("keras_gen")
class GradientPenalty(Penalty):
    """WGAN-GP: weight * (|gradient| - 1)^2 between real and fake (Gulrajani et al. 2017, eq. 3).

    The interpolation coefficient is uniform in [0, 1), one for each pair. A small epsilon under the
    root keeps the derivative finite where the gradient vanishes.
    """

    name = "gradient_penalty"

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def __call__(self, discriminate, real, fake, key):
        shape = [tf.shape(real)[0]] + [1] * (real.shape.rank - 1)
        mix = randomness.uniform(shape, randomness.key(key, "interpolation"))
        squared = squared_gradient_norm(discriminate, real + mix * (fake - real))
        return self.weight * tf.square(tf.sqrt(squared + 1e-12) - 1)
