"""Residual generator and discriminator without normalization (R3GAN, Huang et al. 2024).

Both are stacks of levels, each of half or twice the sides of the one before; a level is some
residual blocks of 1×1, 3×3 and 1×1 convolutions. Where R3GAN's 3×3 convolutions are grouped and
wide, these are dense and narrow: on CPUs the gradient of a grouped convolution takes many times
that of a dense one. Nothing is normalized; what a block adds is zero at first, and its other
kernels are scaled down by the number of blocks (Fixup, Zhang et al. 2019).
"""

import math

import keras
from keras import layers, ops

from keras_gen.layers import (
    EqualizedLearningRate,
    LearnedScale,
    MinibatchStd,
    ResampledConv,
    SpectralNormalization,
)
from keras_gen.networks import inputs
from keras_gen.networks.dcgan import crop, halvings
from keras_gen.networks.seeding import Initializers

NORMALIZATIONS = (None, "spectral", "equalized")


def channels_of(image_shape, width):
    """Channels of the levels, from the image's own to the smallest.

    They are inverse to the sides, so that all levels cost alike: `width` at 16 pixels or so, a
    quarter of it at least and twice at most. The level of the image has half of that, because there
    the time goes into reading and writing feature maps, not into products.
    """
    found = []
    for level in range(halvings(image_shape) + 1):
        side = min(image_shape[:2]) / 2**level
        factor = 2.0 ** min(max(round(math.log2(16 / side)), -2), 1)
        found.append(int(width * (max(factor / 2, 0.25) if level == 0 else factor)))
    return [max(channels, 2) for channels in found]


def generator(
    image_shape,
    latent_dim=64,
    width=64,
    blocks=1,
    normalization=None,
    attention=(),
    label_dim=16,
    num_classes=None,
    seed=0,
):
    """Latents to images.

    Sides that are no multiple of the power of two are cropped at the end.

    Args:
        image_shape: (height, width, channels), sides of at least 4.
        latent_dim: length of the latent vector.
        width: channels where the shorter side is 16 pixels; see `channels_of`.
        blocks: residual blocks at each level.
        normalization: of the kernels: None, "spectral" or "equalized".
        attention: shorter sides, pixels, of the levels that end in self-attention (SAGAN).
        label_dim: length of the label's embedding, appended to the latent.
        num_classes: where given, the network takes [latent, label].
        seed: int, of the initial weights.

    Returns:
        Functional model: latent float32 [batch, latent_dim] (and label int32 [batch]) -> images
        float32 [batch, height, width, channels] in [-1, 1].

    Raises:
        ValueError: when an option is unknown, or no level has a side of `attention`.
    """
    levels = halvings(image_shape)
    net = _Builder(seed, normalization, blocks, (levels + 1) * blocks, attention)
    channels = channels_of(image_shape, width)
    rows, columns = (math.ceil(side / 2**levels) for side in image_shape[:2])

    latent = keras.Input((latent_dim,), name="latent")
    x, taken = latent, [latent]
    if num_classes:
        label = inputs.label_input()
        kernel = net.initial.normal(1.0)
        embedding = inputs.label_embedding(label, num_classes, label_dim, kernel)
        x = layers.Concatenate(name="latent_and_label")([x, embedding])
        taken.append(label)
    x = net.linear(layers.Dense, channels[-1], name="project")(x)
    # a learned feature map, each channel scaled by the projected latent
    x = layers.EinsumDense(
        "bc,hwc->bhwc",
        (rows, columns, channels[-1]),
        kernel_initializer=net.initial.normal(1.0),
        name="smallest",
    )(x)
    for level in reversed(range(levels + 1)):
        x = net.level(x, level)
        if level:
            x = net.resampled(x, channels[level - 1], "up", f"up_{level}")
    x = net.linear(layers.Conv2D, image_shape[2], kernel_size=1, gain=0.5**0.5, name="pixels")(x)
    x = layers.Activation("tanh", dtype="float32", name="image")(x)
    taken = taken if num_classes else latent
    return net.model(taken, crop(x, image_shape), "resnet_generator")


