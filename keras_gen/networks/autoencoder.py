"""Encoders and decoders, dense and convolutional, for any image size.

An encoder puts out `parameters` numbers for each latent unit: 1, its value, or 2, the mean and the
log-variance of its distribution, all means first. A decoder puts out `parameters` numbers for each
pixel and channel; the last `shared` of them are the same for all pixels.
"""

import math

import keras
from keras import layers

from keras_gen.layers import SharedChannels
from keras_gen.networks import inputs
from keras_gen.networks.dcgan import crop, halvings
from keras_gen.networks.seeding import Initializers


def dense_encoder(
    image_shape,
    latent_dim=16,
    hidden=(512, 256, 128, 64),
    parameters=2,
    batch_normalization=True,
    num_classes=None,
    seed=0,
):
    """Images to latents through dense layers, five by default.

    Args:
        image_shape: (height, width, channels).
        latent_dim: units of the latent.
        hidden: units of the hidden layers.
        parameters: numbers for each unit of the latent.
        batch_normalization: whether hidden layers are normalized.
        num_classes: where given, the network takes [image, label] and the label's one-hot code is
            appended to the pixels.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] (and label
        int32 [batch]) -> float32 [batch, parameters * latent_dim].
    """
    net = _Builder(Initializers(seed), batch_normalization)
    image = keras.Input(image_shape, name="image")
    x, taken = net.with_label(layers.Flatten(name="pixels")(image), image, num_classes)
    for i, units in enumerate(hidden, start=1):
        x = net.dense(x, units, f"hidden_{i}")
    latent = net.head(x, parameters * latent_dim, "latent")
    return keras.Model(taken, latent, name="dense_encoder")


def dense_decoder(
    image_shape,
    latent_dim=16,
    hidden=(64, 128, 256, 512),
    parameters=1,
    shared=0,
    activation=None,
    batch_normalization=True,
    num_classes=None,
    seed=0,
):
    """Latents to images, or to what a likelihood wants to know of them, through dense layers.

    Args:
        image_shape: (height, width, channels).
        latent_dim: units of the latent.
        hidden: units of the hidden layers.
        parameters: numbers for each pixel and channel.
        shared: how many of them, the last, are the same for all pixels.
        activation: of the output; None or "tanh".
        batch_normalization: whether hidden layers are normalized.
        num_classes: where given, the network takes [latent, label] and the label's one-hot code is
            appended to the latent.
        seed: int, of the initial weights.

    Returns:
        Functional model: latent float32 [batch, latent_dim] (and label int32 [batch]) -> float32
        [batch, height, width, parameters * channels].
    """
    net = _Builder(Initializers(seed), batch_normalization)
    latent = keras.Input((latent_dim,), name="latent")
    x, taken = net.with_label(latent, latent, num_classes)
    for i, units in enumerate(hidden, start=1):
        x = net.dense(x, units, f"hidden_{i}")
    height, width, channels = image_shape
    made = (height, width, (parameters - shared) * channels)
    x = net.head(x, math.prod(made), "pixels", activation)
    x = layers.Reshape(made, dtype="float32", name="image")(x)
    return keras.Model(taken, _with_shared(x, shared * channels), name="dense_decoder")


def encoder(
    image_shape,
    latent_dim=32,
    width=32,
    blocks=1,
    hidden=256,
    parameters=2,
    num_classes=None,
    seed=0,
):
    """Images to latents through convolutions of stride 2 and residual blocks.

    The sides are halved until the shorter is below 8 pixels, the channels being `width`,
    2 `width`, ...; there is no normalization: each residual branch ends in a convolution that is
    zero at first (Zhang et al. 2019), so that an image's latent depends on that image alone.

    Args:
        image_shape: (height, width, channels).
        latent_dim: units of the latent.
        width: channels of the first feature map.
        blocks: residual blocks at each size.
        hidden: units of the dense layer between features and latent.
        parameters: numbers for each unit of the latent.
        num_classes: where given, the network takes [image, label] and the label's one-hot code is
            appended to the features.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] (and label
        int32 [batch]) -> float32 [batch, parameters * latent_dim].
    """
    net = _Builder(Initializers(seed))
    image = keras.Input(image_shape, name="image")
    x, levels = image, halvings(image_shape)
    for i in range(1, max(levels, 1) + 1):
        x = net.conv(x, width * 2 ** (i - 1), f"down_{i}", strides=2 if levels else 1)
        x = net.blocks(x, blocks, f"down_{i}")
    features = layers.Flatten(name="features")(net.activated(x, "features"))
    x, taken = net.with_label(features, image, num_classes)
    latent = net.head(net.dense(x, hidden, "hidden"), parameters * latent_dim, "latent")
    return keras.Model(taken, latent, name="encoder")


