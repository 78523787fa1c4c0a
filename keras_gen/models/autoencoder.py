"""Autoencoders (Hinton and Salakhutdinov 2006): images through a narrow latent and back."""

import keras
import tensorflow as tf

from keras_gen import losses, randomness
from keras_gen.models import gaussian_fit
from keras_gen.models.base import GenerativeModel
from keras_gen.models.latents import Latents
from keras_gen.networks import inputs

FIT_DECAY = 0.999  # of the distribution of the latents, per training step


@keras.saving.register_keras_serializable("keras_gen")
class Autoencoder(Latents, GenerativeModel):
    """An encoder and a decoder that are trained to give each image back.

    An autoencoder knows no distribution of its latents. So that it can `generate` all the same, it
    follows the mean and the covariance of the latents that it meets in training, of each class
    apart, over the last thousand steps or so, and draws from the normal distribution that has them.
    Where latents are distributed otherwise, images are poor: a `VAE` is made to generate.

    Example:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.Autoencoder(source.image_shape, num_classes=source.num_classes)
    model.compile()
    model.fit(source.batches(128), epochs=10)
    pictures, labels = source.take(16)
    latents = model.encode(pictures, labels)
    again = model.decode(latents, labels)
    ```

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        encoder: Functional model: images float32 [batch, h, w, c] in [-1, 1] (and label int32
            [batch] with classes) -> latent float32 [batch, latent_dim]. None:
            `networks.autoencoder.encoder`.
        decoder: Functional model: latent (and label) -> images float32 [batch, h, w, c] in [-1, 1],
            such as any GAN's generator; what lies beyond is clipped where images are made. None:
            `networks.autoencoder.decoder`, linear at its end but for "cross_entropy".
        latent_dim: units of the latent; None: those of the given networks, or 32.
        loss: "squared_error", "absolute_error" or "cross_entropy"; see `keras_gen.losses`.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the loss is unknown, or the networks do not fit the image shape, the
            classes or one another.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        encoder=None,
        decoder=None,
        latent_dim=None,
        loss="squared_error",
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        self.loss_name = loss
        self.loss_function = losses.get_reconstruction_loss(loss)
        output = {"parameters": 1, "activation": losses.OUTPUTS.get(loss)}
        self.use_networks(encoder, decoder, latent_dim, 1, output)
        # see `gaussian_fit`; each replica gives its share of the sums
        self.kinds = self.num_classes or 1
        self.latent_sums = self.add_weight(
            name="latent_sums",
            shape=(self.kinds, 1 + self.latent_dim, 1 + self.latent_dim),
            dtype="float64",
            initializer=lambda shape, dtype: gaussian_fit.first_sums(shape[0], shape[1] - 1),
            trainable=False,
            aggregation="mean",
        )
        self.built = True

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "latent_dim": self.latent_dim,
            "loss": self.loss_name,
        }

    # Training

    @property
    def loss_names(self):
        return ["loss"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        with randomness.scope(randomness.key(key, "encoder")):
            latent = inputs.call(self.encoder, x, y, training)
        if training:
            self._follow(tf.stop_gradient(latent), y)
        with randomness.scope(randomness.key(key, "decoder")):
            made = inputs.call(self.decoder, latent, y, training)
        return {"loss": self.loss_function(x, made)}

    def _follow(self, latents, labels):
        """Moves the distribution of the latents towards those of a batch."""
        steps = tf.cast(self.step.value, tf.float64)
        decay = tf.minimum((1 + steps) / (10 + steps), FIT_DECAY)
        sums = gaussian_fit.sums_of(latents, labels, self.kinds)
        sums *= self.distribute_strategy.num_replicas_in_sync
        moved = decay * self.latent_sums.value + sums
        # float16 may overflow, in a step that the optimizer then leaves out
        finite = tf.reduce_all(tf.math.is_finite(moved))
        self.latent_sums.assign(tf.where(finite, moved, self.latent_sums.value))

    @property
    def generating_weights(self):
        return [*super().generating_weights, self.latent_sums]

    # Latents

    def encode_step(self, x, label=None):
        return inputs.call(self.averaged_encoder, x, label)

    def decode_step(self, latent, label=None):
        return tf.clip_by_value(inputs.call(self.averaged_decoder, latent, label), -1, 1)

    def named_codes(self, codes):
        return {"latent": codes}

    def latents_of(self, noise, label=None):
        return gaussian_fit.transformed(noise, self.latent_sums.value, label)

    def encode(self, pictures, labels=None, batch_size=1024):
        """Latents of pictures, with the averaged encoder.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: class of the pictures, an int or an integer array [n]; for models with classes.
            batch_size: pictures in memory of the accelerator at a time; changes no result.

        Returns:
            NumPy float32 [n, latent_dim].

        Raises:
            ValueError: when the pictures or the labels do not fit the model.
        """
        return self.codes(pictures, labels, batch_size)