def discriminator(
    image_shape,
    width=64,
    blocks=1,
    normalization=None,
    attention=(),
    minibatch_std=0,
    num_classes=None,
    classifier=False,
    code_parameters=0,
    seed=0,
):
    """Images to logits.

    With classes it is a projection discriminator (Miyato and Koyama 2018), or has an auxiliary
    classifier. The feature map ends as one number a channel, a learned sum over the positions; with
    spectral normalization it is a plain sum.

    Args:
        image_shape: (height, width, channels), sides of at least 4.
        width: channels where the shorter side is 16 pixels; see `channels_of`.
        blocks: residual blocks at each level.
        normalization: of the kernels: None, "spectral" (SNGAN, Miyato et al. 2018) or "equalized".
        attention: shorter sides, pixels, of the levels that end in self-attention (SAGAN).
        minibatch_std: images in the groups whose deviation is a feature; 0 for none. Each logit
            then depends on its group.
        num_classes: number of classes. The network takes [image, label], unless it classifies.
        classifier: whether the network takes images alone and also gives logits of the classes
            (ACGAN, Odena et al. 2017), in place of the projection.
        code_parameters: numbers of a last output, about the latent codes (InfoGAN's Q).
        seed: int, of the initial weights.

    Returns:
        Functional model: images float32 [batch, height, width, channels] in [-1, 1] (and label
        int32 [batch]) -> logits float32 [batch, 1]; with further outputs a list, class logits
        [batch, num_classes] and then code parameters [batch, code_parameters].

    Raises:
        ValueError: when an option is unknown, no level has a side of `attention`, or there is
            nothing to classify.
    """
    if classifier and not num_classes:
        raise ValueError("`classifier` needs classes. Received: num_classes=None")
    levels = halvings(image_shape)
    net = _Builder(seed, normalization, blocks, (levels + 1) * blocks, attention)
    channels = channels_of(image_shape, width)
    image = keras.Input(image_shape, name="image")
    x = net.linear(layers.Conv2D, channels[0], kernel_size=1, name="pixels")(image)
    for level in range(levels + 1):
        x = net.level(x, level)
        if level < levels:
            x = net.resampled(x, channels[level + 1], "down", f"down_{level + 1}")
    if minibatch_std:
        x = MinibatchStd(minibatch_std, name="minibatch_std")(x)
        x = net.linear(layers.Conv2D, channels[-1], kernel_size=1, name="with_deviation")(x)
    if minibatch_std or normalization == "spectral":
        x = net.activated(x, "last")
    if normalization == "spectral":
        features = ops.sum(x, axis=(1, 2))
    else:
        kernel = net.initial.he(0.5**0.5)
        if normalization == "equalized":
            x, kernel = x * math.prod(x.shape[1:3]) ** -0.5, net.initial.normal(1.0)
        features = layers.EinsumDense(
            "bhwc,hwc->bc", (x.shape[-1],), kernel_initializer=kernel, name="sum"
        )(x)

    def head(units, name):
        return net.linear(layers.Dense, units, gain=0.5**0.5, dtype="float32", name=name)(features)

    logit, taken = head(1, "logit"), image
    if num_classes and not classifier:
        label = inputs.label_input()
        embedding = net.linear(
            layers.Dense,
            features.shape[-1],
            gain=(0.5 * num_classes / features.shape[-1]) ** 0.5,
            use_bias=False,
            dtype="float32",
            name="label_embedding",
        )(inputs.one_hot(label, num_classes))
        product = layers.Dot(axes=1, dtype="float32", name="projection")([features, embedding])
        logit, taken = (
            layers.Add(dtype="float32", name="conditional")([logit, product]),
            [
                image,
                label,
            ],
        )
    found = [logit]
    if classifier:
        found.append(head(num_classes, "classes"))
    if code_parameters:
        found.append(head(code_parameters, "codes"))
    return net.model(taken, found if len(found) > 1 else logit, "resnet_discriminator")


