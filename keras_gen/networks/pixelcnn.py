"""PixelCNN: each pixel from those above it and left of it, in two stacks without a blind spot.

ELUs are float32 under every policy: on CPUs half precision takes longer.
"""

import keras
from keras import layers, ops

from keras_gen import losses
from keras_gen.layers import CausalConv, Dropout, Gate, HalfResolution, Pointwise, Shift
from keras_gen.networks import inputs
from keras_gen.networks.seeding import Initializers
from keras_gen.strategies import checked_count, positive


def gated(
    image_shape,
    levels=256,
    num_classes=None,
    likelihood="categorical",
    width=64,
    blocks=6,
    first_kernel=7,
    kernel=3,
    dilations=(1, 2, 4),
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
        dilations: distances of the pixels that a block's kernels see, in turn. The default sees 17
            rows, (1,) 9 of them, with which digits end where others begin.
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
        ValueError: when a kernel is even, the first is smaller than 3, a number is not positive,
            there is no dilation, or there are several channels to embed.
    """
    _check_kernels(first_kernel, kernel)
    positive(width=width, blocks=blocks)
    if not isinstance(dilations, (list, tuple)) or not dilations:
        raise ValueError(
            f"`dilations` must be a list of integers. Received: dilations={dilations!r}"
        )
    for dilation in dilations:
        checked_count("dilations", dilation)
    if embedding and image_shape[2] != 1:
        raise ValueError(
            "Indices are images of one channel. Received: "
            f"image_shape={tuple(image_shape)} with embedding={embedding!r}"
        )
    shared = image_shape[2], num_classes, width, dropout, Initializers(seed)
    net = _Gated(*shared, kernel=kernel, embedding=embedding, levels=levels)
    steps = [dilations[i % len(dilations)] for i in range(blocks)]
    vertical = net.vertical(steps, first_kernel)
    horizontal = net.horizontal(steps, first_kernel)
    head = net.head(levels, losses.get_pixel_likelihood(likelihood), head_width or width)
    return _assembled(image_shape, num_classes, vertical, horizontal, head)


def plus_plus(
    image_shape,
    levels=256,
    num_classes=None,
    likelihood="logistic_mixture",
    width=64,
    blocks=2,
    resolutions=2,
    first_kernel=7,
    head_width=None,
    dropout=0.0,
    seed=0,
):
    """PixelCNN++ (Salimans et al. 2017): gated residual blocks at several resolutions.

    Two streams go down to the lowest resolution and up again, each block on the way up being given
    what the one on its level said on the way down. The blocks of both are, with f(x) = elu([x, -x])
    and C the causal convolution of the stream,

        a, b = C2 * dropout(f(C1 * f(x) + others)),   x <- x + a sigmoid(b).

    The vertical stream reads the rows above. The horizontal one reads the pixels to the left and,
    block by block, what the vertical one says of the place; unlike the paper's, which also reads
    the horizontal features of the row above, it is halved across alone, so that each row has its
    own. Pixels can then be drawn one at a time with all layers cached. There is no weight
    normalization.

    Args:
        image_shape, levels, num_classes, likelihood, head_width, seed: as in `gated`.
        width: channels of both streams, at all resolutions.
        blocks: int, of a stream at a resolution on the way down, and as many on the way up.
        resolutions: int, the image's own and how many times it is halved, plus one (3 in the
            paper). Sides need not be even.
        first_kernel: as in `gated`.
        dropout: fraction dropped within each block (0.5 in the paper).

    Returns:
        As in `gated`.

    Raises:
        ValueError: when the first kernel is even or smaller than 3, or a number is not positive.
    """
    _check_kernels(first_kernel, 3)
    positive(width=width, blocks=blocks, resolutions=resolutions)
    shared = image_shape[2], num_classes, width, dropout, Initializers(seed)
    net = _PlusPlus(*shared, blocks=blocks, resolutions=resolutions)
    vertical, horizontal = net.vertical(first_kernel), net.horizontal(first_kernel)
    head = net.head(levels, losses.get_pixel_likelihood(likelihood), head_width or width)
    return _assembled(image_shape, num_classes, vertical, horizontal, head)


def _check_kernels(first_kernel, kernel):
    if first_kernel < 3 or not first_kernel % 2 or not kernel % 2:
        raise ValueError(
            "Kernels must be odd, and the first at least 3. Received: "
            f"first_kernel={first_kernel!r}, kernel={kernel!r}"
        )


def _assembled(image_shape, num_classes, vertical, horizontal, head):
    """The three parts as one network of images."""
    image = keras.Input(image_shape, name="image")
    taken = [image, inputs.label_input()] if num_classes else [image]
    marked = ops.concatenate([image, ops.ones_like(image[..., :1])], axis=-1)
    above = Shift("down", dtype="float32", name="down")(marked)
    contexts = vertical([above, *taken[1:]] if num_classes else above)
    features = horizontal([Shift("right", dtype="float32", name="right")(marked), *contexts])
    parameters = head([features, image][: len(head.inputs)])
    return keras.Model(taken if num_classes else image, parameters, name="pixelcnn")


class _Builder:
    """What the parts of both networks share, for images of any size."""

    def __init__(self, channels, num_classes, width, dropout, initial):
        self.channels, self.num_classes, self.width = channels, num_classes, width
        self.dropout, self.initial = dropout, initial

    def head(self, levels, likelihood, hidden):
        """A hidden layer; one for each channel where channels must be seen by those after them."""
        features = self._features(self.width, "features")
        x = _elu(features, "features_activation")
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

    def _features(self, channels, name):
        """An input for what another part made, of the dtype that it comes in."""
        dtype = keras.config.dtype_policy().compute_dtype
        return keras.Input((None, None, channels), dtype=dtype, name=name)

    def _causal(self, x, filters, direction, name, **kernel):
        initializer = self.initial.glorot()
        return CausalConv(
            filters, direction, kernel_initializer=initializer, name=f"{name}_conv", **kernel
        )(x)

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
        return Pointwise(filters, kernel_initializer=initializer, name=name, **kwargs)(x)

    def _out(self, x, parameters, name):
        x = _elu(x, f"{name}_activation")
        return self._dense(x, parameters, name, initializer="zeros", dtype="float32")


class _Gated(_Builder):
    """The streams of the gated PixelCNN."""

    def __init__(self, *shared, kernel, embedding, levels):
        super().__init__(*shared)
        self.kernel, self.embedding, self.levels = kernel, embedding, levels

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
        contexts = [self._features(2 * self.width, f"context_{i}") for i in range(len(dilations))]
        h = self._causal(self._read(left), self.width, "right", "first", size=first_kernel // 2)
        for i, (dilation, context) in enumerate(zip(dilations, contexts)):
            kernel = {"size": self.kernel // 2 + 1, "dilation": dilation}
            b = self._causal(h, 2 * self.width, "right", f"horizontal_{i}", **kernel)
            b = layers.Add(name=f"horizontal_{i}_context")([b, context])
            gated = self._gated(b, f"horizontal_{i}")
            residual = self._dense(gated, self.width, f"horizontal_{i}_residual")
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

    def _gated(self, x, name):
        x = Gate(name=f"{name}_gated")(x)
        return Dropout(self.dropout, name=f"{name}_dropout")(x) if self.dropout else x


class _PlusPlus(_Builder):
    """The streams of PixelCNN++."""

    def __init__(self, *shared, blocks, resolutions):
        super().__init__(*shared)
        self.blocks, self.resolutions = blocks, resolutions

    def vertical(self, first_kernel):
        above = keras.Input((None, None, self.channels + 1), name="above")
        label = inputs.label_input() if self.num_classes else None
        code = None if label is None else inputs.one_hot(label, self.num_classes)
        v = self._causal(
            above, self.width, "down", "first", size=first_kernel // 2, across=first_kernel
        )
        contexts = self._down(v, code, 0)[1]
        return keras.Model(above if label is None else [above, label], contexts, name="vertical")

    def _down(self, v, code, level):
        """The vertical stream from a level on: what it makes, and what it says block by block."""
        contexts, skips = [], []

        def block(v, name, seen=None):
            v = self._block(v, "down", name, seen, code=code)
            context = self._dense(_both_signs(v), self.width, f"{name}_context")
            contexts.append(self._with_label(context, code, f"{name}_context"))
            return v

        for i in range(self.blocks):
            v = block(v, f"vertical_{level}_{i}")
            skips.append(v)
        if level + 1 < self.resolutions:
            squares = self._features(4 * self.width, "squares")
            codes = [] if code is None else [keras.Input((self.num_classes,), name="code")]
            low = self._dense(squares, self.width, f"vertical_{level}_halved")
            low, told = self._down(low, codes[0] if codes else None, level + 1)
            made = self._dense(low, 4 * self.width, f"vertical_{level}_doubled")
            taken = [squares, *codes] if codes else squares
            low = keras.Model(taken, [made, *told], name=f"vertical_{level + 1}")
            layer = HalfResolution(low, "down", name=f"vertical_{level}_half")
            v, *told = layer(v if code is None else [v, code])
            contexts += told
            for i in range(self.blocks):
                v = block(v, f"vertical_{level}_up_{i}", skips.pop())
        return v, contexts

    def horizontal(self, first_kernel):
        left = keras.Input((None, None, self.channels + 1), name="left")
        contexts = self._contexts(0)
        h = self._causal(left, self.width, "right", "first", size=first_kernel // 2)
        h = self._right(h, list(contexts), 0)
        return keras.Model([left, *contexts], h, name="horizontal")

    def _contexts(self, level):
        """Inputs for what the vertical stream says from a level on."""
        count = self.blocks * (2 * (self.resolutions - level) - 1)
        return [self._features(self.width, f"context_{level}_{i}") for i in range(count)]

    def _right(self, h, contexts, level):
        """The horizontal stream from a level on; takes its contexts off the list."""
        skips = []
        for i in range(self.blocks):
            h = self._block(h, "right", f"horizontal_{level}_{i}", context=contexts.pop(0))
            skips.append(h)
        if level + 1 < self.resolutions:
            pairs = self._features(2 * self.width, "pairs")
            taken = self._contexts(level + 1)
            low = self._dense(pairs, self.width, f"horizontal_{level}_halved")
            low = self._right(low, list(taken), level + 1)
            made = self._dense(low, 2 * self.width, f"horizontal_{level}_doubled")
            low = keras.Model([pairs, *taken], made, name=f"horizontal_{level + 1}")
            layer = HalfResolution(low, "right", name=f"horizontal_{level}_half")
            h = layer([h, *contexts[: len(taken)]])
            del contexts[: len(taken)]
            for i in range(self.blocks):
                name = f"horizontal_{level}_up_{i}"
                h = self._block(h, "right", name, skips.pop(), contexts.pop(0))
        return h

    def _block(self, x, direction, name, seen=None, context=None, code=None):
        kernel = {"size": 2, "across": 3} if direction == "down" else {"size": 2}
        y = self._causal(_both_signs(x), self.width, direction, f"{name}_1", **kernel)
        if seen is not None:
            seen = self._dense(_both_signs(seen), self.width, f"{name}_seen")
            y = layers.Add(name=f"{name}_with_seen")([y, seen])
        if context is not None:
            y = layers.Add(name=f"{name}_with_context")([y, context])
        y = _both_signs(y)
        if self.dropout:
            y = Dropout(self.dropout, name=f"{name}_dropout")(y)
        y = self._causal(y, 2 * self.width, direction, f"{name}_2", **kernel)
        y = Gate("linear", name=f"{name}_gated")(self._with_label(y, code, name))
        return layers.Add(name=f"{name}_out")([x, y])


def _both_signs(x):
    """elu([x, -x]), which loses nothing of x."""
    return _elu(ops.concatenate([x, -x], axis=-1))


def _elu(x, name=None):
    return layers.Activation("elu", dtype="float32", name=name)(x)
