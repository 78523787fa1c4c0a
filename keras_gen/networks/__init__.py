"""Networks: functions that return Functional keras.Models."""

from keras_gen.networks import autoencoder, dcgan, dit, mlp, pixelcnn, resnet, unet