class _Builder:
    """What generator and discriminator share.

    Args:
        seed: int, of the initial weights.
        normalization: of the kernels, one of NORMALIZATIONS.
        blocks: residual blocks at each level.
        depth: residual blocks in all.
        attention: sides of the levels with self-attention.
    """

    def __init__(self, seed, normalization, blocks, depth, attention):
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"`normalization` must be one of {NORMALIZATIONS}. "
                f"Received: normalization={normalization!r}"
            )
        self.initial = Initializers(seed)
        self.normalization, self.blocks, self.attention = normalization, blocks, tuple(attention)
        # Fixup: the update of a network of `depth` branches of 3 layers is that of one of 1 branch
        self.scale = max(depth, 1) ** (-1 / 4)
        self.sides = []  # the shorter ones, of the levels so far

    def linear(self, kind, *args, gain=1.0, name, dtype=None, **kwargs):
        """A layer with a kernel of deviation gain * sqrt(2 / inputs), normalized as asked."""
        kwargs = {"name": name, "dtype": dtype, **kwargs}
        if self.normalization == "equalized":
            layer = kind(*args, kernel_initializer=self.initial.normal(gain), **kwargs)
            return EqualizedLearningRate(layer, name=f"{name}_equalized", dtype=dtype)
        if self.normalization == "spectral":
            layer = kind(*args, kernel_initializer=self.initial.he(), **kwargs)
            seed = self.initial.normal().seed
            return SpectralNormalization(layer, seed, name=f"{name}_spectral", dtype=dtype)
        initializer = self.initial.he(gain) if gain else "zeros"
        return kind(*args, kernel_initializer=initializer, **kwargs)

    def resampled(self, x, channels, direction, name):
        return self.linear(ResampledConv, channels, direction, gain=0.5**0.5, name=name)(x)

    def level(self, x, level):
        for i in range(1, self.blocks + 1):
            x = self.block(x, f"level_{level}_block_{i}")
        self.sides.append(min(x.shape[1:3]))
        if self.sides[-1] in self.attention:
            x = self.attended(x, f"level_{level}_attention")
        return x

    def attended(self, x, name):
        """With self-attention over the positions (SAGAN, Zhang et al. 2019, eqs. 1-3): queries and
        keys have an eighth of the channels, values half."""
        rows, columns, channels = x.shape[1:]
        own, kwargs = f"{name}_{{}}".format, {"kernel_size": 1, "use_bias": False, "gain": 0.5**0.5}
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)

        def positions(units, part):
            h = self.linear(layers.Conv2D, units, name=own(part), **kwargs)(x)
            return layers.Reshape((rows * columns, units), name=own(f"{part}s"))(h)

        query, value = positions(narrow, "query"), positions(half, "value")
        key = positions(narrow, "key")
        # weights that sum to one need their digits
        h = layers.Attention(dtype="float32", name=name)([query, value, key])
        h = layers.Reshape((rows, columns, half), name=own("map"))(h)
        h = self.linear(layers.Conv2D, channels, name=own("out"), **kwargs)(h)
        return layers.Add(name=own("sum"))([x, LearnedScale(name=own("scale"))(h)])

    def block(self, x, name):
        channels = x.shape[-1]
        narrow, own = max(channels // 2, 2), f"{name}_{{}}".format
        kwargs = {"padding": "same", "gain": self.scale}
        h = self.linear(layers.Conv2D, narrow, kernel_size=1, name=own("in"), **kwargs)(x)
        h = self.activated(h, own(1))
        h = self.linear(layers.Conv2D, narrow, kernel_size=3, name=own("middle"), **kwargs)(h)
        h = self.activated(h, own(2))
        # no bias: it would do what the next layer's does, or at the end of all only shift logits
        kwargs |= {"gain": 0.0, "use_bias": False}
        h = self.linear(layers.Conv2D, channels, kernel_size=1, name=own("out"), **kwargs)(h)
        return layers.Add(name=own("sum"))([x, h])

    def model(self, taken, made, name):
        """The network, of all levels."""
        if not set(self.attention) <= set(self.sides):
            raise ValueError(
                f"`attention` must be some of the shorter sides of the levels of the {name}, "
                f"{self.sides}. Received: attention={list(self.attention)}"
            )
        return keras.Model(taken, made, name=name)

    @staticmethod
    def activated(x, name):
        return layers.LeakyReLU(0.2, name=f"{name}_activation")(x)
