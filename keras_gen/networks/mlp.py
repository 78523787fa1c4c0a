"""Dense generator and discriminator (Goodfellow et al. 2014), hidden layers 256-256."""

import math

import keras
from keras import layers

from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers


def generator(image_shape, latent_dim=100, hidden=(256, 256), num_classes=None, seed=0):
    """Latents to images through dense layers.

    Args:
        image_shape: (height, width, channels).
        latent_dim: length of the latent vector.
        hidden: units of the hidden layers.
        num_classes: where given, the network takes [latent, label] and the label's one-hot code is
            appended to the latent (Mirza and Osindero 2014).
        seed: int, of the initial weights.

    Returns:
        Functional model: latent float32 [batch, latent_dim] (and label int32 [batch]) -> images
        float32 [batch, height, width, channels] in [-1, 1].
    """
    initial = Initializers(seed)
    latent = keras.Input((latent_dim,), name="latent")
    x, taken = latent, [latent]
    if num_classes:
        label = inputs.label_input()
        x = layers.Concatenate(name="latent_and_label")([x, inputs.one_hot(label, num_classes)])
        taken.append(label)
    for i, units in enumerate(hidden, start=1):
        x = layers.Dense(units, kernel_initializer=initial.glorot(), name=f"hidden_{i}")(x)
        x = layers.LeakyReLU(0.2, name=f"activation_{i}")(x)
    x = layers.Dense(
        math.prod(image_shape),
        activation="tanh",
        kernel_initializer=initial.glorot(),
        dtype="float32",
        name="pixels",
    )(x)
    image = layers.Reshape(image_shape, dtype="float32", name="image")(x)
    return keras.Model(taken if num_classes else latent, image, name="mlp_generator")


def discriminator(image_shape, hidden=(256, 256), num_classes=None, seed=0):
    """Images to logits through dense layers.

    Args:
        image_shape: (height, width, channels).
        hidden: units of the hidden layers.
        num_classes: where given, the network takes [image, label] and the label's one-hot code is
            appended to the pixels.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] (and label
        int32 [batch]) -> logits float32 [batch, 1].
    """
    initial = Initializers(seed)
    image = keras.Input(image_shape, name="image")
    x, taken = layers.Flatten(name="pixels")(image), [image]
    if num_classes:
        label = inputs.label_input()
        x = layers.Concatenate(name="pixels_and_label")([x, inputs.one_hot(label, num_classes)])
        taken.append(label)
    for i, units in enumerate(hidden, start=1):
        x = layers.Dense(units, kernel_initializer=initial.glorot(), name=f"hidden_{i}")(x)
        x = layers.LeakyReLU(0.2, name=f"activation_{i}")(x)
    logit = layers.Dense(1, kernel_initializer=initial.glorot(), dtype="float32", name="logit")(x)
    return keras.Model(taken if num_classes else image, logit, name="mlp_discriminator")
