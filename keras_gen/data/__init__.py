"""Sources of images: built-in digits, TFDS sets, folders, `.npz` files and arrays."""

from keras_gen.data import augmentation
from keras_gen.data.epochs import Epochs, epochs_of
from keras_gen.data.load import load
from keras_gen.data.source import Source

__all__ = ["Epochs", "Source", "augmentation", "epochs_of", "load"]
