"""Networks: functions that return Functional keras.Models."""

from keras_gen.networks import dcgan, dit, mlp, pixelcnn, unet
