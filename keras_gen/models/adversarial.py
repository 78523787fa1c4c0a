"""What models of generators and discriminators share: two optimizers."""

import keras
import tensorflow as tf

from keras_gen import images
from keras_gen.models.base import GenerativeModel, specs_of
from keras_gen.networks.inputs import operations_of


class AdversarialModel(GenerativeModel):
    """A model whose `optimizer` trains generators, and `discriminator_optimizer` discriminators."""

    @property
    def generators(self):
        """List of the networks that `optimizer` trains."""
        raise NotImplementedError

    @property
    def discriminators(self):
        """List of the networks that `discriminator_optimizer` trains."""
        raise NotImplementedError

    @property
    def optimized_variables(self):
        return variables_of(self.generators)

    def default_optimizer(self):
        """A new optimizer, of either kind of network."""
        raise NotImplementedError

    @property
    def optimizers(self):
        return {
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def compile(self, optimizer=None, discriminator_optimizer=None, **kwargs):
        """Sets the optimizers.

        Args:
            optimizer: the generators'. None: `default_optimizer()`.
            discriminator_optimizer: the discriminators'. None: likewise; with another learning rate
                it is the two time-scale rule (Heusel et al. 2017).
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in
                `GenerativeModel.compile`.
        """
        same = optimizer is discriminator_optimizer
        if same and isinstance(optimizer, keras.optimizers.Optimizer):  # a name makes two
            raise ValueError(
                "Generators and discriminators need an optimizer each, because an optimizer keeps "
                f"state for each weight. Received: the same object twice, {optimizer!r}"
            )
        self.discriminator_optimizer = self._built_optimizer(
            discriminator_optimizer or self.default_optimizer(), variables_of(self.discriminators)
        )
        super().compile(optimizer, **kwargs)

    def alternate(self, make, discriminator_step, generator_terms):
        """Moves both kinds of networks by one pass of the generators.

        The discriminators learn from what the generators learn from next.

        Args:
            make: function () -> what the generators make, tensors.
            discriminator_step: function of these that moves the discriminators and returns their
                terms, such as `discriminators_down`.
            generator_terms: function of these -> the generators' terms, with the discriminators as
                they are then.

        Returns:
            (terms of the discriminators, terms of the generators), dicts from name to float32
            [batch].
        """
        with tf.GradientTape() as tape:
            made = make()
            with tape.stop_recording():
                judged = discriminator_step(made)
            own = generator_terms(made)
            loss = self.scaled(mean_total(own), self.optimizer)
        self.descend(tape, loss, self.optimizer, self.generators)
        return judged, own

    def discriminators_down(self, made, discriminator_terms):
        """Moves the discriminators by their terms; returns these.

        Args:
            made: what the generators made, tensors.
            discriminator_terms: function of these -> (terms, logits).
        """
        made = tf.nest.map_structure(tf.stop_gradient, made)
        with tf.GradientTape() as tape:
            terms, _ = discriminator_terms(made)
            loss = self.scaled(mean_total(terms), self.discriminator_optimizer)
        self.descend(tape, loss, self.discriminator_optimizer, self.discriminators)
        return terms

    def descend(self, tape, loss, optimizer, networks):
        """Moves networks down the gradient of a loss that was scaled for their optimizer."""
        variables = variables_of(networks)
        self.apply(optimizer, tape.gradient(loss, variables), variables)

    # Evaluation and diagnosis

    def evaluated(self, first, second=None):
        """The terms of evaluation, in which nothing is trained; what is drawn: see `step_key`.

        Args:
            first, second: what `unpack` makes of a batch.

        Returns:
            (terms of the generators, terms of the discriminators, logits): dicts from name to
            float32 [batch], and from the name of a discriminator ("" where there is one) to its
            logits of real and of generated images.
        """
        raise NotImplementedError

    def with_total(self, terms):
        """What is reported of terms: these, and "loss", their sum."""
        return with_total(terms)

    def test_step(self, data):
        with self.test_scope():
            own, terms, _ = self.evaluated(*self.unpack(data))
            return self.report(self.with_total(own | terms))

    def diagnosis(self, first, second=None):
        """How the networks stand, of a batch as in `evaluated`.

        Returns:
            dict from name to float32 scalar; see `keras_gen.callbacks.GANDiagnosis`.
        """
        with tf.GradientTape(persistent=True) as tape:
            own, terms, logits = self.evaluated(first, second)
            totals = {"generator": mean_total(own), "discriminator": mean_total(terms)}
        found = {}
        for judge, pair in logits.items():
            prefix = f"{judge}_" if judge else ""
            margins = self.loss_function.margins(*pair)
            for kind, logit, margin in zip(("real", "fake"), pair, margins):
                right = tf.cast(margin > 0, tf.float32)
                found[f"{prefix}{kind}_accuracy"] = tf.reduce_mean(right)
                found[f"{prefix}{kind}_logit"] = tf.reduce_mean(logit)
        for kind, networks in (
            ("generator", self.generators),
            ("discriminator", self.discriminators),
        ):
            gradients = tape.gradient(totals[kind], variables_of(networks))
            found[f"{kind}_gradient_norm"] = tf.linalg.global_norm(gradients)
        return found

    def checked_examples(self, pictures, others=None):
        """Examples to learn from as arrays, or a ValueError.

        Args:
            pictures: uint8 [n, *example_shape].
            others: labels, int [n], or what else the model learns from; labels that it does not
                take are left out.

        Returns:
            list of NumPy arrays [n, ...].
        """
        pictures = self.checked_pictures(pictures)
        labels = others if self.num_classes else None
        return [pictures, *self.picture_rows(len(pictures), labels)[1:]]

    def diagnose(self, pictures, others=None):
        """`diagnosis` of examples as in `checked_examples`: a dict of floats."""
        rows = self.checked_examples(pictures, others)

        def diagnosis(*rows):
            floats = (images.from_uint8(x) if x.dtype == tf.uint8 else x for x in rows)
            return self.diagnosis(*floats)

        # a graph: eagerly it takes twice the memory
        function = self.compiled_function("diagnose", diagnosis, specs_of(rows))
        return {name: float(value) for name, value in function(*rows).items()}

    def made_and_real(self, pictures, others=None, seed=0):
        """Pictures that the averaged weights make, uint8, and real ones of which they should be."""
        pictures, *labels = self.checked_examples(pictures, others)
        return self.generate(len(pictures), *labels, seed=seed), pictures


def variables_of(networks):
    """The trainable variables of networks, one after another."""
    return [variable for network in networks for variable in network.trainable_variables]


def mean_total(terms):
    """The mean over the batch of the sum of terms, a dict from name to float32 [batch]."""
    return tf.add_n([tf.reduce_mean(term) for term in terms.values()])


def with_total(terms):
    """The terms and, before them, "loss", their sum."""
    return {"loss": tf.add_n(list(terms.values())), **terms}


def refuse_batch_normalization(discriminators, penalties):
    """Raises a ValueError where gradients of a logit in its image are to be penalized and the logit
    is a function of the other images of the batch too (Gulrajani et al. 2017, section 4)."""
    for network in discriminators if penalties else []:
        for layer in operations_of(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                raise ValueError(
                    "Gradient penalties need a discriminator that judges each image by itself, "
                    f"without batch normalization. Received: {network.name!r} with the layer "
                    f"{layer.name!r}, and penalties {penalties}"
                )
