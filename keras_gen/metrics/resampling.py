"""What a number is worth: the floor that real images reach, and confidence intervals."""

import contextlib
import numbers
import statistics
import warnings

import numpy as np

from keras_gen.metrics.checks import as_features, check_integer
from keras_gen.metrics.frechet import check_confidence
from keras_gen.metrics.result import MetricWarning


def disjoint_subsets(real, n_fake, seed=0):
    """Real features cut into a reference and as many others as there are fakes.

    Args:
        real: `[n, d]`.
        n_fake: int, number of fakes.
        seed: int, chooses the rows.

    Returns:
        `(reference, others)`: `others` has `n_fake` rows, or `n // 2` where there are not enough
        for two sets of `n_fake`; `reference` has all the rest.

    Raises:
        ValueError: if the features are no finite matrix of at least 4 rows, or `n_fake` is no
            positive integer.

    Warns:
        MetricWarning: if there are fewer than `2 n_fake` real images, as the floor of a biased
            metric is then that of fewer images: too high.
    """
    real = as_features("real", real, minimum=4)
    check_integer("n_fake", n_fake, minimum=1)
    count = min(int(n_fake), len(real) // 2)
    if count < n_fake:
        warnings.warn(
            f"{len(real):,} real images are less than twice the {n_fake:,} fakes: the floor is "
            f"that of {count:,} images against {len(real) - count:,} others.",
            MetricWarning,
            stacklevel=3,
        )
    order = np.random.default_rng(seed).permutation(len(real))
    return real[np.sort(order[count:])], real[np.sort(order[:count])]


def real_floor(metric, real, n_fake, num_repeats=1, seed=0):
    """The metric between real images and other real images: what a perfect generator would get.

    Args:
        metric: function `(real, fake) -> float or dict of floats`.
        real: `[n, d]`, cut by `disjoint_subsets`.
        n_fake: int, the number of fakes that the floor is for.
        num_repeats: int, number of random cuts over which the floor is averaged.
        seed: int, chooses the cuts.

    Returns:
        float; or a dict of floats, where the metric returns one without "value".

    Raises:
        ValueError: as `disjoint_subsets` and the metric.

    Warns:
        MetricWarning: as `disjoint_subsets` and the metric.
    """
    check_integer("num_repeats", num_repeats)
    values = []
    for repeat in range(num_repeats):
        reference, others = disjoint_subsets(real, n_fake, [seed, repeat])
        values.append(_number_or_numbers(metric(reference, others)))
    if isinstance(values[0], numbers.Real):
        return float(np.mean(values))
    return {key: float(np.mean([value[key] for value in values])) for key in values[0]}


def half_sampling_interval(metric, fake, num_resamples=100, confidence=0.95, seed=0):
    """A metric with a confidence interval for the choice of the fake images.

    The metric is computed for random halves of the fakes, drawn without replacement. Given the
    fakes, a mean over half of them varies as the mean over all of them varies between samples:
    `(1 / (n/2) - 1 / n) σ² = σ² / n`. The standard deviation over halves is therefore the
    standard error: the delete-d jackknife with `d = n / 2` (Shao and Wu, "A General Theory for
    Jackknife Variance Estimation", 1989). The bootstrap draws with replacement, and its duplicates
    ruin nearest-neighbour metrics and raise the bias of the Fréchet distance. Halves raise the
    bias also, but only their spread is used: the interval is around the value of all fakes,
    normal, and says nothing of that value's own bias.

    For the Fréchet distance, `frechet_distance_interval` does the same at the price of one.

    Args:
        metric: function `(fake) -> float or dict of floats`, such as
            `functools.partial(precision_recall, real)`; give `FeatureStatistics` for `real` to
            `frechet_distance`, so that they are computed once.
        fake: `[n, d]`, whatever the metric takes: features or logits, at least 4 rows.
        num_resamples: int, number of halves, at least 2.
        confidence: float in (0, 1).
        seed: int, chooses the halves.

    Returns:
        dict of "value", "standard_error" and "interval", `(low, high)`; where the metric returns
        a dict without "value", such a dict for each of its keys.

    Raises:
        ValueError: if the features are no finite matrix, or a number is out of range.
    """
    fake = as_features("fake", fake, minimum=4)
    check_integer("num_resamples", num_resamples, minimum=2)
    check_confidence(confidence)
    value = _number_or_numbers(metric(fake))
    half = len(fake) // 2
    random = np.random.default_rng(seed)
    resampled = []
    with _without_metric_warnings():
        for _ in range(num_resamples):
            rows = np.sort(random.permutation(len(fake))[:half])
            resampled.append(_number_or_numbers(metric(fake[rows])))
    scale = np.sqrt(half / (len(fake) - half))
    if isinstance(value, numbers.Real):
        return _interval(value, resampled, scale, confidence)
    return {
        key: _interval(value[key], [other[key] for other in resampled], scale, confidence)
        for key in value
    }


def _number_or_numbers(returned):
    """`returned["value"]` of a dict that has it: "std" beside it is no metric of its own."""
    if isinstance(returned, dict) and "value" in returned:
        return returned["value"]
    return returned


def _interval(value, resampled, scale, confidence):
    error = float(np.std(resampled, ddof=1) * scale)
    width = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * error
    interval = (float(value - width), float(value + width))
    return {"value": float(value), "standard_error": error, "interval": interval}


@contextlib.contextmanager
def _without_metric_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetricWarning)
        yield
