"""Inception score of class logits."""

import itertools
import warnings

import numpy as np

from keras_gen.metrics.checks import as_features, check_integer
from keras_gen.metrics.result import MetricWarning


def inception_score(logits, num_splits=10, seed=0):
    """`exp E KL(p(y|x) || p(y))`, from 1 to the number of classes, over splits of the images.

    Salimans et al., "Improved Techniques for Training GANs" (2016). It sees fakes alone, no real
    images: a generator with one perfect image for each class gets the highest score. Comparable
    only for the same classifier and the same number of images in a split.

    The images are first shuffled, as generated images often come in the order of their classes:
    by NumPy's `RandomState(seed)`, as `torch-fidelity` does with `rng_seed=seed`. Log-softmax and
    sums are float64.

    Args:
        logits: `[n, classes]`, not probabilities.
        num_splits: int, at most `n`.
        seed: int from 0 to 2³² - 1, chooses the order; None does not shuffle.

    Returns:
        dict of "value", the mean over the splits, and "std", their standard deviation.

    Raises:
        ValueError: if the logits are no finite matrix of at least `num_splits` rows, or a number
            is out of range.

    Warns:
        MetricWarning: if a split has fewer images than there are classes; if the logits look like
            probabilities.
    """
    check_integer("num_splits", num_splits)
    logits = as_features("logits", logits, minimum=num_splits)
    _warn_if_unfit(logits, num_splits)
    order = np.arange(len(logits))
    if seed is not None:
        check_integer("seed", seed, minimum=0, maximum=2**32 - 1)
        order = np.random.RandomState(seed).permutation(len(logits))
    bounds = [number * len(logits) // num_splits for number in range(num_splits + 1)]
    scores = [_score(logits[order[start:stop]]) for start, stop in itertools.pairwise(bounds)]
    return {"value": float(np.mean(scores)), "std": float(np.std(scores))}


def _score(logits):
    log_probabilities = _log_softmax(logits.astype(np.float64))
    probabilities = np.exp(log_probabilities)
    with np.errstate(divide="ignore"):
        log_marginal = np.log(probabilities.mean(axis=0))
    # a class that no image has any probability of adds nothing
    log_marginal[np.isneginf(log_marginal)] = 0
    divergence = np.sum(probabilities * (log_probabilities - log_marginal), axis=1)
    return np.exp(divergence.mean())


def _log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _warn_if_unfit(logits, num_splits):
    n, classes = logits.shape
    if n // num_splits < classes:
        warnings.warn(
            f"Splits of {n // num_splits:,} images are smaller than the {classes:,} classes: the "
            "score is far too small.",
            MetricWarning,
            stacklevel=3,
        )
    if classes > 1 and np.all(logits >= 0) and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        warnings.warn(
            "The logits are positive and sum to 1: they look like probabilities, for which the "
            "score is wrong.",
            MetricWarning,
            stacklevel=3,
        )
