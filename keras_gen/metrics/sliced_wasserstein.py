"""Sliced Wasserstein distance of features or pixels."""

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer

_ROWS = 1024
_PROJECTIONS = 64


def sliced_wasserstein_distance(real, fake, num_projections=512, order=2, seed=0):
    """The Wasserstein distance of one-dimensional projections, averaged over random directions.

    `(mean over directions of W_p^p)^(1 / p)`: Rabin et al., "Wasserstein Barycenter and its
    Application to Texture Mixing" (2011); Bonneel et al. (2015). Each one-dimensional distance is
    exact, also for unequal numbers of images, where quantiles are matched. It grows with the scale
    of the features, in whose units it is, and falls with the dimension: a unit distance of the
    means gives `1 / sqrt(d)`. Two samples of the same distribution have a positive distance.

    Args:
        real: features `[n, d]`, or images `[n, height, width, channels]`, taken as vectors.
        fake: `[m, d]` or images of the same shape and range.
        num_projections: int, number of directions, uniform on the sphere.
        order: 1 or 2, the order p.
        seed: int, chooses the directions.

    Returns:
        float, at least 0.

    Raises:
        ValueError: if the arrays are not finite or of different shapes, one is of integers and
            the other is not, or a number is out of range.
    """
    real, fake = _vectors(real, fake)
    check_integer("num_projections", num_projections)
    check_integer("order", order, maximum=2)
    random = np.random.default_rng(seed)
    total = 0.0
    for start in range(0, num_projections, _PROJECTIONS):
        count = min(_PROJECTIONS, num_projections - start)
        directions = random.normal(size=(count, real.shape[1])).T
        directions /= np.linalg.norm(directions, axis=0)
        total += _transport_cost(
            _sorted_projections(real, directions), _sorted_projections(fake, directions), order
        )
    return float((total / num_projections) ** (1 / order))


def _vectors(real, fake):
    real, fake = (np.asarray(images) for images in (real, fake))
    if real.ndim < 2 or fake.ndim < 2 or real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            "`real` and `fake` must be features [n, d], or images, of one shape. "
            f"Received: real of shape {real.shape}, fake of shape {fake.shape}"
        )
    if (real.dtype.kind in "iu") != (fake.dtype.kind in "iu"):
        raise ValueError(
            "`real` and `fake` must be of the same range: both integers, as uint8 pixels, or both "
            f"floats. Received: real of {real.dtype}, fake of {fake.dtype}"
        )
    return as_feature_pair(real.reshape(len(real), -1), fake.reshape(len(fake), -1))


def _sorted_projections(features, directions):
    """`[directions, n]`, each row in ascending order."""
    projections = np.empty((directions.shape[1], len(features)))
    for start in range(0, len(features), _ROWS):
        rows = features[start : start + _ROWS].astype(np.float64, copy=False)
        projections[:, start : start + _ROWS] = (rows @ directions).T
    projections.sort(axis=1)
    return projections


def _transport_cost(first, second, order):
    """The sum over rows of W_p^p between sorted samples, `[rows, n]` and `[rows, m]`."""
    n, m = first.shape[1], second.shape[1]
    if n == m:
        return float(np.sum(np.abs(first - second) ** order) / n)
    # quantile functions are steps at multiples of 1 / n and 1 / m: integers in units of 1 / (n m)
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(levels, prepend=0) / (n * m)
    differences = first[:, (levels - 1) // m] - second[:, (levels - 1) // n]
    return float(np.sum(np.abs(differences) ** order @ weights))
