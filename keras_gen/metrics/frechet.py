"""Fréchet distance between Gaussians fitted to features; on Inception features, the FID."""

import statistics
import warnings

import numpy as np

from keras_gen.metrics.checks import as_features, check_integer
from keras_gen.metrics.result import MetricWarning
from keras_gen.metrics.statistics import FeatureStatistics, check_comparable

_EPS = float(np.finfo(np.float64).eps)
_ROWS = 4096


def frechet_distance(real, fake):
    """`|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)` for the means and covariances of features.

    The trace of the root is the sum of the singular values of `F1ᵀ F2` for any factors
    `C = F Fᵀ`: from the eigenvalues of the symmetric `F1ᵀ C2 F1` where these give the digits, and
    from the singular values where they do not. The factor is the Cholesky factor; for no more rows
    than features it is the centred features themselves, which is faster and exact in rank. Only
    rounding can bring the sum below zero; it is then 0.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017). The estimate is biased
    upwards by an amount proportional to 1 / n for each set: compare at the same `n`, and with the
    real-vs-real floor (`keras_gen.metrics.resampling.real_floor`), or see
    `frechet_distance_infinity`.

    Args:
        real: features `[n, d]` or `FeatureStatistics`.
        fake: features `[m, d]` or `FeatureStatistics`; the distance is symmetric.

    Returns:
        float, at least 0.

    Raises:
        ValueError: if the features are no finite matrices of the same `d` and at least 2 rows, or
            the statistics are of different extractors.

    Warns:
        MetricWarning: if `n` or `m` is not larger than `d`.
    """
    real, fake = _gaussians(real, fake)
    _warn_if_few(real, fake)
    return _distance(real, fake)


