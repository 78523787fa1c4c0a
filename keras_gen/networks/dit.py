"""Diffusion transformer (DiT, Peebles and Xie 2023), for any image size."""

import keras
import numpy as np
from keras import layers, ops

from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers


def denoiser(
    image_shape,
    num_classes=None,
    width=192,
    depth=6,
    heads=3,
    patch=None,
    condition_channels=0,
    seed=0,
):
    """Noisy images and times to what is predicted, shaped as the images.

    Patches of pixels become tokens; each block is self-attention and a dense layer of four times
    the width, whose inputs are normalized, scaled, shifted and whose outputs are scaled by the
    condition: by zero at first ("adaLN-Zero").

    Args:
        image_shape: (height, width, channels).
        num_classes: where given, the network takes [image, time, label], where the label
            `num_classes` means "no label".
        width: int, length of a token; a multiple of `heads` and of 8, at least 16.
        depth: int, number of blocks.
        heads: int, of the attention.
        patch: side of a patch in pixels. None: twice that of `networks.unet.denoiser`. Sides that
            are no multiple of it are padded with zeros and cropped at the end.
        condition_channels: channels, besides the image's, that the network sees at every pixel.
        seed: int, of the initial weights.

    Returns:
        Functional model: image float32 [batch, height, width, channels + condition_channels], time
        float32 [batch] (and label int32 [batch]) -> float32 [batch, height, width, channels].

    Raises:
        ValueError: when `width` is no such multiple.
    """
    if width % heads or width % 8 or width < 16:
        raise ValueError(
            "`width` must be a multiple of `heads` and of 8, and at least 16. "
            f"Received: width={width!r}, heads={heads!r}"
        )
    initial = Initializers(seed)
    patch = patch or 2 * inputs.patch_side(image_shape)
    margins = inputs.margins(image_shape, patch)
    channels = image_shape[2]

    image = keras.Input((*image_shape[:2], channels + condition_channels), name="image")
    taken, condition = inputs.condition(width // 4, num_classes, initial)
    x = image
    if any(map(any, margins)):
        x = layers.ZeroPadding2D(margins, name="pad")(x)
    x = layers.Conv2D(
        width, patch, strides=patch, kernel_initializer=initial.glorot(), name="patches"
    )(x)
    rows, columns = x.shape[1:3]
    x = layers.Reshape((rows * columns, width), name="tokens")(x)
    x = ops.add(x, _positions(rows, columns, width))

    def modulated(x, name, parts):
        """x normalized, scaled and shifted by the condition, and the scales of what follows."""
        given = layers.Dense(
            parts * width, kernel_initializer="zeros", dtype="float32", name=f"{name}_modulation"
        )(condition)
        scale, shift, *gates = ops.split(ops.cast(given, x.dtype)[:, None], parts, axis=-1)
        x = layers.LayerNormalization(epsilon=1e-6, center=False, scale=False, name=f"{name}_norm")(
            x
        )
        return x * (1 + scale) + shift, gates

    def dense(units, x, name, activation=None):
        return layers.Dense(units, activation, kernel_initializer=initial.glorot(), name=name)(x)

    for i in range(depth):
        h, (gate,) = modulated(x, f"attention_{i}", 3)
        h = layers.MultiHeadAttention(
            heads, width // heads, kernel_initializer=initial.glorot(), name=f"attention_{i}"
        )(h, h)
        x = x + gate * h
        h, (gate,) = modulated(x, f"dense_{i}", 3)
        h = dense(width, dense(4 * width, h, f"dense_{i}_1", "gelu"), f"dense_{i}_2")
        x = x + gate * h
    x, _ = modulated(x, "out", 2)
    x = layers.Dense(patch**2 * channels, kernel_initializer="zeros", dtype="float32", name="out")(
        x
    )
    x = ops.reshape(x, (-1, rows, columns, patch**2 * channels))
    return keras.Model([image, *taken], inputs.assembled(x, patch, margins), name="dit")


def _positions(rows, columns, width):
    """Cosines and sines of both coordinates of each token, float32 [1, rows * columns, width]."""
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angles = [c.reshape(-1, 1) * frequencies for c in (row, column)]
    parts = [function(angle) for angle in angles for function in (np.cos, np.sin)]
    return np.concatenate(parts, axis=1)[None].astype(np.float32)
