"""Exact neighbour searches in blocks.

A float32 matrix product finds the few pairs that can matter, with a bound on its own rounding;
their distances are then computed from float64 differences. The answers do not depend on the size
of the blocks, and the distance of a to b is bit for bit that of b to a, so that a radius test with
`<=` holds at the very point that defines the radius.
"""

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer

BLOCK = 2048
_IN_CACHE = 2**16  # float64 values held while differences are taken
_KEPT = 2**25  # float32 values of references kept between blocks
_EPS = float(np.finfo(np.float32).eps)


def nearest_neighbours(queries, references, k=1, exclude_self=False, block=BLOCK):
    """The `k` nearest references of each query in Euclidean distance.

    Memory grows with `block * block` and with `k * len(queries)`, not with the product of the two
    lengths; float32 and float64 memory maps are read block by block. Where queries and references
    are the same array, each pair is looked at once.

    Args:
        queries: `[q, d]`.
        references: `[r, d]`.
        k: int from 1 to the number of references.
        exclude_self: True where queries and references are the same rows, and row `i` is not to
            be its own neighbour. A duplicate in another row is one.
        block: int, how many queries meet how many references at once.

    Returns:
        `(distances, indices)`: float64 `[q, k]` in ascending order and int64 `[q, k]`. Equal
        distances come in the order of their index, as long as no more than `4 k + 64` references
        are equally near.

    Raises:
        ValueError: if the features are no matching finite matrices or `k` is out of range.
    """
    queries, references = as_feature_pair(queries, references, ("queries", "references"))
    if exclude_self and len(queries) != len(references):
        raise ValueError(
            "`exclude_self` needs the same rows as queries and references. "
            f"Received: {len(queries)} queries and {len(references)} references"
        )
    check_integer("k", k, maximum=len(references) - int(exclude_self))
    check_integer("block", block)
    return _Search(queries, references, block).nearest(k, exclude_self)


def count_balls(queries, centers, radii, strict=False, block=BLOCK):
    """How many balls each query lies in.

    Args:
        queries: `[q, d]`.
        centers: `[c, d]`.
        radii: float64 `[c]`, the radius of each centre's ball, as `nearest_neighbours` gives it.
        strict: False for `distance <= radius`, True for `distance < radius`.
        block: int, how many queries meet how many centres at once.

    Returns:
        Int64 `[q]`.

    Raises:
        ValueError: if the features are no matching finite matrices, or the radii do not fit.
    """
    queries, centers = as_feature_pair(queries, centers, ("queries", "centers"))
    radii = np.asarray(radii, np.float64)
    if radii.shape != (len(centers),) or not np.all((radii >= 0) & (radii < np.inf)):
        raise ValueError(
            "`radii` must be one finite number, not negative, for each centre. "
            f"Received: radii of shape {radii.shape} for {len(centers)} centers"
        )
    check_integer("block", block)
    [(counts, _)] = count_pairs(queries, centers, [radii[None]], strict, block=block)
    return counts


def count_pairs(first, second, limits, strict=False, any_only=False, block=BLOCK):
    """How many of the others are near each row: for several limits at the price of one.

    Args:
        first: checked features `[n, d]`.
        second: checked features `[m, d]`.
        limits: list of float64 `[n, 1]` or `[1, m]`, the distance that each row of `first`, or of
            `second`, reaches.
        strict: False for `distance <= limit`, True for `distance < limit`.
        any_only: True if the only question is which rows are within the limit of any other: their
            numbers are then positive but too small, and those of the others, whose limit it is,
            mean nothing. It takes less time.
        block: int, how many rows meet how many at once.

    Returns:
        list of `(int64 [n], int64 [m])`, for each of the limits the number of pairs within it of
        each row of `first` and of `second`.
    """
    return _Search(first, second, block).count(limits, strict, any_only)


