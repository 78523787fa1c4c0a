"""Diffusion and flow models: a network learns to undo noise, a sampler undoes it step by step."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_gen import diffusion, images, networks, randomness
from keras_gen import export as saved_model
from keras_gen.data.arrays import check_images
from keras_gen.models.base import GenerativeModel, in_batches, in_groups


@keras.saving.register_keras_serializable("keras_gen")
class Diffusion(GenerativeModel):
    """A diffusion or flow model.

    Example:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.Diffusion(source.image_shape, num_classes=source.num_classes)
    model.compile()
    model.fit(source.batches(128), epochs=5)
    images = model.generate(16, labels=3, guidance_scale=2.0, seed=0)
    ```

    The default is a rectified flow (Liu et al. 2022). DDPM (Ho et al. 2020) is
    `Diffusion(shape, path="linear", prediction="noise", sampler="ddpm", steps=1000)`; EDM (Karras
    et al. 2022) is `Diffusion(shape, path="edm")`.

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        network: Functional model: [image, time] (and label, where `num_classes` means "no label")
            -> float32 [batch, h, w, c]. None: `networks.unet.denoiser`.
        path: how noise is mixed: "rectified_flow", "linear", "cosine", "edm" or a
            `keras_gen.diffusion.Path`.
        prediction: what the network puts out: "velocity", "noise", "data", "edm" or a
            `keras_gen.diffusion.Prediction`. None: "edm" on EDM's path, else "velocity".
        weighting: of the squared error over time: "uniform", "min_snr", "edm" or a
            `keras_gen.diffusion.Weighting`.
        times: at which times to train: "uniform", "stratified", "logit_normal", "log_normal",
            "discrete" or a `keras_gen.diffusion.TimeSampler`. None: logit-normal on the rectified
            flow, log-normal on EDM's path, the path's own steps where it has steps.
        label_dropout: fraction of the examples trained without their label, so that guidance has
            an unconditional model to go by; of no meaning without classes.
        sampler, grid, steps, guidance_scale, guidance_interval: what `generate` does where it is
            not told otherwise, and what the exported model does.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is unknown or out of range, or the network does not fit.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        network=None,
        path="rectified_flow",
        prediction=None,
        weighting="uniform",
        times=None,
        label_dropout=0.1,
        sampler="heun",
        grid=None,
        steps=12,
        guidance_scale=1.0,
        guidance_interval=None,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        self.noise_path = diffusion.get_path(path)  # Keras calls its own name of a model `path`
        is_edm = isinstance(self.noise_path, diffusion.EDM)
        self.prediction = diffusion.get_prediction(prediction or ("edm" if is_edm else "velocity"))
        self.weighting = diffusion.get_weighting(weighting)
        self.times = diffusion.get_time_sampler(times or _default_times(self.noise_path))
        if not 0 <= label_dropout < 1:
            raise ValueError(
                f"`label_dropout` must lie in [0, 1). Received: label_dropout={label_dropout!r}"
            )
        self.label_dropout = float(label_dropout)
        if callable(sampler) or callable(grid):
            raise ValueError(
                "The model's own `sampler` and `grid` must be names, as they are saved with it. "
                f"Received: sampler={sampler!r}, grid={grid!r}"
            )
        self.sampling = {
            "sampler": sampler,
            "grid": grid,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "guidance_interval": guidance_interval,
        }
        self._checked_sampling({})
        if network is None:
            network = networks.unet.denoiser(
                self.image_shape, num_classes=self.num_classes, seed=self.seed
            )
        self._check_network(network)
        self.network = network
        self.averaged_network = self.averages.follow(network)
        self.built = True

    def _check_network(self, network):
        expected = 3 if self.num_classes else 2
        if len(network.inputs) != expected:
            names = "[image, time, label]" if self.num_classes else "[image, time]"
            raise ValueError(
                f"The network must take {names}, as num_classes={self.num_classes}. "
                f"Received: a network with inputs {[i.name for i in network.inputs]}"
            )
        taken, made = network.inputs[0].shape[1:], network.outputs[0].shape[1:]
        if taken != self.image_shape or made != self.image_shape:
            raise ValueError(
                f"The network must take and make images {self.image_shape}. "
                f"Received: a network from {taken} to {made}"
            )

    def get_config(self):
        serialized = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialized(self.network),
            "path": serialized(self.noise_path),
            "prediction": serialized(self.prediction),
            "weighting": serialized(self.weighting),
            "times": serialized(self.times),
            "label_dropout": self.label_dropout,
            **self.sampling,
        }

    def compile(self, optimizer=None, **kwargs):
        """Sets the optimizer.

        Args:
            optimizer: None: Adam, rate 5e-4, gradients clipped to a global norm of 1.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in
                `GenerativeModel.compile`.
        """
        optimizer = optimizer or keras.optimizers.Adam(5e-4, global_clipnorm=1.0)
        variables = self.network.trainable_variables
        super().compile(self._built_optimizer(optimizer, variables), **kwargs)

    # Training

    @property
    def loss_names(self):
        return ["loss"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        t = self.times([tf.shape(x)[0]], randomness.key(key, "times"))
        noise, y = self.noise_and_labels(x, y, key, training)
        noisy = self.noise_path.mix(x, noise, t)
        with randomness.scope(randomness.key(key, "network")):
            output = self.predict_at(self.network, noisy, t, y, training)
        target = self.prediction.target(self.noise_path, x, noise, t)
        error = tf.reduce_mean(tf.square(output - target), [1, 2, 3])
        return {"loss": self.weighting(self.noise_path, self.prediction, t) * error}

    def noise_and_labels(self, x, y, key, training):
        """Noise shaped as the images x, and the labels y, some of them left out in training."""
        batch = tf.shape(x)[0]
        noise = randomness.normal([batch, *self.image_shape], randomness.key(key, "noise"))
        if self.num_classes and training and self.label_dropout:
            dropped = randomness.uniform([batch], randomness.key(key, "labels"))
            y = tf.where(dropped < self.label_dropout, self.num_classes, y)
        return noise, y

    def predict_at(self, network, x, t, label=None, training=False):
        """The output of a network, float32 [batch, h, w, c], for x at the times t [batch]."""
        taken = [
            self.prediction.input(self.noise_path, x, t),
            self.prediction.condition(self.noise_path, t),
        ]
        return network(taken if label is None else [*taken, label], training=training)

    # Generation

    def denoiser(self, label=None, scale=None, interval=None, clip=True):
        """The averaged network as samplers want it: a function of x [batch, h, w, c] and t [batch].

        Args:
            label: int32 [batch]; `num_classes` means "no label". None without classes.
            scale: of the guidance, scalar tensor; None: no guidance, which takes half the time.
            interval: (low, high), times between which there is guidance; with a scale.
            clip: whether to clip the estimate to [-1, 1]. The mean of images lies there, so that
                clipping takes the estimate nearer to it.

        Returns:
            Function that estimates x_0, float32 [batch, h, w, c].
        """

        def output(x, t):
            if scale is None:
                return self.predict_at(self.averaged_network, x, t, label)
            twice = [tf.concat([part, part], 0) for part in (x, t)]
            labels = tf.concat([label, tf.fill(tf.shape(label), self.num_classes)], 0)
            both = tf.split(self.predict_at(self.averaged_network, *twice, labels), 2)
            return diffusion.guide(*both, scale, t, interval)

        def denoise(x, t):
            x, t = tf.cast(x, tf.float32), tf.cast(t, tf.float32)
            estimate = self.prediction.to_data(self.noise_path, output(x, t), x, t)
            return tf.clip_by_value(estimate, -1, 1) if clip else estimate

        return denoise

    def sampler_arguments(self, seed, label, sampling):
        """What samplers take, but for x: dict of `denoise`, `path`, `times`, `draw`, `callback`."""

        def tick(step, t, x, data):
            with tf.control_dependencies([tf.numpy_function(sampling.progress, [step], [])]):
                return tf.identity(x)

        return {
            "denoise": self.denoiser(label, sampling.scale, sampling.interval),
            "path": self.noise_path,
            "times": sampling.grid(self.noise_path, sampling.steps),
            "draw": lambda step: randomness.row_normal(seed, self.image_shape, "sampler", step),
            "callback": tick if sampling.progress else None,
        }

    def prior(self, seed):
        """x at the noisiest time, float32 [rows, h, w, c], a function of the seeds."""
        return self.noise_path.prior(randomness.row_normal(seed, self.image_shape))

    def generate_step(self, seed, label=None, sampling=None):
        sampling = sampling or self._checked_sampling({})
        return sampling.sampler(x=self.prior(seed), **self.sampler_arguments(seed, label, sampling))

    def generate(
        self,
        n,
        labels=None,
        seed=0,
        batch_size=1024,
        steps=None,
        sampler=None,
        guidance_scale=None,
        guidance_interval=None,
        grid=None,
        progress=None,
    ):
        """Generates images with the averaged weights.

        Args:
            n, labels, seed, batch_size: as in `GenerativeModel.generate`.
            steps: number of steps of the sampler; a new number does not compile anything anew.
            sampler: "ddim", "ddpm", "euler", "heun", "dpmpp_2m", or a function such as those of
                `keras_gen.diffusion.samplers`.
            guidance_scale: float; 1 is no guidance, more follows the labels more closely, at twice
                the time.
            guidance_interval: (low, high): guidance where low < t <= high alone.
            grid: "uniform", "logsnr", "karras" or a function of (path, steps). None: uniform on
                the rectified flow and for "ddpm", else "karras".
            progress: function (done, total), called after every step of every group of images.

        Whatever is None is as the model was told at its making.

        Returns:
            NumPy uint8 [n, height, width, channels]. Image i depends on its own seed and label, and
            on these settings.

        Raises:
            ValueError: when an argument is unknown or out of range.
        """
        return self._sampled(
            "generate",
            self.generate_images,
            self.rows(n, labels, seed),
            batch_size,
            progress,
            steps=steps,
            sampler=sampler,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            grid=grid,
        )

    # Control

    def inpaint(
        self, pictures, masks, labels=None, repeats=4, seed=0, batch_size=1024, progress=None, **how
    ):
        """Draws what a mask hides, to match the rest (RePaint, Lugmayr et al. 2022).

        Args:
            pictures: uint8 [n, h, w, c].
            masks: bool [h, w] or [n, h, w], True where to draw.
            labels, seed, batch_size, progress: as in `generate`.
            repeats: how often each step is done anew; more makes a better match and takes longer.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as in
                `generate`.

        Returns:
            uint8 [n, h, w, c], exactly `pictures` where the masks are False.

        Raises:
            ValueError: when the pictures or masks do not fit the model.
        """
        pictures = self._checked_pictures(pictures)
        masks = np.asarray(masks)
        if masks.dtype != bool or masks.shape not in (pictures.shape[1:3], pictures.shape[:3]):
            raise ValueError(
                "`masks` must be bool [h, w] or [n, h, w] for the pictures. Received: masks of "
                f"shape {masks.shape} and dtype {masks.dtype}, pictures of shape {pictures.shape}"
            )
        if repeats < 1:
            raise ValueError(f"`repeats` must be at least 1. Received: repeats={repeats!r}")
        rows = [pictures, np.broadcast_to(masks, pictures.shape[:3])]
        rows += self.rows(len(pictures), labels, seed)

        def function(picture, mask, *row, sampling):
            return self.inpaint_images(picture, mask, *row, sampling=sampling, repeats=repeats)

        name = ("inpaint", repeats)
        return self._sampled(name, function, rows, batch_size, progress, repeats, **how)

    def inpaint_images(self, picture, mask, seed, label=None, sampling=None, repeats=4):
        """As `inpaint`, with tensors: uint8 [batch, h, w, c], bool [batch, h, w], int64 [batch]."""
        sampling = sampling or self._checked_sampling({})

        def step(picture, mask, seed, label=None):
            mask = mask[..., None]
            drawn = diffusion.inpaint(
                sampling.sampler,
                x=self.prior(seed),
                known=images.from_uint8(picture),
                mask=mask,
                repeats=repeats,
                **self.sampler_arguments(seed, label, sampling),
            )
            return tf.where(mask, images.to_uint8(drawn), picture)

        return self._grouped(step, picture, mask, seed, label)

    def image_to_image(
        self,
        pictures,
        strength=0.5,
        labels=None,
        seed=0,
        batch_size=1024,
        progress=None,
        **how,
    ):
        """Draws pictures anew from a noise level on (SDEdit, Meng et al. 2022).

        Args:
            pictures: uint8 [n, h, w, c].
            strength: in [0, 1], the part of the sampler's steps that is done: 0 gives the pictures
                back, 1 keeps nothing of them.
            labels, seed, batch_size, progress: as in `generate`.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as in
                `generate`.

        Returns:
            uint8 [n, h, w, c].

        Raises:
            ValueError: when the pictures do not fit the model or `strength` is out of range.
        """
        pictures = self._checked_pictures(pictures)
        if not 0 <= strength <= 1:
            raise ValueError(f"`strength` must lie in [0, 1]. Received: strength={strength!r}")
        steps = how.get("steps") or self.sampling["steps"]
        left_out = steps - round(strength * steps)
        if left_out == steps:
            return pictures

        def function(picture, *row, sampling):
            def step(picture, seed, label=None):
                arguments = self.sampler_arguments(seed, label, sampling)
                times = arguments.pop("times")[left_out:]
                noise = randomness.row_normal(seed, self.image_shape)
                start = tf.cast(times[0], tf.float32)
                x = self.noise_path.mix(images.from_uint8(picture), noise, start)
                return images.to_uint8(sampling.sampler(x=x, times=times, **arguments))

            return self._grouped(step, picture, *row)

        rows = [pictures, *self.rows(len(pictures), labels, seed)]
        return self._sampled(
            ("image_to_image", left_out), function, rows, batch_size, progress, **how
        )

    def interpolate(self, first, second, count, labels=None, batch_size=1024, **how):
        """Images between two: the noise that leads to each, and noise between (DDIM, Song 2021).

        Args:
            first, second: uint8 [n, h, w, c].
            count: int, how many images for each pair, the ends included.
            labels: as in `generate`, of each pair; for models with classes they are needed.
            batch_size: as in `generate`.
            **how: `steps`, `grid`, of the way there and back.

        Returns:
            uint8 [n, count, h, w, c]. The first and the last of each row are `first` and `second`
            but for the error of the sampler.
        """
        first, second = self._checked_pictures(first), self._checked_pictures(second)
        if first.shape != second.shape or count < 2:
            raise ValueError(
                "`first` and `second` must be as many, and `count` at least 2. Received: "
                f"{len(first)} and {len(second)} images, count={count!r}"
            )
        labels = self.rows(len(first), labels, 0)[1:]
        fractions = np.tile(np.linspace(0, 1, count, dtype=np.float32), len(first))
        rows = [np.repeat(row, count, axis=0) for row in (first, second, *labels)]

        def function(first, second, fraction, *label, sampling):
            def step(first, second, fraction, label=None):
                arguments = self.sampler_arguments(None, label, sampling)
                times = arguments["times"]
                rising = tf.reverse(times[:-1], [0])

                def encode(picture):
                    x = tf.cast(self.noise_path.alpha(rising[0]), tf.float32)
                    x *= images.from_uint8(picture)
                    return diffusion.heun(x=x, **{**arguments, "times": rising})

                x = diffusion.slerp(encode(first), encode(second), fraction)
                return images.to_uint8(diffusion.heun(x=x, **arguments))

            return self._grouped(step, first, second, fraction, *label)

        rows.insert(2, fractions)
        made = self._sampled("interpolate", function, rows, batch_size, None, **how)
        return made.reshape(len(first), count, *self.image_shape)

    def mix_classes(self, labels, others, weights, seed=0, batch_size=1024, progress=None, **how):
        """Images of what lies between two classes: the mean of both denoisers.

        Args:
            labels, others: ints or integer arrays [n], the classes.
            weights: floats [n] in [0, 1], of `others`.
            seed, batch_size, progress, **how: as in `generate`.

        Returns:
            uint8 [n, h, w, c].
        """
        if not self.num_classes:
            raise ValueError(f"{self.name!r} has no classes to mix.")
        weights = np.asarray(weights, np.float32)
        if weights.ndim != 1 or not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError(f"`weights` must be [n] within [0, 1]. Received: weights={weights!r}")
        rows = self.rows(len(weights), labels, seed)
        rows += [self.rows(len(weights), others, seed)[1], weights]

        def function(*rows, sampling):
            def step(seed, label, other, weight):
                arguments = self.sampler_arguments(seed, label, sampling)
                denoise = arguments.pop("denoise")
                denoise_other = self.denoiser(other, sampling.scale, sampling.interval)

                def mixed(x, t):
                    return diffusion.combine(1 - weight, denoise(x, t), weight, denoise_other(x, t))

                x = sampling.sampler(mixed, x=self.prior(seed), **arguments)
                return images.to_uint8(x)

            return self._grouped(step, *rows)

        return self._sampled("mix_classes", function, rows, batch_size, progress, **how)

    def signatures(self):
        return {**super().signatures(), "inpaint": self._inpaint_signature()}

    def _inpaint_signature(self):
        """`inpaint`: image uint8 [batch, h, w, c], mask bool [batch, h, w], seed (and label) ->
        images."""
        height, width, _ = self.image_shape
        signature = [
            tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image"),
            tf.TensorSpec([None, height, width], tf.bool, name="mask"),
            *saved_model.row_signature(self.num_classes),
        ]

        def inpaint(image, mask, seed, label=None):
            checks = [] if label is None else saved_model.row_checks(seed, label, self.num_classes)
            with tf.control_dependencies(checks):
                return {"images": self.inpaint_images(image, mask, tf.identity(seed), label)}

        return inpaint, signature

    # Likelihood

    def log_likelihood(self, pictures, labels=None, steps=64, probes=1, seed=0, batch_size=64):
        """Log-likelihood by the probability-flow ODE (Song et al. 2021), of dequantized images.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: as in `generate`; needed for models with classes.
            steps: of Heun's method, equal in log-SNR.
            probes: random probes of the divergence (Hutchinson's estimate); more vary less.
            seed: of the dequantization and the probes, for each image as in `generate`.
            batch_size: images at a time; changes no more than the last digits.

        Returns:
            dict of "log_likelihood", nats of the density of the images in [-1, 1], and
            "bits_per_dimension", an upper bound of those of the 256 levels; float32 [n] each.
        """
        pictures = self._checked_pictures(pictures)

        def function(picture, seed, label=None):
            x = images.from_uint8(picture)
            half = 1 / 255
            x += self._row_uniform(seed, "dequantization", -half, half)
            signs = [
                tf.sign(self._row_uniform(seed, "probes", -1.0, 1.0, i)) for i in range(probes)
            ]
            times = diffusion.logsnr(self.noise_path, steps + 1)
            denoise = self.denoiser(label, clip=False)
            return diffusion.ode_log_likelihood(denoise, self.noise_path, x, times, tf.stack(signs))

        rows = [pictures, *self.rows(len(pictures), labels, seed)]
        compiled = self.compiled_function(("ode", steps, probes), function, _specs(rows))
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
        pictures = self._checked_pictures(pictures)
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

        rows = [pictures, *self.rows(len(pictures), labels, seed)]
        compiled = self.compiled_function(("bound", steps), function, _specs(rows))
        terms = in_batches(compiled, rows, batch_size)
        return {
            "total": terms.sum(1),
            "prior": terms[:, 0],
            "steps": terms[:, 1:-1],
            "decoder": terms[:, -1],
        }

    def _row_uniform(self, seed, purpose, low, high, index=0):
        """One uniform draw of an image's shape for each seed."""

        def draw(seed):
            key = randomness.key(seed, purpose, index)
            return randomness.uniform(self.image_shape, key, low, high)

        return tf.map_fn(draw, seed, fn_output_signature=tf.float32)

    # Helpers

    def _checked_pictures(self, pictures):
        pictures = check_images(pictures)
        if pictures.shape[1:] != self.image_shape:
            raise ValueError(
                f"Pictures must be [n, *{self.image_shape}]. Received: pictures of shape "
                f"{pictures.shape}"
            )
        return pictures

    def _grouped(self, step, *rows):
        """`step` for any number of rows, `generation_rows` at a time; uint8 [batch, h, w, c]."""
        taken = [row for row in rows if row is not None]
        return in_groups(
            step, self.generation_rows, taken, tf.TensorSpec(self.image_shape, tf.uint8)
        )

    def _sampled(self, name, function, rows, batch_size, progress, repeats=1, **options):
        """Calls a function of (*rows, sampling) for all rows, compiled once for each sampler."""
        sampling = self._checked_sampling(options)
        guided, interval = sampling.scale is not None, sampling.interval
        key = (name, sampling.sampler, sampling.grid, guided, progress is not None)

        def compiled(*tensors):
            *taken, steps, scale, low, high = tensors
            settings = dataclasses.replace(
                sampling,
                steps=steps,
                scale=scale if guided else None,
                interval=(low, high),
                progress=None if progress is None else (lambda step: self._tick(step)),
            )
            return function(*taken, sampling=settings)

        signature = _specs(rows)
        signature += [tf.TensorSpec([], tf.int32)] + 3 * [tf.TensorSpec([], tf.float32)]
        settings = sampling.steps, sampling.scale if guided else 1.0, *interval
        if progress is not None:
            groups = sum(
                -(-min(batch_size, len(rows[0]) - i) // self.generation_rows)
                for i in range(0, len(rows[0]), batch_size)
            )
            self._tick = _Ticks(progress, groups * sampling.steps * repeats)
        return in_batches(
            self.compiled_function(key, compiled, signature), rows, batch_size, *settings
        )

    def _checked_sampling(self, options):
        """`Sampling` of the model's settings, but for the `options` that are not None."""
        chosen = {**self.sampling, **{k: v for k, v in options.items() if v is not None}}
        steps, scale = chosen["steps"], chosen["guidance_scale"]
        interval = chosen["guidance_interval"]
        if not isinstance(steps, (int, np.integer)) or steps < 1:
            raise ValueError(f"`steps` must be a positive integer. Received: steps={steps!r}")
        if not scale >= 0:
            raise ValueError(f"`guidance_scale` must not be negative. Received: {scale!r}")
        if interval is not None and len(interval) != 2:
            raise ValueError(f"`guidance_interval` must be (low, high). Received: {interval!r}")
        if scale != 1 and not self.num_classes:
            raise ValueError(
                f"Guidance needs a model with classes. Received: guidance_scale={scale!r}"
            )
        if scale != 1 and not self.label_dropout:
            raise ValueError(
                "Guidance needs a model that was trained without labels too. Received: "
                f"guidance_scale={scale!r} with label_dropout=0"
            )
        grid = chosen["grid"]
        if grid is None:
            straight = isinstance(self.noise_path, diffusion.RectifiedFlow)
            grid = "uniform" if straight or chosen["sampler"] == "ddpm" else "karras"
        return Sampling(
            diffusion.get_sampler(chosen["sampler"]),
            diffusion.get_grid(grid),
            int(steps),
            None if scale == 1 else float(scale),
            (-1.0, np.inf) if interval is None else tuple(map(float, interval)),
        )


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to get from noise to images.

    Attributes:
        sampler: function of `keras_gen.diffusion.samplers`.
        grid: function of `keras_gen.diffusion.grids`.
        steps: int or int32 scalar tensor.
        scale: of the guidance, float or scalar tensor; None for no guidance.
        interval: (low, high), times of the guidance.
        progress: function of the step, called after each; or None.
    """

    sampler: Callable
    grid: Callable
    steps: int
    scale: float | None
    interval: tuple
    progress: Callable | None = None


class _Ticks:
    """Counts steps, whatever order they are done in."""

    def __init__(self, progress, total):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, step):
        self.done += 1
        self.progress(self.done, self.total)


def _specs(rows):
    return [tf.TensorSpec([None, *row.shape[1:]], row.dtype) for row in rows]


def _default_times(path):
    if isinstance(path, diffusion.EDM):
        return "log_normal"
    if isinstance(path, diffusion.DiscretePath):
        return diffusion.DiscreteTimes(path.timesteps)
    return "logit_normal"
