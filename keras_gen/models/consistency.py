"""Consistency models (Song et al. 2023): images in one to four steps."""

import keras
import tensorflow as tf

from keras_gen import diffusion, optimizers, randomness
from keras_gen.models.diffusion import Diffusion
from keras_gen.strategies import checked_count

HUBER = 5.4e-4  # Song and Dhariwal 2023, section 3.3, for the mean over the pixels

OF_MEANS = {f for name, f in diffusion.SAMPLERS.items() if name != "consistency"}
_NO_LIKELIHOOD = "A consistency model has no likelihood; the model that it was tuned from has one."


@keras.saving.register_keras_serializable("keras_gen")
class ConsistencyModel(Diffusion):
    """A diffusion model tuned to say at once where its probability-flow ODE ends.

    Easy consistency tuning (Geng et al. 2024): the estimate of x_0 at a noise level is drawn to the
    estimate at a somewhat lower level of the same noise. The distance of the two levels begins
    wide, where the training is that of the diffusion model, and is halved from stage to stage. The
    loss of evaluation is always that of the last stage.

    Example:

    ```python
    fast = kg.models.ConsistencyModel.tuned_from(model)  # a trained Diffusion
    fast.compile()
    fast.fit(source.batches(128), epochs=5)
    images = fast.generate(16, steps=2)
    ```

    Args:
        image_shape, num_classes, and what `Diffusion` takes besides `weighting`, which is given
        here: as there. `times` is by default logit-normal with mean 0.5 and deviation 1.6 on the
        rectified flow, wide enough to reach pure noise.
        stage_steps: training steps of each stage.
        stages: number of halvings, each after `stage_steps` steps; in the end the levels differ by
            a 2^`stages`-th or so.
        sampler, steps: by default "consistency" in 2 steps. Samplers that need the mean of the
            data, and what rests on them (interpolation, likelihoods), are refused.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        network=None,
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
            times = diffusion.LogitNormalTimes(0.5, 1.6)
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
        self.stage_steps = checked_count("stage_steps", stage_steps)
        self.stages = checked_count("stages", stages)

    @classmethod
    def tuned_from(cls, model, **kwargs):
        """A consistency model of the averaged weights of a trained `Diffusion`.

        Args:
            model: `Diffusion`.
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
        tuned = cls.from_config({**config, **kwargs})
        for network in (tuned.network, tuned.averaged_network):
            network.set_weights(model.averaged_network.get_weights())
        return tuned

    def get_config(self):
        return {
            **super().get_config(),
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

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        key = self.step_key(training)
        t = self.times([tf.shape(x)[0]], randomness.key(key, "times"))
        noise, y = self.noise_and_labels(x, y, key, training)
        lower, distance = self.lower_level(t, training)

        def estimate(t):
            noisy = self.noise_path.mix(x, noise, t)
            with randomness.scope(randomness.key(key, "network")):  # the same dropout for both
                output = self.predict_at(self.network, noisy, t, y, training, self.small(x))
            return self.prediction.to_data(self.noise_path, output, noisy, t)

        target = tf.where((lower > 0)[:, None, None, None], estimate(lower), x)
        error = tf.reduce_mean(tf.square(estimate(t) - tf.stop_gradient(target)), [1, 2, 3])
        # the pseudo-Huber distance, weighted by one over the distance of the levels
        huber = tf.sqrt(error + HUBER**2) - HUBER
        return {"loss": huber / tf.maximum(distance, 1e-3)}

    def checked_sampling(self, options=None):
        sampling = super().checked_sampling(options)
        sampler = diffusion.samplers.plain(sampling.sampler)
        if sampler in OF_MEANS:
            raise ValueError(
                "A consistency model says where the ODE ends, and not which way it goes: its "
                f"`sampler` is 'consistency'. Received: sampler={sampler.__name__!r}"
            )
        return sampling

    def log_prob(self, *args, **kwargs):
        raise NotImplementedError(_NO_LIKELIHOOD)

    def variational_bound(self, *args, **kwargs):
        raise NotImplementedError(_NO_LIKELIHOOD)
