"""What every metric asks of its features."""

import numbers

import numpy as np

_ROWS = 4096


def as_features(name, features, minimum=1):
    """Features as a floating point matrix, or a clear error.

    Args:
        name: str, the argument's name, for the message.
        features: array `[n, d]` of numbers. Float32 and float64 arrays are not copied, so that
            memory maps stay on disk; others become the smaller of the two that holds them.
        minimum: int, the smallest `n` of use.

    Returns:
        Float32 or float64 array `[n, d]`.

    Raises:
        ValueError: if the array has not two dimensions, is too short, is not real, or holds NaN
            or infinity.
    """
    features = features if isinstance(features, np.ndarray) else np.asarray(features)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(
            f"`{name}` must be a matrix of one row of features for each image, [n, d]. "
            f"Received: {name} of shape {features.shape}"
        )
    if features.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must be real numbers. Received: {name} of {features.dtype}")
    if len(features) < minimum:
        raise ValueError(
            f"`{name}` must have at least {minimum} rows. "
            f"Received: {name} of shape {features.shape}"
        )
    if features.dtype not in (np.float32, np.float64):
        exact = np.can_cast(features.dtype, np.float32)
        features = features.astype(np.float32 if exact else np.float64)
    for start in range(0, len(features), _ROWS):
        finite = np.isfinite(features[start : start + _ROWS]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"`{name}` must be finite, without NaN or infinity. "
                f"Received: {name}[{start + int(np.argmin(finite))}] not finite"
            )
    return features


def as_feature_pair(first, second, names=("real", "fake"), minimum=1):
    """Two sets of features of the same dimension: see `as_features`."""
    first = as_features(names[0], first, minimum)
    second = as_features(names[1], second, minimum)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` must have the same number of features. "
            f"Received: {names[0]} of shape {first.shape}, {names[1]} of shape {second.shape}"
        )
    return first, second


def check_integer(name, value, minimum=1, maximum=None):
    """Raises a ValueError unless `minimum <= value <= maximum` and `value` is an integer."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or value < minimum or (maximum is not None and value > maximum):
        limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"`{name}` must be an integer, {limits}. Received: {name}={value!r}")
