"""Layers that Keras lacks, or has but for stateless randomness or speed."""

from keras_gen.layers.causal_conv import CausalConv, Shift
from keras_gen.layers.dropout import Dropout
from keras_gen.layers.embeddings import TimeEmbedding
from keras_gen.layers.group_norm import GroupNorm
from keras_gen.layers.shared_channels import SharedChannels
