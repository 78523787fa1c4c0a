"""PatchGAN discriminator (Isola et al. 2017, section 3.2.2): a logit for each patch of an image."""

import keras
from keras import layers

from keras_gen.networks.seeding import Initializers
from keras_gen.networks.translation import convolved


def discriminator(image_shape, conditional=False, width=64, depth=3, seed=0):
    """Images to logits, each of which sees one patch of the image.

    `depth` convolutions of 4×4 and stride 2 and two of stride 1, with instance normalization of all
    but the first and the last, and of none where one position is left. A logit sees a square of
    16, 34, 70 or 142 pixels for a depth of 1, 2, 3 or 4. Any size of image is allowed; patches
    that are larger than the image see zeros around it.

    Args:
        image_shape: (height, width, channels).
        conditional: whether the network takes [input, image], and judges whether the image is a
            translation of that input, as in Pix2Pix.
        width: channels of the first feature map; the next have 2, 4, and then 8 times as many.
        depth: int, at least 1.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1], or a list of
        the inputs and them -> logits float32 [batch, rows, columns, 1], where rows is the height
        divided by 2^depth, rounded up.

    Raises:
        ValueError: when `depth` is less than 1.
    """
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1. Received: depth={depth!r}")
    initial = Initializers(seed)
    image = keras.Input(image_shape, name="image")
    x, taken = image, image
    if conditional:
        taken = [keras.Input(image_shape, name="input"), image]
        x = layers.Concatenate(name="input_and_image")(taken)
    for i in range(depth + 1):
        strides = 2 if i < depth else 1
        x = convolved(
            x, width * min(2**i, 8), f"conv_{i}", initial, strides=strides, normalize=i > 0
        )
        x = layers.LeakyReLU(0.2, name=f"activation_{i}")(x)
    logits = convolved(x, 1, "logit", initial, strides=1, normalize=False, dtype="float32")
    return keras.Model(taken, logits, name="patchgan_discriminator")
