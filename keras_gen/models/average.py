"""Exponential moving averages of weights."""

import tensorflow as tf


class WeightAverages:
    """Pairs of (average, weight) variables and the rule that moves the averages.

    Args:
        decay: float in [0, 1). It warms up: the decay of step t is min(decay, (1 + t) / (10 + t)),
            so that an early average is not one of the initial weights.
    """

    def __init__(self, decay):
        self.decay = decay
        self.pairs = []

    def follow(self, network):
        """A copy of the network, not trainable, whose weights are the averages of its weights."""
        config = {**network.get_config(), "name": f"{network.name}_average"}
        copy = network.__class__.from_config(config)
        copy.set_weights(network.get_weights())
        copy.trainable = False
        self.pairs += zip(copy.weights, network.weights)
        return copy

    def update(self, step, every=1, decay=None):
        """Moves the averages after training step `step` (1 is the first); graph operations.

        Args:
            step: int64 scalar tensor.
            every: the weights change in every so-manieth step, as where gradients are accumulated;
                in other steps the averages stay.
            decay: float32 scalar tensor, of this change; None: the usual one.
        """
        changes = tf.cast(step // every, tf.float32)
        if decay is None:
            decay = tf.minimum(self.decay, (1 + changes) / (10 + changes))
        share = 1 - decay
        share = tf.where(step % every == 0, share, 0.0)
        for average, weight in self.pairs:
            if tf.as_dtype(weight.dtype).is_floating:
                # Keras's own `assign_add` reads the average twice.
                average.value.assign_add(share * (weight.value - average.value), read_value=False)
            else:
                average.assign(weight.value)
