"""Paths from data to noise: x_t = alpha(t) x_0 + sigma(t) noise.

Time 0 is data (alpha 1, sigma 0 exactly) and `t_max` is noise. Every function takes float32 or
float64 tensors of any shape and returns the dtype of `t`; nothing is lost to cancellation at
either end, where the log-SNR is +inf or -inf without becoming NaN.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_gen.strategies import Strategy, checked_count, positive, resolve

# Where the log-SNR of a path is unbounded, grids that are laid out in it keep to these ends: as
# noisy as EDM's largest sigma of 80 on data of deviation 0.5, as clean as its smallest, 0.002.
NOISIEST, CLEANEST = -2 * math.log(160), 2 * math.log(500)


def rows_like(values, x):
    """Shapes `values`, a scalar or [batch], so that it multiplies `x` [batch, ...] row by row."""
    values = tf.cast(values, x.dtype)
    if values.shape.rank == 0:
        return values
    return tf.reshape(values, tf.concat([tf.shape(values), [1] * (x.shape.rank - 1)], 0))


def combine(first, x, second, y):
    """`first` x + `second` y, where `first` and `second` are scalars or [batch]."""
    return rows_like(first, x) * x + rows_like(second, y) * y


def as_time(t):
    """Times as a tensor of floats, float32 where they are integers."""
    t = tf.convert_to_tensor(t)
    return tf.cast(t, tf.float32) if t.dtype.is_integer else t


class Path(Strategy):
    """Base of the paths: how much of x_t is data and how much is noise.

    Attributes:
        t_max: the time of pure noise.
        prior_scale: standard deviation of x at `t_max`, as samplers start from it.
        log_snr_range: (noisiest, cleanest) log-SNR of the grids that are laid out in it; finite.
    """

    t_max = 1.0
    prior_scale = 1.0
    log_snr_range = (NOISIEST, CLEANEST)

    def alpha(self, t):
        """Weight of the data in x_t, in [0, 1]; 1 at time 0."""
        raise NotImplementedError

    def sigma(self, t):
        """Weight of the noise in x_t, at least 0; 0 at time 0."""
        raise NotImplementedError

    def log_snr(self, t):
        """2 log(alpha / sigma), in [-inf, inf]; falls as t grows."""
        raise NotImplementedError

    def time(self, log_snr):
        """The time of a log-SNR: the inverse of `log_snr`."""
        raise NotImplementedError

    def velocity(self, t):
        """(a, b) of the velocity a x_0 + b noise: the derivatives of alpha and sigma in the path's
        own parameter, chosen so that alpha b - sigma a = 1. See `VelocityPrediction`."""
        raise NotImplementedError

    def mix(self, data, noise, t):
        """x_t, shaped as `data` [batch, ...], for `noise` of that shape and t scalar or [batch]."""
        t = as_time(t)
        return combine(self.alpha(t), data, self.sigma(t), noise)

    def prior(self, noise):
        """x at `t_max`, from where samplers start, for standard normal `noise`."""
        return self.prior_scale * noise

    def posterior(self, t, s):
        """q(x_s | x_t, x_0) for s < t, the normal distribution of Ho et al. 2020, eqs. 6 and 7.

        Returns:
            (weight of x_t in the mean, weight of x_0 in the mean, variance), shaped as `t`. At
            s = 0 exactly (0, 1, 0).
        """
        t, s = as_time(t), as_time(s)
        removed = -tf.math.expm1(self.log_snr(t) - self.log_snr(s))
        kept = tf.square(self.sigma(s) / self.sigma(t))
        return (
            self.alpha(t) / self.alpha(s) * kept,
            self.alpha(s) * removed,
            tf.square(self.sigma(s)) * removed,
        )

    def transition_variance(self, t, s):
        """Variance of q(x_t | x_s) for s < t: DDPM's beta_t where s is the step before t."""
        t, s = as_time(t), as_time(s)
        return -tf.square(self.sigma(t)) * tf.math.expm1(self.log_snr(t) - self.log_snr(s))


@keras.saving.register_keras_serializable("keras_gen")
class RectifiedFlow(Path):
    """Straight lines from data to noise: alpha = 1 - t, sigma = t.

    Liu et al. 2022, Flow Straight and Fast; Lipman et al. 2023, Flow Matching.
    """

    def alpha(self, t):
        return 1 - as_time(t)

    def sigma(self, t):
        return as_time(t)

    def log_snr(self, t):
        t = as_time(t)
        return 2 * (tf.math.log1p(-t) - tf.math.log(t))

    def time(self, log_snr):
        return tf.sigmoid(-tf.convert_to_tensor(log_snr) / 2)

    def velocity(self, t):
        ones = tf.ones_like(as_time(t))
        return -ones, ones


@keras.saving.register_keras_serializable("keras_gen")
class EDM(Path):
    """Noise added to unscaled data, with sigma itself for time: alpha = 1, sigma = t.

    Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative Models.

    Args:
        sigma_min: the smallest noise of a grid, before its last step to 0.
        sigma_max: the noise that sampling starts from; also the largest time.
    """

    def __init__(self, sigma_min=0.002, sigma_max=80.0):
        positive(sigma_min=sigma_min)
        if not sigma_max > sigma_min:
            raise ValueError(
                "`sigma_max` must be larger than `sigma_min`. "
                f"Received: sigma_min={sigma_min!r}, sigma_max={sigma_max!r}"
            )
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.t_max = self.prior_scale = self.sigma_max
        self.log_snr_range = (-2 * math.log(sigma_max), -2 * math.log(sigma_min))

    def get_config(self):
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}

    def alpha(self, t):
        return tf.ones_like(as_time(t))

    def sigma(self, t):
        return as_time(t)

    def log_snr(self, t):
        return -2 * tf.math.log(as_time(t))

    def time(self, log_snr):
        return tf.exp(-tf.convert_to_tensor(log_snr) / 2)

    def velocity(self, t):
        t = as_time(t)
        return tf.zeros_like(t), tf.ones_like(t)


