"""Generative adversarial networks (Goodfellow et al. 2014), unconditional and class-conditional."""

import keras
import tensorflow as tf

from keras_gen import losses, networks, randomness
from keras_gen.models.base import GenerativeModel
from keras_gen.networks import inputs


@keras.saving.register_keras_serializable("keras_gen")
class GAN(GenerativeModel):
    """A generator and a discriminator, trained against one another.

    Example:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.GAN(source.image_shape, num_classes=source.num_classes)
    model.compile()
    model.fit(source.batches(128), epochs=20)
    images = model.generate(16, labels=3, seed=0)
    ```

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        generator: Functional model: latent [batch, d] (and label int32 [batch] with classes) ->
            images float32 [batch, h, w, c] in [-1, 1]. None: `networks.dcgan.generator`.
        discriminator: Functional model: images (and label) -> logits float32 [batch, 1]. None:
            `networks.dcgan.discriminator`.
        loss: name of an adversarial loss ("minimax", "non_saturating", "least_squares", "hinge",
            "wasserstein", "relativistic") or a `keras_gen.losses.AdversarialLoss`.
        penalties: list of `keras_gen.losses.Penalty` on the discriminator. None: WGAN-GP's for
            the Wasserstein loss (which needs one), else none.
        discriminator_steps: updates of the discriminator for each update of the generator, on the
            same real images with fresh noise.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the networks do not fit the image shape, the classes or one another.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        generator=None,
        discriminator=None,
        loss="non_saturating",
        penalties=None,
        discriminator_steps=1,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        self.loss_function = losses.get_adversarial_loss(loss)
        if penalties is None:
            wasserstein = isinstance(self.loss_function, losses.Wasserstein)
            penalties = [losses.GradientPenalty()] if wasserstein else []
        self.penalties = list(penalties)
        if discriminator_steps < 1:
            raise ValueError(
                "`discriminator_steps` must be at least 1. "
                f"Received: discriminator_steps={discriminator_steps!r}"
            )
        self.discriminator_steps = int(discriminator_steps)
        if generator is None:
            generator = networks.dcgan.generator(
                self.image_shape, num_classes=self.num_classes, seed=2 * self.seed
            )
        if discriminator is None:
            discriminator = networks.dcgan.discriminator(
                self.image_shape, num_classes=self.num_classes, seed=2 * self.seed + 1
            )
        self._check_networks(generator, discriminator)
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = self.averages.follow(generator)
        self.latent_dim = generator.inputs[0].shape[-1]
        self.built = True

    def _check_networks(self, generator, discriminator):
        takes = 2 if self.num_classes else 1
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if len(network.inputs) != takes:
                expected = "two inputs, with the label second" if takes == 2 else "one input"
                raise ValueError(
                    f"The {name} must have {expected}, as num_classes={self.num_classes}. "
                    f"Received: {name} with inputs {[i.name for i in network.inputs]}"
                )
        made, judged = generator.outputs[0].shape[1:], discriminator.inputs[0].shape[1:]
        if made != self.image_shape or judged != self.image_shape:
            raise ValueError(
                f"The generator must make, and the discriminator take, images {self.image_shape}. "
                f"Received: a generator of {made}, a discriminator of {judged}"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "loss": keras.saving.serialize_keras_object(self.loss_function),
            "penalties": [keras.saving.serialize_keras_object(p) for p in self.penalties],
            "discriminator_steps": self.discriminator_steps,
        }

    @property
    def optimizers(self):
        return {
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def compile(self, optimizer=None, discriminator_optimizer=None, **kwargs):
        """Sets the optimizers.

        Args:
            optimizer: the generator's. None: Adam, rate 2e-4, beta_1 0.5 (Radford et al. 2016).
            discriminator_optimizer: the discriminator's. None: the same settings as that default.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in
                `GenerativeModel.compile`.
        """
        if optimizer is not None and optimizer is discriminator_optimizer:
            raise ValueError(
                "Each network needs an optimizer of its own, because an optimizer keeps state for "
                f"each weight. Received: the same object twice, {optimizer!r}"
            )
        self.discriminator_optimizer = self._built_optimizer(
            discriminator_optimizer or keras.optimizers.Adam(2e-4, beta_1=0.5),
            self.discriminator.trainable_variables,
        )
        super().compile(
            self._built_optimizer(
                optimizer or keras.optimizers.Adam(2e-4, beta_1=0.5),
                self.generator.trainable_variables,
            ),
            **kwargs,
        )

    @property
    def loss_names(self):
        penalties = [penalty.name for penalty in self.penalties]
        return ["loss", "generator_loss", "discriminator_loss", *penalties]

    # Training

    def latents(self, batch, key):
        """Standard normal latents, float32 [batch, latent_dim]."""
        return randomness.normal([batch, self.latent_dim], randomness.key(key, "latent"))

    def fakes(self, labels, batch, key, training=True):
        """Generated images float32 [batch, h, w, c], of the weights being trained."""
        with randomness.scope(randomness.key(key, "generator")):
            return inputs.call(self.generator, self.latents(batch, key), labels, training)

    def logits(self, images, labels, key, training=True):
        """The discriminator's logits, float32 [batch]; higher means "real"."""
        with randomness.scope(key):
            return inputs.call(self.discriminator, images, labels, training)[:, 0]

    def discriminator_terms(self, real, fake, labels, key, training=True):
        """The discriminator's losses: dict from name to float32 [batch]."""
        terms = {
            "discriminator_loss": self.loss_function.discriminator(
                self.logits(real, labels, randomness.key(key, "real"), training),
                self.logits(fake, labels, randomness.key(key, "fake"), training),
            )
        }
        for penalty in self.penalties:
            penalty_key = randomness.key(key, penalty.name)
            terms[penalty.name] = penalty(
                lambda pictures, key=penalty_key: self.logits(pictures, labels, key, training),
                real,
                fake,
                penalty_key,
            )
        return terms

    def generator_terms(self, real, fake, labels, key, training=True):
        """The generator's loss: dict from name to float32 [batch]."""
        fake_logits = self.logits(fake, labels, randomness.key(key, "fake"), training)
        real_logits = None
        if self.loss_function.pairs_real:
            real_logits = self.logits(real, labels, randomness.key(key, "real"), training)
        return {"generator_loss": self.loss_function.generator(fake_logits, real_logits)}

    def train_step(self, data):
        real, labels = self.unpack(data)
        batch, step_key = tf.shape(real)[0], self.step_key()
        for i in range(self.discriminator_steps - 1):
            key = randomness.key(step_key, i)
            fake = tf.stop_gradient(self.fakes(labels, batch, key))
            self._discriminator_step(real, fake, labels, key)

        # The last images that the discriminator learns from are those that the generator learns
        # from next: one forward pass of the generator serves both.
        key = randomness.key(step_key, self.discriminator_steps)
        with tf.GradientTape() as tape:
            fake = self.fakes(labels, batch, key)
            with tape.stop_recording():
                terms = self._discriminator_step(real, tf.stop_gradient(fake), labels, key)
            # The same key, so the same dropout masks: TensorFlow draws them once.
            terms |= self.generator_terms(real, fake, labels, key)
            loss = self.scaled(tf.reduce_mean(terms["generator_loss"]), self.optimizer)
        self._apply(tape, loss, self.optimizer, self.generator)
        self.finish_step()
        return self.report(self._with_total(terms))

    def _discriminator_step(self, real, fake, labels, key):
        with tf.GradientTape() as tape:
            terms = self.discriminator_terms(real, fake, labels, key)
            loss = tf.add_n([tf.reduce_mean(term) for term in terms.values()])
            loss = self.scaled(loss, self.discriminator_optimizer)
        self._apply(tape, loss, self.discriminator_optimizer, self.discriminator)
        return terms

    def _apply(self, tape, loss, optimizer, network):
        variables = network.trainable_variables
        self.apply(optimizer, tape.gradient(loss, variables), variables)

    def test_step(self, data):
        real, labels = self.unpack(data)
        key = self.step_key(training=False)
        fake = self.fakes(labels, tf.shape(real)[0], key, training=False)
        terms = self.discriminator_terms(real, fake, labels, key, training=False)
        terms |= self.generator_terms(real, fake, labels, key, training=False)
        return self.report(self._with_total(terms))

    @staticmethod
    def _with_total(terms):
        return {"loss": tf.add_n(list(terms.values())), **terms}

    # Generation

    def generate_step(self, seed, label=None):
        latents = randomness.row_normal(seed, [self.latent_dim])
        return inputs.call(self.averaged_generator, latents, label)
