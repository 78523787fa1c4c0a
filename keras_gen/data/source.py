"""What all sources of images have in common."""

import numbers

import numpy as np
import tensorflow as tf

from keras_gen.data.epochs import numbered_dataset, permutation, untuned

SHUFFLE_BUFFER = 10_000


class NoSuchSplit(ValueError):
    """The data has no split of that name."""


class Source:
    """Images, and labels where there are any, from memory, a folder or a TFDS set.

    Made by `keras_gen.data.load`.

    Attributes:
        name: str, what was loaded.
        image_shape: `(height, width, channels)`, channels 1 or 3.
        num_classes: int, or None where there are no labels.
        class_names: list of `num_classes` strings, or None where there are no labels or no names.
        in_memory: whether the decoded images are held in memory; otherwise they are read and
            decoded anew in every pass, and memory does not grow with their number.

    `len(source)` is the number of images.
    """

    in_memory = False

    def __init__(self, name, count, image_shape, num_classes=None, class_names=None):
        self.name = name
        self.image_shape = tuple(int(size) for size in image_shape)
        self.num_classes = num_classes
        self.class_names = class_names
        self._count = count

    @property
    def example_shape(self):
        """Shape of one example: of an image, or [num_frames, *image_shape] of a sequence."""
        return self.image_shape

    def __len__(self):
        return self._count

    def __repr__(self):
        return (
            f"<Source {self.name}: {len(self):,} images {self.image_shape}, "
            f"num_classes={self.num_classes}, in_memory={self.in_memory}>"
        )

    def batches(self, batch_size, seed=0, shuffle=True, drop_remainder=False):
        """Batches for training.

        The order of pass number `epoch` is a function of `(seed, epoch)` alone, and so the same in
        every process: a run that continues at epoch 3 sees what it would have seen. Iterating
        again, or `.repeat()`, begins the next epoch; `keras_gen.data.epochs_of(dataset)` is the
        counter. Folders and arrays are permuted as a whole; a streamed TFDS set passes through a
        shuffle buffer of 10,000 encoded images.

        Args:
            batch_size: int, the number of images in a batch, over all replicas.
            seed: int, chooses the order.
            shuffle: False gives the source's own order in every epoch.
            drop_remainder: whether to leave out a last, smaller batch.

        Returns:
            A `tf.data.Dataset` of known length. Its elements are `(images, labels)`, float32
            `[batch, height, width, channels]` in [-1, 1] and int32 `[batch]` in
            `[0, num_classes)`; images alone where there are no labels.

        Raises:
            ValueError: if `batch_size` is not a positive integer or `seed` not an integer of 64
                bits, or if `drop_remainder` leaves no batch.
        """
        count = self._num_batches(batch_size, drop_remainder)
        _check_seed(seed)

        def make_epoch(epoch):
            key = (int(seed), epoch) if shuffle else None
            return self._floats(self._read(batch_size, key, drop_remainder), int(seed), epoch)

        return numbered_dataset(make_epoch, count)

    def numpy_batches(self, batch_size, seed=None):
        """Iterates once over all images as they are: for evaluation.

        Args:
            batch_size: int.
            seed: int for the random order of `take`, or None for the source's own order.

        Yields:
            `(images, labels)`: uint8 `[batch, height, width, channels]` and int32 `[batch]`, or
            None in place of the labels.
        """
        self._num_batches(batch_size, drop_remainder=False)
        if seed is None:
            batches = self._read(batch_size, None, drop_remainder=False)
        else:
            _check_seed(seed)
            # a shuffle buffer must be made within a function of a dataset
            batches = tf.data.Dataset.from_tensors(0).flat_map(
                lambda _: self._read(batch_size, (int(seed), 0), drop_remainder=False)
            )
        for element in untuned(batches.prefetch(1)).as_numpy_iterator():
            yield element if isinstance(element, tuple) else (element, None)

    def take(self, num_images, seed=None):
        """Some images as NumPy arrays.

        Args:
            num_images: int, at most `len(source)`.
            seed: int for distinct random images, or None for the first ones.

        Returns:
            `(images, labels)`: uint8 `[num_images, height, width, channels]` and int32
            `[num_images]`, or None in place of the labels.

        Raises:
            ValueError: if the source has fewer images.
        """
        if not isinstance(num_images, numbers.Integral) or not 1 <= num_images <= len(self):
            raise ValueError(
                f"`num_images` must be between 1 and the {len(self):,} images of {self.name}. "
                f"Received: num_images={num_images!r}"
            )
        if seed is not None:
            _check_seed(seed)
        return self._take(num_images, seed)

    def _read(self, batch_size, key, drop_remainder):
        """One pass: a dataset of uint8 images, or of (uint8 images, int32 labels), in batches.

        `key` is `(seed, epoch)`, or None for the source's own order.
        """
        raise NotImplementedError

    def _floats(self, batches, seed, epoch):
        """What `_read` gave, with images as floats in [-1, 1], of one epoch."""
        return batches.map(_to_floats)

    def _take(self, num_images, seed):
        raise NotImplementedError

    def _num_batches(self, batch_size, drop_remainder):
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
            )
        if drop_remainder and batch_size > len(self):
            raise ValueError(
                f"`drop_remainder=True` leaves no batch: {self.name} has {len(self):,} images. "
                f"Received: batch_size={batch_size}"
            )
        return len(self) // batch_size if drop_remainder else -(-len(self) // batch_size)


class IndexedSource(Source):
    """A source that can read any example by its number: subclasses give `_images`, `_labels`."""

    _labels = None

    def _images(self, indices):
        """uint8 `[n, *example_shape]` for int64 `[n]`."""
        raise NotImplementedError

    def _pick(self, indices):
        if self._labels is None:
            return self._images(indices)
        return self._images(indices), self._labels[indices]

    def _read(self, batch_size, key, drop_remainder):
        batch = batch_size if drop_remainder else None
        order = tf.range(len(self), dtype=tf.int64)
        if key is not None:
            order = permutation(len(self), *key)

        def pick(start):
            indices = order[start : start + batch_size]
            if self._labels is None:
                images = tf.numpy_function(self._pick, [indices], tf.uint8)
                return tf.ensure_shape(images, (batch, *self.example_shape))
            images, labels = tf.numpy_function(self._pick, [indices], [tf.uint8, tf.int32])
            return (
                tf.ensure_shape(images, (batch, *self.example_shape)),
                tf.ensure_shape(labels, (batch,)),
            )

        starts = tf.data.Dataset.range(0, len(self), batch_size)
        starts = starts.take(self._num_batches(batch_size, drop_remainder))
        return starts.map(pick, num_parallel_calls=2, deterministic=True)

    def _take(self, num_images, seed):
        indices = np.arange(num_images)
        if seed is not None:
            indices = permutation(len(self), seed, 0).numpy()[:num_images]
        labels = None if self._labels is None else self._labels[indices]
        return self._images(indices), labels


def _check_seed(seed):
    if not isinstance(seed, numbers.Integral) or not -(2**63) <= seed < 2**63:
        raise ValueError(f"`seed` must be an integer of 64 bits. Received: seed={seed!r}")


def _to_floats(images, labels=None):
    images = tf.cast(images, tf.float32) / 127.5 - 1.0
    return images if labels is None else (images, labels)
