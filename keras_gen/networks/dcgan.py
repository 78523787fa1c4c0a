"""Convolutional generator and discriminator (DCGAN, Radford et al. 2016), for any image size."""

import math

import keras
from keras import layers

from keras_gen.layers import Dropout
from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers


def halvings(image_shape):
    """How often an image is halved until its shorter side is below 8 pixels."""
    shorter, count = min(image_shape[:2]), 0
    while shorter >= 8:
        shorter, count = math.ceil(shorter / 2), count + 1
    return count


def generator(
    image_shape, latent_dim=100, width=64, kernel_size=5, label_dim=16, num_classes=None, seed=0
):
    """Latents to images through transposed convolutions.

    A dense layer gives the smallest feature map (7×7 for 28×28 images, 4×4 for 64×64); each
    transposed convolution of stride 2 then doubles it and halves the channels, which end at `width`
    before the image. Images of up to 28 pixels or so start with a convolution of stride 1, so that
    28×28×1 gives the well-known 256 → 128 → 64 → 1. Sides that are no multiple of the power of two
    are cropped at the end.

    Args:
        image_shape: (height, width, channels), sides of at least 4.
        latent_dim: length of the latent vector.
        width: channels of the last feature map.
        kernel_size: side of the kernels, pixels.
        label_dim: length of the label's embedding, appended to the latent; a long one drowns the
            latent, and all images of a class become alike.
        num_classes: where given, the network takes [latent, label].
        seed: int, of the initial weights.

    Returns:
        Functional model: latent float32 [batch, latent_dim] (and label int32 [batch]) -> images
        float32 [batch, height, width, channels] in [-1, 1].
    """
    initial = Initializers(seed)
    doublings = halvings(image_shape)
    rows, columns = (math.ceil(side / 2**doublings) for side in image_shape[:2])
    small = doublings <= 2
    channels = width * 2 ** (doublings if small else doublings - 1)

    def normalize(x, name):
        x = layers.BatchNormalization(momentum=0.9, synchronized=True, name=f"{name}_norm")(x)
        return layers.LeakyReLU(0.2, name=f"{name}_activation")(x)

    def up(x, filters, name, strides=2, **kwargs):
        return layers.Conv2DTranspose(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            kernel_initializer=initial.normal(),
            name=name,
            **kwargs,
        )(x)

    latent = keras.Input((latent_dim,), name="latent")
    x, taken = latent, [latent]
    if num_classes:
        label = inputs.label_input()
        kernel = initial.normal(1.0)
        embedding = inputs.label_embedding(label, num_classes, label_dim, kernel)
        x = layers.Concatenate(name="latent_and_label")([x, embedding])
        taken.append(label)

    x = layers.Dense(
        rows * columns * channels,
        use_bias=False,
        kernel_initializer=initial.normal(),
        name="project",
    )(x)
    x = layers.Reshape((rows, columns, channels), name="smallest")(x)
    x = normalize(x, "project")
    if small and doublings:
        channels //= 2
        # A transposed convolution of stride 1 is a convolution with the kernel turned.
        x = layers.Conv2D(
            channels,
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=initial.normal(),
            name="stem",
        )(x)
        x = normalize(x, "stem")
    for i in range(1, doublings):
        channels //= 2
        x = normalize(up(x, channels, f"up_{i}", use_bias=False), f"up_{i}")
    x = up(
        x,
        image_shape[2],
        "image",
        strides=2 if doublings else 1,
        activation="tanh",
        dtype="float32",
    )
    image = crop(x, image_shape)
    return keras.Model(taken if num_classes else latent, image, name="dcgan_generator")


def crop(x, image_shape):
    """Feature maps cut to the sides of an image, as much at either end."""
    rows, columns = x.shape[1] - image_shape[0], x.shape[2] - image_shape[1]
    if rows == columns == 0:
        return x
    margins = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return layers.Cropping2D(margins, dtype="float32", name="crop")(x)


def discriminator(
    image_shape,
    width=64,
    kernel_size=5,
    dropout=0.3,
    batch_normalization=False,
    num_classes=None,
    seed=0,
):
    """Images to logits through convolutions of stride 2, channels `width`, 2 `width`, ...

    With classes it is a projection discriminator (Miyato and Koyama 2018): the product of the
    features with the label's embedding is added to the logit.

    Args:
        image_shape: (height, width, channels), sides of at least 4.
        width: channels of the first feature map.
        kernel_size: side of the kernels, pixels.
        dropout: fraction dropped after each convolution.
        batch_normalization: whether all convolutions but the first are followed by one; not to be
            combined with gradient penalties, which need each logit to depend on one image alone.
        num_classes: where given, the network takes [image, label].
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] (and label
        int32 [batch]) -> logits float32 [batch, 1].
    """
    initial = Initializers(seed)
    image = keras.Input(image_shape, name="image")
    x = image
    for i in range(1, max(2, halvings(image_shape)) + 1):
        normalized = batch_normalization and i > 1
        x = layers.Conv2D(
            width * 2 ** (i - 1),
            kernel_size,
            strides=2,
            padding="same",
            use_bias=not normalized,
            kernel_initializer=initial.normal(),
            name=f"down_{i}",
        )(x)
        if normalized:
            x = layers.BatchNormalization(momentum=0.9, synchronized=True, name=f"norm_{i}")(x)
        x = layers.LeakyReLU(0.2, name=f"activation_{i}")(x)
        if dropout:
            x = Dropout(dropout, name=f"dropout_{i}")(x)
    features = layers.Flatten(name="features")(x)
    logit = layers.Dense(1, kernel_initializer=initial.normal(), dtype="float32", name="logit")(
        features
    )
    if not num_classes:
        return keras.Model(image, logit, name="dcgan_discriminator")

    label = inputs.label_input()
    length, kernel = features.shape[-1], initial.normal()
    embedding = inputs.label_embedding(label, num_classes, length, kernel, dtype="float32")
    projection = layers.Dot(axes=1, dtype="float32", name="projection")([features, embedding])
    logit = layers.Add(dtype="float32", name="conditional_logit")([logit, projection])
    return keras.Model([image, label], logit, name="dcgan_discriminator")
