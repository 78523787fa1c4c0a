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
