"""Normal distributions of latents, and stochastic layers above a latent: pure functions.

The layers above a latent z_1 are networks by pairs (Burda et al. 2016): an encoder that
infers q(z_2 | z_1) and a decoder that gives p(z_1 | z_2), then those between z_2 and z_3, and so
on; the highest latent is standard normal. Each network puts out all means, then all log-variances.
"""

import math

import tensorflow as tf

LOG_VARIANCES = (-20.0, 20.0)  # further away they are cut, so that no exponential overflows


def moments(output):
    """Mean and log-variance, float32 [batch, units] each, of what a network puts out."""
    mean, log_variance = tf.split(output, 2, axis=1)
    return mean, tf.clip_by_value(log_variance, *LOG_VARIANCES)


def drawn(mean, log_variance, noise):
    """Standard normal noise made draws of N(mean, exp(log_variance))."""
    return mean + tf.exp(log_variance / 2) * noise


def log_normal(x, mean, log_variance):
    """log N(x; mean, exp(log_variance)), nats, float64, summed over the last axis."""
    x, mean, log_variance = (tf.cast(t, tf.float64) for t in (x, mean, log_variance))
    terms = tf.square(x - mean) * tf.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -tf.reduce_sum(terms, -1) / 2


def kl_divergence(mean, log_variance):
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each unit, nats, shaped as they are."""
    return (tf.square(mean) + tf.exp(log_variance) - log_variance - 1) / 2


def log_prior(layers, z, noise, training=False, closed_form=False):
    """One draw's lower bound of log p(z), nats, float64 [batch]; log p(z) itself without layers.

        log p(z | u) + log p(u) - log q(u | z),   u drawn from q(u | z)

    with log p(u) again such a bound where there are more layers.

    Args:
        layers: list of pairs (encoder, decoder), the lowest first.
        z: float32 [batch, units].
        noise: standard normal, float32 [batch, units of all latents above z, the lowest first].
        training: whether the networks train.
        closed_form: whether the divergence of the highest latent is that of its distribution rather
            than of the draw: the same on average, and learned from faster.
    """
    if not layers:
        return log_normal(z, tf.zeros_like(z), tf.zeros_like(z))
    (encoder, decoder), *above = layers
    mean, log_variance = moments(encoder(z, training=training))
    units = mean.shape[1]
    upper = drawn(mean, log_variance, noise[:, :units])
    given_upper = moments(decoder(upper, training=training))
    if closed_form and not above:
        divergence = tf.cast(tf.reduce_sum(kl_divergence(mean, log_variance), 1), tf.float64)
    else:
        prior = log_prior(above, upper, noise[:, units:], training, closed_form)
        divergence = log_normal(upper, mean, log_variance) - prior
    return log_normal(z, *given_upper) - divergence


def descended(decoders, noise):
    """Standard normal noise made draws of the lowest latent, float32 [batch, units].

    Args:
        decoders: p(z_1 | z_2), p(z_2 | z_3) and so on; none: the noise is the latent.
        noise: float32 [batch, units of all latents, the lowest first].
    """
    if not decoders:
        return noise
    units = decoders[0].outputs[0].shape[1] // 2
    upper = descended(decoders[1:], noise[:, units:])
    return drawn(*moments(decoders[0](upper, training=False)), noise[:, :units])
