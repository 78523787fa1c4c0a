"""What turns images into features: InceptionV3, any Keras model, a classifier of the data itself.

An extractor says exactly what it is (`name`, `weights`, `dimension`, `resize`), so that a number
computed on its features never travels without them. Only InceptionV3 with the ImageNet weights has
`inception = True`: "FID" is said of no other features.

Kernels sum in an order that depends on the batch size. Every extractor therefore computes batches
of one fixed size, padded: the features of a sequence of images are the same, bit for bit, however
it is cut into batches.
"""

import contextlib
import hashlib
import io
import json
import math
import numbers
import os
import time
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_gen.data.arrays import check_images, check_labels
from keras_gen.data.classes import class_numbers
from keras_gen.data.load import load
from keras_gen.data.pixels import fit_arrays
from keras_gen.data.source import Source
from keras_gen.images import from_uint8, write_atomically
from keras_gen.metrics.result import MetricWarning
from keras_gen.networks.seeding import Initializers
from keras_gen.optimizers import Adam

INCEPTION_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
)
INCEPTION_MD5 = {
    "9a0d58056eeedaa3f26cb7ebd46da564": "with top",
    "bcbd6486424b2319ff4ef7d526e38f63": "without top",
}
"""MD5 of the two weights files that Keras publishes, as `keras.applications` states them."""


class Features(NamedTuple):
    """What an extractor says of images: float32 `[n, d]`, and float32 `[n, k]` or None."""

    features: np.ndarray
    logits: np.ndarray | None


class Extractor:
    """Base of the extractors: fixed, padded batches.

    A subclass sets the attributes and gives `_compute`.

    Attributes:
        name: str, exactly what computes the features.
        weights: hexadecimal SHA-256 of the weights.
        dimension: int, length of a feature vector.
        resize: str, what happens to the images' size before.
        inception: whether these are the features that "FID" stands for.
        rows: number of images computed at a time.
    """

    inception = False
    rows = 64

    def __init__(self, name, weights, dimension, resize):
        self.name = name
        self.weights = weights
        self.dimension = int(dimension)
        self.resize = resize
        self._function = tf.function(self._compute, reduce_retracing=False)

    def __repr__(self):
        return f"<{type(self).__name__} {self.name}, weights {self.weights[:12]}>"

    def __call__(self, images):
        """Features of images, and logits where the network has them.

        Args:
            images: uint8 `[b, h, w, c]` (or `[b, h, w]`) with 1 or 3 channels.

        Returns:
            `Features`: float32 `[b, dimension]`, and float32 `[b, k]` or None.

        Raises:
            ValueError: if the images are not such.
        """
        images = self._prepare(check_images(images))
        parts = [
            self._padded(images[start : start + self.rows])
            for start in range(0, len(images), self.rows)
        ]
        return _joined(parts)

    def record(self):
        """What every result must say of its features: `dict` of JSON values."""
        return {
            "name": self.name,
            "weights": self.weights,
            "dimension": self.dimension,
            "resize": self.resize,
            "inception": self.inception,
        }

    def fingerprint(self, image_shape):
        """Of what name and weights do not tell: a hash, hexadecimal, of the features of two fixed
        images of that shape `(height, width, channels)`; "" where these tell all."""
        count = 2 * int(np.prod(image_shape))
        pixels = (np.arange(count, dtype=np.uint32) * np.uint32(2654435761)) >> np.uint32(24)
        features = self(pixels.astype(np.uint8).reshape(2, *image_shape)).features
        return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()

    def _prepare(self, images):
        """uint8 images as `_compute` takes them; NumPy."""
        return images

    def _compute(self, images):
        """uint8 tensor `[rows, h, w, c]` -> float32 `[rows, dimension]`, logits or None."""
        raise NotImplementedError

    def _padded(self, images):
        count = len(images)
        missing = self.rows - count
        if missing:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        features, logits = self._function(tf.convert_to_tensor(images))
        logits = None if logits is None else logits.numpy()[:count]
        return Features(features.numpy()[:count], logits)


def weights_hash(arrays):
    """SHA-256, hexadecimal, of a list of arrays: their shapes, types and values in order."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _joined(parts):
    features, logits = zip(*parts)
    return Features(np.concatenate(features), None if logits[0] is None else np.concatenate(logits))


@contextlib.contextmanager
def _float32():
    """Networks built here compute in float32, whatever the program's policy is."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


