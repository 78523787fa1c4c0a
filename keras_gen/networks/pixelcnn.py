"""PixelCNN: each pixel from those above it and left of it, in two stacks without a blind spot."""

import keras
from keras import layers, ops

from keras_gen import losses
from keras_gen.layers import CausalConv, Dropout, Shift
from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers


def gated(
    image_shape,
    levels=256,
    num_classes=None,
    likelihood="categorical",
    width=64,
    blocks=6,
    first_kernel=7,
    kernel=3,
    dilations=(1,),
    head_width=None,
    dropout=0.0,
    embedding=None,
    seed=0,
):
    """Gated PixelCNN (van den Oord et al. 2016, "Conditional Image Generation").

    The vertical stack reads the rows above, the horizontal one the pixels to the left and what the
    vertical stack says of the pixel's own place: v and h are

        a = V * v + labels,   v <- v + tanh(a_1) sigmoid(a_2)
        b = H * h + C a + labels,   h <- h + R (tanh(b_1) sigmoid(b_2))

    in each block, V and H causal convolutions, C and R of one pixel. At first both see the
    image moved by one pixel, with a channel of ones that tells it from what lies outside.

    The network is made of three, which a sampler can also run by themselves: "vertical" (rows above
    (and labels) to what each block tells the horizontal stack), "horizontal" and "head".

    Args:
        image_shape: (height, width, channels).
        levels: int, of each channel of a pixel.
        num_classes: where given, the network takes [image, label].
        likelihood: name of a `keras_gen.losses.PixelLikelihood`, or one.
        width: channels of both stacks.
        blocks: int, gated residual blocks.
        first_kernel, kernel: odd ints: as wide as the kernels of the first layer and of the blocks
            would be, did they see what lies below and to the right.
        dilations: distances of the pixels that a block's kernels see, in turn: (1, 2) sees further
            than (1,).
        head_width: hidden units of the head, for each channel where it has a head of its own. None:
            `width`.
        dropout: fraction dropped within each block.
        embedding: int, for levels that are not values on a line but indices, as a VQVAE's codes:
            both stacks read a learned vector of so many numbers for each level. None: the value.
        seed: int, of the initial weights.

    Returns:
        Functional model: image float32 [batch, height, width, channels] in [-1, 1] (and label int32
        [batch]) -> parameters of the likelihood, float32 [batch, height, width, parameters]. Those
        of a pixel are functions of the pixels above it and left of it alone; those of a channel, if
        the likelihood needs it, also of the channels before it.

    Raises:
        ValueError: when a kernel is even, the first is smaller than 3, or there are several
            channels to embed.
    """
    if first_kernel < 3 or not first_kernel % 2 or not kernel % 2:
        raise ValueError(
            "Kernels must be odd, and the first at least 3. Received: "
            f"first_kernel={first_kernel!r}, kernel={kernel!r}"
        )
    if embedding and image_shape[2] != 1:
        raise ValueError(
            "Indices are images of one channel. Received: "
            f"image_shape={tuple(image_shape)} with embedding={embedding!r}"
        )
    net = _Builder(
        image_shape[2], num_classes, width, kernel, dropout, embedding, levels, Initializers(seed)
    )
    steps = [dilations[i % len(dilations)] for i in range(blocks)]
    vertical = net.vertical(steps, first_kernel)
    horizontal = net.horizontal(steps, first_kernel)
    head = net.head(levels, losses.get_pixel_likelihood(likelihood), head_width or width)

    image = keras.Input(image_shape, name="image")
    taken = [image, inputs.label_input()] if num_classes else [image]
    marked = ops.concatenate([image, ops.ones_like(image[..., :1])], axis=-1)
    above = Shift("down", dtype="float32", name="down")(marked)
    contexts = vertical([above, *taken[1:]] if num_classes else above)
    features = horizontal([Shift("right", dtype="float32", name="right")(marked), *contexts])
    parameters = head([features, image][: len(head.inputs)])
    return keras.Model(taken if num_classes else image, parameters, name="pixelcnn")


