"""How likely images are under a trained variational autoencoder."""

import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images, randomness
from keras_gen.models import hierarchy as stochastic
from keras_gen.models.base import in_batches, specs_of
from keras_gen.networks import inputs
from keras_gen.strategies import checked_count

CHUNK = 50  # latents of an image that are decoded at a time


class ImportanceBound:
    """Part of `VAE`: the importance-weighted bound."""

    # Samples of the exported `log_prob`: each image is decoded so many times.
    exported_samples = CHUNK

    def log_prob(self, pictures, labels=None, samples=500, seed=0, batch_size=64):
        """The importance-weighted lower bound of log p(x) (Burda et al. 2016, eq. 8).

            log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),   z_i drawn from q(z | x), i = 1 ... k

        One sample is the evidence lower bound; more come closer to log p(x), which they never
        exceed on average. What is likely is what the likelihood observes: an image binarized or
        dequantized at random is drawn once, from its seed. Of grey images that a Bernoulli
        likelihood does not binarize it is a bound of nothing; see `keras_gen.losses.Bernoulli`.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: as in `encode`; p(x) is then that of images of the label.
            samples: k, an int; published numbers take 5,000. A new number compiles nothing anew,
                from 50 on.
            seed: of the latents and the observation, for each image as in `generate`.
            batch_size: images at a time, times at most 50 latents; changes no more than the last
                digits.

        Returns:
            dict of "log_prob", nats, and "bits_per_dimension", NumPy float64 [n] each; "estimator",
            what the bound is called; and "data", what it is a likelihood of. Of a Gaussian the
            nats are those of a density of images in [-1, 1], the bits those of 256 levels.

        Raises:
            ValueError: when the pictures or labels do not fit the model, or `samples` is no
                positive integer.
        """
        pictures = self.checked_pictures(pictures)
        samples = checked_count("samples", samples)
        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        chunk = min(samples, CHUNK)

        def function(picture, seed, *rest):
            *label, count = rest
            return self._picture_bound(picture, seed, *label, samples=count, chunk=chunk)

        signature = [*specs_of(rows), tf.TensorSpec([], tf.int32)]
        compiled = self.compiled_function(("importance_bound", chunk), function, signature)
        nats = in_batches(compiled, rows, batch_size, samples)
        estimator = f"importance-weighted bound, k = {samples:,}"
        return {
            **self._with_bits(nats),
            "estimator": "variational bound" if samples == 1 else estimator,
            "data": self.likelihood.data,
        }

    def _with_bits(self, nats):
        bits = self.likelihood.bits_per_dimension(nats, int(np.prod(self.image_shape)))
        return {"log_prob": nats, "bits_per_dimension": bits}

    def _picture_bound(self, picture, seed, label=None, **settings):
        """`importance_bound` of pictures uint8 [rows, h, w, c]."""
        x = self._observed_rows(images.from_uint8(picture), seed)
        return self.importance_bound(x, seed, label, **settings)

    def importance_bound(self, x, seed, label=None, samples=CHUNK, chunk=CHUNK):
        """As `log_prob`, with tensors.

        Args:
            x: observed images, float32 [rows, h, w, c] in [-1, 1].
            seed: int64 [rows].
            label: int32 [rows] where the model has classes.
            samples: int or int32 scalar tensor.
            chunk: int, how many samples are decoded at a time.

        Returns:
            float64 [rows].
        """
        posterior = self.posterior(self.averaged_encoder, x, label)

        def body(i, total):
            noise = randomness.row_normal(seed, [chunk, self.noise_dim], "importance", i)
            log_weights = self._log_weights(x, *posterior, noise, label)
            used = i * chunk + tf.range(chunk) < samples
            log_weights = tf.where(used, log_weights, -np.inf)
            return i + 1, tf.reduce_logsumexp(tf.concat([total[:, None], log_weights], 1), 1)

        nothing = tf.fill(tf.shape(seed), tf.constant(-np.inf, tf.float64))
        _, total = tf.while_loop(
            lambda i, _: i * chunk < samples, body, (0, nothing), parallel_iterations=1
        )
        return total - tf.math.log(tf.cast(samples, tf.float64))

    def _log_weights(self, x, mean, log_variance, noise, label):
        """log p(x | z) + log p(z) - log q(z | x), float64 [rows, chunk], of z by the noise
        [rows, chunk, noise_dim]; with latents above it those of them as well."""
        chunk = noise.shape[1]
        noise = tf.reshape(noise, [-1, self.noise_dim])
        posterior = [tf.repeat(moment, chunk, 0) for moment in (mean, log_variance)]
        latent = stochastic.drawn(*posterior, noise[:, : self.latent_dim])
        label = None if label is None else tf.repeat(label, chunk)
        parameters = inputs.call(self.averaged_decoder, latent, label)
        parameters = tf.reshape(parameters, [-1, chunk, *parameters.shape[1:]])
        decoded = self.likelihood.log_prob(x[:, None], parameters)
        above = noise[:, self.latent_dim :]
        prior = stochastic.log_prior(self.averaged_layers_above, latent, above)
        ratio = prior - stochastic.log_normal(latent, *posterior)
        return tf.cast(decoded, tf.float64) + tf.reshape(ratio, [-1, chunk])

    def _observed_rows(self, x, seed):
        """What the likelihood observes of each image, drawn from the image's own seed."""

        def observed(row):
            image, seed = row
            return self.likelihood.observed(image, randomness.key(seed, "observed"))

        return tf.map_fn(observed, (x, seed), fn_output_signature=x.dtype)

    # Export

    def signatures(self):
        """As in `Latents`, and `log_prob`.

        `log_prob`: image uint8 [batch, h, w, c] (and label; and seed int64 [batch] where images are
        binarized or dequantized at random) -> log_prob, nats, and bits_per_dimension, float32
        [batch]: the bound of `exported_samples` latents, which are drawn from the seed, or the seed
        0 of every row, so that a row's number is a function of what is given of it alone.
        """
        samples = self.exported_samples

        def step(*rows):
            return self._picture_bound(*rows, samples=samples, chunk=min(samples, CHUNK))

        def log_prob(image, seed, label=None):
            nats = self.grouped(step, [image, seed, label], tf.TensorSpec((), tf.float64))
            return {k: tf.cast(v, tf.float32) for k, v in self._with_bits(nats).items()}

        signature = saved_model.log_prob_signature(self, log_prob, self.likelihood.random)
        return {**super().signatures(), "log_prob": signature}
