"""`load`: one function for all sources of images."""

import difflib
import numbers
import os
from pathlib import Path

from keras_gen.data.arrays import check_only_split, load_arrays, load_npz
from keras_gen.data.digits import load_digits
from keras_gen.data.folder import load_folder
from keras_gen.data.pixels import MAX_PIXELS
from keras_gen.data.tfds import find_builder, load_tfds, registered_names

MEMORY_LIMIT = 2**30
"""Bytes of decoded images up to which a folder or a TFDS set is held in memory."""


def load(
    source,
    split="train",
    image_size=None,
    channels=None,
    data_dir=None,
    on_error="raise",
    label=None,
    class_names=None,
    memory_limit=MEMORY_LIMIT,
):
    """Loads images, with labels where there are any.

    What `source` may be:

    - `"digits"`: scikit-learn's 1,797 digits, 8x8x1, without a network. Splits: `"train"` is the
      first 1,500, `"test"` the last 297, `"all"` both.
    - The name of a TFDS set, `"mnist"`, `"cifar10"`, `"celeb_a"` ... It is downloaded only if
      `data_dir` has no prepared copy. Splits: its own, slices such as `"train[:10%]"`, `"all"`.
    - A folder of PNG, JPEG, GIF (first frame), BMP or WebP files. If its sub-folders are called
      `train`, `test`, `val`, `valid` or `validation`, all of them, these are the splits, and
      `"all"`; otherwise `"train"` and `"all"` are both the whole.
    - An `.npz` file with `images`, `x` or `arr_0` and, if there are labels, `labels`, `y` or
      `arr_1`, split like an array; or with `x_train`, `y_train`, `x_test` ...: these splits.
    - An array, uint8 `[n, h, w]` or `[n, h, w, c]` with 1 or 3 channels, or a tuple of it and
      integer labels `[n]`. `"train"` and `"all"` are both the whole. The array is not copied.

    A bare name that TFDS knows, or "digits", means that set; write `"./mnist"` or `Path("mnist")`
    for a folder of that name.

    Folder: images that lie in it are unlabelled; otherwise every sub-folder is a class, with images
    at any depth, and classes are numbered by sorted name over all splits. Sub-folders without
    images are left out with a warning. Hidden files and other files are ignored. EXIF rotation is
    applied, transparency is composited on white, 16-bit samples are scaled to 8 bits. Every file is
    decoded once on loading to find those that are broken.

    Args:
        source: see the table.
        split: str, which part of the source.
        image_size: int or `(height, width)`: the largest centred crop of that aspect is resized
            (antialiased bicubic). None keeps the size, which must then be one for all images.
        channels: 1 or 3 to convert to grey (luma) or RGB (repetition). None keeps them; a folder
            that has both grey and coloured images gives RGB.
        data_dir: folder of prepared TFDS sets; by default the environment's `TFDS_DATA_DIR`, then
            TFDS's own default. Not used by other sources.
        on_error: what to do about broken files of a folder: `"raise"` lists them all in one error,
            `"skip"` lists them in a warning and goes on with the rest.
        label: None for the source's own labels (the feature `label` of a TFDS set); False for none;
            or the name of another class or true/false feature of a TFDS set, such as `"Smiling"`
            or `"attributes/Smiling"` of `celeb_a`, whose classes are then `"not Smiling"` and
            `"Smiling"`.
        class_names: list of str, for arrays and `.npz` files alone. Without it these have
            `max(labels) + 1` classes, without names.
        memory_limit: a folder or TFDS set is decoded once and held in memory if its images take at
            most this many bytes (1 GiB), and streamed otherwise.

    Returns:
        A `keras_gen.data.Source`.

    Raises:
        ValueError: if something in the arguments or in the data is wrong; the message says what.
            An image of more than 64,000,000 pixels counts as broken.
        FileNotFoundError: if a path does not exist.
        RuntimeError: if TFDS cannot download or prepare the set.

    Example:

    >>> source = load("digits")
    >>> len(source), source.image_shape, source.num_classes
    (1500, (8, 8, 1), 10)
    """
    image_size = check_image_size(image_size)
    _check_options(channels, on_error, memory_limit)
    class_names = _check_class_names(class_names)
    if not isinstance(source, (str, os.PathLike)):
        _check_label(label, source)
        return _load_arrays(source, split, label, image_size, channels, class_names)
    kind, found = _find(source, data_dir)
    if kind != "tfds":
        _check_label(label, source)
    if kind != "npz" and class_names is not None:
        raise ValueError(
            f"`class_names` is for arrays and .npz files. Received: class_names={class_names!r}"
        )
    if kind == "digits":
        return load_digits(split, label, image_size, channels)
    if kind == "npz":
        return load_npz(found, split, label, image_size, channels, class_names)
    if kind == "folder":
        return load_folder(found, split, label, image_size, channels, on_error, memory_limit)
    return load_tfds(found, split, label, image_size, channels, memory_limit)


