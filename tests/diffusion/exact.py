"""Distributions in one dimension whose denoiser and probability flow are known exactly."""

import numpy as np
import tensorflow as tf
from scipy import optimize, stats


class Gaussian:
    """N(mean, deviation^2) in every dimension."""

    def __init__(self, mean=0.3, deviation=0.5):
        self.mean, self.deviation = mean, deviation

    def denoise(self, path):
        """E[x_0 | x_t] as a function of (x, t)."""

        def denoise(x, t):
            alpha, sigma = path.alpha(t), path.sigma(t)
            signal = alpha * self.deviation**2 / self.variance(alpha, sigma)
            signal, alpha = (
                tf.reshape(v, [-1] + [1] * (x.shape.rank - 1)) for v in (signal, alpha)
            )
            return self.mean + signal * (x - alpha * self.mean)

        return denoise

    def variance(self, alpha, sigma):
        return alpha**2 * self.deviation**2 + sigma**2

    def flow(self, path, x, start, end):
        """Where the probability-flow ODE takes x from time `start` to time `end`."""
        (a, b), (c, d) = levels(path, start), levels(path, end)
        scaled = (x - a * self.mean) / np.sqrt(self.variance(a, b))
        return c * self.mean + np.sqrt(self.variance(c, d)) * scaled

    def log_density(self, x):
        return stats.norm.logpdf(x, self.mean, self.deviation).reshape(len(x), -1).sum(1)


class Mixture:
    """Three normal distributions of unequal weight and width."""

    weights = np.array([0.5, 0.3, 0.2])
    means = np.array([-0.7, 0.2, 0.9])
    deviations = np.array([0.3, 0.25, 0.2])

    def denoise(self, path):
        def denoise(x, t):
            alpha, sigma = path.alpha(t), path.sigma(t)
            alpha, sigma = (tf.reshape(v, [-1] + [1] * x.shape.rank) for v in (alpha, sigma))
            variances = alpha**2 * self.deviations**2 + sigma**2
            centred = x[..., None] - alpha * self.means
            logits = np.log(self.weights) - tf.math.log(variances) / 2
            posterior = tf.nn.softmax(logits - centred**2 / (2 * variances))
            means = self.means + alpha * self.deviations**2 / variances * centred
            return tf.reduce_sum(posterior * means, -1)

        return denoise

    def flow(self, path, x, start, end):
        """In one dimension the flow keeps every quantile."""
        ranks, (alpha, sigma) = self.cdf(x, *levels(path, start)), levels(path, end)

        def quantile(rank):
            return optimize.brentq(
                lambda y: self.cdf(y, alpha, sigma) - rank, -500, 500, xtol=1e-14
            )

        return np.array([quantile(rank) for rank in np.ravel(ranks)]).reshape(np.shape(x))

    def cdf(self, x, alpha, sigma):
        deviations = np.sqrt(alpha**2 * self.deviations**2 + sigma**2)
        return (
            stats.norm.cdf(np.asarray(x)[..., None], alpha * self.means, deviations) @ self.weights
        )


def levels(path, t):
    """(alpha, sigma) at t as floats."""
    t = tf.constant(t, tf.float64)
    return float(path.alpha(t)), float(path.sigma(t))
