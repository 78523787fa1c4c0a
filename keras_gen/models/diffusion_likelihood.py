"""How likely images are under a trained diffusion model."""

import functools

import numpy as np
import tensorflow as tf

from keras_gen import diffusion, images, randomness
from keras_gen.models.base import in_batches, specs_of


class Likelihoods:
    """Part of `Diffusion`: log-likelihood and variational bound."""

    def log_likelihood(self, pictures, labels=None, steps=64, probes=1, seed=0, batch_size=64):
        """Log-likelihood by the probability-flow ODE (Song et al. 2021), of dequantized images.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: as in `generate`, but for None, which is "no label".
            steps: of Heun's method, equal in log-SNR.
            probes: random probes of the divergence (Hutchinson's estimate); more vary less.
            seed: of the dequantization and the probes, for each image as in `generate`.
            batch_size: images at a time; changes no more than the last digits.

        Returns:
            dict of "log_likelihood", nats of the density of the images in [-1, 1], and
            "bits_per_dimension", an upper bound of those of the 256 levels; float32 [n] each.
        """
        self.check_purpose()
        pictures = self.checked_pictures(pictures)

        def function(picture, seed, label=None):
            row_uniform = functools.partial(randomness.row_uniform, seed, self.image_shape)
            x = images.from_uint8(picture)
            half = 1 / 255
            x += row_uniform("dequantization", 0, minval=-half, maxval=half)
            signs = [
                tf.sign(row_uniform("probes", i, minval=-1.0, maxval=1.0)) for i in range(probes)
            ]
            times = diffusion.logsnr(self.noise_path, steps + 1)
            denoise = self.denoiser(label, clip=False)
            return diffusion.ode_log_likelihood(denoise, self.noise_path, x, times, tf.stack(signs))

        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        compiled = self.compiled_function(("ode", steps, probes), function, specs_of(rows))
        nats = in_batches(compiled, rows, batch_size)
        bits = diffusion.bits_per_dimension(nats, int(np.prod(self.image_shape)))
        return {"log_likelihood": nats, "bits_per_dimension": bits}

    def variational_bound(self, pictures, labels=None, steps=None, seed=0, batch_size=64):
        """The variational bound of Ho et al. 2020, eq. 5, term by term, in bits per dimension.

        Args:
            pictures, labels, seed, batch_size: as in `log_likelihood`.
            steps: None: the steps of the path, or 1,000.

        Returns:
            dict of float32 arrays: "prior" [n], "steps" [n, steps - 1] from the noisiest on,
            "decoder" [n] and "total" [n], their sum: an upper bound of -log2 p, divided by
            height * width * channels.
        """
        self.check_purpose()
        pictures = self.checked_pictures(pictures)
        steps = steps or getattr(self.noise_path, "timesteps", 1000)

        def function(picture, seed, label=None):
            terms = diffusion.variational_bound(
                self.denoiser(label),
                self.noise_path,
                images.from_uint8(picture),
                diffusion.uniform(self.noise_path, steps),
                lambda step: randomness.row_normal(seed, self.image_shape, "bound", step),
            )
            ends = terms["prior"][:, None], terms["decoder"][:, None]
            return tf.concat([ends[0], tf.transpose(terms["steps"]), ends[1]], 1)

        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        compiled = self.compiled_function(("bound", steps), function, specs_of(rows))
        terms = in_batches(compiled, rows, batch_size)
        return {
            "total": terms.sum(1),
            "prior": terms[:, 0],
            "steps": terms[:, 1:-1],
            "decoder": terms[:, -1],
        }
