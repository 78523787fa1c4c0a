"""A dense layer over the channels of images."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class Pointwise(keras.layers.Dense):
    """`Dense` on features [batch, height, width, channels], which trains as a convolution of 1×1.

    On CPUs TensorFlow adds the bias, and sums its gradient, within the convolution. Without
    training it is `Dense`'s product of matrices, which takes less time where there are few places.
    """

    def call(self, inputs, training=False):
        if not training:
            return super().call(inputs)
        x = tf.nn.conv2d(inputs, tf.cast(self.kernel, inputs.dtype)[None, None], 1, "VALID")
        if self.use_bias:
            x = tf.nn.bias_add(x, tf.cast(self.bias, x.dtype))
        return self.activation(x)
