"""Kernel distance between features; on Inception features, the KID."""

import warnings

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer
from keras_gen.metrics.result import MetricWarning

_BLOCK = 2048


def kernel_distance(real, fake, num_subsets=100, subset_size=1000, seed=0):
    """Squared maximum mean discrepancy with the kernel `(x·y / d + 1)³`, averaged over subsets.

    Each subset gives the unbiased U-statistic, so that the mean is unbiased at any number of
    images and can be negative. Binkowski et al., "Demystifying MMD GANs" (2018). The subsets are
    drawn without replacement by NumPy's `RandomState(seed)`, fakes first: those of
    `torch-fidelity` with `rng_seed=seed`, whose first input is the fakes.

    Args:
        real: `[n, d]`.
        fake: `[m, d]`.
        num_subsets: int.
        subset_size: int, at least 2. Where `n` or `m` is smaller, half of the smaller one.
        seed: int from 0 to 2³² - 1, chooses the subsets.

    Returns:
        dict of "value", the mean, and "std", the standard deviation over the subsets: the spread
        of one subset, not the uncertainty of the mean (`half_sampling_interval` gives that).

    Raises:
        ValueError: if the features are no finite matrices of the same `d` and at least 4 rows, or
            a number is out of range.

    Warns:
        MetricWarning: if the subsets had to be smaller than `subset_size`.
    """
    real, fake = as_feature_pair(real, fake, minimum=4)
    check_integer("num_subsets", num_subsets)
    check_integer("subset_size", subset_size, minimum=2)
    check_integer("seed", seed, minimum=0, maximum=2**32 - 1)
    fewest = min(len(real), len(fake))
    if fewest < subset_size:
        warnings.warn(
            f"{fewest:,} images are fewer than the subsets of {subset_size:,}: subsets of "
            f"{fewest // 2:,} were taken.",
            MetricWarning,
            stacklevel=2,
        )
        subset_size = fewest // 2
    random = np.random.RandomState(seed)
    values = np.empty(num_subsets)
    for number in range(num_subsets):
        fake_rows = random.choice(len(fake), subset_size, replace=False)
        real_rows = random.choice(len(real), subset_size, replace=False)
        values[number] = kernel_distance_all_pairs(real[real_rows], fake[fake_rows])
    return {"value": float(values.mean()), "std": float(values.std())}


def kernel_distance_all_pairs(real, fake, block=_BLOCK):
    """The same discrepancy from every pair of images, without subsets: exact, unbiased.

    Its time grows with the square of the number of images; its memory with `block` alone.

    Args:
        real: `[n, d]`.
        fake: `[m, d]`; the distance is symmetric.
        block: int, how many rows meet how many at once.

    Returns:
        float; negative values are possible where the distributions hardly differ.

    Raises:
        ValueError: if the features are no finite matrices of the same `d` and at least 2 rows.
    """
    real, fake = as_feature_pair(real, fake, minimum=2)
    check_integer("block", block)
    within_real = _sum_within(real, block) / (len(real) * (len(real) - 1))
    within_fake = _sum_within(fake, block) / (len(fake) * (len(fake) - 1))
    between = _sum_between(real, fake, block) / (len(real) * len(fake))
    return float(within_real + within_fake - 2 * between)


def _sum_within(features, block):
    """The kernel summed over all ordered pairs of different rows."""
    total = 0.0
    for start in range(0, len(features), block):
        rows = features[start : start + block].astype(np.float64)
        products = rows @ rows.T
        own = np.diagonal(products).copy()
        total += _sum_of_kernels(products, features.shape[1])
        total -= np.sum((own / features.shape[1] + 1) ** 3)
        total += 2 * _sum_between(rows, features[start + block :], block)
    return total


def _sum_between(first, second, block):
    total = 0.0
    for start in range(0, len(first), block):
        rows = first[start : start + block].astype(np.float64, copy=False)
        for other in range(0, len(second), block):
            columns = second[other : other + block].astype(np.float64, copy=False)
            total += _sum_of_kernels(rows @ columns.T, first.shape[1])
    return total


def _sum_of_kernels(products, dimension):
    """The sum of `(product / d + 1)³`; overwrites the products."""
    products /= dimension
    products += 1
    return float(np.vdot(np.square(products), products))
