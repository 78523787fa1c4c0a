"""Half of the channels times the sigmoid of the other half, as PixelCNNs have it."""

import functools

import keras
import tensorflow as tf

# XLA spreads a function over the cores only if it makes one tensor: hence one for each.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@keras.saving.register_keras_serializable("keras_gen")
class Gate(keras.layers.Layer):
    """tanh(a) sigmoid(b), or a sigmoid(b), of channels [a, b].

    It is computed in float32 and comes in the dtype of the layer. In training both factors and
    their gradients are compiled: op by op, the gates of a PixelCNN took a third as long as its
    convolutions.

    Args:
        activation: "tanh", or "linear" for a itself.

    Raises:
        ValueError: for another activation; on an odd number of channels.
    """

    def __init__(self, activation="tanh", **kwargs):
        super().__init__(**kwargs)
        if activation not in ("tanh", "linear"):
            raise ValueError(
                f"`activation` must be 'tanh' or 'linear'. Received: activation={activation!r}"
            )
        self.activation = activation

    def build(self, input_shape):
        if input_shape[-1] % 2:
            raise ValueError(f"The channels have two halves. Received: shape {input_shape}")

    def call(self, inputs, training=False):
        """Features [..., 2 channels] to [..., channels]."""
        function = _trained if training else _gated
        return function(inputs, self.activation)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 2)

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


def _gated(x, activation):
    value, gate = (tf.cast(half, tf.float32) for half in tf.split(x, 2, axis=-1))
    value = tf.tanh(value) if activation == "tanh" else value
    return tf.cast(value * tf.sigmoid(gate), x.dtype)


def _trained(x, activation):
    """As `_gated`, of factors that are rounded to the dtype of x."""

    @tf.custom_gradient
    def gated(x):
        value, gate = _value(x, activation), _gate(x)

        def gradient(upstream):
            of_value = _gradient_of_value(value, gate, upstream, activation)
            return tf.concat([of_value, _gradient_of_gate(value, gate, upstream)], axis=-1)

        return _product(value, gate), gradient

    return gated(x)


@_compiled
def _value(x, activation):
    value = x[..., : x.shape[-1] // 2]
    if activation == "linear":
        return value
    return tf.cast(tf.tanh(tf.cast(value, tf.float32)), x.dtype)


@_compiled
def _gate(x):
    return tf.cast(tf.sigmoid(tf.cast(x[..., x.shape[-1] // 2 :], tf.float32)), x.dtype)


@_compiled
def _product(value, gate):
    return value * gate


@_compiled
def _gradient_of_value(value, gate, upstream, activation):
    made, value, gate = (tf.cast(x, tf.float32) for x in (upstream, value, gate))
    slope = 1 - tf.square(value) if activation == "tanh" else 1.0
    return tf.cast(made * gate * slope, upstream.dtype)


@_compiled
def _gradient_of_gate(value, gate, upstream):
    made, value, gate = (tf.cast(x, tf.float32) for x in (upstream, value, gate))
    return tf.cast(made * value * gate * (1 - gate), upstream.dtype)
