"""Sources of images: built-in digits, TFDS sets, folders, `.npz` files, arrays, moving digits."""

from keras_gen.data import augmentation
from keras_gen.data.epochs import Epochs, epochs_of
from keras_gen.data.load import load
from keras_gen.data.moving_digits import MovingDigits, moving_digits
from keras_gen.data.pairs import Pairs, masked, pairs, unpaired
from keras_gen.data.source import Source

__all__ = [
    "Epochs",
    "MovingDigits",
    "Pairs",
    "Source",
    "augmentation",
    "epochs_of",
    "load",
    "masked",
    "moving_digits",
    "pairs",
    "unpaired",
]
