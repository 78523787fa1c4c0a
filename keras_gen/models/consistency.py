"""Consistency models (Song et al. 2023): images in one to four steps."""

import copy
import functools
import math

import keras
import tensorflow as tf

from keras_gen import diffusion, optimizers, randomness
from keras_gen.models.diffusion import Diffusion
from keras_gen.strategies import checked_count

RHO = 7.0  # of Karras et al. 2022
CLEAN = 0.02  # noise-to-signal ratio below which a step of the teacher ends at the data
HUBER = 5.4e-4  # Song and Dhariwal 2023, section 3.3, for the mean over the pixels

_OF_MEANS = {f for name, f in diffusion.SAMPLERS.items() if name != "consistency"}
_NO_LIKELIHOOD = "A consistency model has no likelihood; the model that it was tuned from has one."


@keras.saving.register_keras_serializable("keras_gen")
class ConsistencyModel(Diffusion):
    """A diffusion model tuned to say at once where its probability-flow ODE ends.

    The estimate of x_0 at a noise level is drawn to the estimate at a lower level, of which there
    are two kinds:

    - With a teacher (consistency distillation, Song et al. 2023, algorithm 2) the lower point is
      where the ODE of the trained model leads in one of `intervals` steps of Heun's method. As a
      few of these steps are nearly exact, few intervals do.
    - Without (easy consistency tuning, Geng et al. 2024) it has the same noise as the upper one.
      The distance of the two levels begins wide, where the training is that of the diffusion model,
      and is halved from stage to stage. The loss of evaluation is always that of the last stage.

    Example:

    ```python
    fast = kg.models.ConsistencyModel.tuned_from(model)  # a trained Diffusion
    fast.compile()
    fast.fit(source.batches(128), epochs=5)
    images = fast.generate(16, steps=2)
    ```

    Args:
        image_shape, num_classes, and what `Diffusion` takes besides `weighting`, which is given
        here: as there. `times` is by default wide enough to reach pure noise: on the rectified flow
        uniform with a teacher, without one logit-normal with mean 0.5 and deviation 1.6.
        teacher: the trained network, such as `network` must be, which is kept as it is and saved
            with the model; or None.
        intervals: steps of the teacher from noise to data, equal in time on the rectified flow,
            else in Karras's roots of the noise-to-signal ratio.
        stage_steps: training steps of each stage, without a teacher.
        stages: without a teacher the number of halvings, each after `stage_steps` steps; in the end
            the levels differ by a 2^`stages`-th or so.
        sampler, steps: by default "consistency" in 2 steps. Samplers that need the mean of the
            data, and what rests on them (interpolation, likelihoods), are refused.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        network=None,
        teacher=None,
        intervals=8,
        stage_steps=250,
        stages=8,
        times=None,
        path="rectified_flow",
        sampler="consistency",
        steps=2,
        **kwargs,
    ):
        path = diffusion.get_path(path)
        if times is None and isinstance(path, diffusion.RectifiedFlow):
            times = "uniform" if teacher else diffusion.LogitNormalTimes(0.5, 1.6)
        if times is None and isinstance(path, diffusion.EDM):
            times = diffusion.LogNormalTimes(-1.1, 2.0)
        super().__init__(
            image_shape,
            num_classes,
            network,
            times=times,
            path=path,
            sampler=sampler,
            steps=steps,
            **kwargs,
        )
        if not isinstance(self.weighting, diffusion.UniformWeighting):
            raise ValueError(
                "A consistency model weights its loss itself; `weighting` is not for it. Received: "
                f"weighting={self.weighting!r}"
            )
        noisiest = tf.constant(self.noise_path.t_max)
        if self.prediction.data_coefficients(self.noise_path, noisiest)[1] == 0:
            raise ValueError(
                "A consistency model begins at pure noise, where a prediction of noise says "
                "nothing of the data. Received: "
                f"prediction={self.prediction!r}, path={self.noise_path!r}"
            )
        self.teacher, self.intervals = teacher, checked_count("intervals", intervals)
        if teacher is not None:
            self._check_network(teacher)
            self.teacher.trainable = False
        self.stage_steps = checked_count("stage_steps", stage_steps)
        self.stages = checked_count("stages", stages)

    @classmethod
    def tuned_from(cls, model, teacher=True, **kwargs):
        """A consistency model of the averaged weights of a trained `Diffusion`.

        Args:
            model: `Diffusion`.
            teacher: whether the model teaches; else the data do.
            **kwargs: arguments of this class that shall differ from the model's.

        Raises:
            ValueError: when the model is no `Diffusion`.
        """
        if type(model) is not Diffusion:
            raise ValueError(
                "A consistency model is tuned from a `Diffusion`. "
                f"Received: model={type(model).__name__}"
            )
        config = model.get_config()
        for name in ("times", "sampler", "steps", "grid", "weighting", "name"):
            config.pop(name)
        own = {"teacher": copy.deepcopy(config["network"])} if teacher else {}
        tuned = cls.from_config({**config, **own, **kwargs})
        for network in (tuned.network, tuned.averaged_network, *([tuned.teacher] if own else [])):
            network.set_weights(model.averaged_network.get_weights())
        return tuned

    def get_config(self):
        return {
            **super().get_config(),
            "teacher": self.teacher and keras.saving.serialize_keras_object(self.teacher),
            "intervals": self.intervals,
            "stage_steps": self.stage_steps,
            "stages": self.stages,
        }

    def default_optimizer(self):
        """Adam, rate 5e-4, gradients clipped to a global norm of 1: a network that is tuned."""
        return optimizers.Adam(5e-4, global_clipnorm=1.0)

    def lower_level(self, t, training=True):
        """The times to which the estimates at times t are drawn, and how far they are away.

        The times are 0 in the first stage; where not `training`, the stage is the last.

        In noise-to-signal u = sigma / alpha it is u (1 - n(u) / 2^stage), n(u) = 1 + 8 / (1 + e^u)
        (Geng et al. 2024, eq. 12), not below 0.
        """
        stage = self.stages
        if training:
            stage = tf.minimum(self.step.value // self.stage_steps, stage)
        noisiest, _ = self.noise_path.log_snr_range
        log_snr = tf.maximum(self.noise_path.log_snr(t), noisiest)
        level = tf.exp(-log_snr / 2)
        share = (1 + 8 * tf.sigmoid(-level)) / 2.0 ** tf.cast(stage, tf.float32)
        lower = level * tf.maximum(1 - share, 0)
        time = self.noise_path.time(-2 * tf.math.log(tf.maximum(lower, 1e-6)))
        return tf.where(lower > 1e-3, time, 0), level - lower

    def taught_time(self, t):
        """The times to which one step of the teacher leads from times t; 0 from the cleanest."""
        part, log_snr = 1 / self.intervals, self.noise_path.log_snr
        if isinstance(self.noise_path, diffusion.RectifiedFlow):
            lower = tf.maximum(t - part, 0)
        else:
            largest, smallest = (math.exp(-x / 2 / RHO) for x in self.noise_path.log_snr_range)
            root = tf.exp(-log_snr(t) / 2 / RHO) - part * (largest - smallest)
            lower = self.noise_path.time(-2 * RHO * tf.math.log(tf.maximum(root, smallest)))
            lower = tf.where(root > smallest * (1 + 1e-4), lower, 0.0)
        return tf.where(log_snr(lower) > -2 * math.log(CLEAN), 0.0, lower)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        t = self.times([tf.shape(x)[0]], randomness.key(key, "times"))
        noise, y = self.noise_and_labels(x, y, key, training)
        noisy, small = self.noise_path.mix(x, noise, t), self.small(x)

        def estimate(noisy, t, network=self.network):
            with randomness.scope(randomness.key(key, "network")):  # the same dropout for both
                own = training and network is self.network
                output = self.predict_at(network, noisy, t, y, own, small)
            return self.prediction.to_data(self.noise_path, output, noisy, t)

        if self.teacher is None:
            lower, distance = self.lower_level(t, training)
            ahead, end = self.noise_path.mix(x, noise, lower), x
        else:
            lower, distance = self.taught_time(t), tf.ones_like(t)
            taught = functools.partial(estimate, network=self.teacher)
            ahead = end = diffusion.heun_step(taught, self.noise_path, noisy, t, lower)
        target = tf.where((lower > 0)[:, None, None, None], estimate(ahead, lower), end)
        error = tf.square(estimate(noisy, t) - tf.stop_gradient(target))
        # the pseudo-Huber distance, weighted by one over the distance of the levels
        huber = tf.sqrt(tf.reduce_mean(error, [1, 2, 3]) + HUBER**2) - HUBER
        return {"loss": huber / tf.maximum(distance, 1e-3)}

    says_means = False

    def checked_sampling(self, options=None):
        sampling = super().checked_sampling(options)
        sampler = diffusion.samplers.plain(sampling.sampler)
        if sampler in _OF_MEANS:
            raise ValueError(
                "A consistency model says where the ODE ends, and not which way it goes: its "
                f"`sampler` is 'consistency'. Received: sampler={sampler.__name__!r}"
            )
        return sampling

    def log_prob(self, *args, **kwargs):
        raise NotImplementedError(_NO_LIKELIHOOD)

    def variational_bound(self, *args, **kwargs):
        raise NotImplementedError(_NO_LIKELIHOOD)
