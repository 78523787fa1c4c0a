"""Mean flows (Geng et al. 2025): the average velocity between two times, for one to four steps."""

import dataclasses
import math

import keras
import tensorflow as tf

from keras_gen import diffusion, networks, optimizers, randomness
from keras_gen.diffusion.paths import rows_like
from keras_gen.models.diffusion import Diffusion
from keras_gen.strategies import checked_count, not_negative

OFFSET = 1e-2  # of the squared error that the weight divides by, as Geng et al. 2025, section 4.3

_NO_ODE = "A mean flow has no likelihood; the model that it was tuned from has one."


@keras.saving.register_keras_serializable("keras_gen")
class MeanFlow(Diffusion):
    """A rectified flow of average velocities u(x, r, t), which takes x from time t to time r < t at
    once: x_r = x - (t - r) u.

    On the way of a flow with velocity v the average obeys u = v - (t - r) du/dt, where the
    derivative along the way is v du/dx + du/dt (Geng et al. 2025, eq. 6): it is what the network is
    trained on, its own derivative, found by forward differentiation, being taken as it is.

    Example:

    ```python
    fast = kg.models.MeanFlow.tuned_from(model)  # a trained Diffusion, a rectified flow
    fast.compile()
    fast.fit(source.batches(128), epochs=5)
    images = fast.generate(16, steps=1)
    ```

    Args:
        image_shape, num_classes, label_dropout, steps, grid, seed, ema: as in `Diffusion`.
        network: Functional model: [image, time, span] (and label) -> average velocity, where the
            span is t - r. None: `networks.inputs.with_span` of `networks.unet.denoiser`.
        times: what both times are drawn from, each of its own. None: logit-normal of mean -0.4 and
            deviation 1.
        every: int: one of so many examples has two times; of the others the span is 0, where the
            average velocity is the velocity, and nothing is differentiated.
        power: of the weight 1 / (|error|^2 + 0.01)^power of an example, |error|^2 being the sum
            over the pixels; what is weighted is the mean.

    Numbers are float32 best: in half precision the derivative is noise. There is no guidance, and
    only what takes x towards the data: no interpolation and no likelihood.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        network=None,
        times=None,
        every=4,
        power=0.75,
        steps=1,
        **kwargs,
    ):
        if network is None:
            seed = kwargs.get("seed", 0)
            network = networks.unet.denoiser(tuple(image_shape), num_classes, seed=seed)
            network = networks.inputs.with_span(network)
        path = diffusion.get_path(kwargs.get("path", "rectified_flow"))
        if not isinstance(path, diffusion.RectifiedFlow):
            raise ValueError(f"A mean flow is a rectified flow. Received: path={path!r}")
        not_negative(power=power)
        super().__init__(
            image_shape,
            num_classes,
            network,
            times=diffusion.LogitNormalTimes(-0.4, 1.0) if times is None else times,
            steps=steps,
            **{**kwargs, "sampler": kwargs.get("sampler", "euler")},
        )
        if not isinstance(self.prediction, diffusion.VelocityPrediction):
            raise ValueError(
                f"A mean flow predicts velocities. Received: prediction={self.prediction!r}"
            )
        if isinstance(self.times, diffusion.StratifiedTimes):
            raise ValueError(
                "Stratified times rise along the batch, so that two of them are always near one "
                f"another. Received: times={self.times!r}"
            )
        if self.upscale or not isinstance(self.weighting, diffusion.UniformWeighting):
            raise ValueError(
                "A mean flow weights its loss itself and does not enlarge. Received: "
                f"weighting={self.weighting!r}, upscale={self.upscale!r}"
            )
        self.every, self.power = checked_count("every", every), float(power)

    @classmethod
    def tuned_from(cls, model, **kwargs):
        """A mean flow that begins as a trained `Diffusion`, with its averaged weights.

        Args:
            model: `Diffusion`, a rectified flow of velocities, with a network of this project.
            **kwargs: arguments of this class that shall differ from the model's.

        Raises:
            ValueError: when the model is none.
        """
        if type(model) is not Diffusion:
            raise ValueError(
                f"A mean flow is tuned from a `Diffusion`. Received: model={type(model).__name__}"
            )
        config = model.get_config()
        for name in ("times", "sampler", "steps", "grid", "guidance_scale", "guidance_interval"):
            config.pop(name)
        for name in ("name", "weighting", "network"):
            config.pop(name)
        network = model.averaged_network
        copy = network.__class__.from_config(network.get_config())
        copy.set_weights(network.get_weights())
        copy.trainable = True
        return cls.from_config({**config, "network": networks.inputs.with_span(copy), **kwargs})

    def get_config(self):
        return {**super().get_config(), "every": self.every, "power": self.power}

    def default_optimizer(self):
        """Adam, rate 5e-4, gradients clipped to a global norm of 1: a network that is tuned."""
        return optimizers.Adam(5e-4, global_clipnorm=1.0)

    @property
    def network_inputs(self):
        return ["image", "time", "span", *(["label"] if self.num_classes else [])]

    def average_velocity(self, network, x, t, span, label=None, training=False):
        """u(x, t - span, t), float32 [batch, h, w, c], for times and spans [batch]."""
        taken = [x, t, span]
        return network(taken if label is None else [*taken, label], training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        batch = tf.shape(x)[0]
        first, second = (self.times([batch], randomness.key(key, "times", i)) for i in range(2))
        noise, y = self.noise_and_labels(x, y, key, training)
        pairs, others, back = _split(batch, self.every)
        spans = tf.gather(tf.abs(first - second), pairs)
        t = tf.tensor_scatter_nd_max(first, pairs[:, None], tf.gather(second, pairs))
        noisy, velocity = self.noise_path.mix(x, noise, t), noise - x

        def rows(index, span):
            """What the network takes, but for the label, which is apart."""
            label = None if y is None else tf.gather(y, index)
            return (tf.gather(noisy, index), tf.gather(t, index), span), label

        with randomness.scope(randomness.key(key, "network")):
            ways, label = rows(pairs, spans)
            tangents = tf.gather(velocity, pairs), tf.ones_like(spans), tf.ones_like(spans)
            with tf.autodiff.ForwardAccumulator(ways, tangents) as forward:
                found = self.average_velocity(self.network, *ways, label, training)
            target = tangents[0] - rows_like(spans, x) * forward.jvp(found)
            if others is not None:
                ways, label = rows(others, tf.zeros_like(others, tf.float32))
                of_one = self.average_velocity(self.network, *ways, label, training)
                found = tf.gather(tf.concat([found, of_one], 0), back)
                target = tf.gather(tf.concat([target, tf.gather(velocity, others)], 0), back)
        error = tf.reduce_mean(tf.square(found - tf.stop_gradient(target)), [1, 2, 3])
        weight = (error * math.prod(self.image_shape) + OFFSET) ** -self.power
        return {"loss": tf.stop_gradient(weight) * error}

    def denoiser(self, label=None, scale=None, interval=None, clip=None, small=None):
        """The averaged network as `diffusion.flow_map` wants it: a function of x [batch, h, w, c]
        and two times [batch], which gives x at the second."""

        def move(x, t, s):
            x, t, s = (tf.cast(value, tf.float32) for value in (x, t, s))
            velocity = self.average_velocity(self.averaged_network, x, t, t - s, label)
            return x - rows_like(t - s, x) * velocity

        return move

    def checked_sampling(self, options=None):
        sampling = super().checked_sampling(options)
        if sampling.sampler is not diffusion.euler or sampling.scale is not None:
            sampler = (options or {}).get("sampler") or self.sampling["sampler"]
            raise ValueError(
                "A mean flow goes from time to time by itself, without guidance. Received: "
                f"sampler={sampler!r}, guidance_scale={sampling.scale!r}"
            )
        return dataclasses.replace(sampling, sampler=diffusion.flow_map)

    def interpolate(self, *args, **kwargs):
        raise NotImplementedError("A mean flow takes noise to images, and not images to noise.")

    def mix_classes(self, *args, **kwargs):
        raise NotImplementedError("A mean flow has no estimates of the data to be mixed.")

    def log_prob(self, *args, **kwargs):
        raise NotImplementedError(_NO_ODE)

    def variational_bound(self, *args, **kwargs):
        raise NotImplementedError(_NO_ODE)


def _split(batch, every):
    """Which rows of a batch have two times, and which have one, int32 each, and for each row its
    place in the two lists together.

    The others are None where `every` is 1. Of a batch of one, which has two times, they are that
    row once more, as networks fail on no rows; its place is that in the first list.
    """
    row = tf.range(batch)
    pairs = tf.range(0, batch, every)
    if every == 1:
        return pairs, None, row
    count = tf.shape(pairs)[0]
    i = tf.range(tf.maximum(batch - count, 1))
    others = tf.minimum(i + i // (every - 1) + 1, batch - 1)
    return pairs, others, tf.where(row % every == 0, row // every, count + row - row // every - 1)
