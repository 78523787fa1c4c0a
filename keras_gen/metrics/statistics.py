"""Mean and covariance of features, gathered batch by batch."""

import io
import json
import pathlib
from typing import NamedTuple

import numpy as np

from keras_gen.metrics.checks import as_features
from keras_gen.version import __version__

_BLOCK = 2048
_ROWS = 32  # of a matrix worked on at once, few enough to stay in the cache
_FORMAT = 1
_SAME = ("extractor", "weights", "resize")
_PROVENANCE = (*_SAME, "source", "split")


class FeatureStatistics:
    """Number, mean and covariance of features in float64, without keeping the features.

    Rows are gathered in blocks of 2,048 before they are added, so that the result depends on the
    order of the rows but not, in a single bit, on how they were cut into batches. Blocks and
    merged statistics are joined by the pairwise formulas of Chan, Golub and LeVeque, "Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979), which lose no digits
    where the mean is large against the spread.

    Args:
        extractor: str or None, name of what made the features.
        weights: str or None, hash of its weights.
        resize: str or None, how images came to its size.
        source: str or None, name of the images.
        split: str or None, which part of them.

    Attributes:
        n: int, number of rows.
        dimension: int, number of features; None before the first row.
        mean: float64 `[d]`.
        covariance: float64 `[d, d]`, unbiased (divided by `n - 1`), exactly symmetric.

    Example:

        real = FeatureStatistics(extractor="inception_v3", split="train")
        for images in batches:
            real.update(extract(images))
        real.save("train.npz")
    """

    def __init__(self, extractor=None, weights=None, resize=None, source=None, split=None):
        self.extractor = extractor
        self.weights = weights
        self.resize = resize
        self.source = source
        self.split = split
        self._folded = None
        self._waiting = None
        self._num_waiting = 0

    @classmethod
    def of(cls, features, **provenance):
        """Statistics of a whole array `[n, d]`; keyword arguments as those of the class."""
        return cls(**provenance).update(features)

    @classmethod
    def merged(cls, parts):
        """The statistics of all rows of several, which are left as they are.

        Args:
            parts: iterable of at least one `FeatureStatistics`.

        Raises:
            ValueError: as `merge`, or if there are none.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("`parts` must hold at least one FeatureStatistics. Received: parts=[]")
        first = parts[0]
        result = cls(**{key: getattr(first, key) for key in _PROVENANCE})
        for part in parts:
            result.merge(part)
        return result

    @property
    def n(self):
        return self._num_waiting + (0 if self._folded is None else self._folded.n)

    @property
    def dimension(self):
        if self._waiting is not None:
            return self._waiting.shape[1]
        return None if self._folded is None else len(self._folded.mean)

    @property
    def mean(self):
        return self._moments(minimum=1).mean.copy()

    @property
    def covariance(self):
        return self.mean_and_covariance()[1]

    def mean_and_covariance(self):
        """`(mean, covariance)`, of at least 2 rows, faster than one after the other."""
        moments = self._moments(minimum=2)
        return moments.mean.copy(), moments.scatter / (moments.n - 1)

    @property
    def provenance(self):
        """dict of the extractor, weights, resize, source, split, n and dimension."""
        record = {key: getattr(self, key) for key in _PROVENANCE}
        return {**record, "n": self.n, "dimension": self.dimension}

    def __repr__(self):
        known = [f"{key}={value!r}" for key, value in self.provenance.items() if value is not None]
        return f"<FeatureStatistics {', '.join(known)}>"

    def update(self, features):
        """Adds rows.

        Args:
            features: `[b, d]`, of any batch size.

        Returns:
            itself.

        Raises:
            ValueError: if the features are no finite matrix, or `d` is not that of the others.
        """
        features = as_features("features", features, minimum=0)
        if self.dimension not in (None, features.shape[1]):
            raise ValueError(
                f"`features` must have {self.dimension} columns like those before. "
                f"Received: features of shape {features.shape}"
            )
        if self._waiting is None:
            self._waiting = np.empty((_BLOCK, features.shape[1]))
        start = 0
        while start < len(features):
            rows = features[start : start + _BLOCK - self._num_waiting]
            self._waiting[self._num_waiting : self._num_waiting + len(rows)] = rows
            self._num_waiting += len(rows)
            start += len(rows)
            if self._num_waiting == _BLOCK:
                self._fold()
        return self

    def merge(self, other):
        """Adds the rows of other statistics, which are left as they are.

        Where the sources or the splits differ, theirs are joined with " + ".

        Args:
            other: `FeatureStatistics` of the same extractor.

        Returns:
            itself.

        Raises:
            ValueError: if `other` is of another extractor, other weights, another resize or
                another dimension.
        """
        check_comparable(self, other, ("self", "other"))
        for key in ("source", "split"):
            setattr(self, key, _joined(getattr(self, key), getattr(other, key)))
        if other.n:
            self._fold()
            # `other` is read, not folded, so that its own further updates keep their blocks
            self._folded = _combined(self._folded, other._moments(minimum=1))
        return self

    def save(self, path):
        """Writes one `.npz` file, complete or not at all.

        It holds `mean [d]`, `scatter [d, d]` (the covariance times `n - 1`), `n` and `provenance`,
        a JSON text with the fields of `provenance` and the version of the library.

        Args:
            path: where to; missing folders are made.

        Raises:
            ValueError: if there are no rows.
        """
        from keras_gen.images import write_atomically

        moments = self._moments(minimum=1)
        record = {"format": _FORMAT, "keras_gen": __version__, **self.provenance}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            mean=moments.mean,
            scatter=moments.scatter,
            n=np.int64(moments.n),
            provenance=np.array(json.dumps(record)),
        )
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote: bit for bit the same mean and covariance.

        Args:
            path: of the file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged or no such file.
        """
        path = pathlib.Path(path)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                moments = _Moments(int(arrays["n"]), arrays["mean"], arrays["scatter"])
                record = json.loads(str(arrays["provenance"]))
            _check_loaded(moments, record)
            result = cls(**{key: record[key] for key in _PROVENANCE})
        except FileNotFoundError:
            raise
        except Exception as error:  # zip, JSON and array errors are of many kinds
            raise ValueError(
                "The file must be one that `FeatureStatistics.save` wrote, undamaged "
                f"({type(error).__name__}: {error}). Received: path={str(path)!r}"
            ) from error
        result._folded = moments
        return result

    def _fold(self):
        if self._num_waiting:
            block = _moments_of(self._waiting[: self._num_waiting])
            self._folded = _combined(self._folded, block)
            self._num_waiting = 0

    def _moments(self, minimum):
        if self.n < minimum:
            raise ValueError(f"At least {minimum} rows are needed. Received: n={self.n}")
        if not self._num_waiting:
            return self._folded
        return _combined(self._folded, _moments_of(self._waiting[: self._num_waiting]))


