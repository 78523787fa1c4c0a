"""Equalized learning rate."""

import math

import keras


@keras.saving.register_keras_serializable("keras_gen")
class EqualizedLearningRate(keras.layers.Wrapper):
    """A linear layer whose kernel is multiplied by sqrt(2 / inputs) whenever it is used.

    With kernels that begin with deviation 1, all weights have the same dynamic range, and so the
    same learning speed under Adam (Karras et al. 2018, section 4.1).

    Args:
        layer: a layer with a `kernel`, such as Dense, Conv2D or `ResampledConv`; its initial kernel
            should be normal of deviation 1.

    Raises:
        ValueError: when the last axis of its kernel is not that of the outputs.
    """

    def __init__(self, layer, **kwargs):
        name = type(layer).__name__
        if name.endswith("Transpose") or "Depthwise" in name or "Separable" in name:
            raise ValueError(
                "The inputs of a kernel are counted where its last axis is that of the outputs. "
                f"Received: layer={name}"
            )
        super().__init__(layer, **kwargs)

    def call(self, inputs):
        # linear in both: inputs times a number are as good as the kernel times it
        fan_in = math.prod(self.layer.kernel.shape[:-1])
        return self.layer(inputs * math.sqrt(2 / fan_in))

    def compute_output_shape(self, inputs_shape):
        return self.layer.compute_output_shape(inputs_shape)
