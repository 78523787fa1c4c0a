"""Layers that Keras lacks, does wrongly or does too slowly."""

from keras_gen.layers.convolution import Conv2D, convolve
from keras_gen.layers.dropout import Dropout
