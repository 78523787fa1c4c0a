"""Inputs and outputs that the networks of several families share."""

import keras
from keras import layers, ops

from keras_gen.layers import Recomputed, TimeEmbedding


def label_input():
    """Input of class labels, int32 [batch]."""
    return keras.Input((), dtype="int32", name="label")


def one_hot(label, num_classes):
    """Labels [batch] as float32 [batch, num_classes].

    A Dense layer on it is an embedding whose gradient is a matrix product: the same numbers in
    every run, and under XLA, which a gather does not promise.
    """
    return keras.ops.one_hot(label, num_classes, dtype="float32")


def label_embedding(label, num_classes, length, kernel, dtype=None):
    """A learned vector [batch, length] of each label; `kernel` is what the vectors begin as."""
    return layers.Dense(
        length, use_bias=False, kernel_initializer=kernel, dtype=dtype, name="label_embedding"
    )(one_hot(label, num_classes))


def operations_of(network):
    """The layers and operations of a network, those of networks within it in their place."""
    for operation in getattr(network, "operations", network.layers):
        if isinstance(operation, keras.Model):
            yield from operations_of(operation)
        else:
            yield operation


def check_classes(name, network, num_classes):
    """Raises a ValueError where a network of this project knows another number of classes.

    Labels beyond those that it knows would all be as no label to it, with no word said.
    """
    for operation in operations_of(network):
        encodes = type(operation).__name__ == "OneHot" and len(operation.input.shape) == 1
        if encodes and operation.num_classes != num_classes:
            raise ValueError(
                f"The {name} must know the {num_classes} classes of the model. "
                f"Received: a {name} of {operation.num_classes} classes"
            )


def check_float32(name, network):
    """Raises a ValueError where a network puts out another dtype: losses are float32."""
    dtype = network.outputs[0].dtype
    if dtype != "float32":
        raise ValueError(
            f"The {name} must put out float32 under every policy: give its last layer "
            f'dtype="float32". Received: a {name} that puts out {dtype}'
        )


def call(network, inputs, label=None, training=False):
    """Calls a network that takes `inputs`, or [inputs, label] where there are classes."""
    return network(inputs if label is None else [inputs, label], training=training)


def condition(width, num_classes, initial):
    """What a denoiser knows besides the image.

    Args:
        width: int, a quarter of the length of the condition.
        num_classes: int, or None without labels. The label `num_classes` means "no label".
        initial: `Initializers`.

    Returns:
        (list of inputs, time float32 [batch] and label int32 [batch]; condition float32
        [batch, 4 width]).
    """

    def dense(x, name):
        kernel = initial.glorot()
        return layers.Dense(4 * width, kernel_initializer=kernel, dtype="float32", name=name)(x)

    def silu(x, name):
        return layers.Activation("silu", dtype="float32", name=name)(x)

    time = keras.Input((), name="time")
    taken = [time]
    x = dense(TimeEmbedding(width, name="time_embedding")(time), "time_1")
    if num_classes:
        label = label_input()
        taken.append(label)
        kernel = initial.normal(1.0)
        embedding = label_embedding(label, num_classes, 4 * width, kernel, dtype="float32")
        x = layers.Add(name="time_and_label", dtype="float32")([x, embedding])
    x = dense(silu(x, "condition_activation"), "condition")
    return taken, silu(x, "condition_out")


def with_span(network):
    """A denoiser of this project that also takes how far to go, and begins by not caring.

    Args:
        network: Functional model of [image, time] (and label), whose `condition` is that of this
            module; its layers become those of the new one, and recompute nothing.

    Returns:
        Functional model of [image, time, span] (and label), span float32 [batch] in [0, 1]: 0 at
        first in its effect.

    Raises:
        ValueError: when the network has no such condition.
    """
    names = [layer.name for layer in network.layers]
    if not {"time_embedding", "time_1"} <= set(names):
        raise ValueError(
            "The network must be a denoiser of `keras_gen.networks`, with its layers "
            f"'time_embedding' and 'time_1'. Received: a network with layers {names}"
        )
    for layer in network.layers:
        if isinstance(layer, Recomputed):
            layer.recomputes = False
    embedding, first = network.get_layer("time_embedding"), network.get_layer("time_1")
    image, time, *label = network.inputs
    rest = keras.Model([image, first.output, *label], network.output, name=network.name)
    time = keras.Input((), name="time")
    span = keras.Input((), name="span")
    told = layers.Dense(
        first.units, use_bias=False, kernel_initializer="zeros", dtype="float32", name="span_1"
    )(TimeEmbedding(embedding.dim, name="span_embedding")(span))
    both = layers.Add(name="time_and_span", dtype="float32")([first(embedding(time)), told])
    image = keras.Input(image.shape[1:], name="image")
    label = [label_input()] if label else []
    taken = [image, time, span, *label]
    return keras.Model(taken, rest([image, both, *label]), name=f"{network.name}_with_span")


def patch_side(image_shape):
    """Side of the squares of pixels that a denoiser takes as one position, by the image's size."""
    shorter = min(image_shape[:2])
    return 1 if shorter < 16 else 2 if shorter < 48 else 4


def margins(image_shape, unit):
    """((top, bottom), (left, right)): zeros that make both sides multiples of `unit`."""
    missing = [-side % unit for side in image_shape[:2]]
    return tuple((pixels // 2, pixels - pixels // 2) for pixels in missing)


def assembled(x, patch, margins):
    """Positions [batch, rows, columns, patch² channels] laid out as images, without the margins."""
    if patch > 1:
        rows, columns, depth = x.shape[1:]
        channels = depth // patch**2
        x = ops.reshape(x, (-1, rows, columns, patch, patch, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * patch, columns * patch, channels))
    if any(map(any, margins)):
        x = layers.Cropping2D(margins, dtype="float32", name="crop")(x)
    return x