def decoder(
    image_shape,
    latent_dim=32,
    width=32,
    blocks=1,
    hidden=256,
    parameters=1,
    shared=0,
    activation=None,
    num_classes=None,
    seed=0,
):
    """Latents to images, or to what a likelihood wants to know: the mirror image of `encoder`.

    Sides that are no multiple of the power of two are cropped at the end.

    Args:
        image_shape: (height, width, channels).
        latent_dim: units of the latent.
        width: channels of the last feature map.
        blocks: residual blocks at each size.
        hidden: units of the dense layer between latent and features.
        parameters: numbers for each pixel and channel.
        shared: how many of them, the last, are the same for all pixels.
        activation: of the output; None or "tanh".
        num_classes: where given, the network takes [latent, label] and the label's one-hot code is
            appended to the latent.
        seed: int, of the initial weights.

    Returns:
        Functional model: latent float32 [batch, latent_dim] (and label int32 [batch]) -> float32
        [batch, height, width, parameters * channels].
    """
    net = _Builder(Initializers(seed))
    levels = halvings(image_shape)
    rows, columns = (math.ceil(side / 2**levels) for side in image_shape[:2])
    channels = width * 2 ** max(levels - 1, 0)

    latent = keras.Input((latent_dim,), name="latent")
    x, taken = net.with_label(latent, latent, num_classes)
    x = net.dense(net.dense(x, hidden, "hidden"), rows * columns * channels, "features", False)
    x = layers.Reshape((rows, columns, channels), name="smallest")(x)
    for i in range(1, max(levels, 1) + 1):
        if i > 1:
            channels //= 2
            x = net.up(net.activated(x, f"up_{i}"), channels, f"up_{i}")
        x = net.blocks(x, blocks, f"up_{i}")
    x = net.activated(x, "image")
    outputs = (parameters - shared) * image_shape[2]
    head = {"activation": activation, "dtype": "float32"}
    if levels:
        x = net.up(x, outputs, "image", **head)
    else:
        x = net.conv(x, outputs, "image", **head)
    return keras.Model(
        taken, _with_shared(crop(x, image_shape), shared * image_shape[2]), name="decoder"
    )


def between_latents(given, made, hidden=(256, 256), seed=0):
    """A normal distribution of one latent given another, as the layers above a VAE's latent have.

    Args:
        given: units of the latent that it takes.
        made: units of the other.
        hidden: units of the hidden layers.
        seed: int, of the initial weights.

    Returns:
        Functional model: float32 [batch, given] -> float32 [batch, 2 made], all means, then all
        log-variances.
    """
    net = _Builder(Initializers(seed))
    latent = x = keras.Input((given,), name="latent")
    for i, units in enumerate(hidden, start=1):
        x = net.dense(x, units, f"hidden_{i}")
    return keras.Model(latent, net.head(x, 2 * made, "moments"), name="between_latents")


def spatial_encoder(
    image_shape,
    latent_shape,
    width=32,
    blocks=1,
    parameters=2,
    seed=0,
):
    """Images to latents that are small images, as for diffusion in latents.

    As `encoder`, but without dense layers: each position of the latent sees its own part of the
    image.

    Args:
        image_shape: (height, width, channels).
        latent_shape: (height, width, channels); both sides of the image are the same power of two
            times those of the latent, which has height * width * channels units.
        width: channels of the first feature map.
        blocks: residual blocks at each size.
        parameters: numbers for each unit of the latent.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] -> float32
        [batch, parameters * units].

    Raises:
        ValueError: when the sides do not fit.
    """
    net = _Builder(Initializers(seed))
    image = keras.Input(image_shape, name="image")
    x = net.conv(image, width, "stem")
    for i in range(_halvings_between(image_shape, latent_shape)):
        x = net.conv(net.blocks(x, blocks, f"down_{i}"), width * 2 ** (i + 1), f"to_{i}", strides=2)
    x = net.activated(net.blocks(x, blocks, "smallest"), "smallest")
    flat = []
    for i in range(parameters):
        part = net.conv(x, latent_shape[2], f"latent_{i}", dtype="float32")
        flat.append(layers.Flatten(dtype="float32", name=f"units_{i}")(part))
    out = layers.Concatenate(dtype="float32", name="latent")(flat) if parameters > 1 else flat[0]
    return keras.Model(image, out, name="spatial_encoder")