class _Search:
    """Queries and references moved to the references' mean and scaled to a norm of at most 1.

    Neither changes which neighbour is nearest; both keep float32 products accurate and in range.
    The shift is rounded to the features' type and the scale is a power of two: both are exact.
    """

    def __init__(self, queries, references, block):
        self.queries, self.references, self.block = queries, references, block
        self.same = queries is references
        self.last, self.kept = None, {}
        self.dtype = np.result_type(queries, references)
        self.shift = _mean(references, block).astype(self.dtype)
        reference_norms = self._norms(references)
        query_norms = reference_norms if self.same else self._norms(queries)
        _, exponent = np.frexp(max(query_norms.max(), reference_norms.max()))
        most = 120 if self.dtype == np.float32 else 1000
        self.scale = 2.0 ** -float(np.clip(exponent, -most, most))
        self.query_squares = (query_norms * self.scale) ** 2
        self.reference_squares = (reference_norms * self.scale) ** 2

    def nearest(self, k, exclude_self):
        """`(distances [q, k], indices [q, k])`."""
        candidates = _Candidates(k, self._slack(np.float32))
        for queries in self._slices(self.queries):
            for references in self._slices(self.references, queries.start if self.same else 0):
                squares = self._squares(queries, references)
                if exclude_self:
                    _exclude(squares, queries, references)
                candidates.add(squares, queries, references)
                if self.same and references != queries:
                    candidates.add(squares, references, queries, axis=0)
            candidates.prune()
        query, reference = candidates.pairs
        distances = np.empty((len(self.queries), k))
        indices = np.empty((len(self.queries), k), np.int64)
        crowded = np.flatnonzero(candidates.crowded)
        clear = np.flatnonzero(~candidates.crowded)
        distances[clear], indices[clear] = self._first(query, reference, k)
        for start in range(0, len(crowded), self.block):
            rows = crowded[start : start + self.block]
            pairs = self._exact_candidates(rows, k, exclude_self, candidates.limit)
            distances[rows], indices[rows] = self._first(*pairs, k)
        return distances, indices

    def count(self, limits, strict, any_only):
        """See `count_pairs`."""
        shape = len(self.queries), len(self.references)
        counts = [tuple(np.zeros(length, np.int64) for length in shape) for _ in limits]
        rounding = _rounding(self.queries.shape[1], np.float32)
        rest = _underflow(self.queries.shape[1], np.float32)
        # all pairs are nearer than 1e15
        reaches = [np.minimum(limit * self.scale, 1e15) ** 2 for limit in limits]
        most = [(reach * (1 + 4 * _EPS) + rest).astype(np.float32) for reach in reaches]
        least = [reach * (1 - 4 * _EPS) - rest for reach in reaches]
        for queries in self._slices(self.queries):
            for references in self._slices(self.references):
                # at most the true squares; with the slack below, at least
                squares = self._squares(queries, references, 1 - rounding)
                for number, limit in enumerate(limits):
                    part = _part(most[number], queries, references)
                    row, column = _where(squares <= part)
                    if any_only:
                        axis = int(limit.shape[1] == 1)
                        known = counts[number][axis][(queries, references)[axis]] > 0
                        new = np.flatnonzero(~known[(row, column)[axis]])
                        row, column = row[new], column[new]
                    score = squares[row, column]
                    row, column = row + queries.start, column + references.start
                    score += 2 * rounding * self.query_squares[row]
                    score += 2 * rounding * self.reference_squares[column]
                    inside = score < _of_pairs(least[number], row, column)
                    doubtful = np.flatnonzero(~inside)
                    pairs = row[doubtful], column[doubtful]
                    distances, bound = self._distances(*pairs), _of_pairs(limit, *pairs)
                    inside[doubtful] = distances < bound if strict else distances <= bound
                    for count, index in zip(counts[number], (row, column)):
                        count += np.bincount(index[inside], minlength=len(count))
        return counts

    def _first(self, query, reference, k):
        """The `k` nearest of each query's candidates: `(distances [q, k], references [q, k])`."""
        distances = self._distances(query, reference)
        order = np.lexsort((reference, distances, query))
        owner = query[order]
        firsts = np.flatnonzero(np.diff(owner, prepend=-1))
        chosen = order[firsts[:, None] + np.arange(k)]
        return distances[chosen], reference[chosen]

    def _exact_candidates(self, rows, k, exclude_self, limit):
        """`(query [p], reference [p])` for some queries, at most `limit` for each.

        They are those of the smallest float64 product: the limit cuts only among neighbours whose
        squared distances agree to some 1e-13 of the squared norms.
        """
        slack = self._slack(np.float64)[rows]
        bounds = np.full((len(rows), k), np.inf)
        found = []
        for references in self._slices(self.references):
            squares = self._squares(rows, references, dtype=np.float64)
            if exclude_self:
                own = np.flatnonzero((rows >= references.start) & (rows < references.stop))
                squares[own, rows[own] - references.start] = np.inf
            bounds = _smallest(bounds, squares, k)
            row, column = _where(squares <= (bounds[:, -1] + slack)[:, None])
            score = squares[row, column]
            kept = _first_of_each(row, score, limit)
            found.append((row[kept], column[kept] + references.start, score[kept]))
        row, reference, score = (np.concatenate(part) for part in zip(*found))
        kept = score <= (bounds[:, -1] + slack)[row]
        row, reference, score = row[kept], reference[kept], score[kept]
        kept = _first_of_each(row, score, limit)
        return rows[row[kept]], reference[kept]

    def _slack(self, dtype):
        """Twice the largest error of a square, for each query, and a rounding of the comparison."""
        dimension = self.queries.shape[1]
        error = self.query_squares + self.reference_squares.max()
        return 2 * _rounding(dimension, dtype) * error + _underflow(dimension, dtype)

    def _squares(self, queries, references, weight=1.0, dtype=np.float32):
        """`weight (|q|² + |r|²) - 2 q·r`, where `queries` is a slice or an array of rows."""
        squares = self._rows(queries, dtype) @ self._columns(references, dtype).T
        own = (weight * self.query_squares[queries]).astype(dtype)
        others = (weight * self.reference_squares[references]).astype(dtype)
        squares += own[:, None]
        squares += others
        return squares

    def _rows(self, queries, dtype):
        """-2 times the queries; those of the last block are kept."""
        if self.last is None or self.last[0] is not queries:
            rows = self._block(self.queries, queries, dtype)
            rows *= -2
            self.last = queries, rows
        return self.last[1]

    def _columns(self, references, dtype):
        if dtype != np.float32 or self.references.size > _KEPT:
            return self._block(self.references, references, dtype)
        if references.start not in self.kept:
            self.kept[references.start] = self._block(self.references, references, dtype)
        return self.kept[references.start]

    def _block(self, features, rows, dtype):
        exact = np.result_type(self.dtype, dtype)
        part = np.multiply(features[rows], self.scale, dtype=exact)
        part -= (self.shift * self.scale).astype(exact)
        return part.astype(dtype, copy=False)

    def _slices(self, features, start=0):
        for first in range(start, len(features), self.block):
            yield slice(first, min(first + self.block, len(features)))

    def _norms(self, features):
        norms = np.empty(len(features))
        step = max(1, _IN_CACHE // features.shape[1])
        for start in range(0, len(features), step):
            part = np.subtract(features[start : start + step], self.shift, dtype=np.float64)
            norms[start : start + step] = np.linalg.norm(part, axis=1)
        return norms

    def _distances(self, rows, columns):
        """Exact distances of pairs, float64 `[p]`."""
        distances = np.empty(len(rows))
        step = max(1, _IN_CACHE // self.queries.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            difference = self.queries[rows[part]].astype(np.float64)
            difference -= self.references[columns[part]]
            distances[part] = np.sqrt(np.square(difference, out=difference).sum(axis=1))
        return distances


class _Candidates:
    """Pairs that hold the `k` nearest of each query, and the queries with too many of them.

    Attributes:
        limit: int, how many candidates of one block are not too many.
        crowded: bool `[q]`, the queries with too many.
        pairs: int64 `[2, p]`, query and reference, of the other queries.
    """

    def __init__(self, k, slack):
        self.k, self.slack, self.limit = k, slack, 4 * k + 64
        self.bounds = np.full((len(slack), k), np.inf)
        self.crowded = np.zeros(len(slack), bool)
        self.found = []
        self.pairs = np.empty((2, 0), np.int64)
        self.scores = np.empty(0, np.float32)

    def add(self, squares, queries, references, axis=1):
        """Of a block of squares, whose references are counted along `axis`."""
        self.bounds[queries] = _smallest(self.bounds[queries], squares, self.k, axis)
        reach = self._reach(queries).astype(np.float32)
        places = _where(squares <= np.expand_dims(reach, axis))
        score = squares[places]
        query, reference = places[1 - axis], places[axis]
        self.crowded[queries] |= np.bincount(query, minlength=len(reach)) > self.limit
        pairs = np.stack([query + queries.start, reference + references.start])
        self.found.append((pairs, score))

    def prune(self):
        """Drops what is a candidate no more."""
        parts, scores = zip((self.pairs, self.scores), *self.found)
        pairs, scores = np.concatenate(parts, axis=1), np.concatenate(scores)
        kept = (scores <= self._reach(pairs[0])) & ~self.crowded[pairs[0]]
        self.pairs, self.scores, self.found = pairs[:, kept], scores[kept], []

    def _reach(self, queries):
        return self.bounds[queries, -1] + self.slack[queries]


def _rounding(dimension, dtype):
    """Bound of the error of `|x|² + |y|² - 2 x·y` for rounded x and y, in units of |x|² + |y|².

    Higham, Accuracy and Stability of Numerical Algorithms (2002), eq. 3.5, with room for rounding
    the vectors and for the additions and comparisons that follow; 2 |x||y| <= |x|² + |y|².
    """
    eps = float(np.finfo(dtype).eps)
    return (dimension / (2 - dimension * eps) + 16) * eps


def _underflow(dimension, dtype):
    """What products too small for the type can lose, whatever the norms."""
    return 4 * dimension * float(np.finfo(dtype).tiny)


def _smallest(best, scores, k, axis=1):
    """Bounds of the `k` smallest of `best [q, k]` and of scores along `axis`, the largest last.

    The smallest scores of a few groups are `k` different scores, nearly always the smallest.
    """
    length = scores.shape[axis]
    groups = max(16 * k, 64)
    size = length // groups
    if size > 3:
        if axis:
            scores = scores[:, : size * groups].reshape(-1, size, groups).min(axis=1)
        else:
            scores = scores[: size * groups].reshape(size, groups, -1).min(axis=0)
    scores = scores if axis else scores.T
    if scores.shape[1] > k:
        scores = np.partition(scores, k - 1, axis=1)[:, :k]
    return np.sort(np.concatenate([best, scores], axis=1), axis=1)[:, :k]


def _first_of_each(row, score, limit):
    """Positions of the `limit` smallest scores of each row."""
    order = np.lexsort((score, row))
    owner = row[order]
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return order[position < limit]


def _exclude(squares, queries, references):
    own = np.arange(max(queries.start, references.start), min(queries.stop, references.stop))
    squares[own - queries.start, own - references.start] = np.inf


def _where(mask):
    """`np.nonzero`, faster for few."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _part(limits, rows, columns):
    """`[n, 1]` or `[1, m]` for a block."""
    return limits[rows] if limits.shape[1] == 1 else limits[:, columns]


def _of_pairs(limits, row, column):
    return limits[row, 0] if limits.shape[1] == 1 else limits[0, column]


def _mean(features, block):
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), block):
        total += features[start : start + block].sum(axis=0, dtype=np.float64)
    return total / len(features)
