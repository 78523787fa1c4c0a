"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014)."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_gen import losses, networks, randomness
from keras_gen.models import hierarchy as stochastic
from keras_gen.models.base import GenerativeModel
from keras_gen.models.latents import Latents
from keras_gen.models.vae_likelihood import ImportanceBound
from keras_gen.networks import inputs
from keras_gen.strategies import checked_count, not_negative

COLLAPSED = 0.01  # nats for each latent unit


@keras.saving.register_keras_serializable("keras_gen")
class VAE(ImportanceBound, Latents, GenerativeModel):
    """A variational autoencoder: a decoder of normal latents, and an encoder that infers them.

    Example:

    ```python
    source = kg.data.load("mnist")
    likelihood = kg.losses.Bernoulli("stochastic")  # grey pixels are probabilities of white
    model = kg.models.VAE(source.image_shape, source.num_classes, likelihood=likelihood)
    model.compile()
    model.fit(source.batches(128), epochs=10)
    images = model.generate(16, labels=3, seed=0)
    pictures, labels = source.take(16)
    mean, log_variance = model.encode(pictures, labels)
    nats = model.log_prob(pictures, labels, samples=500)["log_prob"]
    ```

    With q(z | x) = N(mean, variance) of the encoder and p(z) = N(0, 1), training minimizes

        reconstruction + beta * kl,   reconstruction = -log p(x | z),   kl = KL(q(z | x) || p(z)),

    one draw of z for each image: for beta 1 the negative evidence lower bound. `reconstruction` and
    `kl` are reported in nats an image; `loss` is their weighted total divided by the number of
    pixels and channels, so that learning rates and float16 do not care for the size of images.
    `generate`, `decode` and `reconstruct` give the expected image of a latent, without the noise
    that the likelihood has for each pixel.

    With a `hierarchy` the latent is drawn given another above it, p(z) = E p(z | u), u from N(0, 1)
    or again given one above it, and q(u | z) infers that (Burda et al. 2016); `kl` is then of all
    latents, by one draw of each, but for the highest in closed form. `encode`, `decode` and the
    rest are about z.

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        encoder: Functional model: images float32 [batch, h, w, c] in [-1, 1] (and label int32
            [batch] with classes) -> float32 [batch, 2 latent_dim], all means, then all
            log-variances. None: `networks.autoencoder.encoder`.
        decoder: Functional model: latent float32 [batch, latent_dim] (and label) -> float32
            [batch, h, w, p c], the p parameters of the likelihood. None:
            `networks.autoencoder.decoder`.
        latent_dim: units of the latent; None: those of the given networks, or 32.
        likelihood: "bernoulli", "gaussian", "discretized_logistic" or a
            `keras_gen.losses.Likelihood`.
        beta: weight of the KL divergence (beta-VAE, Higgins et al. 2017).
        free_bits: nats of each latent unit that cost nothing, whatever they say: the KL divergence
            of a unit counts as max(free_bits, kl) (Kingma et al. 2016, eq. 15, but for each image
            rather than for a batch's mean, so that replicas need not ask one another).
        hierarchy: the stochastic layers above the latent, the lowest first: for each the units of
            its latent, or a pair of networks (encoder float32 [batch, units below] -> float32
            [batch, 2 units], decoder [batch, units] -> [batch, 2 units below]; all means, then all
            log-variances). None above it by default.
        warm_up: training steps over which the weight of the KL divergence rises from 0 to `beta`
            (Bowman et al. 2016).
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is unknown or out of range, or the networks do not fit the
            image shape, the classes or one another.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        encoder=None,
        decoder=None,
        latent_dim=None,
        likelihood="bernoulli",
        beta=1.0,
        free_bits=0.0,
        warm_up=0,
        hierarchy=(),
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        not_negative(beta=beta, free_bits=free_bits)
        self.beta, self.free_bits = float(beta), float(free_bits)
        self.warm_up = checked_count("warm_up", warm_up, least=0)
        self.likelihood = losses.get_likelihood(likelihood)
        output = {"parameters": self.likelihood.parameters, "shared": self.likelihood.shared}
        self.use_networks(encoder, decoder, latent_dim, 2, output)
        self._use_hierarchy(hierarchy)
        self.built = True

    def get_config(self):
        serialized = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialized(self.encoder),
            "decoder": serialized(self.decoder),
            "latent_dim": self.latent_dim,
            "likelihood": serialized(self.likelihood),
            "beta": self.beta,
            "free_bits": self.free_bits,
            "warm_up": self.warm_up,
            "hierarchy": [list(map(serialized, pair)) for pair in self.layers_above],
        }

    def _use_hierarchy(self, hierarchy):
        """Sets the networks above the latent, and their averages."""
        if not isinstance(hierarchy, (list, tuple)):
            raise ValueError(
                "`hierarchy` must be a list, of units or of pairs of networks. "
                f"Received: hierarchy={hierarchy!r}"
            )
        if hierarchy and self.free_bits:
            raise ValueError(
                "Free bits are counted unit by unit, which a hierarchy is not. Received: "
                f"free_bits={self.free_bits} with hierarchy={hierarchy!r}"
            )
        self.noise_dim, below, pairs = self.latent_dim, self.latent_dim, []
        for i, layer in enumerate(hierarchy):
            if not isinstance(layer, (list, tuple)):
                units, seed = checked_count("hierarchy", layer), 1000 * (i + 1) + 2 * self.seed
                between = networks.autoencoder.between_latents
                layer = between(below, units, seed=seed), between(units, below, seed=seed + 1)
            units = _checked_pair(layer, below)
            pairs.append(layer)
            self.noise_dim += units
            below = units
        # Keras follows lists of networks, but not lists of pairs of them
        self.upper_encoders, self.upper_decoders = map(list, zip(*pairs)) if pairs else ([], [])
        self.averaged_upper_encoders = list(map(self.averages.follow, self.upper_encoders))
        self.averaged_upper_decoders = list(map(self.averages.follow, self.upper_decoders))

    @property
    def layers_above(self):
        """The pairs of networks (encoder, decoder) above the latent, the lowest first."""
        return list(zip(self.upper_encoders, self.upper_decoders))

    @property
    def averaged_layers_above(self):
        return list(zip(self.averaged_upper_encoders, self.averaged_upper_decoders))

    # Training

    @property
    def loss_names(self):
        return ["loss", "reconstruction", "kl"]

    def fit(self, *args, **kwargs):
        """As `GenerativeModel.fit`; warns at the end when the posterior has collapsed.

        That is: the mean KL divergence of the last epoch is below 0.01 nats for each latent unit,
        so that latents say next to nothing of their images. With a hierarchy, whose divergence
        counts what is lost above as well, a collapse may go without a warning.
        """
        history = super().fit(*args, **kwargs)
        kl = history.history.get("kl", [])
        if kl and kl[-1] < COLLAPSED * self.latent_dim:
            warnings.warn(
                f"The posterior of {self.name!r} has collapsed: the latents say {kl[-1]:.3g} nats "
                f"of an image, below {COLLAPSED} for each of {self.latent_dim} units. A warm-up of "
                "the KL divergence, free bits, a smaller beta or a weaker decoder may help.",
                stacklevel=2,
            )
        return history

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        x = self.likelihood.observed(x, randomness.key(key, "observed"))
        with randomness.scope(randomness.key(key, "encoder")):
            mean, log_variance = self.posterior(self.encoder, x, y, training)
        noise = randomness.normal([tf.shape(x)[0], self.noise_dim], randomness.key(key, "latent"))
        latent = stochastic.drawn(mean, log_variance, noise[:, : self.latent_dim])
        with randomness.scope(randomness.key(key, "decoder")):
            parameters = inputs.call(self.decoder, latent, y, training)
        reconstruction = -self.likelihood.log_prob(x, parameters)
        if self.upper_encoders:
            above = noise[:, self.latent_dim :]
            with randomness.scope(randomness.key(key, "hierarchy")):
                prior = stochastic.log_prior(
                    self.layers_above, latent, above, training, closed_form=True
                )
            inferred = stochastic.log_normal(latent, mean, log_variance)
            divergence = counted = tf.cast(inferred - prior, tf.float32)
        else:
            by_unit = stochastic.kl_divergence(mean, log_variance)
            divergence = tf.reduce_sum(by_unit, 1)
            counted = tf.reduce_sum(tf.maximum(by_unit, self.free_bits), 1)
        total = reconstruction + self.kl_weight(training) * counted
        return {
            "loss": total / np.prod(self.image_shape),
            "reconstruction": reconstruction,
            "kl": divergence,
        }

    def kl_weight(self, training=True):
        """`beta`, or in training the part of it that the warm-up has reached."""
        if not (training and self.warm_up):
            return self.beta
        return self.beta * tf.minimum(tf.cast(self.step.value, tf.float32) / self.warm_up, 1)

    @staticmethod
    def posterior(encoder, x, label=None, training=False):
        """Mean and log-variance of q(z | x) by an encoder, float32 [batch, latent_dim] each."""
        return stochastic.moments(inputs.call(encoder, x, label, training))

    # Latents

    def encode_step(self, x, label=None):
        x = self.likelihood.observed(x)
        return tf.concat(self.posterior(self.averaged_encoder, x, label), 1)

    def decode_step(self, latent, label=None):
        return self.likelihood.mean(inputs.call(self.averaged_decoder, latent, label))

    def named_codes(self, codes):
        mean, log_variance = tf.split(codes, 2, axis=1)
        return {"mean": mean, "log_variance": log_variance}

    def latents_of(self, noise, label=None):
        # the prior is the same for every class
        return stochastic.descended(self.averaged_upper_decoders, noise)

    def seed_latents(self, seed):
        """The latents of `generate_step`."""
        return self.latents_of(randomness.row_normal(seed, [self.noise_dim]))

    def encode(self, pictures, labels=None, batch_size=1024):
        """The posterior of pictures, with the averaged encoder.

        Pictures are taken as they are where training binarizes or dequantizes at random; where it
        binarizes by a threshold, so does this.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: class of the pictures, an int or an integer array [n]; for models with classes.
            batch_size: pictures in memory of the accelerator at a time; changes no result.

        Returns:
            (mean, log_variance), NumPy float32 [n, latent_dim] each.

        Raises:
            ValueError: when the pictures or the labels do not fit the model.
        """
        return tuple(np.split(self.codes(pictures, labels, batch_size), 2, axis=1))

    def active_units(self, pictures, labels=None, least=0.01, batch_size=1024):
        """Which latent units say something of pictures (Burda et al. 2016, section 5.2).

        Args:
            pictures, labels, batch_size: as in `encode`; at least two pictures, better hundreds.
            least: a unit is active where the variance of its mean over the pictures is above this.

        Returns:
            NumPy bool [latent_dim].
        """
        mean, _ = self.encode(pictures, labels, batch_size)
        return mean.var(axis=0) > least


def _checked_pair(pair, below):
    """The units of the latent of a layer above one of `below` units."""
    if len(pair) == 2 and all(getattr(network, "outputs", None) for network in pair):
        units = (pair[0].outputs[0].shape[-1] or 0) // 2
        shapes = [[tuple(t.shape[1:]) for t in (*n.inputs, *n.outputs)] for n in pair]
        if shapes == [[(below,), (2 * units,)], [(units,), (2 * below,)]]:
            for network in pair:
                inputs.check_float32(f"network {network.name!r}", network)
            return units
        received = f"networks from and to {shapes}"
    else:
        received = repr(pair)
    raise ValueError(
        f"A layer above {below} units is a number, or an encoder from {below} to twice its units "
        f"and a decoder from its units to {2 * below}. Received: {received}"
    )