def check_comparable(first, second, names=("real", "fake")):
    """Raises a ValueError unless two `FeatureStatistics` are of the same features.

    What is None on one side is not known, and is not compared.
    """
    for key in (*_SAME, "dimension"):
        one, other = getattr(first, key), getattr(second, key)
        if one is not None and other is not None and one != other:
            raise ValueError(
                f"Statistics of different features cannot be compared or merged: their {key} "
                f"must be the same. Received: {names[0]}.{key}={one!r}, {names[1]}.{key}={other!r}"
            )


class _Moments(NamedTuple):
    n: int
    mean: np.ndarray
    scatter: np.ndarray  # sum of (x - mean)(x - mean)^T


def _moments_of(rows):
    """The moments of float64 rows `[b, d]`."""
    mean = rows.mean(axis=0)
    centered = rows - mean
    rest = centered.mean(axis=0)  # what rounding left of the mean
    centered -= rest
    # BLAS computes one triangle of x.T @ x, which NumPy copies: exactly symmetric
    return _Moments(len(rows), mean + rest, centered.T @ centered)


def _combined(first, second):
    if first is None:
        return second
    n = first.n + second.n
    difference = second.mean - first.mean
    mean = first.mean + difference * (second.n / n)
    scatter = np.empty_like(first.scatter)
    for start in range(0, len(mean), _ROWS):
        rows = slice(start, start + _ROWS)
        part = np.multiply.outer(difference[rows], difference)
        part *= first.n * (second.n / n)
        part += first.scatter[rows]
        np.add(part, second.scatter[rows], out=scatter[rows])
    return _Moments(n, mean, scatter)


def _joined(first, second):
    names = dict.fromkeys([*(first or "").split(" + "), *(second or "").split(" + ")])
    names.pop("", None)
    return " + ".join(names) or None


def _check_loaded(moments, record):
    if record.get("format") != _FORMAT:
        raise ValueError(f"format {record.get('format')!r} is not {_FORMAT}")
    dimension = record["dimension"]
    if moments.mean.shape != (dimension,) or moments.scatter.shape != (dimension, dimension):
        raise ValueError(f"mean {moments.mean.shape} or scatter {moments.scatter.shape} misfit")
    if moments.n < 1 or moments.n != record["n"]:
        raise ValueError(f"n={moments.n} misfits")
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.scatter).all()):
        raise ValueError("not finite")