# ---------------------------------------------------------------------------------------------
# Streams of images
# ---------------------------------------------------------------------------------------------


def extract(extractor, images, num_images=None, batch_size=256, progress=None):
    """Features of many images, held in memory.

    Args:
        extractor: an `Extractor`.
        images: a `Source`, uint8 images `[n, h, w, c]`, `(images, labels)`, or an iterable of
            batches of uint8 images or of `(images, labels)`.
        num_images: int, only the first so many; None for all.
        batch_size: about how many images are read at a time; the result does not depend on it.
        progress: None, or a function called with (images done, total or None).

    Returns:
        `Features` of all images.

    Raises:
        ValueError: if there is no image, there are fewer than `num_images`, or they are not uint8.
    """
    return _joined(list(extract_batches(extractor, images, num_images, batch_size, progress)))


def extract_batches(extractor, images, num_images=None, batch_size=256, progress=None):
    """As `extract`, batch by batch: for sets whose features do not fit into memory.

    Yields:
        `Features` of up to `batch_size` images (of `extractor.rows`, if that is more).

    Warns:
        MetricWarning: if no pixel of all images is above 1.
    """
    total = num_images if num_images is not None else _length(images)
    chunk = extractor.rows * max(1, batch_size // extractor.rows)
    done = highest = 0
    for batch in _rechunked(uint8_batches(images, batch_size), chunk, num_images):
        yield extractor(batch)
        done, highest = done + len(batch), max(highest, int(batch.max()))
        if progress is not None:
            progress(done, total)
    if not done or (num_images is not None and done < num_images):
        raise ValueError(f"There are {done:,} images. Received: num_images={num_images}")
    warn_of_range(highest)


def warn_of_range(highest, what="images"):
    """Warns of uint8 images that are all but black, as floats in [0, 1] become that are cast.

    Args:
        highest: int, the highest value of all pixels.
        what: str, what images these are.

    Returns:
        list of str: what was said, one line or none.

    Warns:
        MetricWarning: if `highest` is 0 or 1.
    """
    if highest > 1:
        return []
    text = (
        f"No pixel of the {what} is above {highest} of 255: values in [0, 1] must be multiplied by "
        "255 before they become uint8."
    )
    warnings.warn(text, MetricWarning, stacklevel=3)
    return [text]


def uint8_batches(images, batch_size=256):
    """Iterates over images, whatever form they are given in.

    Args:
        images: as `extract` takes them.
        batch_size: how many at a time, of a source or an array.

    Yields:
        uint8 `[b, h, w, c]`.
    """
    if isinstance(images, tuple) and len(images) == 2 and np.ndim(images[1]) == 1:
        images = images[0]  # (images, labels)
    if isinstance(images, Source):
        yield from (batch for batch, _ in images.numpy_batches(batch_size))
    elif hasattr(images, "shape"):
        images = check_images(images)
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]
    else:
        for batch in images:
            yield check_images(batch[0] if isinstance(batch, tuple) else batch)


def _length(images):
    if isinstance(images, tuple) and len(images) == 2:
        return len(images[0])
    return len(images) if isinstance(images, Source) or hasattr(images, "shape") else None


def _rechunked(batches, chunk, limit):
    """The same images in batches of `chunk`; the last may be smaller."""
    waiting, count, left = [], 0, math.inf if limit is None else limit
    for batch in batches:
        batch = batch[: int(min(left, len(batch)))]
        left -= len(batch)
        waiting.append(batch)
        count += len(batch)
        while count >= chunk:
            joined = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
            yield joined[:chunk]
            waiting, count = [joined[chunk:]], count - chunk
        if left <= 0:
            break
    if count:
        yield np.concatenate(waiting)


# ---------------------------------------------------------------------------------------------
# InceptionV3
# ---------------------------------------------------------------------------------------------


