"""Channels that do not depend on the image."""

import keras
import tensorflow as tf

GAIN = 10.0


@keras.saving.register_keras_serializable("keras_gen")
class SharedChannels(keras.layers.Layer):
    """Appends channels of learned numbers, the same at every pixel of every image; at first 0.

    At the end of a decoder they are parameters of a likelihood that all pixels share, such as one
    deviation. The numbers are 10 times a weight, so that Adam, whose steps are as long for every
    weight, takes a log-deviation to its place in hundreds of steps rather than in thousands.

    Args:
        channels: int, how many.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, inputs_shape):
        self.value = self.add_weight(name="value", shape=(self.channels,), initializer="zeros")

    def call(self, inputs):
        shape = tf.concat([tf.shape(inputs)[:-1], [self.channels]], 0)
        appended = tf.broadcast_to(tf.cast(GAIN * self.value, inputs.dtype), shape)
        return tf.concat([inputs, appended], -1)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], inputs_shape[-1] + self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