def _load_arrays(source, split, label, image_size, channels, class_names):
    check_only_split(split, "An array")
    images, labels = source, None
    if isinstance(source, tuple):
        if len(source) != 2:
            raise ValueError(
                "A tuple must be (images, labels). "
                f"Received: source=a tuple of {len(source)} elements"
            )
        images, labels = source
    if label is False:
        labels = None
    return load_arrays(images, labels, "the array", image_size, channels, class_names)


def _find(source, data_dir):
    """What a name or path means: (kind, path or builder)."""
    text = os.fspath(source)
    if text == "digits" and isinstance(source, str):
        return "digits", None
    if not text:
        raise ValueError(_unknown_name(text))
    path = Path(text).expanduser()
    is_path = isinstance(source, os.PathLike) or os.sep in text
    if is_path and path.exists():
        return _kind_of_path(path, source)
    if not isinstance(source, os.PathLike) and not text.startswith((".", "~", os.sep)):
        builder = find_builder(text, data_dir)
        if builder is not None:
            return "tfds", builder
        if path.exists():
            return _kind_of_path(path, source)
        if not is_path and not path.suffix:
            raise ValueError(_unknown_name(text))
    raise FileNotFoundError(f"There is no such file or folder. Received: source={text!r}")


def _kind_of_path(path, source):
    if path.is_dir():
        return "folder", path
    if path.suffix.lower() in (".npz", ".npy"):
        return "npz", path
    raise ValueError(
        f"A file must be an .npz; give images as a folder. Received: source={os.fspath(source)!r}"
    )


def _unknown_name(name):
    known = ["digits", *registered_names()]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    return (
        f"Unknown source. {hint}A name must be 'digits' or a TFDS set such as 'mnist', 'cifar10' "
        "or 'celeb_a' (https://www.tensorflow.org/datasets/catalog); anything else an existing "
        f"folder or .npz file. Received: source={name!r}"
    )


def check_image_size(image_size):
    """(height, width) of what was given as `image_size`, or a ValueError; None remains None."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, numbers.Integral) else image_size
    try:
        height, width = pair
    except (TypeError, ValueError):
        height = width = None
    sizes_fit = all(
        isinstance(size, numbers.Integral) and not isinstance(size, bool) and size >= 1
        for size in (height, width)
    )
    if not sizes_fit or height * width > MAX_PIXELS:
        raise ValueError(
            "`image_size` must be a positive integer or (height, width), of at most "
            f"{MAX_PIXELS:,} pixels. Received: image_size={image_size!r}"
        )
    return int(height), int(width)


def _check_options(channels, on_error, memory_limit):
    if channels not in (None, 1, 3):
        raise ValueError(f"`channels` must be 1, 3 or None. Received: channels={channels!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip'. Received: on_error={on_error!r}")
    if not isinstance(memory_limit, numbers.Real) or memory_limit < 0:
        raise ValueError(
            "`memory_limit` must be a number of bytes, 0 or more. "
            f"Received: memory_limit={memory_limit!r}"
        )


def _check_class_names(class_names):
    if class_names is None:
        return None
    names = None if isinstance(class_names, str) else list(class_names)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`class_names` must be a list of strings. Received: class_names={class_names!r}"
        )
    return names


def _check_label(label, source):
    if label is not None and label is not False:
        raise ValueError(
            f"`label` names a feature of a TFDS set; other sources take None or False. "
            f"Received: label={label!r}"
        )
