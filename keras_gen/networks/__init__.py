"""Networks: functions that return Functional keras.Models."""

from keras_gen.networks import (
    autoencoder,
    convlstm,
    dcgan,
    dit,
    inputs,
    mlp,
    patchgan,
    pixelcnn,
    resnet,
    sequence,
    translation,
    unet,
)