def spatial_decoder(
    image_shape,
    latent_shape,
    width=32,
    blocks=1,
    parameters=1,
    shared=0,
    activation=None,
    seed=0,
):
    """The mirror image of `spatial_encoder`; arguments as there and in `decoder`.

    Returns:
        Functional model: latent float32 [batch, units] -> float32 [batch, height, width,
        parameters * channels].

    Raises:
        ValueError: when the sides do not fit.
    """
    net = _Builder(Initializers(seed))
    levels = _halvings_between(image_shape, latent_shape)
    latent = keras.Input((math.prod(latent_shape),), name="latent")
    x = layers.Reshape(latent_shape, name="smallest")(latent)
    x = net.blocks(net.conv(x, width * 2**levels, "stem"), blocks, "smallest")
    for i in reversed(range(levels)):
        x = net.up(net.activated(x, f"up_{i}"), width * 2**i, f"up_{i}")
        x = net.blocks(x, blocks, f"up_{i}")
    outputs = (parameters - shared) * image_shape[2]
    x = net.activated(x, "image")
    x = net.conv(x, outputs, "image", activation=activation, dtype="float32")
    return keras.Model(latent, _with_shared(x, shared * image_shape[2]), name="spatial_decoder")


def _halvings_between(image_shape, latent_shape):
    """How often the sides of the image are halved to get those of the latent."""
    ratio = image_shape[0] // max(1, latent_shape[0])
    fits = min(latent_shape) > 0 and all(
        side == ratio * small for side, small in zip(image_shape[:2], latent_shape[:2])
    )
    if len(latent_shape) != 3 or not fits or ratio & (ratio - 1):
        raise ValueError(
            "Both sides of `image_shape` must be the same power of two times those of "
            f"`latent_shape`. Received: image_shape={image_shape}, latent_shape={latent_shape}"
        )
    return ratio.bit_length() - 1


def _with_shared(x, channels):
    return SharedChannels(channels, dtype="float32", name="shared")(x) if channels else x


class _Builder:
    """Adds layers that share initializers."""

    def __init__(self, initial, batch_normalization=False):
        self.initial, self.batch_normalization = initial, batch_normalization

    def with_label(self, x, taken, num_classes):
        """x with the label's code where there are classes, and the inputs of the network."""
        if not num_classes:
            return x, taken
        label = inputs.label_input()
        code = inputs.one_hot(label, num_classes)
        return layers.Concatenate(name="with_label")([x, code]), [taken, label]

    def activated(self, x, name):
        return layers.ReLU(name=f"{name}_activation")(x)

    def dense(self, x, units, name, activation=True):
        normalized = activation and self.batch_normalization
        kernel = self.initial.glorot()
        x = layers.Dense(units, use_bias=not normalized, kernel_initializer=kernel, name=name)(x)
        if normalized:
            x = layers.BatchNormalization(momentum=0.9, synchronized=True, name=f"{name}_norm")(x)
        return self.activated(x, name) if activation else x

    def head(self, x, units, name, activation=None):
        return layers.Dense(
            units, activation, kernel_initializer=self.initial.glorot(), dtype="float32", name=name
        )(x)

    def conv(self, x, channels, name, initializer=None, **kwargs):
        return layers.Conv2D(
            channels,
            3,
            padding="same",
            kernel_initializer=initializer or self.initial.glorot(),
            name=name,
            **kwargs,
        )(x)

    def up(self, x, channels, name, **kwargs):
        return layers.Conv2DTranspose(
            channels,
            4,
            strides=2,
            padding="same",
            kernel_initializer=self.initial.glorot(),
            name=name,
            **kwargs,
        )(x)

    def blocks(self, x, count, name):
        """Residual blocks: two convolutions, half the channels between them."""
        channels = x.shape[-1]
        for i in range(1, count + 1):
            h = self.conv(self.activated(x, f"{name}_{i}_1"), channels // 2, f"{name}_{i}_1")
            h = self.activated(h, f"{name}_{i}_2")
            h = self.conv(h, channels, f"{name}_{i}_2", "zeros")
            x = layers.Add(name=f"{name}_{i}")([x, h])
        return x
