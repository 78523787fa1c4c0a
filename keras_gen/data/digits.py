"""scikit-learn's handwritten digits: real images without a network."""

import numpy as np

from keras_gen.data.arrays import load_arrays
from keras_gen.data.source import NoSuchSplit

_NUM_TRAIN = 1500
_SPLITS = {"train": slice(_NUM_TRAIN), "test": slice(_NUM_TRAIN, None), "all": slice(None)}


def load_digits(split, label, image_size, channels):
    """The 1,797 digits, 8x8 grey, 0..16 scaled to 0..255.

    They stand in the order in which people wrote them. "train" is the first 1,500, "test" the last
    297 (27 to 33 of each class), largely by other hands; "all" is both.
    """
    if split not in _SPLITS:
        raise NoSuchSplit(
            f"'digits' has the splits {', '.join(map(repr, _SPLITS))}. Received: split={split!r}"
        )
    from sklearn import datasets

    digits = datasets.load_digits()
    values = digits.images[_SPLITS[split]].astype(np.uint16)
    images = ((values * 255 + 8) // 16).astype(np.uint8)
    labels = None if label is False else digits.target[_SPLITS[split]]
    names = None if label is False else [str(name) for name in digits.target_names]
    return load_arrays(images, labels, "digits", image_size, channels, names)
