"""Channels that do not depend on the image."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class SharedChannels(keras.layers.Layer):
    """Appends channels of learned numbers, the same at every pixel of every image; at first 0.

    At the end of a decoder they are parameters of a likelihood that all pixels share, such as one
    deviation.

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
        appended = tf.broadcast_to(tf.cast(self.value, inputs.dtype), shape)
        return tf.concat([inputs, appended], -1)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], inputs_shape[-1] + self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
