"""Dropout whose mask is a function of the model's seed, the step and the replica."""

import keras
import tensorflow as tf

from keras_gen import randomness


@keras.saving.register_keras_serializable("keras_gen")
class Dropout(keras.layers.Layer):
    """Sets a fraction `rate` of its inputs to zero while training, and scales up the rest.

    Unlike `keras.layers.Dropout` it keeps no random state: the mask is drawn from the key of the
    surrounding `keras_gen.randomness.scope`, folded with the layer's name. A resumed run therefore
    draws the masks that the uninterrupted run drew, and replicas draw different ones.

    Args:
        rate: float in [0, 255/256], the fraction of inputs dropped, rounded to 1/256: a byte
            decides, because drawing four bytes for each input takes a tenth of a training step on
            CPU. The mean is kept exactly.

    Raises:
        ValueError: when `rate` is out of range, or when it is called with `training=True` outside a
            scope.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate <= 255 / 256:
            raise ValueError(f"`rate` must lie in [0, 255/256]. Received: rate={rate!r}")
        self.rate = rate

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        key = randomness.current_key()
        if key is None:
            raise ValueError(
                f"Dropout layer {self.name!r} was called with training=True outside "
                "`keras_gen.randomness.scope(key)`, which says what its mask is drawn from."
            )
        dropped = round(256 * self.rate)
        if key.shape.rank == 2:  # a key for each row
            draws = randomness.row_bytes(key, inputs.shape[1:], self.name)
        else:
            shape = [tf.shape(inputs)[0], *inputs.shape[1:]]
            draws = randomness.random_bytes(shape, randomness.key(key, self.name))
        kept = tf.cast(draws >= tf.constant(dropped, tf.uint8), inputs.dtype)
        return inputs * (kept * (256 / (256 - dropped)))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
