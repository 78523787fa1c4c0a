"""How likely images are under a trained diffusion model."""

import functools
import math

import tensorflow as tf

from keras_gen import diffusion, images, randomness
from keras_gen.losses import BIN, Gaussian, bits_per_dimension
from keras_gen.models.base import in_batches, specs_of
from keras_gen.strategies import checked_count


class Likelihoods:
    """Part of `Diffusion`: log-likelihood and variational bound."""

    def log_likelihood(self, *args, **kwargs):
        """`log_prob`, as all models with a likelihood call it."""
        return self.log_prob(*args, **kwargs)

    def log_prob(
        self,
        pictures,
        labels=None,
        estimator="ode",
        steps=None,
        probes=1,
        seed=0,
        batch_size=64,
    ):
        """Log-probability of images, by one of two roads.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: as in `generate`, but for None, which is "no label".
            estimator: "ode": the probability-flow ODE (Song et al. 2021), of dequantized images.
                "bound": `variational_bound`, of the 256 levels.
            steps: of the ODE's Heun's method, equal in log-SNR (None: 64), or of the bound, at
                least 2.
            probes: random probes of the ODE's divergence (Hutchinson's estimate); more vary less.
            seed: of all that is drawn, for each image as in `generate`.
            batch_size: images at a time; changes no more than the last digits.

        Returns:
            dict of "log_prob", nats, and "bits_per_dimension", those of the 256 levels, of "ode" an
            estimate of an upper bound, as the noise of the cleanest time of the grid is left out
            (its deviation is told in "estimator": where that is above a level's 1/255, as on the
            linear path, images are as if blurred by it, and plain areas cost bits); float32 [n]
            each. "estimator" names the road, and "data" says of what the nats are: of "ode" they
            are those of the density of images in [-1, 1].

        Raises:
            ValueError: when the estimator is unknown, a number is no count, or the pictures do not
                fit the model.
        """
        if estimator == "bound":
            bits = self.variational_bound(pictures, labels, steps, seed, batch_size)["total"]
            return {
                "log_prob": -bits * (math.prod(self.image_shape) * math.log(2)),
                "bits_per_dimension": bits,
                "estimator": f"variational bound, {self._bound_steps(steps):,} steps",
                "data": "256 levels, not binarized",
            }
        if estimator != "ode":
            raise ValueError(
                f'`estimator` must be "ode" or "bound". Received: estimator={estimator!r}'
            )
        self.check_purpose()
        pictures = self.checked_pictures(pictures)
        steps = 64 if steps is None else checked_count("steps", steps)
        probes = checked_count("probes", probes)
        times = diffusion.logsnr(self.noise_path, steps + 1)
        if isinstance(self.noise_path, diffusion.DiscretePath):
            # not beyond the grid's noise: a prediction of noise says nothing of the data there
            noisiest, _ = self.noise_path.log_snr_range
            first = self.noise_path.time(tf.constant([noisiest], tf.float64))
            times = tf.concat([first, times[1:]], 0)
        times = times.numpy()

        def function(picture, seed, label=None):
            row_uniform = functools.partial(randomness.row_uniform, seed, self.image_shape)
            x = images.from_uint8(picture)
            x += row_uniform("dequantization", 0, minval=-BIN / 2, maxval=BIN / 2)
            signs = [
                tf.sign(row_uniform("probes", i, minval=-1.0, maxval=1.0)) for i in range(probes)
            ]
            denoise = self.denoiser(label, clip=False)
            return diffusion.ode_log_likelihood(denoise, self.noise_path, x, times, tf.stack(signs))

        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        compiled = self.compiled_function(("ode", steps, probes), function, specs_of(rows))
        nats = in_batches(compiled, rows, batch_size)
        left = float(self.noise_path.sigma(times[-2]))
        return {
            "log_prob": nats,
            "bits_per_dimension": bits_per_dimension(nats, math.prod(self.image_shape), BIN),
            "estimator": f"probability-flow ODE from noise of deviation {left:.2g}, "
            f"{steps} steps of Heun, probes: {probes}",
            "data": Gaussian().data,
        }

    def variational_bound(self, pictures, labels=None, steps=None, seed=0, batch_size=64):
        """The variational bound of Ho et al. 2020, eq. 5, term by term, in bits per dimension.

        Args:
            pictures, labels, seed, batch_size: as in `log_prob`.
            steps: at least 2. None: the steps of the path, or 1,000. They are equal in time, but
                on EDM's path, whose time is the noise, equal in log-SNR.

        Returns:
            dict of float32 arrays: "prior" [n], "steps" [n, steps - 1] from the noisiest on,
            "decoder" [n] and "total" [n], their sum: an upper bound of -log2 p, divided by
            height * width * channels.
        """
        self.check_purpose()
        pictures = self.checked_pictures(pictures)
        steps = self._bound_steps(steps)
        is_edm = isinstance(self.noise_path, diffusion.EDM)
        times = (diffusion.logsnr if is_edm else diffusion.uniform)(self.noise_path, steps)
        times = times.numpy()
        decoder_variance = times[-2] ** 2 if is_edm else None  # its time is the noise

        def function(picture, seed, label=None):
            terms = diffusion.variational_bound(
                self.denoiser(label),
                self.noise_path,
                images.from_uint8(picture),
                times,
                lambda step: randomness.row_normal(seed, self.image_shape, "bound", step),
                decoder_variance=decoder_variance,
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

    def _bound_steps(self, steps):
        if steps is None:
            return max(2, getattr(self.noise_path, "timesteps", 1000))
        return checked_count("steps", steps, least=2)
