"""Convolutions that see no pixel below or to the right, of whole images or piece by piece.

The two stacks of the Conditional PixelCNN (van den Oord et al. 2016) are made of them. A vertical
convolution sees its own row and rows above it, a horizontal one its own pixel and pixels left of
it: by where zeros are padded, without masks. What must not see its own pixel is given an image that
a `Shift` has moved by one.

While a scope of `remembering` is open, they take what they saw before from a memory, where there
would be zeros: an image can then be fed row by row, or a row pixel by pixel, to the same layers.
"""

import contextlib
import functools
import threading

import keras
import tensorflow as tf

AXES = {"down": 1, "right": 2}  # of images [batch, height, width, channels]

_scopes = threading.local()


@contextlib.contextmanager
def remembering(memory):
    """Causal layers that are called while this scope is open go on from `memory`.

    Args:
        memory: dict from the name of each layer to what it saw last; begin with `empty_memory`. The
            calls replace its values.
    """
    outer = current_memory()
    _scopes.memory = memory
    try:
        yield
    finally:
        _scopes.memory = outer


def current_memory():
    """The memory of the innermost open scope of `remembering`, or None."""
    return getattr(_scopes, "memory", None)


def empty_memory(network, rows, columns):
    """The memory of the causal layers of a network before it has seen anything.

    Args:
        network: Functional model.
        rows: number of images.
        columns: width of the images.

    Returns:
        dict from the name of the layer to tensors of zeros.
    """
    causal = [layer for layer in network.layers if hasattr(layer, "empty_memory")]
    return {layer.name: layer.empty_memory(rows, columns) for layer in causal}


def _convolved(x, kernel, padding, dilation):
    """A convolution of x with zeros around it, [before, after] of each axis, which keeps its size.

    Its gradient in x is a convolution itself. TensorFlow's own copies x to pad it, cuts what it
    added off the gradient, and rearranges what is dilated.
    """

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradient(upstream):
            turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            behind = [sides[::-1] for sides in padding]
            of_x = _convolved(upstream, turned, behind, dilation)
            window = tf.pad(x, padding)
            trains = dilation == 1 or _dilated_trains(x.dtype)
            convolution = tf.nn.conv2d if trains else tf.nn.convolution
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                made = convolution(window, kernel, 1, "VALID", dilations=dilation)
            return of_x, tape.gradient(made, kernel, upstream)

        return tf.nn.conv2d(x, kernel, 1, padding, dilations=dilation), gradient

    return convolved(x, kernel)


@functools.cache
def _dilated_trains(dtype):
    """Whether dilated `tf.nn.conv2d` has a gradient here; on CPU only oneDNN has it, not of all
    dtypes."""
    how = {"strides": [1] * 4, "padding": "VALID", "dilations": [1, 2, 2, 1]}
    try:
        with tf.init_scope():
            image, upstream = tf.ones([1, 3, 3, 1], dtype), tf.ones([1, 1, 1, 1], dtype)
            tf.raw_ops.Conv2DBackpropFilter(
                input=image, filter_sizes=[2, 2, 1, 1], out_backprop=upstream, **how
            )
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


@keras.saving.register_keras_serializable("keras_gen")
class CausalConv(keras.layers.Layer):
    """A convolution that sees its own position and those above it, or those left of it.

    Args:
        filters: int, channels of the output.
        direction: "down": kernels of `size` rows, the last of them its own, by `across` columns
            with its own in the middle. "right": kernels of `size` pixels of its own row, the last
            of them its own.
        size: int, extent of the kernel in that direction.
        across: odd int, extent of a kernel "down" across it; 1 for "right".
        dilation: int, distance of the pixels that the kernel sees, in both directions.
        kernel_initializer: a Keras initializer.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(
        self,
        filters,
        direction,
        size=2,
        across=1,
        dilation=1,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = checked_axis(direction)
        if min(filters, size, across, dilation) < 1:
            raise ValueError(
                "`filters`, `size`, `across` and `dilation` must be at least 1. Received: "
                f"filters={filters}, size={size}, across={across}, dilation={dilation}"
            )
        if across % 2 == 0 or (direction == "right" and across != 1):
            raise ValueError(
                '`across` must be odd, and 1 where the direction is "right". Received: '
                f"across={across}, direction={direction!r}"
            )
        self.filters, self.direction = filters, direction
        self.size, self.across, self.dilation = size, across, dilation
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.span = (size - 1) * dilation  # how far back it sees

    def build(self, input_shape):
        self.channels = input_shape[-1]
        sides = (self.size, self.across) if self.direction == "down" else (1, self.size)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*sides, self.channels, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs, training=False):
        """Inputs [batch, height, width, channels] to [batch, height, width, filters].

        In a scope of `remembering` they are what follows the positions seen before: all rows from
        some row on for "down", all pixels of a row from some pixel on for "right".
        """
        memory = current_memory()
        before, beside = [[0, 0] for _ in range(4)], self.dilation * (self.across // 2)
        if self.direction == "down":
            before[2] = [beside, beside]
        if memory is None:
            before[self.axis] = [self.span, 0]
            seen = inputs
        else:
            seen = tf.concat([memory[self.name], inputs], self.axis)
            start = seen.shape[self.axis] - self.span
            down = self.direction == "down"
            memory[self.name] = seen[:, start:] if down else seen[:, :, start:]
        kernel, bias = (tf.cast(weight, inputs.dtype) for weight in (self.kernel, self.bias))
        if memory is not None and self.direction == "right" and inputs.shape[2] == 1:
            return self._one_pixel(seen, kernel) + bias
        if training and memory is None:
            made = _convolved(seen, kernel, before, self.dilation)
        else:
            window = tf.pad(seen, before) if any(map(any, before)) else seen
            made = tf.nn.convolution(window, kernel, 1, "VALID", dilations=self.dilation)
        return tf.nn.bias_add(made, bias)

    def _one_pixel(self, seen, kernel):
        """The convolution where it has one place: a product of matrices takes a third of the time.

        Both sum over the kernel's pixels and channels in the same order on CPU, so that not a bit
        differs (tests/models/test_autoregressive.py asks for that).
        """
        taken = tf.reshape(seen[:, :, :: self.dilation], [-1, self.size * self.channels])
        product = tf.matmul(taken, tf.reshape(kernel, [-1, self.filters]))
        return tf.reshape(product, [-1, seen.shape[1], 1, self.filters])

    def empty_memory(self, rows, columns):
        """Zeros, shaped as what the layer remembers of `rows` images of `columns` columns."""
        sides = [self.span, columns] if self.direction == "down" else [1, self.span]
        return tf.zeros([rows, *sides, self.channels], self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "direction": self.direction,
            "size": self.size,
            "across": self.across,
            "dilation": self.dilation,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("keras_gen")
class Shift(keras.layers.Layer):
    """Moves images by one pixel: zeros come in, the last row or column goes out.

    Args:
        direction: "down" or "right".

    Raises:
        ValueError: for another direction.
    """

    def __init__(self, direction, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.direction = checked_axis(direction), direction

    def call(self, inputs):
        """Images [batch, height, width, channels], moved."""
        before = [[0, 0] for _ in range(4)]
        before[self.axis] = [1, 0]
        rest = inputs[:, :-1] if self.direction == "down" else inputs[:, :, :-1]
        return tf.pad(rest, before)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "direction": self.direction}


def checked_axis(direction):
    if direction not in AXES:
        raise ValueError(
            f"`direction` must be one of {sorted(AXES)}. Received: direction={direction!r}"
        )
    return AXES[direction]
