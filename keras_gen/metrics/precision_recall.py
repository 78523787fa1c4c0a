"""Fidelity and diversity apart: precision and recall, density and coverage."""

import warnings

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer
from keras_gen.metrics.neighbours import BLOCK, count_pairs, nearest_neighbours
from keras_gen.metrics.result import MetricWarning


def precision_recall(real, fake, k=3, block=BLOCK):
    """Improved precision and recall.

    Around each image is a ball that reaches to its `k`-th nearest other image of the same set,
    that image included (`distance <= radius`, as in the official code). Precision is the fraction
    of fakes in a ball of any real, recall the fraction of reals in a ball of any fake.
    Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models"
    (2019).

    The argument order matters: exchanged sets exchange the two numbers.

    Args:
        real: `[n, d]`.
        fake: `[m, d]`.
        k: int, less than `n` and `m`.
        block: int, see `nearest_neighbours`.

    Returns:
        dict of "precision" and "recall", floats in [0, 1].

    Raises:
        ValueError: if the features are no finite matrices of the same `d`, or `k` is out of range.

    Warns:
        MetricWarning: if `n` and `m` differ by more than a tenth, as the set with more images has
            smaller balls.
    """
    real, fake = _checked(real, fake, k)
    _warn_if_unequal(real, fake)
    limits = [_radii(real, k, block)[:, None], _radii(fake, k, block)[None]]
    counts = count_pairs(real, fake, limits, any_only=True, block=block)
    (_, around_fakes), (around_reals, _) = counts
    return {
        "precision": float(np.mean(around_fakes > 0)),
        "recall": float(np.mean(around_reals > 0)),
    }


def density_coverage(real, fake, k=5, block=BLOCK):
    """Density and coverage, which outliers disturb less than precision and recall.

    Balls are around the reals alone and reach to, without including, the `k`-th nearest other real
    (`distance < radius`, as in the official code). Density is the number of balls that a fake lies
    in, on average, divided by `k`; coverage is the fraction of reals with a fake in their ball.
    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models" (2020). For equal
    distributions density is 1, and coverage `1 - 1 / 2^k` where `n = m` is large.

    Args:
        real: `[n, d]`.
        fake: `[m, d]`.
        k: int, less than `n`.
        block: int, see `nearest_neighbours`.

    Returns:
        dict of "density", float at least 0 that can exceed 1, and "coverage", float in [0, 1].

    Raises:
        ValueError: if the features are no finite matrices of the same `d`, or `k` is out of range.
    """
    real, fake = _checked(real, fake, k, fakes=1)
    radii = _radii(real, k, block)
    [(of_reals, of_fakes)] = count_pairs(real, fake, [radii[:, None]], strict=True, block=block)
    return {
        "density": float(np.mean(of_fakes) / k),
        "coverage": float(np.mean(of_reals > 0)),
    }


def _checked(real, fake, k, fakes=2):
    real, fake = as_feature_pair(real, fake)
    fewest = len(real) if fakes == 1 else min(len(real), len(fake))
    check_integer("k", k, maximum=max(fewest - 1, 1))
    if fewest <= k:
        raise ValueError(
            f"Balls reach to the {k}. nearest other image: more than {k} are needed. "
            f"Received: {len(real)} real and {len(fake)} fake"
        )
    return real, fake


def _radii(features, k, block):
    return nearest_neighbours(features, features, k, exclude_self=True, block=block)[0][:, -1]


def _warn_if_unequal(real, fake):
    if max(len(real), len(fake)) > 1.1 * min(len(real), len(fake)):
        warnings.warn(
            f"{len(real):,} real and {len(fake):,} fake images: the balls of the larger set are "
            "smaller, so that precision and recall cannot be compared with each other, nor with "
            "those of other numbers of images.",
            MetricWarning,
            stacklevel=3,
        )
