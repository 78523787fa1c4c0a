"""Does a generator copy its training images?

Three questions, from the surest to the most sensitive:

1. Which generated images are training images, pixel by pixel (SHA-256 of the pixels)?
2. Which are nearer to a training image than fresh real images come, allowing for flips, small
   shifts and noise? `CopyDetector` calibrates this on real images that were not trained on, so that
   it calls a stated share of fresh images suspicious, and no more.
3. Do the generated images as a whole lie too near: C_T (Meehan et al. 2020) and authenticity
   (Alaa et al. 2022).

A generator that copies gets the best FID there is: this check belongs beside every quality score.
"""

import collections
import dataclasses
import hashlib
import itertools

import numpy as np

from keras_gen.data.arrays import check_images
from keras_gen.data.source import Source
from keras_gen.images import Provenance, grid, write_png
from keras_gen.metrics.extractors import extract, uint8_batches
from keras_gen.metrics.neighbours import nearest_neighbours

NUM_CALIBRATION = 2000
SIGNIFICANCE = 1e-3
_NEIGHBOURS = 8  # an image's distance to its nearest is compared with that to its 8th nearest
_COMPARED_SIDE = 64  # larger images are averaged down to this many pixels before they are compared
_COARSE_SIDE = 8
_CANDIDATES = 8  # for each flip and coarse shift
_BLOCK_BYTES = 2**27
UNKNOWN = Provenance("unknown", "unknown", "unknown")


def audit(
    fake_images,
    train_images,
    held_out=None,
    extractor=None,
    false_alarm_rate=0.01,
    num_calibration=NUM_CALIBRATION,
    max_shift=2,
    flips=True,
    num_cells=1,
    seed=0,
    progress=None,
):
    """Audits generated images against the images their generator was trained on.

    Args:
        fake_images: generated images: uint8 `[n, h, w, c]`, a `Source`, or an iterable of batches.
        train_images: the training images, in the same forms. They are held in memory as uint8.
        held_out: real images of the same distribution that were not trained on; None calibrates on
            training images instead, each compared with all others, but for those that occur more
            than once: they are no fresh images, and would hide every copy. Views of one object that
            both stand in the training set count as what fresh images look like, as they should.
        extractor: an `Extractor` whose feature space is searched too; None compares pixels alone.
        false_alarm_rate: float, share of fresh real images that may be called suspicious.
        num_calibration: int, at most so many held-out images are used, chosen by `seed`; of a
            `Source` no more than twice as many are read.
        max_shift: int, shifts of up to so many pixels are undone (of an eighth of the shorter side
            at most); of images larger than 64 pixels, those of the images averaged down to that.
        flips: whether horizontal flips are undone.
        num_cells: int, cells of the training set (k-means) over which C_T is averaged; 1 gives a
            plain z-score.
        seed: int.
        progress: None, or a function called with a line of text as each stage begins.

    Returns:
        A `MemorizationAudit`.

    Raises:
        ValueError: if images differ in shape, or there are too few to calibrate on.
    """
    detector = CopyDetector(
        train_images,
        held_out,
        extractor,
        false_alarm_rate=false_alarm_rate,
        num_calibration=num_calibration,
        max_shift=max_shift,
        flips=flips,
        seed=seed,
        progress=progress,
    )
    fake = collected(fake_images)
    return MemorizationAudit(detector, fake, detector.examine(fake), num_cells)


# ---------------------------------------------------------------------------------------------
# The detector
# ---------------------------------------------------------------------------------------------


