"""1×1 convolution and resampling by two as one convolution."""

import keras
import numpy as np
import tensorflow as tf

BINOMIAL = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])[:, :, None, None] / 16


@keras.saving.register_keras_serializable("keras_gen")
class ResampledConv(keras.layers.Layer):
    """A 1×1 convolution and a halving or doubling of the sides, with the filter [1, 2, 1] ⊗
    [1, 2, 1] that R3GAN resamples with (Huang et al. 2024), zeros being outside the image.

    Both are linear, so that one convolution of stride 2, whose kernel is the outer product of the
    two, does the same: a single operation, with gradients of every order, instead of a pass over
    the larger feature map for the filter and another for the channels.

    Args:
        filters: channels of the result.
        direction: "down", which halves the sides (rounded up), or "up", which doubles them.
        kernel_initializer: of the 1×1 kernel [1, 1, channels, filters].

    Raises:
        ValueError: for another direction.
    """

    def __init__(self, filters, direction, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        if direction not in ("up", "down"):
            raise ValueError(
                f'`direction` must be "up" or "down". Received: direction={direction!r}'
            )
        self.filters, self.direction = filters, direction
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(1, 1, inputs_shape[-1], self.filters),
            initializer=self.kernel_initializer,
        )

    def call(self, inputs):
        kernel = tf.convert_to_tensor(self.kernel)
        if self.direction == "down":
            return tf.nn.conv2d(inputs, kernel * tf.cast(BINOMIAL, kernel.dtype), 2, "SAME")
        # A pixel gets the weights of one or two of its neighbours on either axis: four times the
        # filter keeps the mean.
        kernel = tf.transpose(kernel, [0, 1, 3, 2]) * tf.cast(4 * BINOMIAL, kernel.dtype)
        shape = [tf.shape(inputs)[0], *self.compute_output_shape(inputs.shape)[1:]]
        return tf.nn.conv2d_transpose(inputs, kernel, shape, 2, "SAME")

    def compute_output_shape(self, inputs_shape):
        batch, *sides, _ = inputs_shape
        if self.direction == "up":
            sides = [2 * side for side in sides]
        else:
            sides = [-(-side // 2) for side in sides]
        return (batch, *sides, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "direction": self.direction,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
