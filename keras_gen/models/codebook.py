"""A codebook that follows the vectors that it stands for: pure functions.

It is float32 [size, d], with `counts` float32 [size]: how many vectors of a batch have each code
for their nearest, as an exponential moving average over the batches. Vectors are float32 [n, d],
codes int32 [n].
"""

import tensorflow as tf


def nearest(vectors, codebook):
    """The code nearest to each vector, int32 [n], and its squared distance, float32 [n]."""
    product = tf.matmul(vectors, codebook, transpose_b=True)
    beyond = tf.reduce_sum(tf.square(codebook), 1) - 2 * product  # but for |vector|²
    codes = tf.argmin(beyond, 1, output_type=tf.int32)
    return codes, tf.reduce_sum(tf.square(vectors - tf.gather(codebook, codes)), 1)


def sums_of(vectors, codes, size):
    """How many vectors have each code, float32 [size], and their sums, float32 [size, d]."""
    own = tf.one_hot(codes, size)
    # a product of matrices gives the same numbers in every run, unlike a sum over segments
    return tf.reduce_sum(own, 0), tf.matmul(own, vectors, transpose_a=True)


def moved(codebook, counts, batch_counts, batch_sums, decay):
    """The codebook and its counts after a batch (van den Oord et al. 2017, appendix A.1).

    With N_k the counts and m_k the sums of vectors, both averaged with the `decay` g, a code is
    e_k = m_k / N_k. Then N_k' = g N_k + (1 - g) n_k, and

        e_k' = e_k + (1 - g) (sum of the batch's vectors - n_k e_k) / N_k',

    so that m_k need not be kept, and a code that no vector has stays where it is, exactly.
    """
    counts = decay * counts + (1 - decay) * batch_counts
    change = batch_sums - batch_counts[:, None] * codebook
    return codebook + (1 - decay) * tf.math.divide_no_nan(change, counts[:, None]), counts


def candidates(vectors, squared_distances, uniforms, most):
    """Vectors to begin codes anew at, at most so many, and their priorities, highest first.

    They are drawn without replacement, with weights that are their squared distances from their
    codes, as k-means++ does (Arthur and Vassilvitskii 2007): what the codebook already says well is
    hardly drawn. The vectors with the highest log(u) / weight are such a draw, u being `uniforms`
    in [0, 1), one for each (Efraimidis and Spirakis 2006); of parts of a batch, the highest of all
    their candidates are those of the whole.
    """
    return highest(tf.math.log(uniforms) / squared_distances, vectors, most)


def highest(priorities, vectors, most):
    """Vectors with the highest priorities, at most so many, and these priorities."""
    priorities, index = tf.math.top_k(priorities, tf.minimum(most, tf.shape(vectors)[0]))
    return tf.gather(vectors, index), priorities


def restarted(codebook, counts, vectors, least):
    """Puts vectors in the places of dead codes, in turn, and lets them count as the mean code does.

    Args:
        codebook, counts: as of the module.
        vectors: float32 [n, d], at least one.
        least: a code is dead where its count is below this share of the mean count.

    Returns:
        (codebook, counts).
    """
    mean = tf.reduce_mean(counts)
    dead = counts < least * mean
    turn = tf.cumsum(tf.cast(dead, tf.int32), exclusive=True) % tf.shape(vectors)[0]
    codebook = tf.where(dead[:, None], tf.gather(vectors, turn), codebook)
    return codebook, tf.where(dead, mean, counts)


def perplexity(counts):
    """exp(entropy) of the shares of the counts: as many codes, used alike, would say as much."""
    shares = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))
