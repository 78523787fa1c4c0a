"""`ConsistencyModel`: what the conformance suite does not ask of every model."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import diffusion as d
from tests.conformance.cases import digits
from tests.models.test_diffusion import SHAPE, lively, network, zero_network


def test_levels_come_nearer_from_stage_to_stage():
    model = kg.models.ConsistencyModel(SHAPE, network=zero_network(), stage_steps=10, stages=4)
    t = tf.constant([0.1, 0.5, 0.9, 1.0])
    distances = []
    for step in (0, 10, 20, 30, 40, 90):
        model.step.assign(step)
        lower, distance = (value.numpy() for value in model.lower_level(t))
        assert (lower >= 0).all() and (lower < t.numpy()).all()
        distances.append(distance)
        # the distance is that of the noise-to-signal ratios
        level = np.minimum(t / np.maximum(1 - t, 1e-9), 160)
        np.testing.assert_allclose(level - distance, lower / (1 - lower), rtol=1e-3, atol=2e-3)
    distances = np.array(distances)
    np.testing.assert_allclose(distances[0], level, rtol=1e-5)  # down to the data
    assert (np.diff(distances, axis=0) <= 0).all()
    assert (distances[4] < distances[0] / 1.5).all()
    np.testing.assert_array_equal(distances[4], distances[5])  # no stage after the last


def test_the_first_stage_trains_on_the_data_themselves():
    model = kg.models.ConsistencyModel(SHAPE, network=zero_network(), prediction="data")
    lower, _ = model.lower_level(tf.linspace(0.01, 1.0, 50))
    np.testing.assert_array_equal(lower, 0)
    x = next(iter(digits(SHAPE, False).batches(16, seed=0)))
    terms = model.compute_loss(x)["loss"].numpy()
    assert (terms > 0).all()


def test_a_constant_estimate_is_consistent_where_it_meets_another():
    """A network that puts out one image is at no distance from itself at a lower level."""
    model = kg.models.ConsistencyModel(
        SHAPE, network=zero_network(), prediction="data", times=d.LogitNormalTimes(3.0, 0.1)
    )
    model.step.assign(10**6)
    x = next(iter(digits(SHAPE, False).batches(16, seed=0)))
    np.testing.assert_allclose(model.compute_loss(x)["loss"], 0, atol=1e-6)


def test_tuned_from_takes_weights_and_settings():
    model = lively(
        kg.models.Diffusion(SHAPE, 10, network(10), path="cosine", seed=3, label_dropout=0.2)
    )
    tuned = kg.models.ConsistencyModel.tuned_from(model, teacher=False, stage_steps=7)
    assert isinstance(tuned.noise_path, d.Cosine)
    assert (tuned.seed, tuned.label_dropout, tuned.stage_steps) == (3, 0.2, 7)
    assert tuned.sampling["sampler"] == "consistency"
    for a, b in zip(tuned.network.get_weights(), model.averaged_network.get_weights()):
        np.testing.assert_array_equal(a, b)
    # one step of Euler's method is one evaluation, as is one of consistency sampling
    np.testing.assert_array_equal(
        tuned.generate(3, 1, steps=1), model.generate(3, 1, steps=1, sampler="euler")
    )


def test_only_the_estimate_at_the_higher_level_learns():
    """For the estimate w t the distance is w (t - r), and its slope in w is t where r is given."""
    image, time = keras.Input(SHAPE), keras.Input(())
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    same_everywhere = keras.ops.ones_like(image) * layer(time[:, None])[:, :, None, None]
    model = kg.models.ConsistencyModel(
        SHAPE,
        network=keras.Model([image, time], same_everywhere),
        prediction="data",
        times=d.LogitNormalTimes(0.0, 1e-6),
        stage_steps=1,
    )
    model.step.assign(4)
    (lower,), (distance,) = (value.numpy() for value in model.lower_level(tf.constant([0.5])))
    assert 0 < lower < 0.5
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.compute_loss(tf.zeros([4, *SHAPE]))["loss"])
    (slope,) = tape.gradient(loss, model.network.trainable_weights)
    np.testing.assert_allclose(slope.numpy().item(), 0.5 / distance, rtol=1e-3)


# With a teacher

DEVIATION = 0.6  # of normal pixels


def length(t):
    """The deviation of x at time t of the rectified flow of normal pixels."""
    return tf.sqrt(((1 - t) * DEVIATION) ** 2 + t**2)


@keras.saving.register_keras_serializable("tests")
class OfNormalPixels(keras.layers.Layer):
    """What the pixels are in the mean, or where the flow leads them."""

    def __init__(self, mean, **kwargs):
        super().__init__(**kwargs)
        self.mean = mean

    def call(self, x, t):
        t = t[:, None, None, None]
        mean, end = (1 - t) * DEVIATION**2 / length(t) ** 2, DEVIATION / length(t)
        return x * (mean if self.mean else end)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean}


def normal_pixels(mean):
    image, time = keras.Input(SHAPE), keras.Input(())
    return keras.Model([image, time], OfNormalPixels(mean)(image, time))


def test_where_the_flow_leads_is_consistent_and_the_mean_is_not():
    x = DEVIATION * tf.random.stateless_normal([64, *SHAPE], [0, 1])

    def loss(network, intervals):
        own = {"network": network, "teacher": normal_pixels(True), "intervals": intervals}
        model = kg.models.ConsistencyModel(SHAPE, prediction="data", **own)
        return model.compute_loss(x)["loss"].numpy().mean()

    ends = [loss(normal_pixels(False), n) for n in (4, 8, 64)]
    assert ends[0] > 2 * ends[1] > 8 * ends[2]  # the errors of Heun's method
    assert ends[1] < 0.1 * loss(normal_pixels(True), 8)


def test_a_step_of_the_teacher():
    flow = kg.models.ConsistencyModel(SHAPE, network=zero_network(), teacher=zero_network())
    times = flow.taught_time(tf.constant([1.0, 0.5, 0.13, 0.1]))
    np.testing.assert_allclose(times, [0.875, 0.375, 0, 0], atol=1e-6)
    edm = kg.models.ConsistencyModel(
        SHAPE, network=zero_network(), teacher=zero_network(), path="edm", intervals=5
    )
    karras = d.karras(edm.noise_path, 6).numpy()  # the last step but one is one of its five
    times = edm.taught_time(tf.constant(karras[:4], tf.float32))
    np.testing.assert_allclose(times, karras[1:5], rtol=1e-3)
    assert edm.taught_time(tf.constant([0.01])) == 0
    for path in (d.Linear(50), d.Cosine(20), d.EDM(0.05)):  # whose cleanest times are not so clean
        other = kg.models.ConsistencyModel(
            SHAPE, network=zero_network(), teacher=zero_network(), path=path, prediction="data"
        )
        cleanest = path.time(tf.constant(path.log_snr_range[1]))
        assert other.taught_time(cleanest[None]) == 0
        t = path.t_max * tf.linspace(0.02, 1.0, 50)
        assert (other.taught_time(t) < t).numpy().all()


@pytest.mark.parametrize("path", ["rectified_flow", "cosine", "edm"])
def test_the_teacher_stays_as_it_is_and_is_saved(path, tmp_path):
    model = lively(kg.models.Diffusion(SHAPE, 10, network(10), path=path))
    taught = kg.models.ConsistencyModel.tuned_from(model)
    expected = model.averaged_network.get_weights()
    taught.compile()
    history = taught.fit(digits(SHAPE).batches(64, seed=0), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["loss"][0] > 0
    taught.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for weights in (taught.teacher.get_weights(), loaded.teacher.get_weights()):
        for a, b in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(taught.trainable_weights) == len(model.trainable_weights)
    assert any((a != b).any() for a, b in zip(taught.network.get_weights(), expected))
    np.testing.assert_array_equal(loaded.generate(2, 1, seed=3), taught.generate(2, 1, seed=3))


@pytest.mark.parametrize("path", ["rectified_flow", "cosine", "edm"])
def test_every_step_changes_the_image(path):
    model = lively(kg.models.ConsistencyModel(SHAPE, network=network(), path=path))
    one, two, three = (model.generate(4, steps=steps) for steps in (1, 2, 3))
    assert (one != two).any() and (two != three).any()


@pytest.mark.parametrize("step, stage", [(0, 0), (9, 0), (10, 1), (25, 2), (49, 4), (90, 4)])
def test_levels_are_those_of_easy_consistency_tuning(step, stage):
    """Geng et al. 2024: the lower level is u (1 - n(u) / q^stage) of u, q = 2 and k = 8, b = 1."""
    model = kg.models.ConsistencyModel(
        SHAPE, network=zero_network(), path="edm", stage_steps=10, stages=4
    )
    model.step.assign(step)
    u = np.array([0.5, 1.0, 3.0, 20.0, 80.0], np.float32)
    lower, distance = (value.numpy() for value in model.lower_level(tf.constant(u)))
    expected = u * np.maximum(1 - (1 + 8 / (1 + np.exp(u))) / 2**stage, 0)
    np.testing.assert_allclose(lower, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(distance, u - expected, rtol=1e-4, atol=1e-4)
    last, _ = model.lower_level(tf.constant(u), training=False)
    ends = u * np.maximum(1 - (1 + 8 / (1 + np.exp(u))) / 2**4, 0)
    np.testing.assert_allclose(last, ends, rtol=1e-4, atol=1e-4)


def test_the_loss_is_pseudo_hubers_over_the_distance():
    """A network that says 0 of the data: the distance is 0 or, at the data, that of x from 0."""
    model = kg.models.ConsistencyModel(SHAPE, network=zero_network(), prediction="data")
    x = next(iter(digits(SHAPE, False).batches(16, seed=0)))
    key = model.step_key()
    t = model.times([16], kg.randomness.key(key, "times")).numpy()
    c = 5.4e-4
    expected = np.sqrt(np.mean(np.square(x), axis=(1, 2, 3)) + c**2) - c
    expected /= np.minimum(t / (1 - t), 160)  # the first stage goes down to the data
    np.testing.assert_allclose(model.compute_loss(x)["loss"], expected, rtol=1e-3)


def test_what_needs_the_mean_of_the_data_is_refused():
    model = kg.models.ConsistencyModel(SHAPE, network=zero_network())
    pictures = digits(SHAPE).take(2, seed=0)[0]
    with pytest.raises(ValueError, match="sampler='heun'"):
        model.generate(2, sampler="heun")
    with pytest.raises(ValueError, match="sampler='ddim'"):
        model.generate(2, sampler=functools.partial(d.ddim, eta=1.0))
    with pytest.raises(ValueError, match="sampler='heun'"):
        model.interpolate(pictures, pictures, 3)
    for call in (model.log_prob, model.variational_bound):
        with pytest.raises(NotImplementedError, match="tuned from"):
            call(pictures)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="stages=0"):
        kg.models.ConsistencyModel(SHAPE, network=zero_network(), stages=0)
    with pytest.raises(ValueError, match="nothing of the data"):
        kg.models.ConsistencyModel(SHAPE, network=zero_network(), prediction="noise")
    with pytest.raises(ValueError, match="weights its loss itself"):
        kg.models.ConsistencyModel(SHAPE, network=zero_network(), weighting="min_snr")
    assert keras.saving.get_registered_object("keras_gen>ConsistencyModel")
