"""A predictor of the next frame: a convolutional LSTM over the frames before."""

import keras
from keras import layers, ops

from keras_gen.layers import Moved, SharedChannels
from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers
from keras_gen.strategies import positive


def predictor(
    image_shape,
    context=4,
    num_classes=None,
    width=64,
    memories=1,
    kernel=3,
    blocks=2,
    patch=None,
    reach=4,
    detail=16,
    parameters=1,
    shared=0,
    seed=0,
):
    """Reads some frames one after another; of the memory that remains it makes the next.

    Squares of pixels are one position of the memory; of it and of the last frame, residual blocks
    of two convolutions make, for every pixel of a square, how the last frame's pixels are to move
    there (Finn et al. 2016) and some features. Of these, of the last frame and of that frame so
    moved, two convolutions over pixels make what is said of the next.

    Args:
        image_shape: (height, width, channels) of a frame.
        context: int, how many frames it reads.
        num_classes: where given, the network takes [frames, label].
        width: channels.
        memories: int, layers of ConvLSTM, each reading what the one before wrote.
        kernel: int, side of their kernels, in positions.
        blocks: int, residual blocks.
        patch: side of the squares. None: 1 below 16 pixels, 2 below 32, else 4.
        reach: int, pixels by which those of the last frame can move, at most the shorter side.
        detail: int, features of a pixel.
        parameters: numbers for each pixel and channel of the next frame.
        shared: how many of them, the last, are the same for all pixels.
        seed: int, of the initial weights.

    Returns:
        Functional model: frames float32 [batch, context, height, width, channels] in [-1, 1] (and
        label int32 [batch]) -> float32 [batch, height, width, parameters * channels].

    Raises:
        ValueError: when there is no memory, or a size is not positive.
    """
    if memories < 1:
        raise ValueError(f"`memories` must be at least 1. Received: memories={memories!r}")
    positive(width=width, reach=reach, detail=detail)
    initial = Initializers(seed)
    shorter = min(image_shape[:2])
    patch = patch or (1 if shorter < 16 else 2 if shorter < 32 else 4)
    margins = inputs.margins(image_shape, patch)

    def conv(x, channels, name, size=3, initializer=None, **kwargs):
        kernel = initializer or initial.glorot()
        return layers.Conv2D(channels, size, kernel_initializer=kernel, name=name, **kwargs)(x)

    frames = keras.Input((context, *image_shape), name="frames")
    taken = [frames]
    x = ops.reshape(frames, (-1, *image_shape))
    if any(map(any, margins)):
        x = layers.ZeroPadding2D(margins, name="pad")(x)
    x = conv(x, width, "patches", patch, strides=patch)
    x = layers.ReLU(name="patches_activation")(x)
    x = ops.reshape(x, (-1, context, *x.shape[1:]))
    last = x[:, -1]
    for i in range(1, memories + 1):
        x = layers.ConvLSTM2D(
            width,
            kernel,
            padding="same",
            return_sequences=i < memories,
            kernel_initializer=initial.glorot(),
            recurrent_initializer=initial.glorot(),
            seed=0,  # of a dropout that it does not have, but keeps a state for
            name=f"memory_{i}",
        )(x)
    x = layers.Concatenate(name="memory_and_last")([x, last])
    x = conv(x, width, "features", 1)
    if num_classes:
        label = inputs.label_input()
        taken.append(label)
        code = layers.Dense(width, kernel_initializer=initial.glorot(), name="label_code")(
            inputs.one_hot(label, num_classes)
        )
        x = layers.Add(name="with_label")([x, code[:, None, None]])
    for i in range(1, blocks + 1):
        h = layers.ReLU(name=f"block_{i}_1")(x)
        h = conv(h, width, f"block_{i}_conv_1", padding="same")
        h = layers.ReLU(name=f"block_{i}_2")(h)
        h = conv(h, width, f"block_{i}_conv_2", initializer="zeros", padding="same")
        x = layers.Add(name=f"block_{i}")([x, h])
    x = layers.ReLU(name="squares_activation")(x)
    reach = min(reach, *image_shape[:2])
    ways = 2 * (2 * reach + 1)
    x = conv(x, patch**2 * (ways + detail), "squares", 1, dtype="float32")
    ways, x = ops.split(inputs.assembled(x, patch, margins), [ways], axis=-1)
    moved = Moved(reach, dtype="float32", name="moved")(frames[:, -1], ways)
    x = layers.Concatenate(dtype="float32", name="pixels")([x, moved, frames[:, -1]])
    x = conv(x, detail, "pixels_conv", padding="same", dtype="float32")
    x = layers.ReLU(dtype="float32", name="pixels_activation")(x)
    outputs = (parameters - shared) * image_shape[2]
    x = conv(x, outputs, "out", padding="same", dtype="float32")
    if shared:
        x = SharedChannels(shared * image_shape[2], dtype="float32", name="shared")(x)
    return keras.Model(taken if num_classes else frames, x, name="predictor")