class InceptionV3(Extractor):
    """`keras.applications.InceptionV3`: 2,048 averaged features and 1,000 logits.

    These are Keras's weights, not those of the 2015 TensorFlow graph by which most papers measure
    FID (`torch-fidelity`, `clean-fid`): compare numbers of one `name` only. Grey images are
    repeated in three channels. `inception` is True only if the file is one that Keras publishes.

    Args:
        weights: "imagenet" takes Keras's cached file, or downloads it; or the path of a weights
            file (`.h5`), with top or without (which gives no logits).
        size: 299, antialiased bicubic, not rounded; or 75, bilinear without antialiasing: the
            features of the KID of the Keras examples.

    Raises:
        ValueError: if `size` is another, or the file does not fit.
        FileNotFoundError: if there is no such file.
        RuntimeError: if the file cannot be downloaded.
    """

    rows = 16

    def __init__(self, weights="imagenet", size=299):
        if size not in (75, 299):
            raise ValueError(f"`size` must be 299 or 75. Received: size={size!r}")
        path = _inception_file(weights)
        self.size = size
        self._model, self._has_logits = _load_inception(path, size)
        published = _file_md5(path) in INCEPTION_MD5
        digest = weights_hash(self._model.get_weights())
        kind = "keras imagenet" if published else f"weights {digest[:12]}"
        resize = "299 px, bicubic, antialiased" if size == 299 else "75 px, bilinear, aliased"
        super().__init__(f"inception_v3 {kind}, avg_pool 2048, {size} px", digest, 2048, resize)
        self.inception = published

    def fingerprint(self, image_shape):
        return ""

    def _compute(self, images):
        images = tf.cast(images, tf.float32)
        if images.shape[-1] == 1:
            images = tf.repeat(images, 3, axis=-1)
        images = _resized(images, (self.size, self.size), antialias=self.size == 299)
        outputs = self._model(images / 127.5 - 1.0, training=False)
        return (outputs[0], outputs[1]) if self._has_logits else (outputs, None)


def _resized(images, size, antialias=True):
    """Pillow's antialiased bicubic; or plain bilinear, as `keras.layers.Resizing` does it."""
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    method = "bicubic" if antialias else "bilinear"
    return tf.image.resize(images, size, method=method, antialias=antialias)


def _inception_file(weights):
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no such weights file. Received: weights={os.fspath(weights)!r}"
            )
        return path
    try:
        return Path(
            keras.utils.get_file(
                INCEPTION_URL.rpartition("/")[2],
                INCEPTION_URL,
                cache_subdir="models",
                file_hash=next(iter(INCEPTION_MD5)),
            )
        )
    except Exception as error:  # get_file raises plain exceptions
        raise RuntimeError(
            f"Cannot download the weights of InceptionV3. Fetch {INCEPTION_URL} by other means and "
            "give its path. Received: weights='imagenet'"
        ) from error


def _load_inception(path, size):
    errors = []
    for with_top in (True, False):
        with _float32():
            model = keras.applications.InceptionV3(
                include_top=with_top,
                weights=None,
                input_shape=(size, size, 3),
                pooling=None if with_top else "avg",
                classifier_activation=None,
            )
        try:
            model.load_weights(path)
        except Exception as error:  # h5py and Keras raise many kinds
            errors.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
            continue
        if with_top:
            model = keras.Model(model.input, [model.get_layer("avg_pool").output, model.output])
        return model, with_top
    raise ValueError(
        f"These are no weights of InceptionV3: {errors[0]} Received: weights={path.name!r}"
    )


