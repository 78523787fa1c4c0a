"""How far a reconstruction is from its image: functions of both, the mean over pixels and channels.

Both are float32 [batch, height, width, channels] in [-1, 1]; the result is float32 [batch].
"""

import tensorflow as tf


def squared_error(images, reconstructions):
    """(x - y)²."""
    return tf.reduce_mean(tf.square(images - reconstructions), [1, 2, 3])


def absolute_error(images, reconstructions):
    """|x - y|, whose best guess is the median: sharper edges, and less said of rare pixels."""
    return tf.reduce_mean(tf.abs(images - reconstructions), [1, 2, 3])


def cross_entropy(images, reconstructions, least=1e-5):
    """-p log q - (1 - p) log(1 - q), p = (x + 1) / 2 and q = (y + 1) / 2 being shares of white.

    q is drawn towards 1/2 so far that `least` is its distance from 0 and 1, where the worst guess
    has the steepest slope; beyond them there is none.
    """
    p = (images + 1) / 2
    q = least + (1 - 2 * least) * tf.clip_by_value((reconstructions + 1) / 2, 0, 1)
    return -tf.reduce_mean(p * tf.math.log(q) + (1 - p) * tf.math.log1p(-q), [1, 2, 3])


RECONSTRUCTION_LOSSES = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "cross_entropy": cross_entropy,
}


# Activations of default decoders. Where a tanh has made all pixels black, as it soon does on MNIST,
# the squared error has no gradient left; so decoders are linear there, what they say being clipped.
OUTPUTS = {"cross_entropy": "tanh"}


def get_reconstruction_loss(name):
    """The function of that name; a function itself would not be saved with a model.

    Raises:
        ValueError: when there is none.
    """
    if not isinstance(name, str) or name not in RECONSTRUCTION_LOSSES:
        raise ValueError(
            f"`loss` must be one of {sorted(RECONSTRUCTION_LOSSES)}. Received: loss={name!r}"
        )
    return RECONSTRUCTION_LOSSES[name]
