"""Layers that Keras lacks, or has but for stateless randomness, gradients or speed."""

from keras_gen.layers.causal_conv import CausalConv, Shift
from keras_gen.layers.dropout import Dropout
from keras_gen.layers.embeddings import TimeEmbedding
from keras_gen.layers.equalized import EqualizedLearningRate
from keras_gen.layers.gate import Gate
from keras_gen.layers.group_norm import GroupNorm
from keras_gen.layers.half_resolution import HalfResolution
from keras_gen.layers.history_buffer import HistoryBuffer
from keras_gen.layers.learned_scale import LearnedScale
from keras_gen.layers.minibatch_std import MinibatchStd
from keras_gen.layers.moved import Moved
from keras_gen.layers.pointwise import Pointwise
from keras_gen.layers.recomputed import Recomputed
from keras_gen.layers.resampled_conv import ResampledConv
from keras_gen.layers.shared_channels import SharedChannels
from keras_gen.layers.spectral_normalization import SpectralNormalization