def _file_md5(path):
    with open(path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------
# Any Keras model
# ---------------------------------------------------------------------------------------------


class KerasExtractor(Extractor):
    """Features of any Keras model with one image input.

    Args:
        model: a built `keras.Model`.
        layer: name of the layer whose output is taken; None for the model's own output. Maps
            `[b, h, w, d]` are averaged over space.
        preprocess: function from a uint8 tensor `[b, h, w, c]` to the model's input. By default the
            channels are repeated or averaged (luma) to fit, the size is fitted by antialiased
            bicubic, and values run from -1 to 1.
        logits: name of the layer whose output are class logits; None for none.
        name: what results call it; by default "keras <model's name> <layer>".

    Raises:
        ValueError: if the model has no such layer, or its output is no feature vector.
    """

    def __init__(self, model, layer=None, preprocess=None, logits=None, name=None):
        images = _only_input(model)
        output = model.output if layer is None else _layer_output(model, layer, "layer")
        outputs = [_averaged(output, layer)]
        if logits is not None:
            outputs.append(_layer_output(model, logits, "logits"))
        self._model = keras.Model(images, outputs)
        self._preprocess = preprocess or self._default_preprocess
        size = tuple(model.input_shape[1:3])
        fits = preprocess is None and None not in size
        super().__init__(
            name or f"keras {model.name} {layer or 'output'}",
            weights_hash(model.get_weights()),
            outputs[0].shape[-1],
            f"{size[0]}x{size[1]} px, bicubic, antialiased" if fits else _own(preprocess),
        )

    def _default_preprocess(self, images):
        _, height, width, channels = self._model.input_shape
        images = from_uint8(images)
        if channels == 3 and images.shape[-1] == 1:
            images = tf.repeat(images, 3, axis=-1)
        elif channels == 1 and images.shape[-1] == 3:
            images = tf.image.rgb_to_grayscale(images)
        return images if None in (height, width) else _resized(images, (height, width))

    def _compute(self, images):
        outputs = self._model(self._preprocess(images), training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        outputs = [tf.cast(output, tf.float32) for output in outputs]
        return (*outputs, None)[:2]


def _own(preprocess):
    return "none" if preprocess is None else getattr(preprocess, "__name__", "preprocess")


def _only_input(model):
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "The model must have one input, images [batch, h, w, c]. "
            f"Received: model={model.name!r} with inputs {model.inputs}"
        )
    return model.inputs[0]


def _layer_output(model, name, argument):
    try:
        return model.get_layer(name).output
    except ValueError:
        names = ", ".join(layer.name for layer in model.layers)
        raise ValueError(
            f"The model has no such layer; it has {names}. Received: {argument}={name!r}"
        ) from None


def _averaged(output, layer):
    if isinstance(output, keras.KerasTensor) and len(output.shape) == 4:
        output = layers.GlobalAveragePooling2D(dtype="float32")(output)
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 2:
        raise ValueError(
            "Features must be one tensor [batch, d] or [batch, h, w, d]. "
            f"Received: layer={layer!r} with output {output}"
        )
    return output


# ---------------------------------------------------------------------------------------------
# A classifier of the data itself
# ---------------------------------------------------------------------------------------------

MAX_SIDE = 128
"""Larger images are downsampled to this longer side before the classifier sees them."""

MIN_SIDE = 8
BATCH_SIZE = 128
MIN_IMAGES_SEEN, MAX_IMAGES_SEEN = 40_000, 240_000
TRAINING_MEMORY = 2**30
"""Bytes of images the classifier is trained on at most; of a larger source, random ones."""

_STEPS_AT_A_TIME = 8
_RECIPE = 1  # part of the cache's key: raise it when the network or its training changes


class Classifier(Extractor):
    """The project's own small classifier, made by `train_extractor`.

    Attributes:
        num_classes: int.
        class_names: list of str, or None.
        accuracy: share of held-out images classified rightly, or None if none were held out.
        num_train, num_held_out: numbers of images.
        seed: int, of the weights and of the order.
        seconds: how long training took (when it was done: a cached network costs none).
    """

    def __init__(self, model, image_shape, data_name, details):
        self._model = model
        self.image_shape = tuple(image_shape)
        self.num_classes = model.outputs[1].shape[-1]
        self.class_names = details.get("class_names")
        self.accuracy = None
        self.num_train, self.num_held_out = details["num_train"], 0
        self.seed, self.seconds = details["seed"], details["seconds"]
        digest = weights_hash(model.get_weights())
        shrunk = model.input_shape[1:3] != self.image_shape[:2]
        resize = f"{model.input_shape[1]}x{model.input_shape[2]} px, bicubic, antialiased"
        super().__init__(
            f"keras_gen classifier {data_name} {digest[:12]}",
            digest,
            model.outputs[0].shape[-1],
            resize if shrunk else "none",
        )

    def record(self):
        return super().record() | {
            "accuracy": self.accuracy,
            "num_train": self.num_train,
            "num_held_out": self.num_held_out,
            "seed": self.seed,
            "seconds": self.seconds,
        }

    def fingerprint(self, image_shape):
        return ""

    def predict_logits(self, images, batch_size=256):
        """Logits float32 `[n, num_classes]` of images given as `extract` takes them."""
        return extract(self, images, batch_size=batch_size).logits

    def predict_labels(self, images, batch_size=256):
        """Most likely class of each image, int32 `[n]`; images as `extract` takes them."""
        return self.predict_logits(images, batch_size).argmax(-1).astype(np.int32)

    def accuracy_on(self, images, labels=None):
        """Share of images classified rightly.

        Args:
            images: a labelled `Source`, whose classes are matched by name where both have names
                (images of other classes do not count); or uint8 `[n, h, w, c]` with
            labels: integers `[n]`.

        Returns:
            float in [0, 1].

        Raises:
            ValueError: if there are no labels, or no class is one of the classifier's.
        """
        if isinstance(images, Source):
            _check_labelled(images)
            numbers = self._numbers_of(images)
            right = []
            for batch, labels in images.numpy_batches(self.rows * 4):
                truth = numbers[labels]
                right.append((self.predict_labels(batch) == truth)[truth >= 0])
            return float(np.concatenate(right).mean())
        return float((self.predict_labels(images) == check_labels(labels, len(images))).mean())

    def _numbers_of(self, source):
        """The classifier's number of each class of a source, -1 for one that it has not."""
        numbers = class_numbers(source, self)
        if numbers is None:
            return np.arange(source.num_classes)
        if (numbers < 0).all():
            raise ValueError(
                f"The images must have classes of the classifier's, {self.class_names}. "
                f"Received: images with the classes {source.class_names}"
            )
        return numbers

    def _prepare(self, images):
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"This classifier was trained on images of shape {self.image_shape}. "
                f"Received: images of shape {images.shape[1:]}"
            )
        return fit_arrays(images, self._model.input_shape[1:3], None)

    def _compute(self, images):
        return self._model(from_uint8(images), training=False)


def train_extractor(
    source, held_out=None, seed=0, num_images_seen=None, dimension=64, cache=True, verbose=0
):
    """Trains the project's small classifier on the data itself, or finds it in the cache.

    A convolutional network whose penultimate layer, averaged over space as InceptionV3's, gives the
    features. The same data and seed give the same weights on the same kind of machine. The network
    is kept in the folder `KERAS_GEN_CACHE` (default `~/.cache/keras_gen`) under a hash of the
    pixels, the labels and all settings.

    Args:
        source: a labelled `Source`, or `(images, labels)`: uint8 `[n, h, w, c]` of at least 8x8 and
            integers `[n]`. Images above 128 px are downsampled.
        held_out: the same, to measure the accuracy on; None sets every tenth image aside,
            chosen by `seed`, and trains on the others.
        seed: int.
        num_images_seen: how many images, counting repetition, training sees. By default four times
            the data, at least 40,000 and at most 240,000: a minute or two of small images.
        dimension: int, length of a feature vector.
        cache: whether to look in the cache folder and to write to it.
        verbose: 1 shows a progress bar.

    Returns:
        A `Classifier`.

    Raises:
        ValueError: if there are no labels, fewer than two classes, or images below 8 px.
    """
    source = _labelled(source)
    images, labels = source.take(min(len(source), _affordable(source.image_shape)), seed)
    if held_out is None:
        (images, labels), held_out = _split(images, labels, seed)
    size = _training_size(source.image_shape)
    steps = _num_steps(len(images), num_images_seen)
    settings = {
        "recipe": _RECIPE,
        "size": size,
        "num_classes": source.num_classes,
        "seed": int(seed),
        "steps": steps,
        "dimension": dimension,
        "data": weights_hash([images, labels]),
    }
    model = _network((*size, source.image_shape[2]), source.num_classes, dimension, int(seed))
    file = _cache_file(settings) if cache else None
    details = _read_cached(file, model)
    if details is None:
        seconds = _train(model, fit_arrays(images, size, None), labels, steps, int(seed), verbose)
        details = {"num_train": len(images), "seed": int(seed), "seconds": round(seconds, 1)}
        _write_cached(file, model, details)
    details["class_names"] = source.class_names
    name = Path(source.name).name if os.sep in source.name else source.name
    classifier = Classifier(model, source.image_shape, name, details)
    if held_out is not None:
        held_out = _labelled(held_out)
        classifier.num_held_out = len(held_out)
        classifier.accuracy = classifier.accuracy_on(held_out)
    return classifier


def _labelled(source):
    source = source if isinstance(source, Source) else load(source)
    _check_labelled(source)
    return source


def _check_labelled(source):
    if not source.num_classes or source.num_classes < 2:
        raise ValueError(
            "Training a classifier needs labels of two classes or more. Without them give the "
            "features of another network: `InceptionV3(weights=...)` or `KerasExtractor(model)`. "
            f"Received: source={source!r}"
        )


def _affordable(image_shape):
    return max(1, TRAINING_MEMORY // int(np.prod(image_shape)))


def _split(images, labels, seed):
    """Nine tenths to train on and one to measure; nothing to measure below 20 images."""
    order = np.random.default_rng(seed).permutation(len(images))
    aside, kept = np.sort(order[: len(order) // 10]), np.sort(order[len(order) // 10 :])
    held_out = (images[aside], labels[aside]) if len(images) >= 20 else None
    if held_out is not None and labels[aside].max() < 1:
        held_out = None  # a single class is not a labelled source
    return ((images[kept], labels[kept]) if held_out else (images, labels)), held_out


def _training_size(image_shape):
    height, width = image_shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"Images must have at least {MIN_SIDE} pixels a side. "
            f"Received: images of shape {image_shape}"
        )
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale))


