"""U-Net for diffusion (Ho et al. 2020; Dhariwal and Nichol 2021), for any image size."""

import keras
from keras import layers

from keras_gen.layers import Dropout, GroupNorm, Recomputed
from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers


def denoiser(
    image_shape,
    num_classes=None,
    width=48,
    multipliers=(1, 2),
    blocks=2,
    attention=(),
    patch=None,
    activation="silu",
    block="separable",
    dropout=0.0,
    condition_channels=0,
    recompute=False,
    seed=0,
):
    """Noisy images and times to what is predicted, shaped as the images.

    Args:
        image_shape: (height, width, channels).
        num_classes: where given, the network takes [image, time, label], where the label
            `num_classes` means "no label".
        width: channels of the first level.
        multipliers: channels of each level, in units of `width`; each level has half the side of
            the one before.
        blocks: residual blocks at each level on the way down and on the way up, where the first
            level has one more.
        attention: levels, counted from 0, whose blocks are followed by self-attention; with any,
            the block in the middle is too. None of them by default: in minutes on CPUs more is
            learned without (benchmarks/diffusion_settings.md).
        patch: side of the squares of pixels that are one position of the first level. None: 2 for
            images of 16 to 47 pixels, 4 for larger ones, 1 for smaller ones. Sides that are no
            multiple of what the levels need are padded with zeros and cropped at the end.
        activation: name of Keras's activation.
        block: "separable", a depthwise 3×3 convolution and two 1×1 convolutions with twice the
            channels between them, which learns more in the same time on CPUs, or "dense", two 3×3
            convolutions.
        dropout: fraction dropped within each block.
        condition_channels: channels, besides the image's, that the network sees at every pixel.
        recompute: whether training computes the activations within each block once more rather
            than keep them (benchmarks/diffusion_memory.md); the same numbers.
        seed: int, of the initial weights.

    Returns:
        Functional model: image float32 [batch, height, width, channels + condition_channels], time
        float32 [batch] (and label int32 [batch]) -> float32 [batch, height, width, channels].

    Raises:
        ValueError: when a level does not exist, or the channels are no multiple of 8.
    """
    if any(width * multiplier % 8 for multiplier in multipliers):
        raise ValueError(
            "`width` times each of `multipliers` must be a multiple of 8, the groups that are "
            f"normalized. Received: width={width!r}, multipliers={multipliers!r}"
        )
    net = _Builder(Initializers(seed), activation, block, dropout, recompute)
    patch = patch or inputs.patch_side(image_shape)
    height, columns, channels = image_shape
    unit = patch * 2 ** (len(multipliers) - 1)
    margins = inputs.margins(image_shape, unit)

    image = keras.Input((height, columns, channels + condition_channels), name="image")
    taken, net.condition = inputs.condition(width, num_classes, net.initial)
    taken.insert(0, image)

    unknown = set(attention or ()) - set(range(len(multipliers)))
    if unknown:
        raise ValueError(
            f"`attention` must be levels, in [0, {len(multipliers)}). "
            f"Received: attention={attention!r}"
        )
    attention = tuple(attention or ())

    x = image
    if any(map(any, margins)):
        x = layers.ZeroPadding2D(margins, name="pad")(x)
    x = layers.Conv2D(
        width * multipliers[0],
        patch if patch > 1 else 3,
        strides=patch,
        padding="valid" if patch > 1 else "same",
        kernel_initializer=net.initial.glorot(),
        name="stem",
    )(x)
    skips = [x]
    for level, multiplier in enumerate(multipliers):
        if level:
            x = layers.AveragePooling2D(2, name=f"down_{level}")(x)
        for i in range(blocks):
            x = net.block_at(x, width * multiplier, f"down_{level}_{i}", level in attention)
            skips.append(x)
    x = net.block_at(x, x.shape[-1], "middle", bool(attention))
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for i in range(blocks + (level == 0)):
            x = layers.Concatenate(name=f"skip_{level}_{i}")([x, skips.pop()])
            x = net.block_at(x, width * multiplier, f"up_{level}_{i}", level in attention)
        if level:
            x = layers.UpSampling2D(name=f"upsample_{level}")(x)
    x = net.activate(GroupNorm(name="out_norm")(x), "out")
    out = net.conv(patch**2 * channels, 3, x, "out", zero=True, dtype="float32")
    return keras.Model(taken, inputs.assembled(out, patch, margins), name="unet")


