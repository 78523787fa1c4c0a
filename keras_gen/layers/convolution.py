"""Convolutions of stride 1 whose gradient is a convolution too."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` of stride 1, odd kernel and padding "same", with a faster gradient.

    The gradient in the input of such a convolution is again a convolution, with the kernel turned
    by 180 degrees and its channels swapped. TensorFlow's CPU kernel for convolving is about twice
    as fast as its kernel for that gradient (benchmarks/convolution.md), so that is what runs.
    Numbers agree with Keras's layer up to the order of summation, in derivatives of any order.

    Args:
        filters, kernel_size, **kwargs: as in `keras.layers.Conv2D`.

    Raises:
        ValueError: for an even kernel, or for strides, dilation, groups, padding or data format.
    """

    def __init__(self, filters, kernel_size, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        plain = (
            all(side % 2 for side in self.kernel_size)
            and set(self.strides) == set(self.dilation_rate) == {1}
            and self.groups == 1
            and self.padding == "same"
            and self.data_format == "channels_last"
        )
        if not plain:
            raise ValueError(
                "The kernel must be odd, the stride, dilation and groups 1, the padding 'same' and "
                f"the channels last. Received: kernel_size={self.kernel_size}, "
                f"strides={self.strides}, dilation_rate={self.dilation_rate}, "
                f"groups={self.groups}, padding={self.padding!r}, data_format={self.data_format!r}"
            )

    def convolution_op(self, inputs, kernel):
        return convolve(inputs, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def convolve(images, kernel):
    """Convolution of stride 1, padding "same", with an odd kernel.

    Args:
        images: float [batch, h, w, c].
        kernel: float [rows, columns, c, d], rows and columns odd.

    Returns:
        float [batch, h, w, d].
    """

    def gradient(upstream):
        turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
        in_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=images,
            filter_sizes=tf.shape(kernel),
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        return convolve(upstream, turned), in_kernel

    return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient
