"""One interface to whatever generates images: a model, a SavedModel, a `.keras` file, a folder.

`as_generator` wraps each of them; image i of a generator is the same however the images are cut
into chunks, which is what makes an evaluation resumable.
"""

import hashlib
import importlib
import json
import os
from pathlib import Path

import numpy as np

from keras_gen.data.arrays import check_images
from keras_gen.data.load import load
from keras_gen.data.source import Source
from keras_gen.randomness import row_seeds

INFO_FILE = Path("assets.extra") / "keras_gen.json"
_KEPT_BATCH = 256


class Generator:
    """What all of them have.

    Attributes:
        name: str, for people.
        kind: "model", "SavedModel", ".keras file" or "images".
        path: str or None, where it was read from.
        image_shape: (height, width, channels), or None if not known before the first image.
        num_classes: int, or None where images have no labels.
        weights: hexadecimal hash of the weights, or None where it is not known.
        training_steps: int or None.
        limit: int, how many images there are at most; None for any number.
    """

    kind = "model"
    path = image_shape = num_classes = weights = training_steps = limit = None

    def images(self, start, labels, seed=0):
        """Images `start` to `start + len(labels)`.

        Args:
            start: int, number of the first image.
            labels: int32 `[n]`, what to generate; the values do not matter without classes.
            seed: int, of the whole series.

        Returns:
            `(images, labels)`: uint8 `[n, h, w, c]` and int32 `[n]`, the labels that the images
            were asked for, or None.
        """
        raise NotImplementedError

    def batches(self, num_images, labels=None, seed=0, chunk=1000):
        """Iterates over `(start, images, labels)` in chunks."""
        for start in range(0, num_images, chunk):
            stop = min(start + chunk, num_images)
            part = np.zeros(stop - start, np.int32) if labels is None else labels[start:stop]
            yield (start, *self.images(start, part, seed))

    def fingerprint(self, seed=0):
        """SHA-256, hexadecimal, of the first four images: models of equal hash are told apart by
        what they draw, whatever of their configuration the weights do not show."""
        count = 4 if self.limit is None else min(4, self.limit)
        labels = np.arange(count, dtype=np.int32) % (self.num_classes or 1)
        images, _ = self.images(0, labels, seed)
        return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()

    def record(self):
        """`dict` of JSON values: what was evaluated."""
        return {
            "name": self.name,
            "kind": self.kind,
            "path": self.path,
            "image_shape": None if self.image_shape is None else list(self.image_shape),
            "num_classes": self.num_classes,
            "weights": self.weights,
            "training_steps": self.training_steps,
        }


def as_generator(model, batch_size=64):
    """Wraps what can be evaluated.

    Args:
        model: an object with `generate(n, labels=None, seed=0)` that returns uint8
            `[n, h, w, c]`; the path of a SavedModel (its highest version is taken, or give one
            version), of a `.keras` file, or of a folder of images; a `Source`; or uint8 images.
            Models of this library get one seed for each image; others one int for each chunk.
        batch_size: images that a SavedModel or a model generates at a time.

    Returns:
        A `Generator`.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if it is nothing that generates images.
    """
    if isinstance(model, Generator):
        return model
    if isinstance(model, (str, os.PathLike)):
        return _from_path(Path(model).expanduser(), batch_size)
    if isinstance(model, Source):
        return SourceImages(model)
    if callable(getattr(model, "generate", None)):
        return ModelGenerator(model, batch_size)
    if hasattr(model, "shape") or isinstance(model, tuple):
        return SourceImages(load(model))
    raise ValueError(
        "`model` must have `generate(n, labels=None, seed=0)`, or be the path of a SavedModel, of "
        f"a .keras file or of a folder of images. Received: model={type(model).__name__}"
    )


def _from_path(path, batch_size):
    if not path.exists():
        raise FileNotFoundError(f"There is no such file or folder. Received: model={str(path)!r}")
    if path.suffix == ".keras":
        generator = ModelGenerator(load_keras(path), batch_size)
        generator.kind, generator.path = ".keras file", str(path)
        return generator
    if not path.is_dir():
        raise ValueError(
            "A file must be a .keras model; SavedModels and images are folders. "
            f"Received: model={str(path)!r}"
        )
    version = saved_model_version(path)
    if version is not None:
        return SavedModelGenerator(version, batch_size)
    return SourceImages(load(path, split="all"), path)


def load_keras(path):
    """A model of this library from a `.keras` file.

    Raises:
        ValueError: if the file is damaged or its model does not generate images.
    """
    import keras

    importlib.import_module("keras_gen.models")  # registers the classes that the file names
    try:
        model = keras.saving.load_model(path)
    except Exception as error:  # zip, JSON and deserialization errors are of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"The model cannot be loaded: {reason} Received: path={str(path)!r}"
        ) from error
    if not callable(getattr(model, "generate", None)):
        raise ValueError(
            f"This {type(model).__name__} does not generate images: it has no `generate`. "
            f"Received: path={str(path)!r}"
        )
    return model


def versions(directory):
    """The exported versions in a folder: dict from number to path, ascending."""
    found = {
        int(entry.name): entry
        for entry in Path(directory).iterdir()
        if entry.name.isascii() and entry.name.isdecimal() and (entry / "saved_model.pb").is_file()
    }
    return dict(sorted(found.items()))


def saved_model_version(path):
    """The folder of one version: the path itself, or its highest version; None if there is none."""
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    found = versions(path) if path.is_dir() else {}
    return found[max(found)] if found else None


def saved_model_info(version):
    """What the library wrote beside an export: `dict`, empty where there is nothing."""
    file = Path(version) / INFO_FILE
    try:
        info = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


