"""A network whose activations are not kept for the backward pass."""

import contextlib

import keras
import tensorflow as tf

from keras_gen import randomness


@keras.saving.register_keras_serializable("keras_gen")
class Recomputed(keras.layers.Layer):
    """Runs a network once more in the backward pass, in place of keeping what it made on its way
    (Chen et al. 2016): less memory for more time, the same numbers.

    `keras.RematScope` does so for single layers, whose inputs are kept all the same, and fails in
    graphs of layers that are called with keywords, as those with `training` are.

    Args:
        network: Functional model of one output.
        recomputes: False: it keeps what it made after all, as forward differentiation needs it.
    """

    def __init__(self, network, recomputes=True, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # the network casts its inputs
        self.network, self.recomputes = network, recomputes

    def call(self, inputs, training=False):
        key = randomness.current_key()  # by which dropout draws the same again

        def made(*taken):
            with randomness.scope(key) if key is not None else contextlib.nullcontext():
                return self.network(list(taken), training=training)

        taken = tf.nest.flatten(inputs)
        return tf.recompute_grad(made)(*taken) if training and self.recomputes else made(*taken)

    def compute_output_shape(self, input_shape):
        return self.network.output_shape

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "recomputes": self.recomputes}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})
