"""Generators that translate images: the U-Net of Pix2Pix and the residual network of CycleGAN.

Both take images whose sides are multiples of 4 and at least 8 pixels. They normalize each image by
itself (instance normalization, Ulyanov et al. 2016), so that an image's translation depends on that
image alone.
"""

import keras
from keras import layers, ops

from keras_gen.layers import Dropout, GroupNorm
from keras_gen.networks.seeding import Initializers


def unet(image_shape, width=64, depth=None, dropout=0.5, seed=0):
    """U-Net generator of Pix2Pix (Isola et al. 2017, section 6.1.1).

    Convolutions of 4×4 and stride 2 halve the image `depth` times, transposed ones double it again,
    and each size sees the features of the same size on the way down. The channels are `width`,
    2 `width`, 4 `width` and from there on 8 `width`. Where one position is left, nothing is
    normalized, because its only value would become 0.

    Args:
        image_shape: (height, width, channels), sides that are multiples of 4 and at least 8.
        width: channels of the first feature map.
        depth: how often the image is halved, at least 2. None: as often as both sides are even, at
            most 8 times, so 8 times for 256×256 and 2 times for 28×28.
        dropout: fraction dropped after each of the first three transposed convolutions, but for
            the one that makes the image. It is the noise from which translations differ; 0 makes
            them certain.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] -> as many,
        alike.

    Raises:
        ValueError: when the sides do not fit, or cannot be halved `depth` times.
    """
    check_sides(image_shape)
    initial = Initializers(seed)
    most = _halvings(image_shape)
    depth = min(most, 8) if depth is None else depth
    if not 2 <= depth <= most:
        raise ValueError(
            f"`depth` must lie in [2, {most}], as images are {image_shape}. "
            f"Received: depth={depth!r}"
        )
    widths = [width * min(2**i, 8) for i in range(depth)]
    image = keras.Input(image_shape, name="image")
    x, seen = image, []
    for i, channels in enumerate(widths):
        x = convolved(x, channels, f"down_{i + 1}", initial, normalize=i > 0)
        x = layers.LeakyReLU(0.2, name=f"down_{i + 1}_activation")(x)
        seen.append(x)
    for i in range(depth - 1, 0, -1):
        name = f"up_{i}"
        x = convolved(x, widths[i - 1], name, initial, layers.Conv2DTranspose)
        if dropout and i > depth - 4:
            x = Dropout(dropout, name=f"{name}_dropout")(x)
        x = layers.ReLU(name=f"{name}_activation")(x)
        x = layers.Concatenate(name=f"{name}_and_down")([x, seen[i - 1]])
    head = {"activation": "tanh", "dtype": "float32", "normalize": False}
    x = convolved(x, image_shape[2], "made", initial, layers.Conv2DTranspose, **head)
    return keras.Model(image, x, name="unet_generator")


def residual(image_shape, width=64, blocks=None, seed=0):
    """Residual generator of CycleGAN (Zhu et al. 2017, section 7.2, after Johnson et al. 2016).

    A 7×7 convolution, two of 3×3 and stride 2, residual blocks at a quarter of the size, two
    transposed convolutions and a 7×7 convolution; images are continued by reflection at their
    edges.

    Args:
        image_shape: (height, width, channels), sides that are multiples of 4 and at least 8.
        width: channels of the first feature map.
        blocks: residual blocks. None: 9 where the shorter side is 256 or more, else 6.
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] -> as many,
        alike.

    Raises:
        ValueError: when the sides do not fit.
    """
    check_sides(image_shape)
    initial = Initializers(seed)
    blocks = (9 if min(image_shape[:2]) >= 256 else 6) if blocks is None else blocks

    def same(x, channels, size, name, **kwargs):
        margin = (size // 2, size // 2)
        x = ops.pad(x, ((0, 0), margin, margin, (0, 0)), mode="reflect")
        own = {"kernel_size": size, "strides": 1, "padding": "valid"}
        return convolved(x, channels, name, initial, **own, **kwargs)

    def resized(x, channels, name, layer):
        x = convolved(x, channels, name, initial, layer, kernel_size=3)
        return layers.ReLU(name=f"{name}_activation")(x)

    image = keras.Input(image_shape, name="image")
    x = layers.ReLU(name="stem_activation")(same(image, width, 7, "stem"))
    for i in (1, 2):
        x = resized(x, width * 2**i, f"down_{i}", layers.Conv2D)
    for i in range(1, blocks + 1):
        h = same(x, 4 * width, 3, f"block_{i}_1")
        h = layers.ReLU(name=f"block_{i}_activation")(h)
        h = same(h, 4 * width, 3, f"block_{i}_2")
        x = layers.Add(name=f"block_{i}")([x, h])
    for i in (2, 1):
        x = resized(x, width * 2 ** (i - 1), f"up_{i}", layers.Conv2DTranspose)
    head = {"activation": "tanh", "dtype": "float32", "normalize": False}
    x = same(x, image_shape[2], 7, "made", **head)
    return keras.Model(image, x, name="residual_generator")


def check_sides(image_shape):
    """Raises unless both sides are multiples of 4 and at least 8."""
    if any(side % 4 or side < 8 for side in image_shape[:2]):
        raise ValueError(
            "Images to translate must have sides that are multiples of 4 and at least 8 pixels; "
            "`image_size` of the data, or networks of your own, change that. "
            f"Received: image_shape={tuple(image_shape)}"
        )


def convolved(
    x,
    channels,
    name,
    initial,
    layer=layers.Conv2D,
    kernel_size=4,
    strides=2,
    padding="same",
    normalize=True,
    **kwargs,
):
    """A convolution and, where `normalize` is set and there is more than one position, instance
    normalization: a group of its own for each channel."""
    made = layer(
        channels,
        kernel_size,
        strides=strides,
        padding=padding,
        kernel_initializer=initial.normal(),
        name=name,
        **kwargs,
    )
    rows, columns = made.compute_output_shape(x.shape)[1:3]
    if not normalize or rows * columns == 1:
        return made(x)
    made.use_bias = False  # the mean is taken away
    return GroupNorm(channels, name=f"{name}_norm")(made(x))


def _halvings(image_shape):
    """How often both sides can be halved."""
    rows, columns = image_shape[:2]
    count = 0
    while rows % 2 == columns % 2 == 0:
        rows, columns, count = rows // 2, columns // 2, count + 1
    return count