class CopyDetector:
    """Tells copies of training images from fresh ones, image by image.

    In each space (pixels; features, if an extractor is given) an image's score is the ratio of the
    distance to its nearest training image to the distance to its 8th nearest. A copy lies far
    nearer to its original than to anything else; an image in a dense region, such as a plain "1",
    has small distances, but no small ratio. Up to seven copies within the training set do not hide
    their original. An image's p-value is the share of calibration images that are as conspicuous
    (in their most conspicuous space), plus one: a conformal p-value, and valid whatever the spaces
    and the scores are, if calibration and fresh images are exchangeable (Vovk et al. 2005).

    Args:
        train_images, held_out, extractor, false_alarm_rate, num_calibration, max_shift, flips,
            seed, progress: see `audit`.
        train_features: `[n, d]`, the extractor's features of the training images in their order,
            where they are known; None computes them.

    Attributes:
        num_train, num_held_out: numbers of images.
        calibration: "held-out images" or "training images, each left out".
        num_dropped: images that were not fresh, and thus left out of the calibration: held-out
            images that are training images; or training images that occur more than once.

    Raises:
        ValueError: see `audit`; or if `train_features` are not as many as the images.
    """

    def __init__(
        self,
        train_images,
        held_out=None,
        extractor=None,
        false_alarm_rate=0.01,
        num_calibration=NUM_CALIBRATION,
        max_shift=2,
        flips=True,
        seed=0,
        progress=None,
        train_features=None,
    ):
        if not 0 < false_alarm_rate < 0.5:
            raise ValueError(
                "`false_alarm_rate` must lie between 0 and 0.5. "
                f"Received: false_alarm_rate={false_alarm_rate!r}"
            )
        self._progress = progress or (lambda stage: None)
        self.false_alarm_rate, self.seed = float(false_alarm_rate), int(seed)
        self.train = collected(train_images)
        self.num_train = len(self.train)
        if self.num_train <= _NEIGHBOURS + 1:
            raise ValueError(
                f"There must be more than {_NEIGHBOURS + 1} training images. "
                f"Received: {self.num_train}"
            )
        self._train_hashes = collections.Counter(hashes(self.train))
        self.spaces = {"pixels": PixelSpace(self.train, max_shift, flips)}
        if extractor is not None:
            if train_features is None:
                self._progress(f"features of {self.num_train:,} training images")
            self.spaces["features"] = FeatureSpace(self.train, extractor, train_features)
        self._calibrate(held_out, num_calibration)

    @property
    def record(self):
        """How it was calibrated: `dict` of JSON values."""
        return {
            "n_train": self.num_train,
            "n_held_out": self.num_held_out,
            "calibration": self.calibration,
            "calibration_exact_duplicates_dropped": self.num_dropped,
            "false_alarm_rate": self.false_alarm_rate,
            "seed": self.seed,
        }

    def dropped_as_text(self):
        """How many images the calibration left out, and why: str."""
        if self.calibration == "held-out images":
            return f"{self.num_dropped:,} held-out images are training images and were left out."
        return (
            f"{self.num_dropped:,} training images occur more than once; the calibration leaves "
            "them out."
        )

    def examine(self, images):
        """Compares images with the training set.

        Args:
            images: uint8 `[n, h, w, c]`.

        Returns:
            An `Examination`.

        Raises:
            ValueError: if the images' shape is not that of the training images.
        """
        images = collected(images)
        self._check_shape(images, "images")
        found = {}
        for name, space in self.spaces.items():
            self._progress(f"nearest of {self.num_train:,} training images by {name}")
            found[name] = space.nearest(images)
        exact = np.array([digest in self._train_hashes for digest in hashes(images)], bool)
        p_values = conformal_p_values(self._scores(self.held_out), self._scores(found))
        p_values[exact] = 1 / (self.num_held_out + 1)
        return Examination(found, exact, p_values, p_values <= self.false_alarm_rate)

    def _calibrate(self, held_out, num_calibration):
        generator = np.random.default_rng(self.seed)
        if held_out is None:
            self.calibration = "training images, each left out"
            single = [self._train_hashes[digest] == 1 for digest in hashes(self.train)]
            own, candidates = np.flatnonzero(single), self.train
        else:
            self.calibration = "held-out images"
            candidates = self._read_held_out(held_out, 2 * num_calibration)
            own = np.flatnonzero([one not in self._train_hashes for one in hashes(candidates)])
        self.num_dropped = len(candidates) - len(own)
        if len(own) > num_calibration:
            own = np.sort(generator.choice(own, num_calibration, replace=False))
        images, own = candidates[own], own if held_out is None else None
        self.num_held_out = len(images)
        if int(self.false_alarm_rate * (len(images) + 1)) < 1:
            raise ValueError(
                f"A false-alarm rate of {self.false_alarm_rate:g} needs "
                f"{int(np.ceil(1 / self.false_alarm_rate))} held-out images or more that are no "
                f"copies of training images. Received: {len(images)} such {self.calibration}"
            )
        self.held_out = {}
        for name, space in self.spaces.items():
            self._progress(f"calibration on {len(images):,} images by {name}")
            self.held_out[name] = space.nearest(images, own)

    def _read_held_out(self, held_out, most):
        if isinstance(held_out, Source) and len(held_out) > most:
            held_out, _ = held_out.take(most, self.seed)
        images = collected(held_out)
        self._check_shape(images, "held_out")
        return images

    def _scores(self, found):
        return np.stack([found[name].ratios for name in self.spaces], axis=1)

    def _check_shape(self, images, name):
        if images.shape[1:] != self.train.shape[1:]:
            raise ValueError(
                f"`{name}` must have the shape of the training images, {self.train.shape[1:]}. "
                f"Received: {name} of shape {images.shape[1:]}"
            )


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The training images nearest to each of `q` images in one space.

    Attributes:
        distances: float64 `[q, k]`, ascending. In pixel space the root mean square difference in
            grey levels of 0..255.
        indices: int64 `[q, k]`, which training images.
        transforms: int64 `[q, k, 3]` in pixel space: the training image, moved `[1]` pixels down
            and `[2]` to the right and then, if `[0]` is 1, flipped, gives the image; pixels of
            images averaged down to 64, where they are larger. Or None.
    """

    distances: np.ndarray
    indices: np.ndarray
    transforms: np.ndarray | None = None

    @property
    def ratios(self):
        """Distance to the nearest over that to the last, float64 `[q]` in [0, 1]."""
        first, last = self.distances[:, 0], self.distances[:, -1]
        return np.divide(first, last, out=np.zeros_like(first), where=last > 0)


@dataclasses.dataclass(frozen=True)
class Examination:
    """What a `CopyDetector` found out about `n` images.

    Attributes:
        nearest: `dict` from "pixels" (and "features") to `Nearest`.
        exact: bool `[n]`, whether the image is a training image, pixel by pixel.
        p_values: float64 `[n]`, share of fresh images that look as much like a copy.
        flagged: bool `[n]`, whether that is at most the false-alarm rate.
    """

    nearest: dict
    exact: np.ndarray
    p_values: np.ndarray
    flagged: np.ndarray

    def order(self):
        """The images from the most to the least conspicuous, int64 `[n]`."""
        ratios = np.min([found.ratios for found in self.nearest.values()], axis=0)
        return np.lexsort((ratios, self.p_values, ~self.exact))


def conformal_p_values(calibration, scores):
    """How many calibration images are as conspicuous, in their most conspicuous score.

    Scores become ranks among the calibration images and the image itself, and an image's statistic
    is its smallest rank; p = (1 + number of calibration statistics <= its own) / (m + 1).

    Args:
        calibration: `[m, j]`, small is conspicuous.
        scores: `[n, j]`.

    Returns:
        float64 `[n]`, in [1 / (m + 1), 1].
    """
    ranks = _ranks(calibration, calibration) - 1  # its own score is among the calibration's
    places = _ranks(calibration, scores)
    # Where the image itself has the statistic's rank, the calibration image of that rank is above.
    statistics = places.min(axis=1, keepdims=True)
    limits = statistics - (places == statistics)
    counts = [np.count_nonzero((ranks <= limit).any(axis=1)) for limit in limits]
    return (1 + np.array(counts, np.float64)) / (1 + len(calibration))


def _ranks(calibration, scores):
    """How many calibration scores are at most each score, int64 `[n, j]`."""
    ordered = np.sort(calibration, axis=0)
    columns = zip(ordered.T, np.asarray(scores).T)
    return np.stack([np.searchsorted(known, new, "right") for known, new in columns], axis=1)


# ---------------------------------------------------------------------------------------------
# The spaces
# ---------------------------------------------------------------------------------------------


class PixelSpace:
    """Training images compared pixel by pixel, after undoing flips and small shifts.

    Images are smoothed by [1, 2, 1] / 4 in both directions, which takes away most of the noise and
    little of what tells images apart; those above 64 px are averaged down first. The middle of the
    training image is compared with parts of the query at every offset up to `max_shift`. All
    offsets are tried for candidates alone, which are found on a grid of some 8x8 cells, for every
    flip and for shifts that leave one pixel at most (none where cells have 1 or 2). The calibration
    is searched in the same way: whatever a candidate search misses does not raise the false-alarm
    rate.

    Args:
        images: uint8 `[n, h, w, c]`.
        max_shift, flips: see `audit`.
    """

    def __init__(self, images, max_shift=2, flips=True):
        self._images = _comparable(images)
        height, width = self._images.shape[1:3]
        self.shift = max(0, min(int(max_shift), min(height, width) // 8))
        self.flips = (0, 1) if flips else (0,)
        self.window = (height - 2 * self.shift, width - 2 * self.shift)
        self._coarse = _coarse(self._cut(self._images, 0, 0))
        # A shift that leaves a pixel does not matter in large cells; it does in those of 1 or 2 px.
        every = 2 if _coarse_factor(*self.window) > 2 else 1
        self._coarse_shifts = range(-self.shift + every - 1, self.shift - every + 2, every) or (0,)

    def nearest(self, images, own=None):
        """The 8 nearest training images of each image.

        Args:
            images: uint8 `[q, h, w, c]`.
            own: int64 `[q]`, training images that are not to be found; None where there are none.

        Returns:
            `Nearest`.
        """
        return self._search(_comparable(images), own)

    def around(self, indices):
        """The 8 nearest training images of training images: `Nearest`."""
        return self._search(self._images[indices], indices)

    def _search(self, images, own):
        candidates = self._candidates(images)
        pixels = int(np.prod(images.shape[1:]))
        num_offsets = len(self.flips) * (2 * self.shift + 1) ** 2
        block = max(1, _BLOCK_BYTES // (8 * pixels * (candidates.shape[1] + num_offsets)))
        parts = []
        for start in range(0, len(images), block):
            rows = slice(start, start + block)
            distinct = _distinct(candidates[rows])
            parts.append(self._refined(images[rows], distinct, _part(own, rows)))
        return Nearest(*(np.concatenate(part) for part in zip(*parts)))

    def _cut(self, images, down, right):
        """The window that lies `down` and `right` of the middle."""
        top, left = self.shift + down, self.shift + right
        return images[:, top : top + self.window[0], left : left + self.window[1]]

    def _candidates(self, images):
        """Training images that may be nearest, int64 `[q, candidates]`."""
        found = []
        shifts = self._coarse_shifts
        for flip, down, right in itertools.product(self.flips, shifts, shifts):
            queries = _coarse(self._cut(_flipped(images, flip), down, right))
            count = min(_CANDIDATES + 1, len(self._coarse))
            found.append(nearest_neighbours(queries, self._coarse, k=count)[1])
        return np.sort(np.concatenate(found, axis=1), axis=1)

    def _refined(self, images, candidates, own):
        """Distances of one block of queries to their candidates at all flips and offsets."""
        offsets = range(-self.shift, self.shift + 1)
        transforms = np.array(list(itertools.product(self.flips, offsets, offsets)))
        flat = (len(images), -1, self.window[0] * self.window[1] * images.shape[-1])
        windows = [self._cut(_flipped(images, flip), *move) for flip, *move in transforms]
        windows = np.stack(windows, axis=1).reshape(flat).astype(np.float64)
        targets = self._cut(self._images[candidates.ravel()], 0, 0).reshape(flat)
        targets = targets.astype(np.float64)
        # |a - b|² = |a|² + |b|² - 2 a·b: exact, for these are whole numbers below 2**53
        squares = windows @ targets.transpose(0, 2, 1)
        squares *= -2
        squares += np.einsum("qod,qod->qo", windows, windows)[:, :, None]
        squares += np.einsum("qcd,qcd->qc", targets, targets)[:, None, :]
        best = squares.argmin(axis=1)
        squares = np.take_along_axis(squares, best[:, None], axis=1)[:, 0]
        repeated = np.diff(candidates, axis=1, prepend=-1) == 0
        squares[repeated] = np.inf
        if own is not None:
            squares[candidates == own[:, None]] = np.inf
        order = np.argsort(squares, axis=1, kind="stable")[:, :_NEIGHBOURS]
        distances = np.sqrt(np.take_along_axis(squares, order, axis=1) / flat[-1])
        indices = np.take_along_axis(candidates, order, axis=1)
        return distances, indices, transforms[np.take_along_axis(best, order, axis=1)]


class FeatureSpace:
    """Training images compared by an extractor's features.

    Args:
        images: uint8 `[n, h, w, c]`.
        extractor: an `Extractor`.
        features: its features of the images, `[n, d]`, where they are known.
    """

    def __init__(self, images, extractor, features=None):
        self.extractor = extractor
        self.features = extract(extractor, images).features if features is None else features
        if len(self.features) != len(images):
            raise ValueError(
                f"There must be features of each of the {len(images):,} training images. "
                f"Received: train_features of {len(self.features):,}"
            )

    def nearest(self, images, own=None):
        """See `PixelSpace.nearest`; distances are Euclidean."""
        return self._search(extract(self.extractor, images).features, own)

    def around(self, indices):
        """The 8 nearest training images of training images: `Nearest`."""
        return self._search(self.features[indices], indices)

    def _search(self, features, own):
        k = min(_NEIGHBOURS + 1, len(self.features))
        distances, indices = nearest_neighbours(features, self.features, k=k)
        if own is not None:
            distances = np.where(indices == own[:, None], np.inf, distances)
            order = np.argsort(distances, axis=1, kind="stable")
            distances = np.take_along_axis(distances, order, axis=1)
            indices = np.take_along_axis(indices, order, axis=1)
        return Nearest(distances[:, :_NEIGHBOURS], indices[:, :_NEIGHBOURS])


def _distinct(candidates):
    """Sorted rows `[q, candidates]` without repetitions, but for those of the last that fill up
    the shorter rows."""
    new = np.diff(candidates, axis=1, prepend=-1) != 0
    places = np.cumsum(new, axis=1) - 1
    distinct = np.repeat(candidates[:, -1:], places.max() + 1, axis=1)
    rows, columns = np.nonzero(new)
    distinct[rows, places[rows, columns]] = candidates[rows, columns]
    return distinct


def _part(array, rows):
    return None if array is None else array[rows]


def _flipped(images, flip):
    return images[:, :, ::-1] if flip else images


def _factor(images):
    """By how much the sides of images are divided before they are compared."""
    return -(-max(images.shape[1:3]) // _COMPARED_SIDE)


def _comparable(images, block=4096):
    """uint8 images, averaged down to 64 px and smoothed."""
    factor = _factor(images)
    parts = [
        np.rint(_smoothed(_pooled(images[start : start + block], factor))).astype(np.uint8)
        for start in range(0, len(images), block)
    ]
    return np.concatenate(parts)


def _smoothed(images):
    """Convolved with [1, 2, 1] / 4 along both sides; edges are repeated."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4