class ModelGenerator(Generator):
    """A Python object with `generate`."""

    def __init__(self, model, batch_size=64):
        self._model, self._batch_size = model, batch_size
        self.name = getattr(model, "name", None) or type(model).__name__
        self.num_classes = getattr(model, "num_classes", None)
        self.image_shape = getattr(model, "image_shape", None)
        step = getattr(model, "step", None)
        counted = step is not None and not callable(step)  # a method is no number of steps
        self.training_steps = int(np.asarray(step)) if counted else None
        # models of this library take a seed for each image: then no image depends on its chunk
        self._seeds_each = hasattr(model, "generate_step")
        if callable(getattr(model, "weights_hash", None)):
            self.weights = model.weights_hash()

    def images(self, start, labels, seed=0):
        count, options = len(labels), {}
        if self.num_classes:
            options["labels"] = np.asarray(labels, np.int32)
        if self._seeds_each:
            seeds = row_seeds(seed, start + count)[start:]
            images = self._model.generate(count, seed=seeds, batch_size=self._batch_size, **options)
        else:
            images = self._model.generate(count, seed=int(seed) + start, **options)
        images = _checked(images, count, self.name)
        return images, options.get("labels")


class SavedModelGenerator(Generator):
    """The `serving_default` signature of an exported SavedModel."""

    kind = "SavedModel"

    def __init__(self, version, batch_size=64):
        import tensorflow as tf

        self.path, self._batch_size = str(version), batch_size
        info = saved_model_info(version)
        self.name = info.get("model") or Path(version).parent.name
        self.num_classes, self.weights = info.get("num_classes"), info.get("weights")
        self.training_steps = info.get("training_steps")
        self.image_shape = tuple(info["image_shape"]) if "image_shape" in info else None
        try:
            self._loaded = tf.saved_model.load(str(version))
            self._function = self._loaded.signatures["serving_default"]
        except Exception as error:  # missing files, protobuf and TensorFlow errors
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"The SavedModel cannot be loaded: {reason} Received: model={str(version)!r}"
            ) from error
        self._check_signature(version)

    def _check_signature(self, version):
        inputs = set(self._function.structured_input_signature[1])
        if not {"seed"} <= inputs <= {"seed", "label"}:
            raise ValueError(
                "The signature `serving_default` must take `seed` (and `label`). "
                f"Received: model={str(version)!r} with the inputs {sorted(inputs)}"
            )
        if "label" in inputs and not self.num_classes:
            raise ValueError(
                f"The SavedModel takes `label`, but its {INFO_FILE} does not say how many classes "
                f"there are. Received: model={str(version)!r}"
            )
        if self.num_classes and "label" not in inputs:
            raise ValueError(
                f"The SavedModel takes no `label`, but its {INFO_FILE} says that there are "
                f"{self.num_classes} classes. Received: model={str(version)!r}"
            )

    def images(self, start, labels, seed=0):
        import tensorflow as tf

        seeds = row_seeds(seed, start + len(labels))[start:]
        parts = []
        for first in range(0, len(labels), self._batch_size):
            rows = slice(first, first + self._batch_size)
            inputs = {"seed": tf.constant(seeds[rows], tf.int64)}
            if self.num_classes:
                inputs["label"] = tf.constant(labels[rows], tf.int32)
            parts.append(self._function(**inputs)["images"].numpy())
        images = _checked(np.concatenate(parts), len(labels), self.name)
        return images, np.asarray(labels, np.int32) if self.num_classes else None


class SourceImages(Generator):
    """Images that exist already: a folder, a `Source`, an array. Labels are their own.

    They come in an order that the seed chooses: the first images of a folder are those of its first
    class.
    """

    kind = "images"

    def __init__(self, source, path=None):
        self._source, self.limit = source, len(source)
        self.path = None if path is None else str(path)
        self.name = Path(source.name).name or source.name
        self.image_shape, self.num_classes = source.image_shape, source.num_classes
        self.class_names = source.class_names
        self._stream, self._position = None, None  # the position: (seed, number of the next image)

    def images(self, start, labels, seed=0):
        count = len(labels)
        if start + count > len(self._source):
            raise ValueError(
                f"{self.name} has {len(self._source):,} images. "
                f"Received: num_images={start + count}"
            )
        if self._position != (seed, start):
            self._stream = self._rows(start, seed)
        rows = [next(self._stream) for _ in range(count)]
        self._position = (seed, start + count)
        images = np.stack([image for image, _ in rows])
        if not self.num_classes:
            return images, None
        return images, np.array([label for _, label in rows], np.int32)

    def fingerprint(self, seed=0):
        """Of every image: a folder has no weights that name it."""
        return source_fingerprint(self._source)

    def _rows(self, start, seed):
        position = 0
        for images, labels in self._source.numpy_batches(_KEPT_BATCH, seed):
            for row in range(max(0, start - position), len(images)):
                yield images[row], None if labels is None else labels[row]
            position += len(images)


def source_fingerprint(source):
    """SHA-256, hexadecimal, of every image and label of a `Source`, in its own order."""
    digest = hashlib.sha256(repr((source.image_shape, source.num_classes)).encode())
    for images, labels in source.numpy_batches(_KEPT_BATCH):
        digest.update(np.ascontiguousarray(images).tobytes())
        digest.update(b"" if labels is None else np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()


def _checked(images, count, name):
    images = check_images(images)
    if len(images) != count:
        raise ValueError(
            f"{name!r} was asked for {count} images. Received: images of shape {images.shape}"
        )
    return images
