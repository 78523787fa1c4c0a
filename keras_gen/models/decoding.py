"""What models that make images of latents share."""

import numpy as np
import tensorflow as tf

from keras_gen import images
from keras_gen.models.base import in_batches, specs_of


class Decoding:
    """Part of models with `latent_dim` and `decode_step`: images of latents that are given."""

    def decode_step(self, z, label=None):
        """Images of one group of latents, with the averaged weights: pure tensors in and out.

        Args:
            z: float32 [rows, latent_dim].
            label: int32 [rows] where the model has classes.

        Returns:
            float32 [rows, height, width, channels] in [-1, 1].
        """
        raise NotImplementedError

    def decode_latents(self, latent, label=None):
        """As `decode_step`, for any number of latents; uint8 [batch, h, w, c]."""
        spec = tf.TensorSpec(self.image_shape, tf.uint8)
        return self.grouped(
            lambda z, *label: images.to_uint8(self.decode_step(z, *label)), [latent, label], spec
        )

    def decode(self, latents, labels=None, batch_size=1024):
        """Images of latents.

        Args:
            latents: float [n, latent_dim].
            labels: class of the images, an int or an integer array [n]; for models with classes.
            batch_size: images in memory of the accelerator at a time; changes no image.

        Returns:
            NumPy uint8 [n, height, width, channels].

        Raises:
            ValueError: when the latents or the labels do not fit the model.
        """
        latents = np.asarray(latents, np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise ValueError(
                f"`latents` must be [n, {self.latent_dim}]. "
                f"Received: latents of shape {latents.shape}"
            )
        rows = [latents, *self.picture_rows(len(latents), labels)[1:]]
        function = self.compiled_function("decode", self.decode_latents, specs_of(rows))
        return in_batches(function, rows, batch_size)
