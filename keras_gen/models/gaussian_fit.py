"""A normal distribution for each class, from decaying sums over examples: pure functions.

The sums are those of (1, z) (1, z)ᵀ over examples z [d]: float64 [kinds, 1 + d, 1 + d], whose first
entry counts the examples, whose first row holds their sum, and whose rest their second moments.
"""

import tensorflow as tf

LEAST = 1e-9  # examples of every kind, at the least
JITTER = 1e-4  # of the mean variance, added to all, so that few examples will do


def first_sums(kinds, dimensions):
    """One example of the standard normal distribution for each kind: mean 0, covariance 1."""
    return tf.eye(1 + dimensions, batch_shape=[kinds], dtype=tf.float64)


def sums_of(vectors, labels, kinds):
    """The sums over vectors [batch, d], by their labels int32 [batch] (None: all are 0)."""
    vectors = tf.cast(vectors, tf.float64)
    if labels is None:
        labels = tf.zeros_like(vectors[:, 0], tf.int32)
    extended = tf.concat([tf.ones_like(vectors[:, :1]), vectors], 1)
    own = tf.one_hot(labels, kinds, dtype=tf.float64)[:, :, None] * extended[:, None]
    return tf.einsum("bki,bj->kij", own, extended)


def moments(sums):
    """Means [kinds, d] and covariances [kinds, d, d], float64; of a kind without examples 0 and
    1."""
    sums = sums + LEAST * tf.eye(sums.shape[-1], dtype=tf.float64)
    scaled = sums / sums[:, :1, :1]
    mean = scaled[:, 0, 1:]
    return mean, scaled[:, 1:, 1:] - mean[:, :, None] * mean[:, None]


def transformed(noise, sums, labels=None):
    """Standard normal noise [batch, d] as draws of the distributions of the labels, float32."""
    if labels is None:
        labels = tf.zeros_like(noise[:, 0], tf.int32)
    mean, covariance = moments(sums)
    variance = tf.linalg.trace(covariance) / covariance.shape[-1]
    jitter = (JITTER * variance + 1e-12)[:, None, None]
    root = tf.linalg.cholesky(covariance + jitter * tf.eye(covariance.shape[-1], dtype=tf.float64))
    drawn = tf.linalg.matvec(tf.gather(root, labels), tf.cast(noise, tf.float64))
    return tf.cast(tf.gather(mean, labels) + drawn, tf.float32)
