"""Sequences of images by adversarial training: each frame goes on from those before it."""

import keras
import tensorflow as tf

from keras_gen import images, losses, networks, optimizers, randomness
from keras_gen.models.adversarial import AdversarialModel, refuse_batch_normalization
from keras_gen.models.rollout import RollOut
from keras_gen.networks import inputs
from keras_gen.strategies import checked_count, not_negative


@keras.saving.register_keras_serializable("keras_gen")
class SequenceGAN(RollOut, AdversarialModel):
    """A recurrent generator of frames against two discriminators, one of frames, one of motion.

    As in MoCoGAN (Tulyakov et al. 2018) a sequence has one latent of its content, and each frame
    fresh noise. One network makes the first frame of these; another makes each further frame of
    them, of a memory and of the frame before, which may as well be a real one: so given sequences
    are continued as drawn ones are. In training half of the sequences are drawn from nothing, the
    others begin with the first frames of a real sequence, 1 to `max_given` of them. One
    discriminator is shown a frame that was made, at a random time; the other sees the whole
    sequence.

    Example:

    ```python
    source = kg.data.moving_digits("mnist", num_frames=10)
    model = kg.models.SequenceGAN(source.image_shape, num_frames=source.num_frames)
    model.compile()
    model.fit(source.batches(16), epochs=10)
    model.generate(8, num_frames=30, seed=0)  # uint8 [8, 30, h, w, c]
    seen = source.take(8, seed=0)[0][:, :3]
    model.generate(8, first_frames=seen, num_frames=30, seed=0)
    ```

    Args:
        image_shape: (height, width, channels) of a frame; the default discriminators need sides of
            at least 4.
        num_classes: number of classes of sequences; None for a model without labels.
        num_frames: int, at least 2: how many frames the sequences have that it trains on, and
            those of `generate` when it is not told, and of an exported model.
        max_given: int, how many first frames of a real sequence are given at most in training; 0:
            none, all sequences are drawn. None: half of `num_frames`.
        generator: Functional model of one step: [frame before [batch, h, w, c], memory [batch,
            ...], content [batch, d], noise [batch, e]] (and label int32 [batch] with classes) ->
            [frame in [-1, 1], memory], all float32. The first memory is 0 everywhere. None:
            `networks.sequence.generator`.
        first_generator: Functional model: content and noise float32 [batch, d + e] (and label) ->
            first frames float32 [batch, h, w, c] in [-1, 1]. None: `networks.resnet.generator`. It
            learns from few frames of each batch; on two cores one that a `GAN` has trained on
            single frames, with `trainable` False, is digits from the start.
        discriminator: Functional model: frames float32 [batch, h, w, c] (and label) -> logits
            float32 [batch, 1]. None: `networks.resnet.discriminator`.
        motion_discriminator: Functional model: sequences float32 [batch, num_frames, h, w, c] (and
            label) -> logits float32 [batch, 1]. None: `networks.sequence.motion_discriminator`.
        loss: name of an adversarial loss or a `keras_gen.losses.AdversarialLoss`, of both.
        penalties: list of `keras_gen.losses.Penalty` on each of the discriminators. None: R1 and R2
            (Huang et al. 2024) of weight 10, because at 1 the discriminators soon win; for the
            Wasserstein loss WGAN-GP's.
        continuation_weight: of the mean absolute difference between the frames that go on from at
            least two given ones, by which one sees where things move, and the true ones (Mathieu et
            al. 2016): for motion that those decide. Where many continuations are as good, it blurs
            them.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the networks do not fit the frames, the classes or one another, or an
            argument is out of range.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        num_frames=20,
        max_given=None,
        generator=None,
        first_generator=None,
        discriminator=None,
        motion_discriminator=None,
        loss="relativistic",
        penalties=None,
        continuation_weight=0.0,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        self.num_frames = checked_count("num_frames", num_frames, least=2)
        self.max_given = self.num_frames // 2
        if max_given is not None:
            self.max_given = checked_count("max_given", max_given, least=0)
        if self.max_given >= self.num_frames:
            raise ValueError(
                f"`max_given` must be less than num_frames={self.num_frames}, so that a frame is "
                f"left to be made. Received: max_given={max_given!r}"
            )
        self.loss_function = losses.get_adversarial_loss(loss)
        if penalties is None and isinstance(self.loss_function, losses.Wasserstein):
            penalties = [losses.GradientPenalty()]
        elif penalties is None:
            penalties = [losses.R1(), losses.R2()]
        self.penalties = losses.checked_penalties(penalties)
        not_negative(continuation_weight=continuation_weight)
        if continuation_weight and self.max_given < 2:
            raise ValueError(
                "`continuation_weight` is of sequences of which at least two frames are given. "
                f"Received: continuation_weight={continuation_weight} with "
                f"max_given={self.max_given} of {self.num_frames} frames"
            )
        self.continuation_weight = float(continuation_weight)

        shared = {"num_classes": self.num_classes}
        if generator is None:
            generator = networks.sequence.generator(self.image_shape, seed=4 * self.seed, **shared)
        self._check_generator(generator)
        _, memory, content, noise = generator.inputs[:4]
        self.memory_shape = tuple(memory.shape[1:])
        self.content_dim, self.noise_dim = content.shape[-1], noise.shape[-1]
        if first_generator is None:
            first_generator = networks.resnet.generator(
                self.image_shape,
                self.content_dim + self.noise_dim,
                seed=4 * self.seed + 1,
                **shared,
            )
        if discriminator is None:
            discriminator = networks.resnet.discriminator(
                self.image_shape, seed=4 * self.seed + 2, **shared
            )
        if motion_discriminator is None:
            motion_discriminator = networks.sequence.motion_discriminator(
                self.image_shape, self.num_frames, seed=4 * self.seed + 3, **shared
            )
        latent = (self.content_dim + self.noise_dim,)
        self._check("first_generator", first_generator, latent, self.image_shape)
        self._check("discriminator", discriminator, self.image_shape, (1,))
        self._check("motion_discriminator", motion_discriminator, self.example_shape, (1,))
        refuse_batch_normalization([discriminator, motion_discriminator], self.penalties)
        self.first_generator, self.generator = first_generator, generator
        self.discriminator = discriminator
        self.motion_discriminator = motion_discriminator
        self.averaged_first_generator = self.averages.follow(first_generator)
        self.averaged_generator = self.averages.follow(generator)
        self.built = True

    def _check_generator(self, network):
        taken, made = ([tuple(x.shape[1:]) for x in side] for side in _sides(network))
        labels = [()] if self.num_classes else []
        fits = (
            len(taken) == 4 + len(labels)
            and [len(shape) for shape in taken[2:]] == [1, 1, *map(len, labels)]
            and made == taken[:2] == [self.image_shape, *taken[1:2]]
        )
        if not fits:
            raise ValueError(
                "The generator must take [frame, memory, content, noise] (and a label where there "
                f"are classes) and make [frame, memory], frames of {self.image_shape} and memories "
                f"alike. Received: a network from {taken} to {made}"
            )
        inputs.check_classes("generator", network, self.num_classes)

    def _check(self, name, network, taken, made):
        expected = [taken, *([()] if self.num_classes else [])], [made]
        received = tuple([tuple(x.shape[1:]) for x in side] for side in _sides(network))
        if received != expected:
            raise ValueError(
                f"The {name} must be a network from {expected[0]} to {expected[1]}, a label being "
                f"() where there are classes. Received: a network from {received[0]} to "
                f"{received[1]}"
            )
        inputs.check_classes(name, network, self.num_classes)

    @property
    def example_shape(self):
        return (self.num_frames, *self.image_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "max_given": self.max_given,
            "generator": keras.saving.serialize_keras_object(self.generator),
            "first_generator": keras.saving.serialize_keras_object(self.first_generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "motion_discriminator": keras.saving.serialize_keras_object(self.motion_discriminator),
            "loss": keras.saving.serialize_keras_object(self.loss_function),
            "penalties": [keras.saving.serialize_keras_object(p) for p in self.penalties],
            "continuation_weight": self.continuation_weight,
        }

    @property
    def generators(self):
        return [self.first_generator, self.generator]

    @property
    def discriminators(self):
        return [self.discriminator, self.motion_discriminator]

    def default_optimizer(self):
        """Adam, rate 4e-4, beta_1 0, beta_2 0.99."""
        return optimizers.Adam(4e-4, beta_1=0.0, beta_2=0.99)

    # Training

    @property
    def loss_names(self):
        terms = ["generator_loss", "discriminator_loss", *(p.name for p in self.penalties)]
        terms = [f"{judge}_{term}" for judge in ("frame", "motion") for term in terms]
        return ["loss", *terms, *(["continuation_loss"] if self.continuation_weight else [])]

    def given_frames(self, batch, key):
        """How many first frames are given, int32 [batch]: none, or 1 to `max_given` of them."""
        share = randomness.uniform([batch], randomness.key(key, "given"))
        count = 1 + tf.cast(tf.floor((2 * share - 1) * self.max_given), tf.int32)
        return tf.where(share < 0.5, 0, tf.minimum(count, self.max_given))

    def fakes(self, real, given, labels, key, training=True):
        """Sequences that go on from real ones, of the weights being trained.

        Args:
            real: float32 [batch, num_frames, h, w, c] in [-1, 1].
            given: int32 [batch], how many frames of each are given.
            labels: int32 [batch], or None.
            key: of the training step.
            training: whether the networks train.

        Returns:
            float32 [batch, num_frames, h, w, c] in [-1, 1].
        """
        batch = tf.shape(real)[0]
        content = randomness.normal([batch, self.content_dim], randomness.key(key, "content"))
        noise = randomness.normal(
            [batch, self.num_frames, self.noise_dim], randomness.key(key, "noise")
        )
        latent = tf.concat([content, noise[:, 0]], 1)
        with randomness.scope(randomness.key(key, "first_generator")):
            made = inputs.call(self.first_generator, latent, labels, training)
        memory, frames = tf.zeros([batch, *self.memory_shape]), []
        for t in range(self.num_frames):
            if t:
                taken = [frames[-1], memory, content, noise[:, t]]
                with randomness.scope(randomness.key(key, "generator", t)):
                    made, memory = _advance(self.generator, taken, labels, training)
            frames.append(tf.where((t < given)[:, None, None, None], real[:, t], made))
        return tf.stack(frames, 1)

    def seen(self, sequences, times):
        """What the discriminators see of sequences: dict of "frame", the one at its time int32
        [batch] of each sequence, and "motion", all of them."""
        chosen = tf.one_hot(times, self.num_frames)[:, :, None, None, None]
        return {"frame": tf.reduce_sum(chosen * sequences, 1), "motion": sequences}

    def judge(self, name, seen, labels, key, training=True):
        """Logits float32 [batch] of the discriminator "frame" or "motion", higher for "real"."""
        network = self.discriminator if name == "frame" else self.motion_discriminator
        with randomness.scope(randomness.key(key, name)):
            return inputs.call(network, seen, labels, training)[:, 0]

    def discriminator_terms(self, real, fake, labels, key, training=True):
        """The discriminators' losses for what they see.

        Returns:
            dict from name to float32 [batch], and dict from the discriminator to its logits of real
            and of generated images.
        """
        count = tf.shape(real["frame"])[0] * self.distribute_strategy.num_replicas_in_sync
        shown = self.step.value * tf.cast(count, tf.int64)  # what weights are schedules of
        terms, logits = {}, {}
        for name in real:
            judged = losses.Judged(lambda x, name=name: self.judge(name, x, labels, key, training))
            logits[name] = judged(real[name]), judged(fake[name])
            loss = self.loss_function.discriminator(*logits[name])
            terms[f"{name}_discriminator_loss"] = loss
            for penalty in self.penalties:
                own = randomness.key(key, name, penalty.name)
                term = penalty(judged, real[name], fake[name], own, shown)
                terms[f"{name}_{penalty.name}"] = term
        return terms, logits

    def generator_terms(self, real, fake, given, labels, key, training=True):
        """The generator's losses, of the same key: dict from name to float32 [batch]."""
        terms = {}
        for name in real:
            fake_logits = self.judge(name, fake[name], labels, key, training)
            real_logits = None
            if self.loss_function.pairs_real:
                real_logits = self.judge(name, real[name], labels, key, training)
            terms[f"{name}_generator_loss"] = self.loss_function.generator(fake_logits, real_logits)
        if self.continuation_weight:
            away = tf.reduce_mean(tf.abs(fake["motion"] - real["motion"]), [2, 3, 4])
            made = (tf.range(self.num_frames) >= given[:, None]) & (given[:, None] >= 2)
            counted = tf.cast(made, tf.float32)
            away = tf.reduce_sum(counted * away, 1) / tf.maximum(tf.reduce_sum(counted, 1), 1)
            terms["continuation_loss"] = self.continuation_weight * away
        return terms

    def train_step(self, data):
        x, labels = self.unpack(data)
        key = self.step_key()
        given, times = self._times(tf.shape(x)[0], key)
        real = self.seen(x, times)

        def discriminator_terms(fake):
            return self.discriminator_terms(real, fake, labels, key)

        terms, own = self.alternate(
            lambda: self.seen(self.fakes(x, given, labels, key), times),
            lambda fake: self.discriminators_down(fake, discriminator_terms),
            lambda fake: self.generator_terms(real, fake, given, labels, key),
        )
        self.finish_step()
        return self.report(self.with_total(terms | own))

    def _times(self, batch, key):
        """How many frames are given, and when the frame is that is judged by itself, one of the
        others: int32 [batch] each."""
        given = self.given_frames(batch, key)
        left = self.num_frames - given
        share = randomness.uniform([batch], randomness.key(key, "time"))
        later = tf.cast(tf.floor(share * tf.cast(left, tf.float32)), tf.int32)
        return given, given + tf.minimum(later, left - 1)

    def evaluated(self, first, second=None):
        key = self.step_key(training=False)
        given, times = self._times(tf.shape(first)[0], key)
        real = self.seen(first, times)
        fake = self.seen(self.fakes(first, given, second, key, training=False), times)
        own = self.generator_terms(real, fake, given, second, key, training=False)
        return own, *self.discriminator_terms(real, fake, second, key, training=False)

    def checked_pictures(self, pictures):
        pictures = self.checked_sequences(pictures, "pictures", self.num_frames)
        return pictures[:, : self.num_frames]

    # Generation

    def generate_step(self, seed, label=None, first_frames=None, num_frames=None):
        """Generates one group of sequences with the averaged weights: pure tensors in and out.

        Args:
            seed: int64 [rows].
            label: int32 [rows] where the model has classes.
            first_frames: uint8 [rows, given, h, w, c]; None: none are given.
            num_frames: int or int32 scalar tensor, at least `given`; None: the model's.

        Returns:
            float32 [rows, num_frames, height, width, channels] in [-1, 1].
        """
        rows = self.generation_rows
        content = randomness.row_normal(seed, [self.content_dim], "content")

        def advance(t, frame, memory):
            noise = randomness.row_normal(seed, [self.noise_dim], "noise", t)

            def first():
                latent = tf.concat([content, noise], 1)
                return inputs.call(self.averaged_first_generator, latent, label), memory

            def later():
                return _advance(self.averaged_generator, [frame, memory, content, noise], label)

            return tf.cond(tf.equal(t, 0), first, later)

        def begin(first_frames):
            def read(t, frame, memory):
                _, memory = advance(t, frame, memory)
                return t + 1, images.from_uint8(first_frames[:, t]), memory

            start = 0, tf.zeros([rows, *self.image_shape]), tf.zeros([rows, *self.memory_shape])
            given = tf.shape(first_frames)[1]
            return tf.while_loop(lambda t, *_: t < given, read, start)[1:]

        def draw(t, frame, memory):
            frame, memory = advance(t, frame, memory)
            # What follows sees the frame as it comes out, as if it were given.
            frame = images.to_uint8(frame)
            return frame, (images.from_uint8(frame), memory)

        return self.roll_out(first_frames, num_frames, begin, draw)


def _advance(generator, taken, label=None, training=False):
    """(frame, memory) after one step of [frame, memory, content, noise]."""
    return tuple(generator(taken if label is None else [*taken, label], training=training))


def _sides(network):
    return network.inputs, network.outputs