class _Builder:
    """Adds layers that share initializers, an activation and the condition."""

    def __init__(self, initial, activation, block, dropout, recompute):
        blocks = {"dense": self._dense_block, "separable": self._separable_block}
        if block not in blocks:
            raise ValueError(f"`block` must be one of {sorted(blocks)}. Received: block={block!r}")
        self.initial, self.activation, self.dropout = initial, activation, dropout
        self.block, self.condition, self.recompute = blocks[block], None, recompute

    def block_at(self, x, channels, name, attends):
        """A residual block, its last layer zero at first, and self-attention where wanted."""
        if not self.recompute:
            return self._block_at(x, self.condition, channels, name, attends)
        taken = [keras.Input(part.shape[1:], dtype=part.dtype) for part in (x, self.condition)]
        made = self._block_at(*taken, channels, name, attends)
        block = keras.Model(taken, made, name=f"{name}_block")
        return Recomputed(block, name=f"{name}_recomputed")([x, self.condition])

    def _block_at(self, x, condition, channels, name, attends):
        residual = self.block(x, condition, channels, name)
        if x.shape[-1] != channels:
            x = self.conv(channels, 1, x, f"{name}_shortcut", bias=False)
        x = layers.Add(name=name)([x, residual])
        return self._attention(x, f"{name}_attention") if attends else x

    def _dense_block(self, x, condition, channels, name):
        h = self.activate(GroupNorm(name=f"{name}_norm_1")(x), f"{name}_1")
        h = self.conv(channels, 3, h, f"{name}_1", bias=False)
        modulation = self.dense(2 * channels, condition, f"{name}_modulation", zero=True)
        h = self.activate(GroupNorm(name=f"{name}_norm_2")(h, modulation), f"{name}_2")
        h = self._dropped(h, name)
        return self.conv(channels, 3, h, f"{name}_2", zero=True)

    def _separable_block(self, x, condition, channels, name):
        h = layers.DepthwiseConv2D(
            3, padding="same", depthwise_initializer=self.initial.glorot(), name=f"{name}_depthwise"
        )(x)
        modulation = self.dense(2 * x.shape[-1], condition, f"{name}_modulation", zero=True)
        h = GroupNorm(name=f"{name}_norm")(h, modulation)
        h = self.activate(self.conv(2 * channels, 1, h, f"{name}_1"), f"{name}_1")
        h = self._dropped(h, name)
        return self.conv(channels, 1, h, f"{name}_2", zero=True)

    def _attention(self, x, name, head_dim=64):
        rows, columns, channels = x.shape[1:]
        h = GroupNorm(name=f"{name}_norm")(x)
        h = layers.Reshape((rows * columns, channels), name=f"{name}_tokens")(h)
        h = layers.MultiHeadAttention(
            max(1, channels // head_dim),
            min(channels, head_dim),
            kernel_initializer=self.initial.glorot(),
            use_bias=False,
            name=f"{name}_heads",
        )(h, h)
        h = layers.Dense(
            channels, kernel_initializer="zeros", use_bias=False, name=f"{name}_output"
        )(h)
        h = layers.Reshape((rows, columns, channels), name=f"{name}_image")(h)
        return layers.Add(name=name)([x, h])

    def _dropped(self, x, name):
        return Dropout(self.dropout, name=f"{name}_dropout")(x) if self.dropout else x

    def activate(self, x, name):
        # float32 under every policy: on CPUs a step takes 8 % longer with sigmoids in bfloat16
        return layers.Activation(self.activation, dtype="float32", name=f"{name}_activation")(x)

    def conv(self, channels, size, x, name, zero=False, bias=True, **kwargs):
        initializer = "zeros" if zero else self.initial.glorot()
        return layers.Conv2D(
            channels,
            size,
            padding="same",
            use_bias=bias,
            kernel_initializer=initializer,
            name=f"{name}_conv",
            **kwargs,
        )(x)

    def dense(self, units, x, name, zero=False):
        initializer = "zeros" if zero else self.initial.glorot()
        return layers.Dense(units, kernel_initializer=initializer, dtype="float32", name=name)(x)
