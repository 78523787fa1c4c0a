"""Generative adversarial networks (Goodfellow et al. 2014), unconditional and class-conditional."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images as pictures_of
from keras_gen import losses, randomness
from keras_gen.data.augmentation import get_augmentation
from keras_gen.layers import HistoryBuffer
from keras_gen.models.adversarial import AdversarialModel, mean_total, refuse_batch_normalization
from keras_gen.models.base import in_batches
from keras_gen.models.decoding import Decoding
from keras_gen.models.gan_recipes import RECIPES
from keras_gen.networks import inputs
from keras_gen.schedules import value_at
from keras_gen.strategies import checked_count, is_number, positive


class Fakes(NamedTuple):
    """Generated images, what they were made of, and the classes they are to be of."""

    images: tf.Tensor  # float32 [batch, h, w, c] in [-1, 1]
    labels: tf.Tensor | None  # int32 [batch]
    latents: tf.Tensor | None  # float32 [batch, latent_dim]


@keras.saving.register_keras_serializable("keras_gen")
class GAN(Decoding, AdversarialModel):
    """A generator and a discriminator, trained against one another.

    With no further argument it is R3GAN (Huang et al. 2024), which beats the older recipes at equal
    time: benchmarks/gan_losses.md. `recipe="dcgan"` is DCGAN (Radford et al. 2016).

    Example:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.GAN(source.image_shape, num_classes=source.num_classes)
    model.compile()
    model.fit(source.batches(64), epochs=20)
    images = model.generate(16, labels=3, seed=0)
    ```

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        generator: Functional model: latent [batch, d] (and label int32 [batch] with classes) ->
            images float32 [batch, h, w, c] in [-1, 1]. None: the recipe's.
        discriminator: Functional model: images (and label) -> logits float32 [batch, 1], or a list
            that begins with them, see `networks.resnet.discriminator`. None: the recipe's.
        loss: name of an adversarial loss ("minimax", "non_saturating", "least_squares", "hinge",
            "wasserstein", "relativistic") or a `keras_gen.losses.AdversarialLoss`. None: the
            recipe's.
        penalties: list of `keras_gen.losses.Penalty` on the discriminator. None: the recipe's; for
            the Wasserstein loss WGAN-GP's, or none where weights are clipped.
        discriminator_steps: updates of the discriminator for each update of the generator, on the
            same real images with fresh noise. None: the recipe's.
        recipe: name of what is used where nothing else is said: "dcgan", "r3gan", "sngan", or
            "gan", of dense layers.
        burn_in: int, images after which the schedules of the recipe reach their final values.
        half_life: of the weight average, images: a number or a schedule, in place of `ema`. None:
            the recipe's, unless `ema` is given.
        classification_weight: weight of an auxiliary classifier (ACGAN, Odena et al. 2017), which
            the discriminator then has in place of taking labels. None: there is none.
        codes: `keras_gen.losses.Codes`, the last numbers of the latent, which the discriminator
            predicts (InfoGAN); `generate` takes them. None: there are none.
        augmentation: what the discriminator sees images through: "diff_augment", "ada" or a
            `keras_gen.data.augmentation.Augmentation`; penalties are on images as they are. None:
            nothing.
        weight_clip: bound of the discriminator's weights after each of its updates (Arjovsky et al.
            2017, 0.01). Logits get tiny: give `compile` an RMSprop whose epsilon does not count
            beside the squares of their gradients (1e-30). None: there is none.
        history: int, earlier fakes kept, half of which the discriminator sees in place of new ones
            (Shrivastava et al. 2017). 0: none.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the networks do not fit the image shape, the classes or one another, or an
            argument is unknown.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        generator=None,
        discriminator=None,
        loss=None,
        penalties=None,
        discriminator_steps=None,
        recipe="r3gan",
        burn_in=200_000,
        half_life=None,
        classification_weight=None,
        codes=None,
        augmentation=None,
        weight_clip=None,
        history=0,
        ema=None,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, ema=0.999 if ema is None else ema, **kwargs)
        if recipe not in RECIPES:
            raise ValueError(
                f"`recipe` must be one of {sorted(RECIPES)}. Received: recipe={recipe!r}"
            )
        given = {"weight_clip": weight_clip, "classification_weight": classification_weight}
        positive(**{name: value for name, value in given.items() if value is not None})
        checked_count("history", history, least=0)
        self.recipe, self.burn_in = recipe, checked_count("burn_in", burn_in)
        defaults = RECIPES[recipe]
        self.loss_function = losses.get_adversarial_loss(loss or defaults.loss)
        if penalties is None and isinstance(self.loss_function, losses.Wasserstein):
            penalties = [] if weight_clip else [losses.GradientPenalty()]
        elif penalties is None:
            penalties = defaults.penalties(self.image_shape, burn_in)
        self.penalties = losses.checked_penalties(penalties)
        if discriminator_steps is None:
            discriminator_steps = defaults.discriminator_steps
        self.discriminator_steps = checked_count("discriminator_steps", discriminator_steps)
        if half_life is None and ema is None:
            half_life = defaults.half_life(burn_in)
        is_number_or_none = half_life is None or (is_number(half_life) and half_life >= 0)
        if not is_number_or_none and not callable(half_life):
            raise ValueError(
                "`half_life` must be a number that is not negative, or a schedule. "
                f"Received: half_life={half_life!r}"
            )
        if codes is not None and not isinstance(codes, losses.Codes):
            raise ValueError(f"`codes` must be a `keras_gen.losses.Codes`. Received: {codes!r}")
        if classification_weight is not None and not self.num_classes:
            raise ValueError(
                "An auxiliary classifier needs classes. Received: num_classes=None, "
                f"classification_weight={classification_weight!r}"
            )
        self.half_life, self.weight_clip = half_life, weight_clip
        self.classification_weight, self.codes = classification_weight, codes
        self.augmentation = get_augmentation(augmentation)
        if history and codes:
            raise ValueError(
                "Images of the history come without the codes they were made of. "
                f"Received: history={history!r}, codes={codes!r}"
            )

        if generator is None:
            generator = defaults.generator(
                self.image_shape,
                defaults.latent_dim + (codes.dim if codes else 0),
                num_classes=self.num_classes,
                seed=2 * self.seed,
            )
        if discriminator is None:
            outputs = {}
            if classification_weight is not None:
                outputs["classifier"] = True
            if codes:
                outputs["code_parameters"] = codes.dim
            if outputs and not defaults.further_outputs:
                raise ValueError(
                    "A classifier and codes need a discriminator with outputs for them, as that of "
                    f'recipe="r3gan" has. Received: recipe={recipe!r}'
                )
            discriminator = defaults.discriminator(
                self.image_shape, num_classes=self.num_classes, seed=2 * self.seed + 1, **outputs
            )
        self._check_networks(generator, discriminator)
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = self.averages.follow(generator)
        self.latent_dim = generator.inputs[0].shape[-1]
        self.history_buffer = HistoryBuffer(self.image_shape, history) if history else None
        self.images_seen = self._counter("images_seen", "int64")
        self.augmentation_probability = self._counter("augmentation_probability", "float32")
        self.built = True

    def _counter(self, name, dtype):
        return self.add_weight(
            name=name,
            shape=(),
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def _check_networks(self, generator, discriminator):
        classifies = self.classification_weight is not None
        labelled = {"generator": self.num_classes, "discriminator": self.num_classes}
        if classifies:
            labelled["discriminator"] = None
        networks = {"generator": generator, "discriminator": discriminator}
        for name, network in networks.items():
            takes = 2 if labelled[name] else 1
            if len(network.inputs) != takes:
                expected = "two inputs, with the label second" if takes == 2 else "one input"
                raise ValueError(
                    f"The {name} must have {expected}, as num_classes={self.num_classes}. "
                    f"Received: {name} with inputs {[i.name for i in network.inputs]}"
                )
            inputs.check_classes(name, network, self.num_classes)
        refuse_batch_normalization([discriminator], self.penalties)
        made, judged = generator.outputs[0].shape[1:], discriminator.inputs[0].shape[1:]
        if made != self.image_shape or judged != self.image_shape:
            raise ValueError(
                f"The generator must make, and the discriminator take, images {self.image_shape}. "
                f"Received: a generator of {made}, a discriminator of {judged}"
            )
        expected = [(1,)]
        expected += [(self.num_classes,)] if classifies else []
        expected += [(self.codes.dim,)] if self.codes else []
        found = [tuple(output.shape[1:]) for output in discriminator.outputs]
        if found != expected:
            raise ValueError(
                f"The discriminator must have outputs of shapes {expected}: a logit, class logits "
                f"where it classifies, parameters of the codes. Received: {found}"
            )
        latent, codes = tuple(generator.inputs[0].shape[1:]), self.codes.dim if self.codes else 0
        if len(latent) != 1 or latent[0] <= codes:
            raise ValueError(
                f"The generator must take a latent of one axis, longer than the {codes} numbers of "
                f"its codes. Received: a generator of latents {latent}"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "loss": keras.saving.serialize_keras_object(self.loss_function),
            "penalties": [keras.saving.serialize_keras_object(p) for p in self.penalties],
            "discriminator_steps": self.discriminator_steps,
            "recipe": self.recipe,
            "burn_in": self.burn_in,
            "half_life": _serialized(self.half_life),
            "classification_weight": self.classification_weight,
            "codes": _serialized(self.codes),
            "augmentation": _serialized(self.augmentation),
            "weight_clip": self.weight_clip,
            "history": self.history_buffer.size if self.history_buffer else 0,
        }

    @property
    def generators(self):
        return [self.generator]

    @property
    def discriminators(self):
        return [self.discriminator]

    def default_optimizer(self):
        """That of the recipe."""
        return RECIPES[self.recipe].optimizer(self.burn_in)

    @property
    def loss_names(self):
        names = ["loss", "generator_loss", "discriminator_loss", *(p.name for p in self.penalties)]
        if self.classification_weight is not None:
            names += ["generator_classification_loss", "discriminator_classification_loss"]
        if self.codes:
            names += [f"generator_{self.codes.name}", f"discriminator_{self.codes.name}"]
        if self.augmentation and self.augmentation.adapts:
            names.append("augmentation_probability")
        return names

    # Training

    def latents(self, batch, key):
        """Standard normal latents, and codes where there are some, float32 [batch, latent_dim]."""
        size = self.latent_dim - (self.codes.dim if self.codes else 0)
        noise = randomness.normal([batch, size], randomness.key(key, "latent"))
        if not self.codes:
            return noise
        uniforms = randomness.uniform([batch, self.codes.draws], randomness.key(key, "codes"))
        return tf.concat([noise, self.codes.codes(uniforms)], 1)

    def fakes(self, labels, batch, key, training=True):
        """`Fakes` of the weights being trained."""
        latents = self.latents(batch, key)
        with randomness.scope(randomness.key(key, "generator")):
            made = inputs.call(self.generator, latents, labels, training)
        return Fakes(made, labels, latents)

    def judge(self, images, labels, key, training=True):
        """The discriminator's outputs: logits float32 [batch], higher for "real", then others."""
        if self.classification_weight is not None:
            labels = None
        with randomness.scope(key):
            outputs = inputs.call(self.discriminator, images, labels, training)
        first, *others = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [first[:, 0], *others]

    def augmented(self, images, key, training=True):
        """Images as the discriminator sees them."""
        if not (self.augmentation and training):
            return images
        probability = self.augmentation.probability
        if self.augmentation.adapts:
            probability = self.augmentation_probability.value
        return self.augmentation(images, randomness.key(key, "augmentation"), probability)

    def discriminator_terms(self, real, fake, labels, key, training=True):
        """The discriminator's losses.

        Returns:
            dict from name to float32 [batch], and the logits of real and of generated images.
        """
        seen, outputs = self.images_seen.value, {}

        def as_they_are(images):
            of = fake.labels if images is fake.images else labels  # earlier fakes have their own
            return self.judge(images, of, randomness.key(key, "penalty"), training)[0]

        judged = losses.Judged(as_they_are)

        def logits(name, images, labels):
            own = randomness.key(key, name)

            def discriminate(x):
                outputs[name] = self.judge(x, labels, own, training)
                return outputs[name][0]

            return judged(self.augmented(images, own, training), discriminate)

        real_logits = logits("real", real, labels)
        fake_logits = logits("fake", fake.images, fake.labels)
        terms = {"discriminator_loss": self.loss_function.discriminator(real_logits, fake_logits)}
        for penalty in self.penalties:
            own = randomness.key(key, penalty.name)
            terms[penalty.name] = penalty(judged, real, fake.images, own, seen)
        if self.classification_weight is not None:
            terms["discriminator_classification_loss"] = self.classification_weight * (
                _cross_entropy(outputs["real"][1], labels)
                + _cross_entropy(outputs["fake"][1], fake.labels)
            )
        if self.codes:
            terms |= self._information("discriminator", outputs["fake"][-1], fake)
        return terms, (real_logits, fake_logits)

    def generator_terms(self, real, fake, labels, key, training=True):
        """The generator's losses: dict from name to float32 [batch]."""
        fake_key, real_key = randomness.key(key, "fake"), randomness.key(key, "real")
        fake_images = self.augmented(fake.images, fake_key, training)
        fake_logits, *others = self.judge(fake_images, fake.labels, fake_key, training)
        real_logits = None
        if self.loss_function.pairs_real:
            real_images = self.augmented(real, real_key, training)
            real_logits = self.judge(real_images, labels, real_key, training)[0]
        terms = {"generator_loss": self.loss_function.generator(fake_logits, real_logits)}
        if self.classification_weight is not None:
            terms["generator_classification_loss"] = self.classification_weight * _cross_entropy(
                others[0], fake.labels
            )
        if self.codes:
            terms |= self._information("generator", others[-1], fake)
        return terms

    def _information(self, network, parameters, fake):
        codes = fake.latents[:, -self.codes.dim :]
        return {f"{network}_{self.codes.name}": self.codes(parameters, codes)}

    def train_step(self, data):
        real, labels = self.unpack(data)
        batch, step_key = tf.shape(real)[0], self.step_key()
        self._follow_schedules()
        for i in range(self.discriminator_steps - 1):
            key = randomness.key(step_key, i)
            self._discriminator_step(real, self.fakes(labels, batch, key), labels, key)

        # The same key, so the same dropout masks: TensorFlow draws them once.
        key = randomness.key(step_key, self.discriminator_steps)
        terms, own = self.alternate(
            lambda: self.fakes(labels, batch, key),
            lambda fake: self._discriminator_step(real, fake, labels, key),
            lambda fake: self.generator_terms(real, fake, labels, key),
        )
        self._finish_step(batch)
        return self.report(self.with_total(terms | own))

    def _discriminator_step(self, real, fake, labels, key):
        fake = Fakes(tf.stop_gradient(fake.images), fake.labels, fake.latents)
        if self.history_buffer:
            kept, kept_labels = self.history_buffer(fake.images, fake.labels, key)
            fake = Fakes(kept, kept_labels, None)
        with tf.GradientTape() as tape:
            terms, logits = self.discriminator_terms(real, fake, labels, key)
            loss = self.scaled(mean_total(terms), self.discriminator_optimizer)
        self.descend(tape, loss, self.discriminator_optimizer, self.discriminators)
        if self.weight_clip is not None:
            for weight in self.discriminator.trainable_variables:
                bound = self.weight_clip
                weight.assign(tf.clip_by_value(weight.value, -bound, bound))
        if self.augmentation and self.augmentation.adapts:
            self._adapt(tf.reduce_mean(tf.sign(self.loss_function.margins(*logits)[0])), real)
        return terms

    def _adapt(self, confidence, real):
        """Moves the probability of augmentations by the share of real images taken for real."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            confidence = context.all_reduce("MEAN", confidence)
        self.augmentation_probability.assign(
            self.augmentation.adapted(
                self.augmentation_probability.value, confidence, tf.shape(real)[0] * replicas
            )
        )

    def _follow_schedules(self):
        for optimizer in self.optimizers.values():
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            if hasattr(inner, "follow"):
                inner.follow(self.images_seen.value)

    def _finish_step(self, batch):
        """Counts the step and its images, on all replicas, and moves the weight averages."""
        count = batch * self.distribute_strategy.num_replicas_in_sync
        seen = self.images_seen.value

        def decay_of(every):
            half_life = tf.maximum(tf.cast(value_at(self.half_life, seen), tf.float32), 1e-3)
            return tf.exp(-math.log(2) * every * tf.cast(count, tf.float32) / half_life)

        self.finish_step(None if self.half_life is None else decay_of)
        self.images_seen.assign_add(tf.cast(count, tf.int64))

    def evaluated(self, first, second=None):
        key = self.step_key(training=False)
        fake = self.fakes(second, tf.shape(first)[0], key, training=False)
        own = self.generator_terms(first, fake, second, key, training=False)
        terms, logits = self.discriminator_terms(first, fake, second, key, training=False)
        return own, terms, {"": logits}

    def with_total(self, terms):
        told = super().with_total(terms)
        if self.augmentation and self.augmentation.adapts:
            probability = self.augmentation_probability.value
            told["augmentation_probability"] = tf.fill(tf.shape(told["loss"]), probability)
        return told

    # Generation

    def generate_step(self, seed, label=None, codes=None):
        """As in `GenerativeModel`; `codes`, float32 [rows, dim], in place of the seeds' own."""
        latents = self.seed_latents(seed, codes)
        return inputs.call(self.averaged_generator, latents, label)

    def seed_latents(self, seed, codes=None):
        """The latents of seeds int64 [rows], float32 [rows, latent_dim]."""
        if not self.codes:
            return randomness.row_normal(seed, [self.latent_dim])
        noise = randomness.row_normal(seed, [self.latent_dim - self.codes.dim])
        if codes is None:
            codes = self.codes.codes(randomness.row_uniform(seed, [self.codes.draws], "codes"))
        return tf.concat([noise, codes], 1)

    def generate(self, n, labels=None, seed=0, batch_size=1024, codes=None):
        """As in `GenerativeModel`, with chosen codes.

        Args:
            n, labels, seed, batch_size: as there.
            codes: float [n, codes.dim] or [codes.dim], such as `model.codes.encode` gives; None:
                each image's codes are drawn from its seed.
        """
        if codes is None:
            return super().generate(n, labels, seed, batch_size)
        codes = np.asarray(codes, np.float32)
        if not self.codes or codes.shape not in ((self.codes.dim,), (n, self.codes.dim)):
            expected = f"[{n}, {self.codes.dim}]" if self.codes else "None: the model has no codes"
            raise ValueError(f"`codes` must be {expected}. Received: codes={codes!r}")
        seeds, *label = self.rows(n, labels, seed)
        rows = [seeds, np.broadcast_to(codes, (n, self.codes.dim)), *label]
        function = self.compiled_function(
            "generate_with_codes", self.images_of_codes, self._signature_with_codes()
        )
        return in_batches(function, rows, batch_size)

    def images_of_codes(self, seed, codes, label=None):
        """As `generate_images`, with chosen codes float32 [batch, dim]."""

        def step(seed, codes, label=None):
            return pictures_of.to_uint8(self.generate_step(seed, label, codes))

        return self.grouped(step, [seed, codes, label])

    def _signature_with_codes(self):
        seed, *label = saved_model.row_signature(self.num_classes)
        return [seed, tf.TensorSpec([None, self.codes.dim], tf.float32, name="codes"), *label]

    def signatures(self):
        """As in `GenerativeModel`; with codes `generate_with_codes` besides, which takes them too:
        codes float32 [batch, dim] -> images."""
        found = super().signatures()
        if self.codes:

            def generate_with_codes(seed, codes, label=None):
                with tf.control_dependencies(self.request_checks([seed, codes], label)):
                    return {"images": self.images_of_codes(tf.identity(seed), codes, label)}

            found["generate_with_codes"] = generate_with_codes, self._signature_with_codes()
        return found

    def decode_step(self, z, label=None):
        return inputs.call(self.averaged_generator, z, label)


def _serialized(value):
    plain = value is None or isinstance(value, (int, float))
    return value if plain else keras.saving.serialize_keras_object(value)


def _cross_entropy(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
