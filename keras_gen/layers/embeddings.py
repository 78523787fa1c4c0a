"""Embeddings of the time of diffusion."""

import math

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class TimeEmbedding(keras.layers.Layer):
    """Cosines and sines of times, of geometrically spaced frequencies (Vaswani et al. 2017).

    Always float32: bfloat16, with its eight bits, cannot tell neighbouring times apart.

    Args:
        dim: even int, length of the embedding.
        max_frequency: the largest of the angular frequencies, the smallest being 1. Ho et al. 2020
            embed steps 0 to 1000 with frequencies 1 to 1e-4; for times 0 to 1 this is 1000 to 0.1.
    """

    def __init__(self, dim, max_frequency=1000.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if dim < 4 or dim % 2:
            raise ValueError(f"`dim` must be even and at least 4. Received: dim={dim!r}")
        self.dim, self.max_frequency = dim, max_frequency

    def call(self, times):
        """Times [batch] to float32 [batch, dim]."""
        exponents = tf.linspace(0.0, math.log(self.max_frequency), self.dim // 2)
        angles = tf.cast(times, tf.float32)[:, None] * tf.exp(exponents)
        return tf.concat([tf.cos(angles), tf.sin(angles)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.dim)

    def get_config(self):
        config = super().get_config()
        return {**config, "dim": self.dim, "max_frequency": self.max_frequency}
