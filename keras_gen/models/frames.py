"""Sequences of images, each frame drawn given those before it."""

import keras
import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images, losses, networks, randomness
from keras_gen.models.base import GenerativeModel, in_batches
from keras_gen.models.rollout import RollOut
from keras_gen.networks import inputs
from keras_gen.strategies import checked_count, not_negative


@keras.saving.register_keras_serializable("keras_gen")
class FramePredictor(RollOut, GenerativeModel):
    """Autoregression over time: x_t = f(x_t-1, ..., x_t-p) + noise, x_t a whole frame.

    The network f says of each pixel of the next frame how it is distributed, and the noise is what
    is drawn from that, each pixel by itself. Training sees the true frames before each frame
    (teacher forcing, all frames of a sequence at once) and minimizes

        -log p(x_1, ..., x_T) = -sum_t log p(x_t | x_t-1, ..., x_t-p).

    Frames before the first are 0 everywhere, which no true frame is: so the network learns where
    to start, too. But pixels that are drawn by themselves make no digit, and a first frame drawn
    like that is a rough sketch. A first frame of another model is better: `first_frames`.

    Example:

    ```python
    source = kg.data.moving_digits("mnist", num_frames=20)
    model = kg.models.FramePredictor(source.image_shape, num_frames=source.num_frames)
    model.compile()
    model.fit(source.batches(16), epochs=5)
    seen = source.take(8, seed=0)[0][:, :5]
    sequences = model.generate(8, first_frames=seen, num_frames=40, seed=0)  # [8, 40, h, w, c]
    nats = model.log_prob(source.take(8, seed=0)[0])["log_prob"]
    ```

    Args:
        image_shape: (height, width, channels) of a frame.
        num_classes: number of classes; None for a model without labels.
        context: int, p, how many frames before it a frame depends on.
        num_frames: int, how many `generate` makes when it is not told, and an exported model. It
            trains on sequences of any length.
        network: Functional model: frames float32 [batch, context, h, w, c] in [-1, 1], the oldest
            first (and label int32 [batch] with classes) -> parameters of the likelihood, float32
            [batch, h, w, parameters * c]. None: `networks.convlstm.predictor`.
        likelihood: "bernoulli", "gaussian", "discretized_logistic" or a
            `keras_gen.losses.Likelihood`. What it observes of the frames, such as their
            binarization, is both learned and learned from. None: stochastically binarized
            `Bernoulli` for grey frames, "discretized_logistic" for coloured ones.
        context_noise: standard deviation of the normal noise that in training is added to the
            frames before, not to the one that is learned: so it learns to go on from frames that
            are not quite true, as its own are (Sanchez-Gonzalez et al. 2020).
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is unknown or out of range, or the network does not fit.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        context=4,
        num_frames=20,
        network=None,
        likelihood=None,
        context_noise=0.0,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        not_negative(context_noise=context_noise)
        self.context_noise = float(context_noise)
        self.context = checked_count("context", context)
        self.num_frames = checked_count("num_frames", num_frames)
        if likelihood is None:
            grey = self.image_shape[2] == 1
            likelihood = losses.Bernoulli("stochastic") if grey else "discretized_logistic"
        self.likelihood = losses.get_likelihood(likelihood)
        if network is None:
            network = networks.convlstm.predictor(
                self.image_shape,
                self.context,
                self.num_classes,
                parameters=self.likelihood.parameters,
                shared=self.likelihood.shared,
                seed=self.seed,
            )
        self._check_network(network)
        self.network = network
        self.averaged_network = self.averages.follow(network)
        self.built = True

    def _check_network(self, network):
        *sides, channels = self.image_shape
        expected = [(self.context, *self.image_shape), *([()] if self.num_classes else [])]
        expected += [(*sides, self.likelihood.parameters * channels)]
        received = [tensor.shape[1:] for tensor in (*network.inputs, *network.outputs)]
        if received != expected:
            raise ValueError(
                "The network must take frames (and a label where there are classes) and put out "
                f"parameters of the likelihood, of shapes {expected}. Received: a network of "
                f"shapes {received}"
            )
        inputs.check_classes("network", network, self.num_classes)
        inputs.check_float32("network", network)

    @property
    def example_shape(self):
        return (None, *self.image_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "context": self.context,
            "num_frames": self.num_frames,
            "network": keras.saving.serialize_keras_object(self.network),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "context_noise": self.context_noise,
        }

    # Training

    @property
    def loss_names(self):
        return ["loss", "nats_per_frame"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        before = x = self.likelihood.observed(x, randomness.key(key, "observed"))
        if training and self.context_noise:
            noise = randomness.normal(tf.shape(x), randomness.key(key, "context_noise"))
            before = x + self.context_noise * noise
        with randomness.scope(randomness.key(key, "network")):
            nats = -tf.reduce_mean(self._log_prob(self.network, before, x, y, training), 1)
        return {"loss": nats / np.prod(self.image_shape), "nats_per_frame": nats}

    def _log_prob(self, network, before, x, label=None, training=False):
        """log p(x_t | frames of `before` before t), float32 [batch, time], of sequences as they are
        observed."""
        windows, frames = windows_before(before, self.context), tf.shape(x)[1]
        label = None if label is None else tf.repeat(label, frames)
        parameters = inputs.call(network, tf.reshape(windows, self._window), label, training)
        nats = self.likelihood.log_prob(tf.reshape(x, [-1, *self.image_shape]), parameters)
        return tf.reshape(nats, [-1, frames])

    @property
    def _window(self):
        return [-1, self.context, *self.image_shape]

    # Likelihood

    def log_prob(self, sequences, labels=None, seed=0, batch_size=64):
        """Log-probability of sequences, frame by frame, with the averaged weights.

        It is that of what the likelihood observes. Of one that binarizes or dequantizes at random,
        the observation is drawn from the sequence's seed.

        Args:
            sequences: uint8 [n, time, h, w, c], of any length.
            labels: int, or integers [n], where the model has classes.
            seed: of the observation, for each sequence as in `generate`.
            batch_size: sequences in memory of the accelerator at a time; changes no result.

        Returns:
            dict of "log_prob", nats, float32 [n]; "frame_log_prob", the terms of it, float32
            [n, time]; "bits_per_dimension", float32 [n]; "estimator", "exact"; and "data", what the
            likelihood says that it observes (of a Gaussian, a density of frames in [-1, 1]).

        Raises:
            ValueError: when the sequences or labels do not fit the model.
        """
        sequences = self.checked_sequences(sequences, "sequences", 1)
        seeds, *label = self.picture_rows(len(sequences), labels, seed)

        def function(seed, frames, label=None):
            return self.log_prob_frames(frames, seed, label)

        signature = self.signature_with_frames("sequences")
        compiled = self.compiled_function("log_prob", function, signature)
        terms = in_batches(compiled, [seeds, sequences, *label], batch_size)
        nats = terms.sum(1)
        dimensions = int(np.prod(sequences.shape[1:]))
        bits = self.likelihood.bits_per_dimension(nats, dimensions)
        return {
            "log_prob": nats,
            "frame_log_prob": terms,
            "bits_per_dimension": bits,
            "estimator": "exact",
            "data": self.likelihood.data,
        }

    def log_prob_frames(self, frames, seed, label=None):
        """As `log_prob`, with tensors: uint8 [batch, time, h, w, c], int64 [batch]; nats [batch,
        time]."""

        def step(seed, frames, *label):
            seen = self._observed(frames, seed)
            return self._log_prob(self.averaged_network, seen, seen, *label)

        spec = tf.TensorSpec([None], tf.float32)
        return self.grouped(step, [seed, frames, label], spec)

    def signatures(self):
        """As in `RollOut`, and `log_prob`: sequence uint8 [batch, time, h, w, c], of any length
        (and label; and seed int64 [batch] where frames are binarized or dequantized at random) ->
        log_prob, nats, and bits_per_dimension, float32 [batch]."""

        def log_prob(sequence, seed, label=None):
            some = tf.debugging.Assert(
                tf.shape(sequence)[1] > 0, ["Sequences need frames. Received:", tf.shape(sequence)]
            )
            with tf.control_dependencies([some]):
                sequence = tf.identity(sequence)
            nats = tf.reduce_sum(self.log_prob_frames(sequence, seed, label), 1)
            dimensions = tf.cast(tf.reduce_prod(tf.shape(sequence)[1:]), tf.float32)
            bits = self.likelihood.bits_per_dimension(nats, dimensions)
            return {"log_prob": nats, "bits_per_dimension": bits}

        signature = saved_model.log_prob_signature(self, log_prob, self.likelihood.random)
        return {**super().signatures(), "log_prob": signature}

    # Generation

    def generate(
        self,
        n,
        labels=None,
        seed=0,
        batch_size=1024,
        num_frames=None,
        first_frames=None,
        noise=True,
    ):
        """As in `RollOut`.

        Args:
            n, labels, seed, batch_size, num_frames, first_frames: as there.
            noise: False leaves out the noise: each frame is the expected one, and the next follows
                from that. Expected frames are blurred, and soon unlike any true one.
        """
        return super().generate(
            n, labels, seed, batch_size, num_frames, first_frames, noise=bool(noise)
        )

    def generate_step(self, seed, label=None, first_frames=None, num_frames=None, noise=True):
        """Generates one group of sequences with the averaged weights: pure tensors in and out.

        Args:
            seed: int64 [rows].
            label: int32 [rows] where the model has classes.
            first_frames: uint8 [rows, given, h, w, c]; None: none are given.
            num_frames: int or int32 scalar tensor, at least `given`; None: the model's.
            noise: bool.

        Returns:
            float32 [rows, num_frames, height, width, channels] in [-1, 1].
        """
        window_shape = [self.generation_rows, self.context, *self.image_shape]

        def begin(first_frames):
            seen = self._observed(first_frames, seed, noise=noise)
            window = tf.concat([tf.zeros(window_shape), seen], 1)[:, -self.context :]
            return (tf.ensure_shape(window, window_shape),)

        def draw(t, window):
            parameters = inputs.call(self.averaged_network, window, label)
            frame = images.to_uint8(self._drawn(parameters, seed, t, noise))
            seen = self._observed(frame[:, None], seed, t, noise)
            return frame, (tf.concat([window[:, 1:], seen], 1),)

        return self.roll_out(first_frames, num_frames, begin, draw)

    def _drawn(self, parameters, seed, t, noise):
        """Frame t, float32 [rows, h, w, c] in [-1, 1], drawn from each row's own seed."""
        if not noise:
            return self.likelihood.mean(parameters)

        def draw(row):
            parameters, seed = row
            return self.likelihood.sample(parameters, randomness.key(seed, "frame", t))

        spec = tf.TensorSpec(self.image_shape, tf.float32)
        return tf.map_fn(draw, (parameters, seed), fn_output_signature=spec)

    def _observed(self, frames, seed, start=0, noise=True):
        """What the likelihood observes of frames uint8 [rows, time, h, w, c].

        What is drawn of a frame is a function of the row's seed and the frame's number in the
        sequence, the first of these frames being number `start`.
        """
        x, time = images.from_uint8(frames), tf.shape(frames)[1]
        if not noise:
            return self.likelihood.observed(x)

        def observe(frame):
            image, seed, t = frame
            return self.likelihood.observed(image, randomness.key(seed, "observed", t))

        seeds = tf.repeat(seed, time)
        numbers = tf.tile(start + tf.range(time), tf.shape(seed))
        flat = (tf.reshape(x, [-1, *self.image_shape]), seeds, numbers)
        spec = tf.TensorSpec(self.image_shape, tf.float32)
        return tf.reshape(tf.map_fn(observe, flat, fn_output_signature=spec), tf.shape(x))


def windows_before(x, context):
    """The frames before each frame, zeros before the first.

    Args:
        x: [batch, time, height, width, channels].
        context: int.

    Returns:
        [batch, time, context, height, width, channels]; window t is frames t - context ... t - 1.
    """
    time = x.shape[1] or tf.shape(x)[1]
    padded = tf.pad(x, [[0, 0], [context, 0], [0, 0], [0, 0], [0, 0]])
    return tf.stack([padded[:, i : i + time] for i in range(context)], axis=2)
