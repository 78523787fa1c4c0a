"""Numbers that change while a model learns, where Keras has none such."""

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


@keras.saving.register_keras_serializable("keras_gen")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is constant at first and then falls linearly to 0, as for CycleGAN.

    Args:
        learning_rate: float, the first.
        steps: int, of the whole training; from there on the rate is 0.
        constant: share of them with the first rate, in [0, 1); 1/2 in Zhu et al. 2017.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, learning_rate, steps, constant=0.5):
        if not (learning_rate > 0 and steps >= 1 and 0 <= constant < 1):
            raise ValueError(
                "`learning_rate` must be positive, `steps` at least 1 and `constant` in [0, 1). "
                f"Received: learning_rate={learning_rate!r}, steps={steps!r}, "
                f"constant={constant!r}"
            )
        self.learning_rate, self.steps, self.constant = learning_rate, steps, constant

    def __call__(self, step):
        left = 1 - tf.cast(step, tf.float32) / self.steps
        return self.learning_rate * tf.clip_by_value(left / (1 - self.constant), 0.0, 1.0)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "constant": self.constant,
        }