@keras.saving.register_keras_serializable("keras_gen")
class DiscretePath(Path):
    """A variance-preserving path of T steps: alpha^2 + sigma^2 = 1, given by DDPM's betas.

    Step k of the papers' 1..T is time k/T, where alpha^2 is the cumulative product of 1 - beta.
    Between two steps log alpha^2 is linear in t, so that continuous times work too. (A library
    that counts steps 0..T-1 calls time (n + 1)/T step n.)

    Args:
        betas: floats [T] in (0, 1), beta_1 to beta_T.
    """

    def __init__(self, betas):
        self.betas = np.asarray(betas, np.float64)
        if self.betas.ndim != 1 or not (
            len(self.betas) and np.all((self.betas > 0) & (self.betas < 1))
        ):
            raise ValueError(
                f"`betas` must be a list of numbers in (0, 1). Received: betas={betas!r}"
            )
        self.timesteps = len(self.betas)
        self._table = np.concatenate([[0], np.cumsum(np.log1p(-self.betas))])
        # log of alpha^2 / (1 - alpha^2) at the last step and at the first
        last, first = self._table[-1], self._table[1]
        self.log_snr_range = (
            max(NOISIEST, last - math.log(-math.expm1(last))),
            min(CLEANEST, first - math.log(-math.expm1(first))),
        )

    def get_config(self):
        return {"betas": self.betas.tolist()}

    def log_alpha_bar(self, t):
        """log alpha(t)^2, float64 whatever the dtype of t, which is clipped to [0, 1]."""
        steps = tf.clip_by_value(tf.cast(t, tf.float64), 0, 1) * self.timesteps
        below = tf.minimum(tf.floor(steps), self.timesteps - 1)
        index = tf.cast(below, tf.int32)
        low, high = tf.gather(self._table, index), tf.gather(self._table, index + 1)
        return low + (steps - below) * (high - low)

    def alpha(self, t):
        t = as_time(t)
        return tf.cast(tf.exp(self.log_alpha_bar(t) / 2), t.dtype)

    def sigma(self, t):
        t = as_time(t)
        return tf.cast(tf.sqrt(tf.abs(tf.math.expm1(self.log_alpha_bar(t)))), t.dtype)

    def log_snr(self, t):
        t = as_time(t)
        log_alpha_bar = self.log_alpha_bar(t)
        return tf.cast(log_alpha_bar - tf.math.log(tf.abs(tf.math.expm1(log_alpha_bar))), t.dtype)

    def time(self, log_snr):
        """As in `Path`; a log-SNR below that of the last step has time 1."""
        log_snr = tf.convert_to_tensor(log_snr)
        fall = tf.nn.softplus(-tf.cast(log_snr, tf.float64))  # -log alpha^2
        fall = tf.minimum(fall, -self._table[-1])
        above = tf.searchsorted(-self._table, tf.reshape(fall, [-1]), side="left")
        index = tf.maximum(tf.reshape(above, tf.shape(fall)) - 1, 0)
        low, high = tf.gather(-self._table, index), tf.gather(-self._table, index + 1)
        steps = tf.cast(index, tf.float64) + (fall - low) / (high - low)
        return tf.cast(steps / self.timesteps, log_snr.dtype)

    def velocity(self, t):
        return -self.sigma(t), self.alpha(t)


@keras.saving.register_keras_serializable("keras_gen")
class Linear(DiscretePath):
    """The schedule of Ho et al. 2020 (DDPM): beta rises linearly.

    Args:
        timesteps: T, the number of steps.
        beta_start: beta_1. None: 1e-4 of 1,000 steps, and of T of them so many times as much as
            they are fewer, so that the path ends in noise (Nichol and Dhariwal 2021, section 4).
        beta_end: beta_T. None: likewise 0.02, at most 0.999.
    """

    def __init__(self, timesteps=1000, beta_start=None, beta_end=None):
        timesteps = checked_count("timesteps", timesteps)
        if beta_start is None:
            beta_start = 0.1 / timesteps
        if beta_end is None:
            beta_end = min(20 / timesteps, 0.999)
        super().__init__(np.linspace(beta_start, beta_end, timesteps))

    def get_config(self):
        return {
            "timesteps": self.timesteps,
            "beta_start": float(self.betas[0]),
            "beta_end": float(self.betas[-1]),
        }


@keras.saving.register_keras_serializable("keras_gen")
class Cosine(DiscretePath):
    """The schedule of Nichol and Dhariwal 2021, eq. 17: alpha^2 = f(t) / f(0).

    f(t) = cos^2(pi/2 (t + s) / (1 + s)), each beta clipped to `max_beta`, as theirs is.

    Args:
        timesteps: T, the number of steps.
        s: offset that keeps the first betas from being too small.
        max_beta: largest beta; only the last step of a thousand reaches it.
    """

    def __init__(self, timesteps=1000, s=0.008, max_beta=0.999):
        timesteps = checked_count("timesteps", timesteps)
        self.s, self.max_beta = s, max_beta
        f = np.cos(np.pi / 2 * (np.arange(timesteps + 1) / timesteps + s) / (1 + s)) ** 2
        super().__init__(np.minimum(1 - f[1:] / f[:-1], max_beta))

    def get_config(self):
        return {"timesteps": self.timesteps, "s": self.s, "max_beta": self.max_beta}


PATHS = {"rectified_flow": RectifiedFlow, "cosine": Cosine, "linear": Linear, "edm": EDM}


def get_path(identifier):
    """A `Path` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, PATHS, Path, "path")
