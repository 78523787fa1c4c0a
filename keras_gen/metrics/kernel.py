"""Kernel distance between features; on Inception features, the KID."""

import warnings

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer
from keras_gen.metrics.result import MetricWarning

_BLOCK = 2048
_STRIP = 2**16  # kernel values computed at once, few enough to stay in the cache
_TOGETHER = 256  # subsets that share the products of all rows
_TOLERANCE = 1e-6


def kernel_distance(real, fake, num_subsets=100, subset_size=1000, seed=0):
    """Squared maximum mean discrepancy with the kernel `(x·y / d + 1)³`, averaged over subsets.

    Each subset gives the unbiased U-statistic, so that the mean is unbiased at any number of
    images and can be negative. Binkowski et al., "Demystifying MMD GANs" (2018). The subsets are
    drawn without replacement by NumPy's `RandomState(seed)`, fakes first: those of
    `torch-fidelity` with `rng_seed=seed`, whose first input is the fakes.

    Products of float32 features are float32, and their sums float64, as long as that changes the
    first subset by no more than 1e-6 of the values; everything else is float64.

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
    values = _of_subsets(real, fake, num_subsets, subset_size, seed, np.float32)
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
    everything = np.ones((len(real), 1)), np.ones((len(fake), 1))
    return float(_discrepancies(real, fake, *everything, np.float64, block)[0])


def _of_subsets(real, fake, num_subsets, size, seed, dtype):
    """The discrepancy of each subset, from products of `dtype` or more, float64 `[num_subsets]`."""
    dtype = np.result_type(dtype, real, fake)
    random = np.random.RandomState(seed)
    values = np.empty(num_subsets)
    for start in range(0, num_subsets, _TOGETHER):
        rows = [
            [random.choice(len(features), size, replace=False) for features in (fake, real)]
            for _ in range(start, min(start + _TOGETHER, num_subsets))
        ]
        fake_rows, real_rows = (np.array(part) for part in zip(*rows))
        if start == 0:
            first = real[real_rows[0]], fake[fake_rows[0]]
        with np.errstate(over="ignore", invalid="ignore"):
            values[start : start + len(rows)] = _of_rows(real, fake, real_rows, fake_rows, dtype)
    if dtype == np.float64:
        return values
    error = abs(values[0] - kernel_distance_all_pairs(*first))
    if error <= _TOLERANCE * np.sqrt(np.mean(values**2)):
        return values
    return _of_subsets(real, fake, num_subsets, size, seed, np.float64)


def _of_rows(real, fake, real_rows, fake_rows, dtype):
    """The discrepancy of each subset of rows, `real_rows` and `fake_rows` `[subsets, size]`."""
    number, size = real_rows.shape
    if (len(real) + len(fake)) ** 2 > number * (2 * size) ** 2:  # fewer pairs one by one
        every = np.ones((size, 1), dtype)
        return [
            _discrepancies(real[one], fake[other], every, every, dtype)[0]
            for one, other in zip(real_rows, fake_rows)
        ]
    members = []
    for features, rows in ((real, real_rows), (fake, fake_rows)):
        members.append(np.zeros((len(features), number), dtype))
        members[-1][rows, np.arange(number)[:, None]] = 1
    return _discrepancies(real, fake, *members, dtype)


def _discrepancies(real, fake, real_members, fake_members, dtype, block=_BLOCK):
    """The discrepancy of every subset, `[subsets]`.

    Args:
        real: `[n, d]`.
        fake: `[m, d]`.
        real_members: `[n, subsets]`, 1 for the rows of a subset, else 0.
        fake_members: `[m, subsets]`.
        dtype: of the products.
        block: int, how many rows meet how many at once.
    """
    n, m = real_members.sum(axis=0, dtype=np.float64), fake_members.sum(axis=0, dtype=np.float64)
    within_real = _sums(real, real, real_members, real_members, dtype, block, same=True)
    within_fake = _sums(fake, fake, fake_members, fake_members, dtype, block, same=True)
    between = _sums(real, fake, real_members, fake_members, dtype, block)
    return within_real / (n * (n - 1)) + within_fake / (m * (m - 1)) - 2 * between / (n * m)


def _sums(first, second, first_members, second_members, dtype, block, same=False):
    """`(x·y / d + 1)³ - 1` summed over the pairs of each subset, float64 `[subsets]`.

    The 1 cancels in the discrepancy; without it fewer digits are lost. With `same`, both are the
    same rows, and pairs of a row with itself are left out.
    """
    sums = np.zeros(first_members.shape[1])
    for start in range(0, len(first), block):
        rows = first[start : start + block].astype(dtype, copy=False)
        weights = first_members[start : start + block]
        for other in range(start if same else 0, len(second), block):
            diagonal = same and other == start
            columns = second[other : other + block].astype(dtype, copy=False)
            kernels = rows @ (rows if diagonal else columns).T
            _apply_kernel(kernels, first.shape[1])
            if diagonal:
                np.fill_diagonal(kernels, 0)
            part = kernels @ second_members[other : other + block]
            part *= weights
            sums += (2 if same and not diagonal else 1) * part.sum(axis=0, dtype=np.float64)
    return sums


def _apply_kernel(products, dimension):
    """Replaces each product p by `(p / d + 1)³ - 1`."""
    step = max(1, _STRIP // products.shape[1])
    for start in range(0, len(products), step):
        part = products[start : start + step]
        part /= dimension
        factor = part + 3
        factor *= part
        factor += 3
        part *= factor