class _Builder:
    """The three parts, for images of any size."""

    def __init__(self, channels, num_classes, width, kernel, dropout, embedding, levels, initial):
        self.embedding, self.levels = embedding, levels
        self.channels, self.num_classes, self.width = channels, num_classes, width
        self.kernel, self.dropout, self.initial = kernel, dropout, initial

    def vertical(self, dilations, first_kernel):
        above = keras.Input((None, None, self.channels + 1), name="above")
        label = inputs.label_input() if self.num_classes else None
        code = None if label is None else inputs.one_hot(label, self.num_classes)
        v = self._causal(
            self._read(above),
            self.width,
            "down",
            "first",
            size=first_kernel // 2,
            across=first_kernel,
        )
        contexts = []
        for i, dilation in enumerate(dilations):
            kernel = {"size": self.kernel // 2 + 1, "across": self.kernel, "dilation": dilation}
            a = self._causal(v, 2 * self.width, "down", f"vertical_{i}", **kernel)
            a = self._with_label(a, code, f"vertical_{i}")
            context = self._dense(a, 2 * self.width, f"context_{i}")
            contexts.append(self._with_label(context, code, f"context_{i}"))
            if i + 1 < len(dilations):
                v = layers.Add(name=f"vertical_{i}_out")([v, self._gated(a, f"vertical_{i}")])
        taken = above if label is None else [above, label]
        return keras.Model(taken, contexts, name="vertical")

    def horizontal(self, dilations, first_kernel):
        left = keras.Input((None, None, self.channels + 1), name="left")
        contexts = [
            keras.Input((None, None, 2 * self.width), name=f"context_{i}")
            for i in range(len(dilations))
        ]
        h = self._causal(self._read(left), self.width, "right", "first", size=first_kernel // 2)
        for i, (dilation, context) in enumerate(zip(dilations, contexts)):
            kernel = {"size": self.kernel // 2 + 1, "dilation": dilation}
            b = self._causal(h, 2 * self.width, "right", f"horizontal_{i}", **kernel)
            b = layers.Add(name=f"horizontal_{i}_context")([b, context])
            residual = self._dense(
                self._gated(b, f"horizontal_{i}"), self.width, f"horizontal_{i}_residual"
            )
            h = layers.Add(name=f"horizontal_{i}_out")([h, residual])
        return keras.Model([left, *contexts], h, name="horizontal")

    def _read(self, marked):
        """What a stack is given: the values and the mark, or vectors in their place.

        They are float32 up to here in every precision, as an index must not be rounded.
        """
        if not self.embedding:
            return marked
        value, inside = marked[..., 0], marked[..., 1:]
        index = ops.cast(ops.round((value + 1) / 2 * (self.levels - 1)), "int32")
        code = inputs.one_hot(index, self.levels) * inside
        return self._dense(code, self.embedding, "embedding", use_bias=False)

    def head(self, levels, likelihood, hidden):
        """A hidden layer; one for each channel where channels must be seen by those after them."""
        features = keras.Input((None, None, self.width), name="features")
        x = layers.Activation("elu", name="features_activation")(features)
        if not likelihood.sees_channels or self.channels == 1:
            parameters = likelihood.parameters(levels, self.channels)
            x = self._dense(x, hidden, "hidden")
            return keras.Model([features], self._out(x, parameters, "parameters"), name="head")
        pixel = keras.Input((None, None, self.channels), name="pixel")
        outputs = []
        for channel in range(self.channels):
            y = self._dense(x, hidden, f"hidden_{channel}")
            if channel:
                seen = self._dense(pixel[..., :channel], hidden, f"channels_before_{channel}")
                y = layers.Add(name=f"hidden_and_channels_{channel}")([y, seen])
            parameters = likelihood.parameters(levels, 1)
            outputs.append(self._out(y, parameters, f"parameters_{channel}"))
        x = layers.Concatenate(name="parameters", dtype="float32")(outputs)
        return keras.Model([features, pixel], x, name="head")

    def _causal(self, x, filters, direction, name, **kernel):
        initializer = self.initial.glorot()
        return CausalConv(
            filters, direction, kernel_initializer=initializer, name=f"{name}_conv", **kernel
        )(x)

    def _gated(self, x, name):
        value, gate = ops.split(x, 2, axis=-1)
        value = layers.Activation("tanh", name=f"{name}_value")(value)
        gate = layers.Activation("sigmoid", name=f"{name}_gate")(gate)
        x = layers.Multiply(name=f"{name}_gated")([value, gate])
        return Dropout(self.dropout, name=f"{name}_dropout")(x) if self.dropout else x

    def _with_label(self, x, code, name):
        if code is None:
            return x
        shift = layers.Dense(
            x.shape[-1],
            use_bias=False,
            kernel_initializer=self.initial.glorot(),
            name=f"{name}_label",
        )(code)
        return layers.Add(name=f"{name}_with_label")([x, shift[:, None, None]])

    def _dense(self, x, filters, name, initializer=None, **kwargs):
        initializer = initializer or self.initial.glorot()
        return layers.Dense(filters, kernel_initializer=initializer, name=name, **kwargs)(x)

    def _out(self, x, parameters, name):
        x = layers.Activation("elu", name=f"{name}_activation")(x)
        return self._dense(x, parameters, name, initializer="zeros", dtype="float32")
