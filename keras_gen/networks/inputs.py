"""Inputs that the networks of several families share."""

import keras


def label_input():
    """Input of class labels, int32 [batch]."""
    return keras.Input((), dtype="int32", name="label")


def one_hot(label, num_classes):
    """Labels [batch] as float32 [batch, num_classes].

    A Dense layer on it is an embedding whose gradient is a matrix product: the same numbers in
    every run, and under XLA, which a gather does not promise.
    """
    return keras.ops.one_hot(label, num_classes, dtype="float32")


def call(network, inputs, label=None, training=False):
    """Calls a network that takes `inputs`, or [inputs, label] where there are classes."""
    return network(inputs if label is None else [inputs, label], training=training)
