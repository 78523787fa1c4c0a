"""Image sets of TensorFlow Datasets (TFDS)."""

import collections
import os
import re

import numpy as np
import tensorflow as tf

from keras_gen.data.arrays import ArraySource
from keras_gen.data.epochs import buffer_shuffled, untuned
from keras_gen.data.folder import describe_sizes
from keras_gen.data.pixels import fit, image_of
from keras_gen.data.source import SHUFFLE_BUFFER, NoSuchSplit, Source

_LOOK_AT = 100  # records of a set that is streamed, or whose feature leaves the size open


class TFDSSource(Source):
    """Records that are read and decoded anew in every pass."""

    def __init__(self, records, decoder, name, count, image_shape, num_classes, class_names):
        super().__init__(name, count, image_shape, num_classes, class_names)
        self._records = records
        self._decoder = decoder

    def _read(self, batch_size, key, drop_remainder):
        records = self._records
        if key is not None:
            records = buffer_shuffled(records, SHUFFLE_BUFFER, *key)
        images = records.map(self._decoder, num_parallel_calls=os.cpu_count(), deterministic=True)
        return images.batch(batch_size, drop_remainder)

    def _take(self, num_images, seed):
        key = None if seed is None else (seed, 0)
        one = tf.data.Dataset.from_tensors(0).flat_map(
            lambda _: self._read(num_images, key, drop_remainder=False)
        )
        element = next(untuned(one).as_numpy_iterator())
        return element if self.num_classes else (element, None)


def find_builder(name, data_dir=None):
    """The TFDS builder of that name, or None. Nothing is downloaded."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"))
    except (ValueError, AssertionError) as error:
        if re.split("[:/]", name)[0] in registered_names():  # a wrong configuration or version
            raise ValueError(f"{str(error).strip()} Received: source={name!r}") from error
        return None


def registered_names():
    """The names of all data sets that TFDS knows."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def load_tfds(builder, split, label, image_size, channels, memory_limit):
    """A source from a TFDS builder, which is downloaded and prepared if it is not yet."""
    image_path, image_feature = _image_feature(builder)
    label_path, class_names = _label_feature(builder, label)
    _prepare(builder)
    split = _check_split(builder, split)
    records = _records(builder, split, image_path, label_path)
    count = _count(builder, split, records)
    stored_size = image_feature.shape[:2] if image_size else _size(builder, records, image_feature)
    depth = image_feature.shape[-1] or 3
    image_shape = (*(image_size or stored_size), channels or (1 if depth == 1 else 3))
    as_stored = image_shape == (*stored_size, depth)
    decoder = _decoder(image_shape, depth, bool(label_path), as_stored)
    num_classes = len(class_names) if class_names else None
    source = TFDSSource(
        records, decoder, builder.name, count, image_shape, num_classes, class_names
    )
    if count * int(np.prod(image_shape)) <= memory_limit:
        return _in_memory(source)
    if num_classes:
        first = [int(number) for _, number in records.take(_LOOK_AT)]
        _check_in_range(np.array(first), source)
    return source


def _image_feature(builder):
    """The path and feature of the image: `image`, or else the only image there is."""
    import tensorflow_datasets as tfds

    images = {
        path: feature
        for path, feature in _leaves(builder.info.features)
        if isinstance(feature, tfds.features.Image) and len(feature.shape) == 3
    }
    path = ("image",) if ("image",) in images else next(iter(images), None)
    if path is None or (path != ("image",) and len(images) > 1):
        raise ValueError(
            f"The TFDS set must have a feature `image`, or one image feature. "
            f"Received: source={builder.name!r} with features={sorted(builder.info.features)}"
        )
    feature = images[path]
    if feature.np_dtype != np.uint8:
        raise ValueError(
            f"The images of the TFDS set must be uint8. "
            f"Received: source={builder.name!r} with dtype={feature.np_dtype}"
        )
    return path, feature


def _leaves(features, path=()):
    for name, feature in features.items():
        if hasattr(feature, "items"):
            yield from _leaves(feature, (*path, name))
        else:
            yield (*path, name), feature


def _label_feature(builder, label):
    """The path and class names of the label, or (None, None)."""
    if label is False:
        return None, None
    classes = {
        path: names
        for path, feature in _leaves(builder.info.features)
        if (names := _names(path, feature)) is not None
    }
    if label is None:
        return (("label",), classes["label",]) if ("label",) in classes else (None, None)
    found = [path for path in classes if label in (path[-1], "/".join(path))]
    if len(found) != 1:
        possible = ", ".join("/".join(path) for path in classes) or "none"
        raise ValueError(
            f"`label` must name one class or true/false feature of {builder.name!r}; it has: "
            f"{possible}. Received: label={label!r}"
        )
    return found[0], classes[found[0]]


