"""Self-attention of SAGAN."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class SelfAttention(keras.layers.Layer):
    """x + gamma * attention(x), gamma being zero at first (Zhang et al. 2019, SAGAN, eqs. 1-3).

    Queries and keys have an eighth of the channels, values half.

    Args:
        kernel_initializers: four, of the 1×1 kernels of query, key, value and output.
    """

    def __init__(self, kernel_initializers=("glorot_uniform",) * 4, **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializers = [keras.initializers.get(i) for i in kernel_initializers]

    def build(self, inputs_shape):
        channels = inputs_shape[-1]
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        shapes = (channels, narrow), (channels, narrow), (channels, half), (half, channels)
        names = "query", "key", "value", "output"
        self.kernels = [
            self.add_weight(name=f"{name}_kernel", shape=shape, initializer=initializer)
            for name, shape, initializer in zip(names, shapes, self.kernel_initializers)
        ]
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="zeros")

    def call(self, inputs):
        _, rows, columns, channels = inputs.shape
        x = tf.reshape(inputs, [-1, rows * columns, channels])
        query, key, value, output = (tf.convert_to_tensor(kernel) for kernel in self.kernels)
        scores = tf.matmul(tf.matmul(x, query), tf.matmul(x, key), transpose_b=True)
        attention = tf.nn.softmax(tf.cast(scores, tf.float32))
        attended = tf.matmul(tf.cast(attention, x.dtype), tf.matmul(x, value))
        attended = tf.reshape(tf.matmul(attended, output), [-1, rows, columns, channels])
        return inputs + tf.convert_to_tensor(self.gamma) * attended

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        initializers = [keras.initializers.serialize(i) for i in self.kernel_initializers]
        return {**super().get_config(), "kernel_initializers": initializers}