def frechet_distance_infinity(real, fake, num_points=15, smallest=None, seed=0):
    """The distance extrapolated to infinitely many fake images.

    The distances of seeded random subsets of the fakes, of evenly spaced sizes, are fitted by a
    straight line in 1 / n, whose intercept is the result: Chong and Forsyth, "Effectively Unbiased
    FID and Inception Score and where to find them" (2020). All of `real` is used for every subset,
    so that the bias of the finite number of real images remains, the same for all generators. The
    result can be slightly negative.

    Args:
        real: features `[n, d]` or `FeatureStatistics`.
        fake: features `[m, d]`.
        num_points: int, number of subsets, at least 2; the last is all of `fake`.
        smallest: int, size of the smallest subset; by default `m // 10`, or `2 d` if that is
            larger, but at most `m // 2`: the law in 1 / n needs more rows than features.
        seed: int, chooses the subsets.

    Returns:
        dict of "value", the intercept; "slope"; "sizes" and "distances", lists of the points; and
        "residual", the root mean square distance of the points from the line.

    Raises:
        ValueError: as `frechet_distance`, or if `num_points` or `smallest` is out of range.

    Warns:
        MetricWarning: if `smallest` or the number of real images is not larger than `d`.
    """
    fake = as_features("fake", fake, minimum=4)
    check_integer("num_points", num_points, minimum=2)
    if smallest is None:
        smallest = min(max(len(fake) // 10, 2 * fake.shape[1], 2), len(fake) // 2)
    check_integer("smallest", smallest, minimum=2, maximum=len(fake) - 1)
    real, first = _gaussians(real, fake[:smallest])
    _warn_if_few(real, first)
    sizes = np.linspace(smallest, len(fake), num_points).round().astype(int)
    random = np.random.default_rng(seed)
    distances = []
    for size in sizes:
        rows = np.sort(random.permutation(len(fake))[:size])
        distances.append(_distance(real, _Gaussian.of("fake", fake[rows])))
    slope, intercept = np.polyfit(1 / sizes, distances, 1)
    residuals = np.array(distances) - (intercept + slope / sizes)
    return {
        "value": float(intercept),
        "slope": float(slope),
        "sizes": sizes.tolist(),
        "distances": distances,
        "residual": float(np.sqrt(np.mean(residuals**2))),
    }


def frechet_distance_interval(real, fake, confidence=0.95):
    """The distance with a confidence interval for the choice of fakes, without resampling.

    The standard error is that of the infinitesimal jackknife (Efron 1982): the distance is
    differentiated with respect to the weight of each fake image,

        ψ(x) = 2 (m2 - m1)·(x - m2) + (x - m2)ᵀ (I - T) (x - m2) + constant,

    with `T` the optimal transport map from the fake Gaussian to the real one, and the error is the
    standard deviation of ψ divided by √m. It costs one distance. The real images are taken as
    given, and the interval is about the distance at this `m`, whose bias it does not remove. Where
    fakes and reals hardly differ the derivative vanishes, and the interval becomes too narrow.

    Args:
        real: features `[n, d]` or `FeatureStatistics`.
        fake: features `[m, d]`, with `m > d`.
        confidence: float in (0, 1).

    Returns:
        dict of "value", "standard_error" and "interval", `(low, high)`, with `low` at least 0.

    Raises:
        ValueError: as `frechet_distance`, or if `m` is not larger than `d`, where the distance has
            no derivative: `keras_gen.metrics.resampling.half_sampling_interval` has no such limit.
    """
    check_confidence(confidence)
    features = as_features("fake", fake, minimum=2)
    if len(features) <= features.shape[1]:
        raise ValueError(
            "`fake` must have more rows than features; use `half_sampling_interval`. "
            f"Received: fake of shape {features.shape}"
        )
    real, fake = _gaussians(real, features)
    _warn_if_few(real, fake)
    influence = _influence(real, fake, features)
    value = _distance(real, fake)
    error = float(np.std(influence, ddof=1) / np.sqrt(len(features)))
    width = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * error
    interval = (max(value - width, 0.0), value + width)
    return {"value": value, "standard_error": error, "interval": interval}


def check_confidence(confidence):
    """Raises a ValueError unless `confidence` is between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence` must be between 0 and 1. Received: confidence={confidence!r}"
        )


class _Gaussian:
    """A mean, and a factor `F [d, r]` of the covariance `F Fᵀ`.

    Attributes:
        n: int, number of rows.
        mean: float64 `[d]`.
        factor: float64 `[d, r]`.
        trace: float, of the covariance.
        rank: int, an upper bound of the rank of the covariance.
    """

    def __init__(self, n, mean, factor, trace):
        self.n, self.mean, self.factor, self.trace = n, mean, factor, trace
        self.rank = min(factor.shape[1], n - 1)

    @classmethod
    def of(cls, name, features):
        """From features or `FeatureStatistics`."""
        if isinstance(features, FeatureStatistics):
            return cls._of_statistics(features)
        features = as_features(name, features, minimum=2)
        n, dimension = features.shape
        if n > dimension:
            return cls._of_statistics(FeatureStatistics.of(features))
        centered = features.astype(np.float64)
        mean = centered.mean(axis=0)
        centered -= mean
        centered /= np.sqrt(n - 1)
        return cls(n, mean, centered.T, float(np.sum(centered**2)))

    @classmethod
    def _of_statistics(cls, known):
        mean, covariance = known.mean_and_covariance()
        factor = _factor(covariance, min(known.n - 1, known.dimension))
        return cls(known.n, mean, factor, float(np.trace(covariance)))


def _gaussians(real, fake):
    if isinstance(real, FeatureStatistics) and isinstance(fake, FeatureStatistics):
        check_comparable(real, fake)
    real, fake = _Gaussian.of("real", real), _Gaussian.of("fake", fake)
    if len(real.mean) != len(fake.mean):
        raise ValueError(
            "`real` and `fake` must have the same number of features. "
            f"Received: real of {len(real.mean)} features, fake of {len(fake.mean)}"
        )
    return real, fake


def _warn_if_few(real, fake):
    dimension = len(real.mean)
    for name, n in (("real", real.n), ("fake", fake.n)):
        if n <= dimension:
            warnings.warn(
                f"{n:,} {name} images are not more than the {dimension:,} features: the "
                "covariance has no full rank and the Fréchet distance is far too large.",
                MetricWarning,
                stacklevel=3,
            )


def _distance(real, fake):
    difference = real.mean - fake.mean
    scale = real.trace + fake.trace
    root = _nuclear_norm(real.factor.T @ fake.factor, min(real.rank, fake.rank), scale)
    return max(float(difference @ difference) + scale - 2 * root, 0.0)


def _nuclear_norm(matrix, rank, scale):
    """The sum of the singular values of a matrix of at most this rank.

    The eigenvalues of `matrix matrixᵀ` give it quickly, but lose the digits of singular values
    below 1e-8 of the largest. Where all errors together may exceed 1e-9 of `scale`, the singular
    values themselves are computed.
    """
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    eigenvalues = np.linalg.eigvalsh(matrix @ matrix.T)[-rank:]
    roots = np.sqrt(np.maximum(eigenvalues, 0))
    error = 4 * _EPS * max(eigenvalues[-1], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root_errors = np.fmin(np.sqrt(error), error / (2 * roots))
    # rounding errors are as often up as down: they add like the sides of a right angle
    if np.linalg.norm(root_errors) <= 1e-9 * scale:
        return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _factor(covariance, rank):
    """`F [d, r]` with `F Fᵀ = covariance`."""
    alive = np.flatnonzero(np.diagonal(covariance))
    if len(alive) < len(covariance):  # features that never vary, as dead units
        factor = np.zeros((len(covariance), max(len(alive), 1)))
        if len(alive):
            within = _factor(covariance[np.ix_(alive, alive)], min(rank, len(alive)))
            factor = np.zeros((len(covariance), within.shape[1]))
            factor[alive] = within
        return factor
    if rank == len(covariance):
        try:
            return np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            pass
    eigenvalues, vectors = np.linalg.eigh(covariance)
    noise = len(covariance) * _EPS * eigenvalues[-1]
    kept = np.flatnonzero(eigenvalues > noise)[-rank:]
    return vectors[:, kept] * np.sqrt(eigenvalues[kept])


def _influence(real, fake, features):
    """ψ of every row but for a constant, float64 `[m]`."""
    product = real.factor.T @ fake.factor
    eigenvalues, vectors = np.linalg.eigh(product @ product.T)
    kept = eigenvalues > len(eigenvalues) * _EPS * eigenvalues[-1]
    # T = R Rᵀ
    transport = (real.factor @ vectors[:, kept]) * eigenvalues[kept] ** -0.25
    difference = 2 * (fake.mean - real.mean)
    influence = np.empty(len(features))
    for start in range(0, len(features), _ROWS):
        rows = features[start : start + _ROWS] - fake.mean
        moved = rows @ transport
        influence[start : start + _ROWS] = (
            rows @ difference + np.sum(rows**2, axis=1) - np.sum(moved**2, axis=1)
        )
    return influence
