"""Learning rates that Keras's own schedules do not give."""

import keras
import tensorflow as tf


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
