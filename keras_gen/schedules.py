"""Numbers that change with the images a model has seen, whatever the batch size and the devices."""

import math

import keras
import tensorflow as tf

from keras_gen.strategies import Strategy, positive


@keras.saving.register_keras_serializable("keras_gen")
class CosineSchedule(Strategy):
    """Half a cosine from `initial`, at no images, to `final`, from `images` images on.

    R3GAN takes its rates and weights from their values of the burn-in to the final ones so (Huang
    et al. 2024, section 4).

    Args:
        initial, final: floats.
        images: int above zero, the length of the burn-in.
    """

    def __init__(self, initial, final, images):
        positive(images=images)
        self.initial, self.final, self.images = initial, final, images

    def __call__(self, seen):
        """The value, float32 scalar, after `seen` images (int scalar or tensor)."""
        progress = tf.minimum(tf.cast(seen, tf.float32) / self.images, 1.0)
        return self.final + (self.initial - self.final) * 0.5 * (1 + tf.cos(math.pi * progress))

    def get_config(self):
        return {"initial": self.initial, "final": self.final, "images": self.images}


def value_at(value, seen):
    """A number, or what a schedule is after `seen` images."""
    return value(seen) if callable(value) else value
