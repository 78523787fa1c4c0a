"""Diffusion and flow models: a network learns to undo noise, a sampler undoes it step by step."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_gen import diffusion, networks, randomness
from keras_gen.models.base import GenerativeModel, in_batches, specs_of
from keras_gen.models.diffusion_control import Control
from keras_gen.models.diffusion_likelihood import Likelihoods
from keras_gen.optimizers import Muon
from keras_gen.strategies import checked_count, is_number

# First and last layers, as Jordan et al. 2024 advise, and what is computed once an image.
LEFT_TO_ADAM = ["^(stem|patches|out)", "^(time|condition|label)", "modulation"]


@keras.saving.register_keras_serializable("keras_gen")
class Diffusion(Control, Likelihoods, GenerativeModel):
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
        weighting: of the squared error over time: "uniform", "min_snr", "edm" (for data of the
            deviation that the prediction is for) or a `keras_gen.diffusion.Weighting`.
        times: at which times to train: "uniform", "stratified", "logit_normal", "log_normal",
            "discrete" or a `keras_gen.diffusion.TimeSampler`. None: logit-normal on the rectified
            flow, log-normal on EDM's path, the path's own steps where it has steps.
        upscale: None, or the factor by which the model enlarges pictures (super-resolution, Saharia
            et al. 2021): the network sees the small picture besides, enlarged by repetition, as so
            many more channels, and `enlarge` takes the place of `generate`.
        clip: whether `generate` and its like clip the estimates of the data to [-1, 1], where the
            mean of images lies, so that clipping takes them nearer to it. False for other data,
            such as latents.
        label_dropout: fraction of the examples trained without their label, so that guidance has
            an unconditional model to go by; of no meaning without classes.
        sampler, grid, steps, guidance_scale, guidance_interval: what `generate` does where it is
            not told otherwise, and what the exported model does. The interval is of no meaning at
            scale 1.
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
        upscale=None,
        clip=True,
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
        if weighting == "edm":
            sigma_data = getattr(self.prediction, "sigma_data", 0.5)
            weighting = diffusion.EDMWeighting(sigma_data)
        self.weighting = diffusion.get_weighting(weighting)
        self.times = _checked_times(times, self.noise_path)
        self._check_weights()
        self.upscale = None if upscale is None else checked_count("upscale", upscale, least=2)
        if self.upscale and any(side % self.upscale for side in self.image_shape[:2]):
            raise ValueError(
                "`upscale` must divide both sides of the images. "
                f"Received: upscale={upscale!r}, image_shape={self.image_shape}"
            )
        self.clip = bool(clip)
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
        self.checked_sampling()
        if network is None:
            network = networks.unet.denoiser(
                self.image_shape,
                num_classes=self.num_classes,
                condition_channels=self.image_shape[2] if self.upscale else 0,
                seed=self.seed,
            )
        self._check_network(network)
        self.network = network
        self.averaged_network = self.averages.follow(network)
        self.built = True

    def _check_weights(self):
        """Raises where a time at which it trains has a weight without bound."""
        from_the_start = diffusion.UniformTimes, diffusion.StratifiedTimes
        up_to_the_end = (*from_the_start, diffusion.DiscreteTimes)
        first, last = (
            self.weighting(self.noise_path, self.prediction, tf.constant(t))
            for t in (0.0, self.noise_path.t_max)
        )
        received = (
            f"Received: weighting={self.weighting!r}, prediction={self.prediction!r}, "
            f"path={self.noise_path!r}, times={self.times!r}"
        )
        if isinstance(self.times, up_to_the_end) and not np.isfinite(last):
            raise ValueError(
                "The weight of the loss is infinite at pure noise, which says nothing of the data "
                f"where the noise is predicted. {received}"
            )
        if isinstance(self.times, from_the_start) and np.isinf(first):
            raise ValueError(
                "The weight of the loss grows without bound towards the data, so that one time "
                f"near 0 would rule a whole batch. {received}"
            )

    @property
    def network_inputs(self):
        """What the network takes, in this order."""
        return ["image", "time", *(["label"] if self.num_classes else [])]

    def _check_network(self, network):
        if len(network.inputs) != len(self.network_inputs):
            raise ValueError(
                f"The network must take [{', '.join(self.network_inputs)}], as "
                f"num_classes={self.num_classes}. "
                f"Received: a network with inputs {[i.name for i in network.inputs]}"
            )
        taken, made = network.inputs[0].shape[1:], network.outputs[0].shape[1:]
        seen = (*self.image_shape[:2], (2 if self.upscale else 1) * self.image_shape[2])
        if taken != seen or made != self.image_shape:
            raise ValueError(
                f"The network must take images {seen} and make images {self.image_shape}. "
                f"Received: a network from {taken} to {made}"
            )
        networks.inputs.check_classes("network", network, self.num_classes)
        numbers = [taken.shape[1:] for taken in network.inputs[1:]]
        if any(shape != () for shape in numbers) or network.outputs[0].dtype != "float32":
            raise ValueError(
                "The network must take one number an image besides the image, such as "
                "keras.Input(()), and put out float32. Received: a network that takes "
                f"{numbers} an image and puts out {network.outputs[0].dtype}"
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
            "upscale": self.upscale,
            "clip": self.clip,
            "label_dropout": self.label_dropout,
            **self.sampling,
        }

    def default_optimizer(self):
        """Muon, rate 5e-3, gradients clipped to a global norm of 1."""
        return Muon(5e-3, exclude=LEFT_TO_ADAM, global_clipnorm=1.0)

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
            output = self.predict_at(self.network, noisy, t, y, training, self.small(x))
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

    def small(self, x):
        """What a model that enlarges sees of images x: their means over squares of pixels, as
        pictures of `upscale` times fewer pixels a side; None for other models."""
        return tf.nn.avg_pool2d(x, self.upscale, self.upscale, "VALID") if self.upscale else None

    def check_purpose(self, enlarges=False):
        """Raises unless the model is made to enlarge pictures, or is not, as is wanted.

        Before anything is traced: an exception within `tf.map_fn` would leave TensorFlow's variable
        scope unusable for the rest of the process.
        """
        if enlarges != bool(self.upscale):
            can = "enlarge pictures alone" if self.upscale else "not enlarge pictures"
            raise ValueError(f"{self.name!r} can {can}. Received: upscale={self.upscale!r}")

    def predict_at(self, network, x, t, label=None, training=False, small=None):
        """The output of a network, float32 [batch, h, w, c], for x at the times t [batch].

        `small` are the pictures to enlarge, float32 [batch, h / upscale, w / upscale, c].
        """
        self.check_purpose(enlarges=small is not None)
        seen = self.prediction.input(self.noise_path, x, t)
        if small is not None:
            large = tf.repeat(tf.repeat(small, self.upscale, axis=1), self.upscale, axis=2)
            seen = tf.concat([seen, large], axis=-1)
        taken = [seen, self.prediction.condition(self.noise_path, t)]
        return network(taken if label is None else [*taken, label], training=training)

    # Generation

    def denoiser(self, label=None, scale=None, interval=None, clip=None, small=None):
        """The averaged network as samplers want it: a function of x [batch, h, w, c] and t [batch].

        Args:
            label: int32 [batch]; `num_classes` means "no label". None without classes.
            scale: of the guidance, scalar tensor; None: no guidance, which takes half the time.
            interval: (low, high), times between which there is guidance; with a scale.
            clip: whether to clip the estimate to [-1, 1]; None: the model's own `clip`.
            small: as in `predict_at`.

        Returns:
            Function that estimates x_0, float32 [batch, h, w, c].
        """

        def output(x, t):
            if scale is None:
                return self.predict_at(self.averaged_network, x, t, label, small=small)
            twice = [tf.concat([part, part], 0) for part in (x, t)]
            labels = tf.concat([label, tf.fill(tf.shape(label), self.num_classes)], 0)
            pictures = None if small is None else tf.concat([small, small], 0)
            both = self.predict_at(self.averaged_network, *twice, labels, small=pictures)
            both = tf.split(both, 2)
            return diffusion.guide(*both, scale, t, interval)

        def denoise(x, t):
            x, t = tf.cast(x, tf.float32), tf.cast(t, tf.float32)
            estimate = self.prediction.to_data(self.noise_path, output(x, t), x, t)
            clips = self.clip if clip is None else clip
            return tf.clip_by_value(estimate, -1, 1) if clips else estimate

        return denoise

    def sampler_arguments(self, seed, label, sampling, small=None):
        """What samplers take, but for x: dict of `denoise`, `path`, `times`, `draw`, `callback`."""

        def tick(step, t, x, data):
            with tf.control_dependencies([tf.numpy_function(sampling.progress, [step], [])]):
                return tf.identity(x)

        return {
            "denoise": self.denoiser(label, sampling.scale, sampling.interval, small=small),
            "path": self.noise_path,
            "times": sampling.times,
            "draw": lambda step: randomness.row_normal(seed, self.image_shape, "sampler", step),
            "callback": tick if sampling.progress else None,
        }

    def prior(self, seed):
        """x at the noisiest time, float32 [rows, h, w, c], a function of the seeds."""
        return self.noise_path.prior(randomness.row_normal(seed, self.image_shape))

    def generate_step(self, seed, label=None, sampling=None):
        sampling = sampling or self.checked_sampling()
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
                `keras_gen.diffusion.samplers`; it is compiled once for each object.
            guidance_scale: float; 1 is no guidance, more follows the labels more closely, at twice
                the time.
            guidance_interval: (low, high): guidance where low < t <= high alone.
            grid: "uniform", "logsnr", "karras", "jumps" or a function of (path, steps) that gives
                steps + 1 times, falling from `path.t_max` or somewhat less to 0. None: uniform on
                the rectified flow and for "ddpm" on a path of discrete steps, "jumps" for
                "consistency", else "karras".
            progress: function (done, total), called after every step of every group of images.

        Whatever is None is as the model was told at its making.

        Returns:
            NumPy uint8 [n, height, width, channels]. Image i depends on its own seed and label, and
            on these settings.

        Raises:
            ValueError: when an argument is unknown or out of range.
        """
        return self.sampled(
            "generate",
            self.generate_images,
            self.rows(n, labels, seed),
            batch_size,
            progress,
            {
                "steps": steps,
                "sampler": sampler,
                "guidance_scale": guidance_scale,
                "guidance_interval": guidance_interval,
                "grid": grid,
            },
        )

    def sampled(
        self, name, function, rows, batch_size, progress, options, numbers=(), steps_done=None
    ):
        """Calls a function of (*rows, *numbers, sampling) for all rows.

        It is compiled once for each sampler; `numbers` are ints, tensors in the graph.
        `steps_done` is how many steps a group of rows takes, where not those of the sampler.
        """
        self.check_purpose(enlarges=name == "enlarge")
        sampling = self.checked_sampling(options)
        guided, interval = sampling.scale is not None, sampling.interval
        key = (name, sampling.sampler, guided, progress is not None)
        if progress is not None and not callable(progress):
            raise ValueError(
                f"`progress` must be a function of (steps done, steps). Received: {progress!r}"
            )

        def compiled(*tensors):
            *taken, times, scale, low, high = tensors
            settings = dataclasses.replace(
                sampling,
                times=times,
                scale=scale if guided else None,
                interval=(low, high),
                progress=None if progress is None else (lambda step: self._tick(step)),
            )
            return function(*taken, sampling=settings)

        signature = specs_of(rows) + len(numbers) * [tf.TensorSpec([], tf.int32)]
        signature += [tf.TensorSpec([None], tf.float64), *3 * [tf.TensorSpec([], tf.float32)]]
        settings = *numbers, sampling.times, sampling.scale if guided else 1.0, *interval
        if progress is not None:
            groups = sum(
                -(-min(batch_size, len(rows[0]) - i) // self.generation_rows)
                for i in range(0, len(rows[0]), batch_size)
            )
            self._tick = _Ticks(progress, groups * (steps_done or len(sampling.times) - 1))
        whole = self.compiled_function(key, compiled, signature)
        try:
            return in_batches(whole, rows, batch_size, *settings)
        except tf.errors.OpError:
            if progress is None or self._tick.raised is None:
                raise
            raised, self._tick = self._tick.raised, None
        raise raised

    says_means = True  # of the data given what is noisy; False: where the ODE ends

    def checked_sampling(self, options=None):
        """`Sampling` of the model's settings, but for the `options` that are not None.

        Raises:
            ValueError: when one of them is out of range.
            TypeError: when there is no such option.
        """
        options = options or {}
        unknown = set(options) - set(self.sampling)
        if unknown:
            raise TypeError(
                f"Sampling is told by {sorted(self.sampling)}. Received: {sorted(unknown)}"
            )
        chosen = {**self.sampling, **{k: v for k, v in options.items() if v is not None}}
        steps, scale = chosen["steps"], chosen["guidance_scale"]
        interval = chosen["guidance_interval"]
        steps = checked_count("steps", steps)
        if not is_number(scale) or not 0 <= scale < np.inf:
            raise ValueError(
                f"`guidance_scale` must be finite and not negative. Received: {scale!r}"
            )
        if interval is not None and not _rises(interval):
            raise ValueError(
                f"`guidance_interval` must be (low, high), rising. Received: {interval!r}"
            )
        if scale != 1 and not self.num_classes:
            raise ValueError(
                f"Guidance needs a model with classes. Received: guidance_scale={scale!r}"
            )
        if scale != 1 and not self.label_dropout:
            raise ValueError(
                "Guidance needs a model that was trained without labels too. Received: "
                f"guidance_scale={scale!r} with label_dropout=0"
            )
        sampler, grid = diffusion.get_sampler(chosen["sampler"]), chosen["grid"]
        if self.says_means and diffusion.samplers.plain(sampler) is diffusion.samplers.consistency:
            raise ValueError(
                "The sampler 'consistency' is for models that say where the ODE ends, and this one "
                f"says what the mean of the data is. Received: sampler={chosen['sampler']!r}"
            )
        if grid is None:
            grid = self._own_grid(sampler)
        return Sampling(
            sampler,
            _checked_grid(diffusion.get_grid(grid), self.noise_path, steps),
            None if scale == 1 else float(scale),
            (-1.0, np.inf) if interval is None else tuple(map(float, interval)),
        )

    def _own_grid(self, sampler):
        path, sampler = self.noise_path, diffusion.samplers.plain(sampler)
        ancestral = isinstance(path, diffusion.DiscretePath) and sampler is diffusion.ddpm
        noisiest, cleanest = path.log_snr_range
        if isinstance(path, diffusion.RectifiedFlow) or ancestral or not noisiest < cleanest:
            return diffusion.uniform
        return diffusion.jumps if sampler is diffusion.consistency else diffusion.karras


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to get from noise to images.

    Attributes:
        sampler: function of `keras_gen.diffusion.samplers`.
        times: float64 [steps + 1], falling from the path's `t_max` to 0.
        scale: of the guidance, float or scalar tensor; None for no guidance.
        interval: (low, high), times of the guidance.
        progress: function of the step, called after each; or None.
    """

    sampler: Callable
    times: np.ndarray | tf.Tensor
    scale: float | None
    interval: tuple
    progress: Callable | None = None


def _rises(interval):
    """Whether it is two numbers, the second larger."""
    ends = list(interval) if np.ndim(interval) else []
    return len(ends) == 2 and all(map(is_number, ends)) and ends[0] < ends[1]


class _Ticks:
    """Counts steps, whatever order they are done in, and keeps what `progress` raises: TensorFlow
    would make an error of its own of it."""

    def __init__(self, progress, total):
        self.progress, self.total, self.done, self.raised = progress, total, 0, None

    def __call__(self, step):
        self.done += 1
        try:
            self.progress(self.done, self.total)
        except BaseException as error:
            self.raised = error
            raise


def _checked_grid(grid, path, steps):
    """The times of a grid, NumPy float64 [steps + 1].

    Raises:
        ValueError: when they are not so many, or do not fall to 0 within the path.
    """
    with tf.init_scope():  # numbers, also where a graph is traced
        times = np.asarray(grid(path, steps), np.float64)
    falling = times.shape == (steps + 1,) and (np.diff(times) < 0).all() and times[-1] == 0
    if not falling or times[0] > path.t_max * (1 + 1e-9):
        raise ValueError(
            f"`grid` must give {steps + 1} times that fall from at most {path.t_max} to 0. "
            f"Received: {times}"
        )
    return times


def _checked_times(times, path):
    """The times to train at, by default those of the path.

    Raises:
        ValueError: when they are not those of the path: EDM's is its noise, others end at 1.
    """
    discrete = isinstance(path, diffusion.DiscretePath)
    if times is None:
        default = "log_normal" if isinstance(path, diffusion.EDM) else "logit_normal"
        times = "discrete" if discrete else default
    if times == "discrete" and discrete:
        return diffusion.DiscreteTimes(path.timesteps)
    sampler = diffusion.get_time_sampler(times)
    known = isinstance(sampler, tuple(diffusion.TIME_SAMPLERS.values()))
    log_normal = isinstance(sampler, diffusion.LogNormalTimes)
    if known and log_normal != isinstance(path, diffusion.EDM):
        raise ValueError(
            "`times` must be log-normal on EDM's path, whose time is the noise, and on it alone. "
            f"Received: times={times!r}, path={path!r}"
        )
    return sampler
