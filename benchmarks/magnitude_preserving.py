"""A U-Net whose layers keep the magnitude of what they see, to be compared with the project's.

After Karras et al. 2023, Analyzing and Improving the Training Dynamics of Diffusion Models
(EDM2): no activation is normalized; instead every kernel is divided by the norm of what enters an
output, and sums and activations are scaled so that a deviation of 1 stays 1. The blocks are
otherwise those of `keras_gen.networks.unet`, separable.
"""

import math

import keras
import tensorflow as tf
from keras import layers, ops

from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers

SILU = 0.596  # deviation of silu of a standard normal variable
SHARE = 0.3  # of a residual in its sum


@keras.saving.register_keras_serializable("benchmarks")
class Kernel(layers.Layer):
    """A convolution, depthwise or over all channels, of a kernel of norm 1 for each output."""

    def __init__(self, channels=None, size=1, strides=1, initializer=None, gain=False, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.size, self.strides = channels, size, strides
        self.initializer, self.has_gain = keras.initializers.get(initializer), gain

    def build(self, shape):
        outputs = self.channels or 1
        kernel = (self.size, self.size, shape[-1], outputs)
        self.kernel = self.add_weight(name="kernel", shape=kernel, initializer=self.initializer)
        self.gain = self.add_weight(name="gain", initializer="zeros") if self.has_gain else None

    def get_config(self):
        own = {"channels": self.channels, "size": self.size, "strides": self.strides}
        kernel = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), **own, "initializer": kernel, "gain": self.has_gain}

    def compute_output_shape(self, shape):
        batch, *sides, channels = shape
        return (batch, *(side // self.strides for side in sides), self.channels or channels)

    def call(self, x):
        kernel = tf.cast(self.kernel, tf.float32)
        axes = [0, 1, 2] if self.channels else [0, 1]
        norm = tf.sqrt(tf.reduce_sum(tf.square(kernel), axes, keepdims=True))
        kernel = kernel / (norm + 1e-4)
        if self.gain is not None:
            kernel *= tf.cast(self.gain, tf.float32)
        kernel, strides = tf.cast(kernel, x.dtype), [1, self.strides, self.strides, 1]
        if self.channels:
            return tf.nn.conv2d(x, kernel, strides, "VALID" if self.strides > 1 else "SAME")
        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")


def silu(x):
    return ops.silu(x) / SILU


def total(x, y, share=SHARE):
    return ((1 - share) * x + share * y) / math.hypot(1 - share, share)


def joined(x, y):
    """Both along the channels, each with the same weight in what follows."""
    a, b = x.shape[-1], y.shape[-1]
    scale = math.sqrt((a + b) / 2)
    return ops.concatenate([scale / math.sqrt(a) * x, scale / math.sqrt(b) * y], -1)


def pixel_norm(x):
    squares = ops.mean(ops.square(ops.cast(x, "float32")), -1, keepdims=True)
    return x * ops.cast(ops.rsqrt(squares + 1e-4), x.dtype)


def denoiser(image_shape, width=64, multipliers=(1, 2), blocks=1, patch=2, seed=0):
    """As `keras_gen.networks.unet.denoiser`, without labels."""
    initial = Initializers(seed)
    net_condition = inputs.condition(width, None, initial)
    taken, condition = net_condition

    def conv(x, channels, size=1, strides=1, gain=False, **kwargs):
        own = {"initializer": initial.normal(1.0), "gain": gain, **kwargs}
        return Kernel(channels, size, strides, **own)(x)

    def block(x, channels, down):
        if x.shape[-1] != channels:
            x = conv(x, channels)
        x = pixel_norm(x) if down else x
        scale = layers.Dense(channels, kernel_initializer="zeros", dtype="float32")(condition)
        h = conv(x, None, 3) * ops.cast(1 + scale, x.dtype)[:, None, None]
        return total(x, conv(silu(conv(h, 2 * channels)), channels))

    image = keras.Input(image_shape, name="image")
    x = ops.concatenate([image, ops.ones_like(image[..., :1])], -1)
    x = conv(x, width, patch, patch)
    skips = [x]
    for level, multiplier in enumerate(multipliers):
        x = layers.AveragePooling2D(2)(x) if level else x
        for _ in range(blocks):
            x = block(x, width * multiplier, down=True)
            skips.append(x)
    x = block(x, x.shape[-1], down=True)
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + (level == 0)):
            x = block(joined(x, skips.pop()), width * multiplier, down=False)
        x = layers.UpSampling2D(2)(x) if level else x
    out = conv(x, patch**2 * image_shape[-1], 3, gain=True, dtype="float32")
    margins = inputs.margins(image_shape, patch)
    return keras.Model([image, *taken], inputs.assembled(out, patch, margins), name="mp_unet")
