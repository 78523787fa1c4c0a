"""Which process writes the files of a run."""

import tensorflow as tf


def is_chief(model):
    """Whether this process is the one that writes: always, unless several workers train together.

    Args:
        model: a `keras.Model`.
    """
    return not has_other_workers(model) or model.distribute_strategy.extended.should_checkpoint


def has_other_workers(model):
    """Whether the model trains in several processes at once (`MultiWorkerMirroredStrategy`)."""
    return isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)
