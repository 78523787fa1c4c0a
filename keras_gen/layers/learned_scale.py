"""A number that a network learns to multiply by."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class LearnedScale(keras.layers.Layer):
    """The input times one learned number, which is 0 at first: gamma of SAGAN (Zhang et al. 2019,
    eq. 3)."""

    def build(self, inputs_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, inputs):
        return tf.convert_to_tensor(self.scale) * inputs

    def compute_output_shape(self, inputs_shape):
        return inputs_shape
