"""Diffusion in the latents of an autoencoder (Rombach et al. 2022)."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_gen.models.base import GenerativeModel
from keras_gen.models.diffusion import Diffusion

SMALLEST_DEVIATION = 1e-3  # so that a channel of the latents that says nothing is not blown up


@keras.saving.register_keras_serializable("keras_gen")
class LatentDiffusion(GenerativeModel):
    """A trained autoencoder, which stays as it is, and a diffusion model of its latents.

    Example:

    ```python
    latent_shape = (16, 16, 4)
    autoencoder = kg.models.VAE(
        shape,
        encoder=kg.networks.autoencoder.spatial_encoder(shape, latent_shape),
        decoder=kg.networks.autoencoder.spatial_decoder(shape, latent_shape),
        beta=0.01,
    )
    ...  # compile and fit it
    diffusion = kg.models.Diffusion(latent_shape, source.num_classes, clip=False)
    model = kg.models.LatentDiffusion.measured(autoencoder, diffusion, source)
    model.compile()
    model.fit(source.batches(64), epochs=20)
    images = model.generate(16, labels=3, guidance_scale=2.0)
    ```

    Args:
        autoencoder: trained `VAE`, `VQVAE` or `Autoencoder`, without classes or with those of
            `diffusion`; its averaged networks are used.
        diffusion: `Diffusion` whose images are the latents, (height, width, channels) with as many
            numbers as the autoencoder's latent has units, made with `clip=False`. It says how
            images are sampled, and gives the seed and the average.
        mean, deviation: floats, what is subtracted from each channel of the latents and what they
            are divided by, so that the diffusion model sees a mean of 0 and a deviation of 1; of
            one number or one for each channel. `measured` takes them from data.

    Both models are copied, without their optimizers: those that are given stay as they are.

    Raises:
        ValueError: when the two do not fit one another.
    """

    def __init__(self, autoencoder, diffusion, mean=0.0, deviation=1.0, name=None):
        _check_pair(autoencoder, diffusion)
        super().__init__(
            autoencoder.image_shape,
            diffusion.num_classes,
            seed=diffusion.seed,
            ema=diffusion.ema,
            dtype=diffusion.dtype_policy,
            name=name,
        )
        self.autoencoder, self.diffusion = _copy(autoencoder), _copy(diffusion)
        self.autoencoder.trainable = False
        self.averages = self.diffusion.averages
        self.step.assign(self.diffusion.step)
        statistics = _checked_statistics(mean, deviation, diffusion.image_shape[-1])
        self.statistics = self.add_weight(
            name="statistics",
            shape=statistics.shape,
            dtype="float32",
            initializer=lambda shape, dtype: tf.constant(statistics, dtype),
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    @classmethod
    def measured(cls, autoencoder, diffusion, source, count=2000, name=None):
        """A model whose `mean` and `deviation` are those of the latents of some images.

        Args:
            autoencoder, diffusion, name: as of the class.
            source: as from `keras_gen.data.load`.
            count: how many of its images, drawn at random, are encoded.
        """
        _check_pair(autoencoder, diffusion)
        pictures, labels = source.take(min(count, len(source)), seed=0)
        latents = autoencoder.latents(pictures, labels if autoencoder.num_classes else None)
        latents = latents.reshape(-1, diffusion.image_shape[-1])
        deviation = np.maximum(latents.std(0, dtype=np.float64), SMALLEST_DEVIATION)
        mean = latents.mean(0, dtype=np.float64)
        return cls(autoencoder, diffusion, mean.tolist(), deviation.tolist(), name)

    def get_config(self):
        mean, deviation = self.statistics.numpy().tolist()
        return {
            "name": self.name,
            "autoencoder": _serialized(self.autoencoder),
            "diffusion": _serialized(self.diffusion),
            "mean": mean,
            "deviation": deviation,
        }

    def default_optimizer(self):
        return self.diffusion.default_optimizer()

    # Training

    @property
    def loss_names(self):
        return self.diffusion.loss_names

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        label = y if self.autoencoder.num_classes else None
        latents = self.normalized(self.autoencoder.encode_step(x, label))
        return self.diffusion.compute_loss(tf.stop_gradient(latents), y, training=training)

    def step_key(self, training=True):
        return self.diffusion.step_key(training)

    def finish_step(self):
        super().finish_step()
        self.diffusion.step.assign(self.step)  # by which it draws

    def normalized(self, codes):
        """Codes of the encoder, the latents first, as images for the diffusion model."""
        latents = tf.reshape(
            codes[:, : self.autoencoder.latent_dim], [-1, *self.diffusion.image_shape]
        )
        mean, deviation = tf.unstack(self.statistics.value)
        return (latents - mean) / deviation

    # Generation

    def generate_step(self, seed, label=None, sampling=None):
        drawn = self.diffusion.generate_step(seed, label, sampling)
        mean, deviation = tf.unstack(self.statistics.value)
        latents = tf.reshape(drawn * deviation + mean, [-1, self.autoencoder.latent_dim])
        return self.autoencoder.decode_step(
            latents, label if self.autoencoder.num_classes else None
        )

    def generate(self, n, labels=None, seed=0, batch_size=1024, progress=None, **how):
        """Generates images with the averaged weights.

        Args:
            n, labels, seed, batch_size, progress: as in `Diffusion.generate`.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as there.

        Returns:
            NumPy uint8 [n, height, width, channels].

        Raises:
            ValueError: when an argument is unknown or out of range.
        """
        rows = self.rows(n, labels, seed)
        return self.diffusion.sampled(
            ("latent", "generate"), self.generate_images, rows, batch_size, progress, how
        )

    @property
    def generating_weights(self):
        parts = self.diffusion.generating_weights, self.autoencoder.generating_weights
        return [*parts[0], *parts[1], self.statistics]


def _check_pair(autoencoder, diffusion):
    """Raises unless the two fit one another."""
    if not isinstance(diffusion, Diffusion) or not hasattr(autoencoder, "encode_step"):
        raise ValueError(
            "`autoencoder` must be a VAE, VQVAE or Autoencoder, `diffusion` a Diffusion. Received: "
            f"{type(autoencoder).__name__} and {type(diffusion).__name__}"
        )
    latent_shape = diffusion.image_shape
    if math.prod(latent_shape) != autoencoder.latent_dim:
        raise ValueError(
            f"`diffusion` must be of images of {autoencoder.latent_dim} numbers, the units of "
            f"the autoencoder's latent. Received: diffusion of images {latent_shape}"
        )
    if autoencoder.num_classes not in (None, diffusion.num_classes):
        raise ValueError(
            "`autoencoder` must have no classes or those of `diffusion`. Received: "
            f"{autoencoder.num_classes} and {diffusion.num_classes} classes"
        )
    if diffusion.clip or diffusion.upscale:
        raise ValueError(
            "`diffusion` must be made with clip=False, as latents do not end at -1 and 1, and must "
            f"not enlarge. Received: clip={diffusion.clip}, upscale={diffusion.upscale}"
        )


def _checked_statistics(mean, deviation, channels):
    """Mean and deviation as float32 [2, channels]."""
    try:
        pair = [np.broadcast_to(np.asarray(v, np.float32), [channels]) for v in (mean, deviation)]
    except ValueError:
        pair = None
    if pair is None or not pair[1].min() > 0:
        raise ValueError(
            f"`mean` and `deviation` must be one number or {channels}, the deviation positive. "
            f"Received: mean={mean!r}, deviation={deviation!r}"
        )
    return np.stack(pair)


def _copy(model):
    """The same model with the same weights, not compiled."""
    copy = model.__class__.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _serialized(model):
    """The model's configuration, without how it was compiled."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    return config