def _pooled(images, factor):
    """Means of `factor` x `factor` pixels, float32; what does not fill a cell is cut off."""
    count, height, width, channels = images.shape
    rows, columns = height // factor, width // factor
    top, left = (height - rows * factor) // 2, (width - columns * factor) // 2
    images = images[:, top : top + rows * factor, left : left + columns * factor]
    cells = images.reshape(count, rows, factor, columns, factor, channels)
    return cells.mean(axis=(2, 4), dtype=np.float32)


def _coarse_factor(height, width):
    """Side of a cell, pixels."""
    return max(1, min(-(-max(height, width) // _COARSE_SIDE), height, width))


def _coarse(images, block=4096):
    """float32 `[n, d]`: means over a grid of some 8x8 cells."""
    factor = _coarse_factor(*images.shape[1:3])
    starts = range(0, len(images), block)
    parts = [_pooled(images[start : start + block], factor) for start in starts]
    return np.concatenate(parts).reshape(len(images), -1)


def collected(images):
    """uint8 `[n, h, w, c]` of images in any form that `extract` takes."""
    if hasattr(images, "shape"):
        return check_images(images)
    batches = list(uint8_batches(images, 1024))
    if not batches:
        raise ValueError(f"There are no images. Received: {type(images).__name__}")
    return np.concatenate(batches)


def hashes(images):
    """SHA-256 of the pixels of each image: list of `bytes`."""
    return [hashlib.sha256(np.ascontiguousarray(image)).digest() for image in images]


# ---------------------------------------------------------------------------------------------
# Statistics of the whole
# ---------------------------------------------------------------------------------------------


def copying_z(fake_distances, held_out_distances, fake_cells=None, held_out_cells=None):
    """C_T (Meehan, Chaudhuri and Dasgupta 2020): do generated images lie too near?

    The z-score of Mann and Whitney's U of the distances to the nearest training image, generated
    against held-out; averaged over cells of the training set, weighted by their held-out images.
    About 0 for fresh images, below -3 for copies; above 3 for images off the data (underfitting).

    Args:
        fake_distances: `[n]`.
        held_out_distances: `[m]`.
        fake_cells, held_out_cells: integers `[n]`, `[m]`, the cell of each; None for a single one.

    Returns:
        float. With several cells its standard deviation for fresh images is below 1.
    """
    if fake_cells is None:
        return _mann_whitney_z(np.asarray(fake_distances), np.asarray(held_out_distances))
    total = weight = 0.0
    for cell in np.unique(held_out_cells):
        fake = fake_distances[fake_cells == cell]
        real = held_out_distances[held_out_cells == cell]
        if len(fake):
            total += len(real) * _mann_whitney_z(fake, real)
            weight += len(real)
    return total / weight if weight else float("nan")


def _mann_whitney_z(first, second):
    from scipy.stats import rankdata

    n, m = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    u = ranks[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def authenticity(distances, neighbour_distances):
    """Share of images that are authentic (Alaa, van Breugel, Saveliev and van der Schaar 2022).

    An image is authentic if its nearest training image has a training image nearer to it still.

    Args:
        distances: `[n]`, of each image to its nearest training image.
        neighbour_distances: `[n]`, of that training image to its own nearest.

    Returns:
        float in [0, 1]; for fresh real images about a half, or more; for copies 0.
    """
    return float(np.mean(np.asarray(distances) > np.asarray(neighbour_distances)))


def excess_p_value(num_flagged, num_images, num_held_out, false_alarm_rate):
    """Probability that fresh images give so many false alarms.

    The threshold is itself the l-th smallest of m held-out statistics, l = floor(rate (m + 1)), so
    that the number of false alarms is beta-binomial (n, l, m + 1 - l), not binomial.

    Returns:
        float in [0, 1].
    """
    from scipy.stats import betabinom

    rank = int(false_alarm_rate * (num_held_out + 1))
    return float(
        betabinom.sf(num_flagged - 1, num_images, rank, num_held_out + 1 - rank)
        if num_flagged
        else 1.0
    )


# ---------------------------------------------------------------------------------------------
# The result
# ---------------------------------------------------------------------------------------------


class MemorizationAudit:
    """The result of `audit`.

    Attributes:
        verdict: "copies", or "no sign of copying".
        p_value: float, how probable so many suspicious images are if all are fresh.
        num_fake: int.
        num_flagged, num_exact, num_repeated: suspicious images; images that are training images
            pixel by pixel; images that equal an earlier generated image.
        flagged: bool `[num_fake]`.
        warnings: list of str.
    """

    def __init__(self, detector, fake, examination, num_cells=1):
        self.detector, self.fake, self.examination = detector, fake, examination
        self.num_fake = len(fake)
        self.flagged = examination.flagged
        self.num_flagged = int(self.flagged.sum())
        self.num_exact = int(examination.exact.sum())
        self.num_repeated = self.num_fake - len(set(hashes(fake)))
        self.p_value = excess_p_value(
            self.num_flagged, self.num_fake, detector.num_held_out, detector.false_alarm_rate
        )
        self.verdict = "copies" if self.p_value < SIGNIFICANCE else "no sign of copying"
        self.num_cells = int(num_cells)
        self._spaces = {name: self._space(name) for name in detector.spaces}
        self.warnings = list(self._warnings())

    def __repr__(self):
        return (
            f"<MemorizationAudit: {self.verdict}; {self.num_flagged:,} of {self.num_fake:,} images "
            f"suspicious, {self.num_exact:,} exact duplicates, p = {self.p_value:.2g}>"
        )

    def to_dict(self):
        """Everything as JSON values; every number stands beside its n."""
        rate = self.detector.false_alarm_rate
        fraction = self.num_flagged / self.num_fake
        return {
            "verdict": self.verdict,
            "p_value": self.p_value,
            "significance": SIGNIFICANCE,
            "n_fake": self.num_fake,
            **self.detector.record,
            "flagged": self.num_flagged,
            "flagged_fraction": fraction,
            "flagged_expected": rate * self.num_fake,
            "copied_fraction": max(0.0, (fraction - rate) / (1 - rate)),
            "exact_duplicates": self.num_exact,
            "repeated_images": self.num_repeated,
            "spaces": self._spaces,
            "warnings": self.warnings,
        }

    def closest_pairs(self, count=16):
        """The most conspicuous images beside their nearest training images.

        Args:
            count: int.

        Returns:
            list of `dict`: `fake` and `train` (uint8 `[h, w, c]`), `fake_index`, `train_index`,
            `space`, `distance`, `ratio`, `p_value`, `exact`, and in pixel space `flip` and `shift`
            (down, right, pixels).
        """
        return [self._pair(row) for row in self.examination.order()[:count]]

    def write_pairs_png(self, path, count=16, provenance=None):
        """Writes `closest_pairs` as one picture: each generated image, and its neighbour to its
        right; four pairs in a row, the most conspicuous first.

        Args:
            path: where to.
            count: int, number of pairs.
            provenance: `Provenance` of the generated images; None says that it is unknown.
        """
        write_png(path, pairs_picture(self.closest_pairs(count)), provenance or UNKNOWN)

    def _pair(self, row):
        space = min(
            self.detector.spaces, key=lambda name: self.examination.nearest[name].ratios[row]
        )
        found = self.examination.nearest[space]
        index = int(found.indices[row, 0])
        pair = {
            "fake": self.fake[row],
            "train": self.detector.train[index],
            "fake_index": int(row),
            "train_index": index,
            "space": space,
            "distance": float(found.distances[row, 0]),
            "ratio": float(found.ratios[row]),
            "p_value": float(self.examination.p_values[row]),
            "exact": bool(self.examination.exact[row]),
        }
        if found.transforms is not None:
            flip, *shift = found.transforms[row, 0].tolist()
            factor = _factor(self.fake)
            pair |= {"flip": bool(flip), "shift": tuple(factor * side for side in shift)}
        return pair

    def _space(self, name):
        detector, space = self.detector, self.detector.spaces[name]
        fake, real = self.examination.nearest[name], detector.held_out[name]
        described = {
            "extractor": space.extractor.record() if name == "features" else None,
            "n_fake": self.num_fake,
            "n_held_out": detector.num_held_out,
            "n_train": detector.num_train,
            "nearest_distance": _quartiles(fake.distances[:, 0]),
            "nearest_distance_held_out": _quartiles(real.distances[:, 0]),
            "ratio": _quartiles(fake.ratios),
            "ratio_held_out": _quartiles(real.ratios),
            "c_t": self._c_t(fake, real),
            "c_t_cells": self.num_cells,
        }
        for suffix, found in (("", fake), ("_held_out", real)):
            described[f"authenticity{suffix}"] = self._authenticity(space, found)
        return described

    def _c_t(self, fake, real):
        cells = [None, None]
        if self.num_cells > 1:
            of_train = _cells(self.detector.train, self.num_cells, self.detector.seed)
            cells = [of_train[found.indices[:, 0]] for found in (fake, real)]
        return copying_z(fake.distances[:, 0], real.distances[:, 0], *cells)

    def _authenticity(self, space, found):
        neighbours, where = np.unique(found.indices[:, 0], return_inverse=True)
        distances = space.around(neighbours).distances[:, 0]
        return authenticity(found.distances[:, 0], distances[where.ravel()])

    def _warnings(self):
        detector = self.detector
        expected = detector.false_alarm_rate * (detector.num_held_out + 1)
        if expected < 10:
            yield (
                f"The threshold rests on the {int(expected)} most conspicuous of "
                f"{detector.num_held_out:,} held-out images; 10 or more would make it steadier."
            )
        if detector.num_dropped:
            yield detector.dropped_as_text()
        if self.num_repeated:
            yield f"{self.num_repeated:,} generated images equal an earlier one."


def pairs_picture(pairs):
    """Each generated image and its neighbour to its right, four pairs in a row.

    Args:
        pairs: what `MemorizationAudit.closest_pairs` returns, at least one.

    Returns:
        uint8 `[height, width, c]`.
    """
    images = np.stack([image for pair in pairs for image in (pair["fake"], pair["train"])])
    scale = max(1, 96 // max(images.shape[1:3]))
    return grid(images, columns=min(8, len(images)), scale=scale)


def _cells(images, num_cells, seed):
    """The cell of each training image, int `[n]`: k-means on a grid of some 8x8 means."""
    from sklearn.cluster import MiniBatchKMeans

    clusters = MiniBatchKMeans(num_cells, random_state=seed, n_init=3)
    return clusters.fit_predict(_coarse(images))


def _quartiles(values):
    return [float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])]
