"""What models of generators and discriminators share: two optimizers."""

import tensorflow as tf

from keras_gen.models.base import GenerativeModel


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
        if optimizer is not None and optimizer is discriminator_optimizer:
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
        """Moves the discriminators by their terms, a function of what was made; returns these."""
        made = tf.nest.map_structure(tf.stop_gradient, made)
        with tf.GradientTape() as tape:
            terms = discriminator_terms(made)
            loss = self.scaled(mean_total(terms), self.discriminator_optimizer)
        self.descend(tape, loss, self.discriminator_optimizer, self.discriminators)
        return terms

    def descend(self, tape, loss, optimizer, networks):
        """Moves networks down the gradient of a loss that was scaled for their optimizer."""
        variables = variables_of(networks)
        self.apply(optimizer, tape.gradient(loss, variables), variables)


def variables_of(networks):
    """The trainable variables of networks, one after another."""
    return [variable for network in networks for variable in network.trainable_variables]


def mean_total(terms):
    """The mean over the batch of the sum of terms, a dict from name to float32 [batch]."""
    return tf.add_n([tf.reduce_mean(term) for term in terms.values()])


def with_total(terms):
    """The terms and, before them, "loss", their sum."""
    return {"loss": tf.add_n(list(terms.values())), **terms}