def _num_steps(count, num_images_seen):
    if num_images_seen is None:
        num_images_seen = min(max(4 * count, MIN_IMAGES_SEEN), MAX_IMAGES_SEEN)
    if not isinstance(num_images_seen, numbers.Integral) or num_images_seen < 1:
        raise ValueError(
            f"`num_images_seen` must be a positive integer. Received: {num_images_seen=}"
        )
    steps = math.ceil(num_images_seen / min(BATCH_SIZE, count))
    return _STEPS_AT_A_TIME * math.ceil(steps / _STEPS_AT_A_TIME)


def _network(image_shape, num_classes, dimension, seed):
    """Images float32 in [-1, 1] -> [features `[b, dimension]`, logits `[b, num_classes]`].

    Few channels at full resolution, where convolutions cost most on a CPU: strided convolutions
    until the longer side is at most 16, then three stages of 32, 64 and `dimension` channels, of
    which the last sees all of the image.
    """
    initial = Initializers(seed)

    def convolution(x, filters, kernel_size, strides=1):
        x = layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=initial.glorot(),
        )(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    with _float32():
        inputs = keras.Input(image_shape)
        side = max(image_shape[:2])
        x = convolution(inputs, 16, 3) if side <= 16 else inputs
        while side > 16:
            x = convolution(x, 16, 5 if x is inputs else 3, strides=2)
            side = math.ceil(side / 2)
        x = convolution(x, 32, 3)
        x = layers.MaxPooling2D(padding="same")(x)
        x = convolution(x, 64, 3)
        x = layers.MaxPooling2D(padding="same")(x)
        x = convolution(x, dimension, 3)
        features = layers.GlobalAveragePooling2D(name="features")(x)
        logits = layers.Dense(num_classes, kernel_initializer=initial.glorot(), name="logits")
        return keras.Model(inputs, [features, logits(features)], name="keras_gen_classifier")


def _train(model, images, labels, steps, seed, verbose):
    """Adam with a warm-up and a cosine to zero; returns the seconds it took."""
    started = time.perf_counter()
    batch_size = min(BATCH_SIZE, len(images))
    batches = load((images, labels)).batches(batch_size, seed=seed, drop_remainder=True)
    with _float32():
        trained = keras.Model(model.input, model.outputs[1])
        warm_up = max(1, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            1e-4, max(1, steps - warm_up), warmup_target=4e-3, warmup_steps=warm_up
        )
        trained.compile(
            Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=_STEPS_AT_A_TIME,
            jit_compile=False,
        )
        trained.fit(batches.repeat(), steps_per_epoch=steps, shuffle=False, verbose=verbose)
    return time.perf_counter() - started


# The cache: one npz file a network, complete or absent, checked against its own weight hash.


def cache_folder():
    """Where trained extractors are kept: `KERAS_GEN_CACHE`, or `~/.cache/keras_gen`."""
    return Path(os.environ.get("KERAS_GEN_CACHE") or Path.home() / ".cache" / "keras_gen")


def _cache_file(settings):
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "extractors" / f"classifier_{key[:32]}.npz"


def _write_cached(file, model, details):
    if file is None:
        return
    weights = model.get_weights()
    details = {**details, "weights": weights_hash(weights)}
    buffer = io.BytesIO()
    arrays = {f"weight_{index:03d}": weight for index, weight in enumerate(weights)}
    np.savez(buffer, details=np.array(json.dumps(details)), **arrays)
    try:
        write_atomically(file, buffer.getvalue())
    except OSError as error:
        warnings.warn(f"The trained extractor is not cached: {error}", stacklevel=4)


def _read_cached(file, model):
    """Loads the network's weights and returns what is known of them, or None."""
    if file is None or not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            details = json.loads(str(stored["details"]))
            weights = [stored[key] for key in sorted(stored.files) if key != "details"]
        if weights_hash(weights) != details["weights"]:
            raise ValueError("its weights are not those it was written with")
        model.set_weights(weights)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"A damaged file of the cache is replaced: {file}: {error}", stacklevel=3)
        return None
    return details
