"""Two kinds of images, for translation: `pairs`, `unpaired` and `masked`."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_gen import randomness
from keras_gen.data.epochs import permutation
from keras_gen.data.folder import find_files
from keras_gen.data.load import load
from keras_gen.data.source import IndexedSource, Source

HIDDEN = 128  # grey, the middle of the range


def pairs(inputs, targets=None, swap=False, flip=False, jitter=0, split="train", **loading):
    """Pictures and what they are to be translated into.

    What they may be: one set of pictures that hold both side by side, of equal width, the input on
    the left; or two sets, the images of which belong together in their order. Of two folders the
    files must have the same names, but for the extension.

    Args:
        inputs, targets: what `load` takes, or a `Source` in memory or of a folder; `targets` is
            None where the two lie side by side.
        swap: whether to translate the other way, from right to left or from targets to inputs.
        flip: whether batches mirror each pair at random, left to right.
        jitter: pixels by which batches enlarge both sides before they cut out a part at random
            (bilinear; Isola et al. 2017, section 6.2: 30 of 256).
        split, **loading: as in `load`; `image_size` is that of one image, labels are left out.

    Returns:
        A `Pairs`: `batches` gives (inputs, targets), both flipped and jittered alike.

    Raises:
        ValueError: when the images do not belong together, or an argument is out of range.

    Example:
        `pairs("facades", flip=True, jitter=30).batches(1)`
    """
    if targets is None:
        both = _source(inputs, split, side_by_side=True, **loading)
        width = both.image_shape[1]
        if width % 2:
            raise ValueError(
                f"Pictures of two images side by side must have an even width. Received: {both!r}"
            )
        first, second = (_Half(both, slice(x, x + width // 2)) for x in (0, width // 2))
    else:
        _check_names(inputs, targets, split, **loading)
        first, second = (_source(given, split, **loading) for given in (inputs, targets))
        if len(first) != len(second):
            raise ValueError(
                "There must be as many inputs as targets. "
                f"Received: {len(first):,} inputs and {len(second):,} targets"
            )
    if swap:
        first, second = second, first
    return Pairs(first, second, aligned=True, flip=flip, jitter=jitter)


def unpaired(a, b, flip=False, jitter=0, split="train", **loading):
    """Two kinds of images that do not belong together in pairs.

    An epoch is as long as the larger set; the smaller one begins again as often as needed.

    Args:
        a, b: what `load` takes, such as folders, or a `Source` in memory or of a folder.
        flip, jitter: as in `pairs`, for each image by itself.
        split, **loading: as in `load`; labels are left out.

    Returns:
        A `Pairs`: `batches` gives (a, b), each shuffled by itself.

    Raises:
        ValueError: when the images differ in shape, or an argument is out of range.
    """
    first, second = (_source(given, split, **loading) for given in (a, b))
    return Pairs(first, second, aligned=False, flip=flip, jitter=jitter)


def masked(source, fraction=0.5, anywhere=True, seed=0, flip=False, jitter=0):
    """Image completion as translation: pictures with a grey hole, and the whole pictures.

    Args:
        source: `Source` in memory or of a folder.
        fraction: sides of the hole, as a share of those of the image, in (0, 1).
        anywhere: whether the hole lies anywhere in the image, a function of (seed, number of the
            image), the same in every epoch; else in its middle (Pathak et al. 2016).
        seed: int, of the places.
        flip, jitter: as in `pairs`.

    Returns:
        A `Pairs`: `batches` gives (pictures with a hole, whole pictures).

    Raises:
        ValueError: when an argument is out of range.
    """
    holed = _Masked(_indexed(source), fraction, anywhere, seed)
    return Pairs(holed, source, aligned=True, flip=flip, jitter=jitter)


class Pairs(Source):
    """Images of two sources, drawn together: what `Source` says of labels holds of the second.

    Attributes, besides those of `Source`:
        first, second: the two sources.

    Args:
        first, second: `Source`s that can read any image by its number, of one shape.
        aligned: whether image i of the one belongs to image i of the other.
        flip, jitter: as in `pairs`.

    Raises:
        ValueError: when the shapes differ or an argument is out of range.
    """

    def __init__(self, first, second, aligned, flip=False, jitter=0):
        first, second = _indexed(first), _indexed(second)
        if first.image_shape != second.image_shape:
            raise ValueError(
                "Both kinds of images must have the same shape; `image_size` and `channels` "
                f"change it. Received: {first.image_shape} and {second.image_shape}"
            )
        if int(jitter) != jitter or jitter < 0:
            raise ValueError(f"`jitter` must be an integer >= 0. Received: jitter={jitter!r}")
        count = max(len(first), len(second))
        super().__init__(f"{first.name} and {second.name}", count, first.image_shape)
        self.in_memory = first.in_memory and second.in_memory
        self.first, self.second = first, second
        self.aligned, self.flip, self.jitter = aligned, flip, int(jitter)

    def _orders(self, key):
        """Which images of each source come after one another: int64 [len(self)] each."""
        orders = []
        for source, name in ((self.first, "first"), (self.second, "second")):
            order = tf.range(len(source), dtype=tf.int64)
            if key is not None:
                seed, epoch = key
                if not self.aligned:
                    # the first word of a key mixes all but what was folded in last
                    seed = randomness.key(seed, name, 0)[0]
                order = permutation(len(source), seed, epoch)
            orders.append(tf.gather(order, tf.range(len(self)) % len(source)))
        return orders

    def _read(self, batch_size, key, drop_remainder):
        batch = batch_size if drop_remainder else None
        orders = self._orders(key)

        def pick(start):
            images = []
            for source, order in zip((self.first, self.second), orders):
                indices = order[start : start + batch_size]
                picked = tf.numpy_function(source._images, [indices], tf.uint8)
                images.append(tf.ensure_shape(picked, (batch, *self.image_shape)))
            return tuple(images)

        starts = tf.data.Dataset.range(0, len(self), batch_size)
        starts = starts.take(self._num_batches(batch_size, drop_remainder))
        return starts.map(pick, num_parallel_calls=2, deterministic=True)

    def _floats(self, batches, seed, epoch):
        def floats(number, images):
            first, second = (tf.cast(x, tf.float32) / 127.5 - 1.0 for x in images)
            if not self.flip and not self.jitter:
                return first, second
            key = randomness.key(seed, "augmentation", epoch, number)
            draws = randomness.uniform([tf.shape(first)[0], 2, 3], key)
            own = 0 if self.aligned else 1
            return tuple(
                augmented(x, draws[:, i], self.flip, self.jitter)
                for x, i in ((first, 0), (second, own))
            )

        return batches.enumerate().map(floats)

    def _take(self, num_images, seed):
        if seed is not None:
            orders = [order.numpy()[:num_images] for order in self._orders((seed, 0))]
        else:
            orders = [np.arange(num_images) % len(s) for s in (self.first, self.second)]
        return self.first._images(orders[0]), self.second._images(orders[1])


def augmented(images, draws, flip, jitter):
    """Images mirrored, and enlarged and cut to their size again, as the draws say.

    Args:
        images: float32 [batch, h, w, c].
        draws: float32 [batch, 3] in [0, 1): place from the top and from the left, and which of two
            mirror images.
        flip: whether to mirror those whose third draw is below 1/2.
        jitter: int, pixels by which both sides are enlarged.

    Returns:
        float32 [batch, h, w, c].
    """
    if jitter:
        rows = _part(images.shape[1], jitter, draws[:, 0])
        columns = _part(images.shape[2], jitter, draws[:, 1])
        images = tf.einsum("brh,bhwc->brwc", rows, images)
        images = tf.einsum("bsw,brwc->brsc", columns, images)
    if flip:
        images = tf.where(draws[:, 2, None, None, None] < 0.5, images[:, :, ::-1], images)
    return images


def _part(side, jitter, draws):
    """Weights [batch, side, side] of linear interpolation: of a line of `side` pixels, enlarged to
    `side + jitter`, the `side` pixels that begin at a place drawn from [0, 1)."""
    first = tf.floor(draws * (jitter + 1))
    places = first[:, None] + tf.range(side, dtype=tf.float32) + 0.5
    centres = tf.clip_by_value(places * (side / (side + jitter)) - 0.5, 0.0, side - 1.0)
    return tf.nn.relu(1 - tf.abs(centres[:, :, None] - tf.range(side, dtype=tf.float32)))


class _Half(IndexedSource):
    """Some columns of the images of a source."""

    def __init__(self, source, columns):
        height, _, channels = source.image_shape
        shape = (height, columns.stop - columns.start, channels)
        super().__init__(source.name, len(source), shape)
        self.in_memory = source.in_memory
        self._source, self._columns = source, columns

    def _images(self, indices):
        return self._source._images(indices)[:, :, self._columns]


class _Masked(IndexedSource):
    """The images of a source with a hole each."""

    def __init__(self, source, fraction, anywhere, seed):
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` must lie in (0, 1). Received: fraction={fraction!r}")
        super().__init__(f"masked {source.name}", len(source), source.image_shape)
        self.in_memory = source.in_memory
        self._source, self._anywhere, self._seed = source, anywhere, seed
        self._sides = [max(1, round(fraction * side)) for side in source.image_shape[:2]]

    def _images(self, indices):
        images = np.array(self._source._images(indices))
        for image, index in zip(images, indices):
            (top, left), (height, width) = self._place(index), self._sides
            image[top : top + height, left : left + width] = HIDDEN
        return images

    def _place(self, index):
        room = [side - hole for side, hole in zip(self.image_shape, self._sides)]
        if not self._anywhere:
            return [pixels // 2 for pixels in room]
        generator = np.random.default_rng([self._seed % 2**64, int(index)])
        return [int(generator.integers(0, pixels + 1)) for pixels in room]


def _source(given, split, side_by_side=False, **loading):
    if isinstance(given, Source):
        told = {"split": split, **loading}
        told = {k: v for k, v in told.items() if v not in (None, "train") and k != "on_error"}
        if told:
            raise ValueError(
                f"A source is as it is; {sorted(told)} are of what is loaded. Received: "
                f"{given!r} with {told}"
            )
        return given
    size = loading.get("image_size")
    if side_by_side and size is not None:
        height, width = (size, size) if np.ndim(size) == 0 else size
        _check_halves(given, split, height, width, loading)
        loading = {**loading, "image_size": (height, 2 * width)}
    return load(given, split, label=False, **loading)


def _check_halves(given, split, height, width, loading):
    """Raises where the crop to (height, 2 width) would cut the outer sides of two images.

    The left of the one and the right of the other would be gone, and they no longer fit.
    """
    probed = {**loading, "image_size": None, "memory_limit": 0}  # pictures are not read
    try:
        native = load(given, split, label=False, **probed)
    except ValueError:  # sizes that differ have no common aspect; what else is wrong, comes again
        return
    rows, columns = native.image_shape[:2]
    if round(rows * 2 * width / height) < columns:
        raise ValueError(
            "Two images side by side are cropped alike where the aspect of `image_size` is that of "
            f"one of them or wider. Received: image_size={(height, width)} of images "
            f"{(rows, columns // 2)}"
        )


def _indexed(source):
    if not isinstance(source, IndexedSource):
        raise ValueError(
            "Images for translation must be in memory (`memory_limit` of `load` says up to how "
            f"many bytes) or come from a folder. Received: {source!r}"
        )
    return source


def _check_names(inputs, targets, split, on_error="raise", **loading):
    """Files of two folders belong together when they are called the same."""
    folders = [Path(x) for x in (inputs, targets) if isinstance(x, (str, os.PathLike))]
    if len(folders) < 2 or not all(folder.is_dir() for folder in folders):
        return
    names = [_stems(folder, split) for folder in folders]
    if names[0] != names[1]:
        alone = [sorted(set(own) - set(other))[:3] for own, other in (names, names[::-1])]
        raise ValueError(
            "Every input needs a target in a file of the same name. Received: "
            f"{len(names[0])} inputs, {len(names[1])} targets; without a partner: "
            f"{', '.join(alone[0]) or 'none'} in {folders[0]}, "
            f"{', '.join(alone[1]) or 'none'} in {folders[1]}"
        )
    if on_error != "raise":
        raise ValueError(
            "Files of two folders cannot be skipped, because the others would no longer belong "
            f"together. Received: on_error={on_error!r}"
        )


def _stems(folder, split):
    files, _ = find_files(folder, split)
    return [os.path.splitext(files[index])[0] for index in range(len(files))]