def _names(path, feature):
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return list(feature.names)
    if feature.shape == () and feature.np_dtype == np.bool_:
        return [f"not {path[-1]}", path[-1]]
    return None


def _prepare(builder):
    if builder.is_prepared():
        return
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise RuntimeError(
            f"TFDS has no prepared copy of {builder.name!r} in {builder.data_dir}, and could not "
            f"make one: {type(error).__name__}: {error}\nWithout a network, give the folder of a "
            "prepared copy as `data_dir` or in TFDS_DATA_DIR. "
            f"Received: source={builder.name!r}"
        ) from error


def _check_split(builder, split):
    splits = builder.info.splits
    if not splits:  # under tfds.testing.mock_data
        return split
    if split == "all" and "all" not in splits:
        return "+".join(splits)
    try:
        if splits[split].num_examples:
            return split
        problem = "the part asked for is empty"
    except (ValueError, KeyError) as error:
        problem = str(error).splitlines()[0]
    raise NoSuchSplit(
        f"{builder.name!r} has the splits {', '.join(map(repr, [*splits, 'all']))}, and slices of "
        f"them such as 'train[:10%]': {problem} Received: split={split!r}"
    )


def _records(builder, split, image_path, label_path):
    """A dataset of (encoded image, label), in the order of the files."""
    import tensorflow_datasets as tfds

    wanted = _nest({path: True for path in (image_path, label_path) if path})
    skip = _nest({image_path: tfds.decode.SkipDecoding()})
    records = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(wanted, decoders=skip),
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
    )

    def pair(record):
        image = _at(record, image_path)
        return (image, tf.cast(_at(record, label_path), tf.int32)) if label_path else image

    return records.map(pair)


def _nest(values):
    nested = {}
    for path, value in values.items():
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return nested


def _at(record, path):
    for name in path:
        record = record[name]
    return record


def _count(builder, split, records):
    count = int(records.cardinality())
    return count if count >= 0 else builder.info.splits[split].num_examples


def _size(builder, records, feature):
    """(height, width): the feature's, or that of the first records if these agree."""
    if None not in feature.shape[:2]:
        return feature.shape[:2]
    sizes = collections.Counter()
    for record in untuned(records.take(_LOOK_AT)):
        data = record[0] if isinstance(record, tuple) else record
        sizes[tuple(_decode(data, 0).shape[:2])] += 1
    if len(sizes) > 1:
        raise ValueError(
            f"The images differ in size (height x width), the first {_LOOK_AT} being "
            f"{describe_sizes(sizes)}. Give `image_size`. "
            f"Received: source={builder.name!r}, image_size=None"
        )
    return next(iter(sizes))


def _decode(data, channels):
    if channels == 4:
        return tf.io.decode_png(data, channels=4)
    # Reads PNG as well. TensorFlow's default for JPEG darkens red and blue by 1.2 grey levels.
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")


def _decoder(image_shape, depth, labelled, as_stored):
    """Function of (encoded image, label); an image `as_stored` must have the shape already."""

    def fitted(array):
        return fit(image_of(array), image_shape[:2], image_shape[2])

    def decode_image(data):
        image = _decode(data, depth)
        if not as_stored:
            image = tf.numpy_function(fitted, [image], tf.uint8)
        return tf.ensure_shape(image, image_shape)

    def decode_record(data, label=None):
        return (decode_image(data), label) if labelled else decode_image(data)

    return decode_record


def _in_memory(source):
    images = np.empty((len(source), *source.image_shape), np.uint8)
    labels = np.empty(len(source), np.int32) if source.num_classes else None
    start = 0
    try:
        for batch, numbers in source.numpy_batches(min(1024, len(source))):
            images[start : start + len(batch)] = batch
            if labels is not None:
                labels[start : start + len(batch)] = numbers
            start += len(batch)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"Cannot decode all images to {source.image_shape} (if they differ in size, give "
            f"`image_size`): {error.message.splitlines()[0]} Received: source={source.name!r}"
        ) from error
    _check_in_range(labels, source)
    return ArraySource(source.name, images, labels, source.num_classes, source.class_names)


def _check_in_range(labels, source):
    if labels is not None and (labels.min() < 0 or labels.max() >= source.num_classes):
        raise ValueError(
            f"The labels must be in [0, {source.num_classes}); some splits of TFDS have no labels "
            "and say -1: then give `label=False`. "
            f"Received: source={source.name!r}, labels in [{labels.min()}, {labels.max()}]"
        )
