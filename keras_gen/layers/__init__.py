"""Layers that Keras lacks or does wrongly."""

from keras_gen.layers.dropout import Dropout
