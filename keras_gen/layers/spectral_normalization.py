"""Spectral normalization with a gradient through the norm."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class SpectralNormalization(keras.layers.Wrapper):
    """A linear layer whose kernel is divided by its spectral norm (Miyato et al. 2018).

    The norm is u' W v, W being the kernel as a matrix [all other axes, last axis] and u, v its
    first singular vectors, by one power iteration in each call while training, from where the last
    one ended. The vectors are constants to the gradient; W is not (section 2.2, eqs. 10-12).
    `keras.layers.SpectralNormalization` overwrites the kernel and has no gradient through the norm.

    A layer that is linear in both gives the same for a kernel divided by a number as for inputs
    divided by it. So the kernel stays as the optimizer left it, and the bias is as it was.

    Args:
        layer: a layer with a `kernel`, such as Dense, Conv2D or `ResampledConv`; it must not be
            zero at first.
        seed: int, of the first vector.
    """

    def __init__(self, layer, seed=0, **kwargs):
        super().__init__(layer, **kwargs)
        self.seed = seed

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.vector = self.add_weight(
            name="vector",
            shape=(self.layer.kernel.shape[-1],),
            initializer=keras.initializers.RandomNormal(1.0, seed=self.seed),
            trainable=False,
            aggregation="only_first_replica",
        )

    def call(self, inputs, training=False):
        norm = self.norm(training)
        return self.layer(inputs / tf.cast(norm, inputs.dtype))

    def norm(self, training=False):
        """The spectral norm by the current vectors, float32 scalar; a training call moves them."""
        kernel = tf.cast(tf.convert_to_tensor(self.layer.kernel), tf.float32)
        matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
        constant = tf.stop_gradient(matrix)
        right = _normalized(tf.cast(tf.convert_to_tensor(self.vector), tf.float32))
        left = _normalized(tf.linalg.matvec(constant, right))
        if training:
            right = _normalized(tf.linalg.matvec(constant, left, transpose_a=True))
            self.vector.assign(right)
        return tf.maximum(tf.reduce_sum(left * tf.linalg.matvec(matrix, right)), 1e-12)

    def compute_output_shape(self, inputs_shape):
        return self.layer.compute_output_shape(inputs_shape)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def _normalized(vector):
    return vector * tf.math.rsqrt(tf.reduce_sum(tf.square(vector)) + 1e-24)
