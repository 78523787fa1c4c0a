"""Autoregressive models: an image as a sequence of pixels, each drawn given those before it."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images, losses, networks, randomness
from keras_gen.layers import causal_conv
from keras_gen.losses.levels import (
    binarized,
    bits_per_dimension,
    check_binarization,
    describe_binarization,
    values_of,
)
from keras_gen.models.base import (
    GenerativeModel,
    checked_masks,
    in_batches,
    specs_of,
)
from keras_gen.networks import inputs

PARTS = ("vertical", "horizontal", "head")


@keras.saving.register_keras_serializable("keras_gen")
class PixelCNN(GenerativeModel):
    """PixelCNN: p(image) = prod_i p(pixel i | pixels above it, and left of it in its row).

    The likelihood is exact, and `generate` draws from it, one pixel after another.

    Example:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.PixelCNN(source.image_shape, levels=2, binarization=0.33)
    model.compile()
    model.fit(source.batches(64), epochs=20)
    images = model.generate(16, seed=0)
    nats = model.log_prob(source.take(100, seed=0)[0])["log_prob"]
    ```

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        levels: 2 to 256, values that a channel of a pixel can have; what is given is rounded to
            the nearest of them. Up to 65,536 with a network of your own, for what is no picture,
            such as the codes of a `VQVAE`.
        network: Functional model: image (and label) -> parameters of the likelihood, float32
            [batch, h, w, parameters], made of the parts "vertical", "horizontal" and "head". None:
            `networks.pixelcnn.gated`; `networks.pixelcnn.plus_plus` is another.
        likelihood: "categorical", "logistic_mixture" (PixelCNN++, Salimans et al. 2017) or a
            `keras_gen.losses.PixelLikelihood`.
        binarization: how pixels become 0 or 1 where there are 2 levels: a threshold in (0, 1), from
            which on a pixel is 1 (0.33 in Keras's example), or "stochastic": 1 with the pixel's
            value as probability (Salakhutdinov and Murray 2008), drawn anew in each training step.
            None: the nearest.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is unknown or out of range, or the network does not fit.
    """

    # A step takes about as long for 64 rows as for 16: it is small.
    generation_rows = 64

    def __init__(
        self,
        image_shape,
        num_classes=None,
        levels=256,
        network=None,
        likelihood="categorical",
        binarization=None,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        most = 256 if network is None else 65536
        if not isinstance(levels, (int, np.integer)) or not 2 <= levels <= most:
            raise ValueError(
                f"`levels` must be an integer in [2, {most}]. Received: levels={levels!r}"
            )
        self.levels = int(levels)
        check_binarization(binarization)
        if binarization is not None and self.levels != 2:
            raise ValueError(
                "`binarization` makes 2 levels. Received: "
                f"binarization={binarization!r} with levels={levels}"
            )
        self.binarization = binarization
        self.likelihood = losses.get_pixel_likelihood(likelihood)
        if network is None:
            network = networks.pixelcnn.gated(
                self.image_shape,
                self.levels,
                self.num_classes,
                likelihood=self.likelihood,
                seed=self.seed,
            )
        self._check_network(network)
        self.network = network
        self.averaged_network = self.averages.follow(network)
        self.built = True

    def _check_network(self, network):
        takes = 2 if self.num_classes else 1
        if len(network.inputs) != takes:
            names = "[image, label]" if takes == 2 else "the image alone"
            raise ValueError(
                f"The network must take {names}, as num_classes={self.num_classes}. "
                f"Received: a network with inputs {[i.name for i in network.inputs]}"
            )
        missing = set(PARTS) - {layer.name for layer in network.layers}
        if missing:
            raise ValueError(
                f"The network must be made of parts called {PARTS}, as that of "
                f"`networks.pixelcnn.gated` is. Received: a network without {sorted(missing)}"
            )
        parameters = self.likelihood.parameters(self.levels, self.image_shape[2])
        expected = (self.image_shape, (*self.image_shape[:2], parameters))
        received = (network.inputs[0].shape[1:], network.outputs[0].shape[1:])
        if received != expected:
            raise ValueError(
                f"The network must be one from {expected[0]} to {expected[1]}, as that is what "
                f"{type(self.likelihood).__name__} of {self.levels} levels takes. Received: a "
                f"network from {received[0]} to {received[1]}"
            )
        if len(network.get_layer("head").inputs) > 1 and not self.likelihood.sees_channels:
            raise ValueError(
                f"{type(self.likelihood).__name__} takes what is said before a pixel's own "
                "channels are seen. Received: a network whose head sees them"
            )
        inputs.check_classes("network", network, self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "levels": self.levels,
            "network": keras.saving.serialize_keras_object(self.network),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "binarization": self.binarization,
        }

    # Values of pixels

    @property
    def data_description(self):
        """What the likelihoods are likelihoods of, to be said beside them."""
        if self.binarization is None:
            rounded = "" if self.levels == 256 else ", to the nearest of which pixels are rounded"
            return f"{self.levels} levels{rounded}, not binarized"
        return describe_binarization(self.binarization)

    def to_levels(self, x, uniforms=None):
        """Images float32 in [-1, 1] to levels, int32 of the same shape.

        Args:
            x: images.
            uniforms: float32 in [0, 1), shaped as x; for the stochastic binarization.
        """
        if self.binarization is not None:
            return tf.cast(binarized(x, self.binarization, uniforms), tf.int32)
        last = self.levels - 1
        return tf.cast(tf.clip_by_value(tf.round((x + 1) / 2 * last), 0, last), tf.int32)

    def to_values(self, levels):
        """Levels to values float32 in [-1, 1]."""
        return values_of(levels, self.levels)

    def _row_levels(self, picture, seed):
        """Levels of pictures uint8 [rows, h, w, c]; what is drawn is a function of the seeds."""
        uniforms = None
        if self.binarization == "stochastic":
            uniforms = randomness.row_uniform(seed, self.image_shape, "binarization")
        return self.to_levels(images.from_uint8(picture), uniforms)

    # Training

    @property
    def loss_names(self):
        return ["loss", "bits_per_dimension"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key, uniforms = self.step_key(training), None
        if self.binarization == "stochastic":
            shape = [tf.shape(x)[0], *self.image_shape]
            uniforms = randomness.uniform(shape, randomness.key(key, "binarization"))
        levels = self.to_levels(x, uniforms)
        with randomness.scope(randomness.key(key, "network")):
            nats = -self._log_prob(self.network, levels, y, training)
        bits = bits_per_dimension(-nats, math.prod(self.image_shape))
        return {"loss": nats, "bits_per_dimension": bits}

    def _log_prob(self, network, levels, label=None, training=False):
        """Log-probability of images, levels int32 [batch, h, w, c], in nats; float32 [batch]."""
        parameters = inputs.call(network, self.to_values(levels), label, training)
        return tf.reduce_sum(self.likelihood.log_prob(parameters, levels, self.levels), [1, 2])

    # Likelihood

    def log_prob(self, pictures, labels=None, seed=0, batch_size=256):
        """Exact log-probability of images as the model sees them, with the averaged weights.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: int, or integers [n], where the model has classes.
            seed: of the stochastic binarization, for each image as in `generate`.
            batch_size: images in memory of the accelerator at a time; changes no result.

        Returns:
            dict of "log_prob", nats, and "bits_per_dimension" = -log_prob / (h w c ln 2), float32
            [n] each; "estimator", "exact"; and "data", the `data_description`.

        Raises:
            ValueError: when the pictures or labels do not fit the model.
        """
        rows = [self.checked_pictures(pictures), *self.picture_rows(len(pictures), labels, seed)]
        function = self.compiled_function("log_prob", self.log_prob_images, specs_of(rows))
        nats = in_batches(function, rows, batch_size)
        return {
            **self._with_bits(nats),
            "estimator": "exact",
            "data": self.data_description,
        }

    def _with_bits(self, nats):
        bits = bits_per_dimension(nats, math.prod(self.image_shape))
        return {"log_prob": nats, "bits_per_dimension": bits}

    def log_prob_images(self, picture, seed, label=None):
        """As `log_prob`, with tensors: uint8 [batch, h, w, c], int64 [batch]; nats [batch]."""

        def step(picture, seed, label=None):
            return self._log_prob(self.averaged_network, self._row_levels(picture, seed), label)

        return self.grouped(step, [picture, seed, label], tf.TensorSpec((), tf.float32))

    # Generation

    def generate(self, n, labels=None, seed=0, batch_size=1024, cached=True):
        """Generates images with the averaged weights.

        Args:
            n, labels, seed, batch_size: as in `GenerativeModel.generate`.
            cached: whether what the layers saw is remembered from pixel to pixel. Otherwise the
                network is run on the whole image for each pixel (for each channel of it, where the
                likelihood sees channels), which takes far longer. The images are the same, bit for
                bit, in float32 on CPU. In mixed precision the two round differently: a level whose
                draw falls near a boundary may differ, and with it what follows in that image.

        Returns:
            NumPy uint8 [n, height, width, channels]. Image i depends on its own seed and label
            alone.

        Raises:
            ValueError: when n is negative or no integer, seeds or labels do not fit.
        """

        def function(seed, label=None):
            return self.generate_images(seed, label, cached=cached)

        signature = saved_model.row_signature(self.num_classes)
        compiled = self.compiled_function(("generate", cached), function, signature)
        return in_batches(compiled, self.rows(n, labels, seed), batch_size)

    def generate_step(self, seed, label=None, cached=True):
        return self.to_values(self.draw_levels(seed, label, cached=cached))

    def complete(self, pictures, masks, labels=None, seed=0, batch_size=1024, cached=True):
        """Draws what a mask hides, each pixel given those above it and left of it.

        Those that are given below and to the right are kept, but what is drawn does not know them.

        Args:
            pictures: uint8 [n, h, w, c].
            masks: bool [h, w] or [n, h, w], True where to draw.
            labels: int, or integers [n], where the model has classes.
            seed, batch_size, cached: as in `generate`.

        Returns:
            uint8 [n, h, w, c], exactly `pictures` where the masks are False.

        Raises:
            ValueError: when the pictures, masks or labels do not fit the model.
        """
        pictures = self.checked_pictures(pictures)
        rows = [pictures, checked_masks(masks, pictures)]
        rows += self.picture_rows(len(pictures), labels, seed)

        def function(picture, mask, seed, label=None):
            return self.complete_images(picture, mask, seed, label, cached)

        compiled = self.compiled_function(("complete", cached), function, specs_of(rows))
        return in_batches(compiled, rows, batch_size)

    def complete_images(self, picture, mask, seed, label=None, cached=True):
        """As `complete`, with tensors: uint8 [batch, h, w, c], bool [batch, h, w], seeds int64."""

        def step(picture, mask, seed, label=None):
            known = self._row_levels(picture, seed)
            drawn = self.to_values(self.draw_levels(seed, label, known, mask, cached))
            return tf.where(mask[..., None], images.to_uint8(drawn), picture)

        return self.grouped(step, [picture, mask, seed, label])

    def draw_levels(self, seed, label=None, known=None, mask=None, cached=True):
        """Levels int32 [rows, h, w, c], drawn pixel by pixel.

        Args:
            seed: int64 [rows].
            label: int32 [rows] where the model has classes.
            known: levels int32 [rows, h, w, c], or None.
            mask: bool [rows, h, w], where to draw; with `known`.
            cached: as in `generate`.
        """
        height, width, channels = self.image_shape
        draws = [height, width, self.likelihood.draws(channels)]
        uniforms = randomness.row_uniform(seed, draws, "pixels")

        def draw(parameters_of, i, j):
            """Levels [rows, c] of a pixel; `parameters_of` those drawn so far: [rows, numbers]."""
            pixel = tf.zeros([self.generation_rows, channels], tf.int32)
            parameters = parameters_of(pixel)
            for channel in range(channels):
                if channel and self.likelihood.sees_channels:
                    parameters = parameters_of(pixel)
                level = self.likelihood.draw(
                    parameters, pixel, channel, uniforms[:, i, j], self.levels
                )
                pixel += level[:, None] * tf.one_hot(channel, channels, dtype=tf.int32)
            return pixel if mask is None else tf.where(mask[:, i, j, None], pixel, known[:, i, j])

        sampler = self._cached_levels if cached else self._naive_levels
        levels = sampler(draw, label)
        return tf.ensure_shape(levels, [self.generation_rows, *self.image_shape])

    def _naive_levels(self, draw, label):
        """Runs the network on the whole image for each pixel."""
        height, width, _ = self.image_shape

        def step(place, levels):
            i, j = place // width, place % width
            here = tf.reshape(tf.one_hot(place, height * width, dtype=tf.int32), [height, width, 1])

            def parameters_of(pixel):
                image = self.to_values(levels + here * pixel[:, None, None])
                return inputs.call(self.averaged_network, image, label)[:, i, j]

            return place + 1, levels + here * draw(parameters_of, i, j)[:, None, None]

        levels = tf.zeros([self.generation_rows, *self.image_shape], tf.int32)
        return tf.while_loop(lambda place, _: place < height * width, step, [0, levels])[1]

    def _cached_levels(self, draw, label):
        """Feeds the vertical stack row by row, the horizontal one pixel by pixel."""
        height, width, channels = self.image_shape
        rows = self.generation_rows
        vertical, horizontal, head = (self.averaged_network.get_layer(name) for name in PARTS)

        def marked(levels):
            """Values, and the channel of ones that marks what lies within the image."""
            values = self.to_values(levels)
            return tf.concat([values, tf.ones_like(values[..., :1])], -1)

        def next_pixel(i, contexts, j, left, memory, levels):
            memory = dict(memory)
            with causal_conv.remembering(memory):
                here = [context[:, :, j, None] for context in contexts]
                features = horizontal([left, *here])

            def parameters_of(pixel):
                here = self.to_values(pixel)[:, None, None]
                return head([features, here][: len(head.inputs)])[:, 0, 0]

            pixel = draw(parameters_of, i, j)
            return j + 1, marked(pixel)[:, None, None], memory, levels.write(j, pixel)

        def next_row(i, above, memory, image):
            memory = dict(memory)
            with causal_conv.remembering(memory):
                contexts = tf.nest.flatten(inputs.call(vertical, above, label))
            start = [
                0,
                tf.zeros([rows, 1, 1, channels + 1]),
                causal_conv.empty_memory(horizontal, rows, width),
                tf.TensorArray(tf.int32, width, element_shape=[rows, channels]),
            ]
            levels = tf.while_loop(
                lambda j, *_: j < width,
                lambda *state: next_pixel(i, contexts, *state),
                start,
            )[-1]
            row = tf.transpose(levels.stack(), [1, 0, 2])
            return i + 1, marked(row)[:, None], memory, image.write(i, row)

        start = [
            0,
            tf.zeros([rows, 1, width, channels + 1]),
            causal_conv.empty_memory(vertical, rows, width),
            tf.TensorArray(tf.int32, height, element_shape=[rows, width, channels]),
        ]
        image = tf.while_loop(lambda i, *_: i < height, next_row, start)[-1]
        return tf.transpose(image.stack(), [1, 0, 2, 3])

    # Export

    def signatures(self):
        """As in `GenerativeModel`, and `log_prob` and `complete`.

        `log_prob`: image uint8 [batch, h, w, c] (and label; and seed int64 [batch] where pixels are
        binarized stochastically) -> log_prob, nats, and bits_per_dimension, float32 [batch].
        `complete`: image, mask bool [batch, h, w], seed (and label) -> images.
        """
        return {
            **super().signatures(),
            "log_prob": self._log_prob_signature(),
            "complete": self._complete_signature(),
        }

    def _log_prob_signature(self):
        def log_prob(image, seed, label=None):
            return self._with_bits(self.log_prob_images(image, seed, label))

        random = self.binarization == "stochastic"
        return saved_model.log_prob_signature(self, log_prob, random)

    def _complete_signature(self):
        signature = [
            tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image"),
            tf.TensorSpec([None, *self.image_shape[:2]], tf.bool, name="mask"),
            *saved_model.row_signature(self.num_classes),
        ]

        def complete(image, mask, seed, label=None):
            with tf.control_dependencies(self.request_checks([image, mask, seed], label)):
                return {"images": self.complete_images(image, mask, tf.identity(seed), label)}

        return complete, signature
