"""Exact neighbour searches in blocks.

A float32 matrix product finds the few pairs that can matter, with a bound on its own rounding;
their distances are then computed from float64 differences. The answers do not depend on the size
of the blocks, and the distance of a to b is bit for bit that of b to a, so that a radius test with
`<=` holds at the very point that defines the radius.
"""

import numpy as np

from keras_gen.metrics.checks import as_feature_pair, check_integer

BLOCK = 2048
_PAIRS_IN_MEMORY = 2**22  # float64 values held while differences are taken


def nearest_neighbours(queries, references, k=1, exclude_self=False, block=BLOCK):
    """The `k` nearest references of each query in Euclidean distance.

    Memory grows with `block * block` and with `k * len(queries)`, not with the product of the two
    lengths; float32 and float64 memory maps are read block by block.

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
    search = _Search(queries, references, block)
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), block):
        rows = np.arange(start, min(start + block, len(queries)))
        distances[rows], indices[rows] = search.nearest(rows, k, exclude_self)
    return distances, indices


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
    search = _Search(queries, centers, block)
    counts = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), block):
        rows = np.arange(start, min(start + block, len(queries)))
        counts[rows] = search.count(rows, radii, strict)
    return counts


class _Search:
    """Queries and references moved to the references' mean and scaled to a norm of at most 1.

    Neither changes which neighbour is nearest; both keep float32 products accurate and in range.
    """

    def __init__(self, queries, references, block):
        self.queries, self.references, self.block = queries, references, block
        self.shift = _mean(references, block)
        query_norms = self._norms(queries)
        reference_norms = self._norms(references)
        self.scale = max(query_norms.max(), reference_norms.max()) or 1.0
        self.query_norms = query_norms / self.scale
        self.reference_norms = reference_norms / self.scale

    def nearest(self, rows, k, exclude_self):
        """`(distances [rows, k], indices [rows, k])` for some queries."""
        limit = 4 * k + 64
        pairs, crowded = self._candidates(rows, k, exclude_self, np.float32, limit)
        if len(crowded):
            again, _ = self._candidates(rows[crowded], k, exclude_self, np.float64, limit)
            kept = ~np.isin(pairs[0], crowded)
            pairs = (
                np.concatenate([pairs[0][kept], crowded[again[0]]]),
                np.concatenate([pairs[1][kept], again[1]]),
            )
        distances = self._distances(rows[pairs[0]], pairs[1])
        order = np.lexsort((pairs[1], distances, pairs[0]))
        owner = pairs[0][order]
        firsts = np.searchsorted(owner, np.arange(len(rows)))
        chosen = order[firsts[:, None] + np.arange(k)]
        return distances[chosen], pairs[1][chosen]

    def count(self, rows, radii, strict):
        """How many of the balls around the references hold each of some queries, `[rows]`."""
        counts = np.zeros(len(rows), np.int64)
        queries = self._block(self.queries, rows, np.float32)
        squares = self.query_norms[rows] ** 2
        rounding = _rounding(queries.shape[1], np.float32)
        underflow = _underflow(queries.shape[1], np.float32)
        for start in range(0, len(self.references), self.block):
            columns = np.arange(start, min(start + self.block, len(self.references)))
            # |q - r|² - radius² <= 0, with |q|² moved to the right-hand side
            centers = self.reference_norms[columns] ** 2
            reach = (radii[columns] / self.scale) ** 2
            slack = rounding * (centers + reach) + underflow
            left = self._products(queries, columns, np.float32)
            left += (centers - reach - slack).astype(np.float32)
            right = (rounding - 1) * squares
            row, column = np.nonzero(left <= right[:, None].astype(np.float32))
            surely = left[row, column] + 2 * slack[column] < -(1 + rounding) * squares[row]
            counts += np.bincount(row[surely], minlength=len(rows))
            row, column = row[~surely], column[~surely]
            distances = self._distances(rows[row], columns[column])
            limits = radii[columns[column]]
            inside = distances < limits if strict else distances <= limits
            counts += np.bincount(row[inside], minlength=len(rows))
        return counts

    def _candidates(self, rows, k, exclude_self, dtype, limit):
        """Pairs that hold the `k` nearest of each query, and the queries with too many of them.

        With float64 there are at most `limit` for a query, those of the smallest product: that
        cuts only among neighbours whose squared distances agree to some 1e-13 of the product of
        the norms.

        Returns:
            `((row [p], reference [p]), crowded)`, numbers of queries counted within `rows`.
        """
        exact = dtype == np.float64
        queries = self._block(self.queries, rows, dtype)
        found = []
        bound = np.full((len(rows), k), np.inf)
        slack = self._slack(rows, dtype)
        crowded = np.zeros(len(rows), bool)
        for start in range(0, len(self.references), self.block):
            columns = np.arange(start, min(start + self.block, len(self.references)))
            # |r|² - 2 q·r orders the references as |q - r|² does
            scores = self._products(queries, columns, dtype)
            scores += (self.reference_norms[columns] ** 2).astype(dtype)
            if exclude_self:
                own = np.flatnonzero((rows >= columns[0]) & (rows <= columns[-1]))
                scores[own, rows[own] - start] = np.inf
            bound = _smallest(bound, scores, k)
            row, column = np.nonzero(scores <= (bound[:, -1] + slack)[:, None].astype(dtype))
            score = scores[row, column]
            if exact:
                kept = _first_of_each(row, score, limit)
                row, column, score = row[kept], column[kept], score[kept]
            else:
                crowded |= np.bincount(row, minlength=len(rows)) > limit
                kept = ~crowded[row]
                row, column, score = row[kept], column[kept], score[kept]
            found.append((row, columns[column], score))
        row, reference, score = (np.concatenate(part) for part in zip(*found))
        kept = score <= (bound[:, -1] + slack)[row]
        row, reference, score = row[kept], reference[kept], score[kept]
        if exact:
            kept = _first_of_each(row, score, limit)
            row, reference = row[kept], reference[kept]
        return (row, reference), np.flatnonzero(crowded)

    def _slack(self, rows, dtype):
        """Twice the largest error of a score, for each query, and a rounding of the comparison."""
        largest = self.reference_norms.max()
        error = largest * (self.query_norms[rows] + largest)
        dimension = self.queries.shape[1]
        return 2 * _rounding(dimension, dtype) * error + _underflow(dimension, dtype)

    def _products(self, queries, columns, dtype):
        """`-2 q·r` for a block."""
        references = self._block(self.references, columns, dtype)
        references *= -2
        return queries @ references.T

    def _block(self, features, rows, dtype):
        part = features[rows[0] : rows[-1] + 1] if _is_range(rows) else features[rows]
        part = np.subtract(part, self.shift, dtype=np.float64)
        part /= self.scale
        return part.astype(dtype, copy=False)

    def _norms(self, features):
        norms = np.empty(len(features))
        for start in range(0, len(features), self.block):
            part = features[start : start + self.block]
            part = np.subtract(part, self.shift, dtype=np.float64)
            norms[start : start + self.block] = np.linalg.norm(part, axis=1)
        return norms

    def _distances(self, rows, columns):
        """Exact distances of pairs, float64 `[p]`."""
        distances = np.empty(len(rows))
        step = max(1, _PAIRS_IN_MEMORY // self.queries.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            left, right = self.queries[rows[part]], self.references[columns[part]]
            distances[part] = np.linalg.norm(np.subtract(left, right, dtype=np.float64), axis=1)
        return distances


def _rounding(dimension, dtype):
    """Bound of the error of `-2 x·y` for rounded x and y, in units of |x||y|.

    Higham, Accuracy and Stability of Numerical Algorithms (2002), eq. 3.5, with room for rounding
    the vectors and for the additions and comparisons that follow.
    """
    return (dimension + 16) * float(np.finfo(dtype).eps)


def _underflow(dimension, dtype):
    """What products too small for the type can lose, whatever the norms."""
    return 4 * dimension * float(np.finfo(dtype).tiny)


def _smallest(best, scores, k):
    """The `k` smallest of `best [q, k]` and `scores [q, r]`, the largest of them last."""
    if scores.shape[1] > k:
        scores = np.partition(scores, k - 1, axis=1)[:, :k]
    return np.sort(np.concatenate([best, scores], axis=1), axis=1)[:, :k]


def _first_of_each(row, score, limit):
    """Positions of the `limit` smallest scores of each row."""
    order = np.lexsort((score, row))
    owner = row[order]
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return order[position < limit]


def _is_range(rows):
    return rows[-1] - rows[0] + 1 == len(rows)


def _mean(features, block):
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), block):
        total += features[start : start + block].sum(axis=0, dtype=np.float64)
    return total / len(features)
