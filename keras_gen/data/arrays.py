"""Images held in memory, and what may be given as arrays or in an `.npz` file."""

import zipfile

import numpy as np
import tensorflow as tf

from keras_gen.data.epochs import numbered_dataset, permutation
from keras_gen.data.pixels import fit_arrays
from keras_gen.data.source import IndexedSource, NoSuchSplit

_IMAGE_KEYS = ("images", "x", "arr_0")
_LABEL_KEYS = ("labels", "y", "arr_1")


class ArraySource(IndexedSource):
    """Images in memory: one uint8 array, of which every batch is gathered; it is not copied."""

    in_memory = True

    def __init__(self, name, images, labels=None, num_classes=None, class_names=None):
        super().__init__(name, len(images), images.shape[1:], num_classes, class_names)
        self._array = images
        self._labels = labels

    def _images(self, indices):
        return self._array[indices]


def load_arrays(images, labels, name, image_size, channels, class_names):
    """A source from uint8 images `[n, h, w]` or `[n, h, w, c]` and labels `[n]` or None."""
    images = check_images(images)
    if labels is not None:
        labels = check_labels(labels, len(images), class_names)
    images = fit_arrays(images, image_size, channels)
    num_classes = None
    if labels is not None:
        num_classes = len(class_names) if class_names else int(labels.max()) + 1
    elif class_names:
        raise ValueError(
            f"`class_names` needs labels, and {name} has none. "
            f"Received: class_names={class_names!r}"
        )
    return ArraySource(name, images, labels, num_classes, class_names)


def check_images(images, any_channels=False):
    """uint8 `[n, h, w, c]` of what was given as images, or a `ValueError`; c is 1 or 3, unless
    `any_channels`."""
    images = _as_array(images)
    received = f"Received: images of shape={images.shape}, dtype={images.dtype}"
    if images.dtype != np.uint8:
        raise ValueError(
            "Images must be uint8 in [0, 255]: the range of other types is ambiguous. Convert "
            "floats in [0, 1] with `np.round(images * 255).astype('uint8')`, floats in [-1, 1] "
            f"with `np.round((images + 1) * 127.5).astype('uint8')`. {received}{_range(images)}"
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4:
        raise ValueError(f"Images must be [n, h, w] or [n, h, w, channels]. {received}")
    if images.shape[-1] not in (1, 3) and not any_channels:
        raise ValueError(f"Images must have 1 or 3 channels, and these last. {received}")
    if images.size == 0:
        raise ValueError(f"There are no images. {received}")
    return images


def _as_array(images):
    try:
        return np.asarray(images)
    except ValueError:  # a list of images that differ in size
        shapes = sorted({np.shape(image) for image in images})
        raise ValueError(
            "Images given as arrays must have one size. "
            f"Received: images of shapes={', '.join(map(str, shapes[:10]))}"
        ) from None


def _range(images):
    if images.size == 0 or images.dtype.kind not in "fiub":
        return ""
    return f", values in [{images.min()}, {images.max()}]"


def check_labels(labels, count, class_names=None):
    """int32 `[count]` of what was given as labels, or a `ValueError`."""
    try:
        labels = np.asarray(labels)
    except ValueError:  # lists of several lengths
        labels = np.asarray(labels, dtype=object)
    received = f"Received: labels of shape={labels.shape}, dtype={labels.dtype}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            "Labels must be one class number an image, [n]; for one-hot rows give "
            f"`labels.argmax(-1)`. {received}"
        )
    if len(labels) != count:
        raise ValueError(f"There are {count} images and {len(labels)} labels. {received}")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"Labels must be integers. {received}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(f"Labels must not be negative. {received}, values in [{low}, {high}]")
    top = len(class_names) if class_names else np.iinfo(np.int32).max
    if high >= top:
        raise ValueError(f"Labels must be below {top}. {received}, values in [{low}, {high}]")
    return labels.astype(np.int32)


def load_npz(path, split, label, image_size, channels, class_names):
    """A source from an `.npz` or `.npy` file; `load` says which keys it may have."""
    arrays = _read_npz(path)
    images_key, labels_key = _keys(arrays, path, split)
    labels = arrays.get(labels_key) if label is not False else None
    return load_arrays(arrays[images_key], labels, str(path), image_size, channels, class_names)


def _read_npz(path):
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"images": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
        raise ValueError(
            f"Cannot read arrays from the file: {error}. Received: source={str(path)!r}"
        ) from error


def _keys(arrays, path, split):
    splits = [key.removeprefix("x_") for key in arrays if key.startswith("x_")]
    if splits:
        if split not in splits:
            raise NoSuchSplit(
                f"{path} has the splits {', '.join(map(repr, splits))}. Received: split={split!r}"
            )
        return f"x_{split}", f"y_{split}"
    check_only_split(split, str(path))
    images_key = next((key for key in _IMAGE_KEYS if key in arrays), None)
    if images_key is None:
        raise ValueError(
            f"An .npz file must have its images as one of {', '.join(_IMAGE_KEYS)}, or as "
            f"x_train and x_test. Received: source={str(path)!r} with keys={sorted(arrays)}"
        )
    return images_key, next((key for key in _LABEL_KEYS if key in arrays), None)


def check_only_split(split, name):
    """Arrays and plain folders are one set: 'train', or 'all'."""
    if split not in ("train", "all"):
        raise NoSuchSplit(
            f"{name} is not split: its only splits are 'train' and 'all', both the whole. "
            f"Received: split={split!r}"
        )


def float_batches(images, labels, batch_size, seed=0, shuffle=True):
    """Batches of arrays that are already floats, in the order that `Source.batches` has.

    Args:
        images: float array `[n, height, width, channels]` in [-1, 1].
        labels: int array `[n]`, or None.
        batch_size: int.
        seed: int; the order of an epoch is a function of (seed, epoch).
        shuffle: whether to shuffle at all.

    Returns:
        A `tf.data.Dataset` like that of `Source.batches`.

    Raises:
        ValueError: if there are not as many labels as images.
    """
    arrays = [np.asarray(images)] + ([] if labels is None else [np.asarray(labels)])
    count = len(arrays[0])
    if any(len(array) != count for array in arrays):
        raise ValueError(
            f"There must be one label for each of the {count} images. "
            f"Received: {len(arrays[-1])} labels"
        )

    def make_epoch(epoch):
        order = permutation(count, seed, epoch) if shuffle else tf.range(count, dtype=tf.int64)

        def pick(start):
            indices = order[start : start + batch_size]
            kinds = [array.dtype for array in arrays]
            batch = tf.numpy_function(lambda i: [array[i] for array in arrays], [indices], kinds)
            batch = [tf.ensure_shape(b, [None, *a.shape[1:]]) for b, a in zip(batch, arrays)]
            return batch[0] if labels is None else tuple(batch)

        starts = tf.data.Dataset.range(0, count, batch_size)
        return starts.map(pick, num_parallel_calls=2, deterministic=True)

    return numbered_dataset(make_epoch, -(-count // batch_size))
