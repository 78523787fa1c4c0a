"""How much the images of one set differ from each other, without a reference."""

import numpy as np

from keras_gen.metrics.checks import as_features, check_integer

_BLOCK = 2048


def vendi_score(features, block=_BLOCK):
    """The effective number of different images, from 1 (all alike) to `n` (all orthogonal).

    The exponential of the Shannon entropy of the eigenvalues of the cosine similarity matrix
    divided by `n`: Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine
    Learning" (2023). These are also the eigenvalues of the `[d, d]` second moments of the
    normalized features, which are used where `n > d`: rows are then read in blocks, and time grows
    with `n`. The score cannot exceed `d`.

    Args:
        features: `[n, d]`.
        block: int, how many rows are read at once.

    Returns:
        float in [1, min(n, d)].

    Raises:
        ValueError: if the features are no finite matrix, or a row is zero, which has no direction.
    """
    features = as_features("features", features)
    check_integer("block", block)
    n, dimension = features.shape
    if n <= dimension:
        rows = _normalized(features, 0)
        matrix = rows @ rows.T
    else:
        matrix = np.zeros((dimension, dimension))
        for start in range(0, n, block):
            rows = _normalized(features[start : start + block], start)
            matrix += rows.T @ rows
    weights = np.maximum(np.linalg.eigvalsh(matrix / n), 0)
    weights = weights[weights > 0] / weights.sum()
    score = float(np.exp(-np.sum(weights * np.log(weights))))
    return min(max(score, 1.0), float(min(n, dimension)))


def mean_pairwise_distance(features, block=_BLOCK):
    """The mean Euclidean distance of all pairs of different rows.

    Beside the same number of real images it says whether a generator is less diverse.

    Args:
        features: `[n, d]`, at least 2 rows.
        block: int, how many rows meet how many at once; memory grows with its square.

    Returns:
        float, at least 0, in units of the features. Distances between rows closer than 1e-8 of
        the spread are lost in rounding.

    Raises:
        ValueError: if the features are no finite matrix of at least 2 rows.
    """
    features = as_features("features", features, minimum=2)
    check_integer("block", block)
    n = len(features)
    mean = _mean(features, block)
    total = 0.0
    for start in range(0, n, block):
        rows = features[start : start + block] - mean
        total += np.sum(_distances(rows, rows, same=True)) / 2
        for other in range(start + block, n, block):
            total += np.sum(_distances(rows, features[other : other + block] - mean))
    return float(total / (n * (n - 1) / 2))


def _normalized(features, first):
    rows = features.astype(np.float64)
    rows /= np.abs(rows).max(axis=1, keepdims=True, initial=np.finfo(np.float64).tiny)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(
            "`features` must have no zero row, whose direction is undefined. "
            f"Received: features[{first + int(np.argmin(norms))}] all zero"
        )
    rows /= norms
    return rows


def _distances(first, second, same=False):
    squares = first @ second.T
    squares *= -2
    squares += np.sum(first**2, axis=1)[:, None]
    squares += np.sum(second**2, axis=1)
    if same:
        np.fill_diagonal(squares, 0)
    np.maximum(squares, 0, out=squares)
    return np.sqrt(squares, out=squares)


def _mean(features, block):
    parts = [
        features[start : start + block].sum(axis=0, dtype=np.float64)
        for start in range(0, len(features), block)
    ]
    return np.sum(parts, axis=0) / len(features)
