"""`MeanFlow`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import diffusion as d
from keras_gen.models.mean_flow import _split
from tests.conformance.cases import digits
from tests.models.test_diffusion import SHAPE, lively, network, zero_network

with_span = kg.networks.inputs.with_span


def flow(num_classes=None, **kwargs):
    return lively(kg.models.Diffusion(SHAPE, num_classes, network(num_classes), **kwargs))


def test_it_begins_as_the_flow_that_it_is_tuned_from():
    model = flow(10, seed=3, label_dropout=0.2, clip=False)
    tuned = kg.models.MeanFlow.tuned_from(model)
    assert (tuned.seed, tuned.label_dropout, tuned.sampling["steps"]) == (3, 0.2, 1)
    # velocities in place of average ones are Euler's method
    for steps in (1, 3):
        found = tuned.generate(3, 1, steps=steps).astype(int)
        expected = model.generate(3, 1, steps=steps, sampler="euler", grid="uniform").astype(int)
        assert abs(found - expected).max() <= 1
    # and other weights
    before = model.network.get_weights()[0].copy()
    tuned.compile()
    tuned.fit(digits(SHAPE).batches(64, seed=0), verbose=0)
    np.testing.assert_array_equal(model.network.get_weights()[0], before)
    assert (tuned.generate(3, 1) != model.generate(3, 1, steps=1, sampler="euler")).any()
    assert {w.path.split("/")[-2] for w in tuned.network.trainable_weights} >= {
        "span_1",
        "out_conv",
    }


def spanned(function):
    """A network of x, t and the span, one formula."""
    image, time, span = keras.Input(SHAPE), keras.Input(()), keras.Input(())
    return keras.Model(
        [image, time, span], function(image, *(v[:, None, None, None] for v in (time, span)))
    )


def test_the_loss_is_that_of_the_identity():
    """u = a x + b t + c span: du/dt along the way is a v + b + c."""
    a, b, c = 0.5, 2.0, -3.0
    model = kg.models.MeanFlow(
        SHAPE, network=spanned(lambda x, t, s: a * x + b * t + c * s), every=1, power=0.0
    )
    x = tf.constant(next(iter(digits(SHAPE, False).batches(16, seed=0))))
    found = model.compute_loss(x)["loss"].numpy()
    key = model.step_key()
    one, two = (model.times([16], kg.randomness.key(key, "times", i)) for i in (0, 1))
    noise, _ = model.noise_and_labels(x, None, key, True)
    t, span = (v[:, None, None, None] for v in (tf.maximum(one, two), tf.abs(one - two)))
    noisy, velocity = (1 - t) * x + t * noise, noise - x
    u = a * noisy + b * t + c * span
    error = u - (velocity - span * (a * velocity + b + c))
    np.testing.assert_allclose(found, tf.reduce_mean(error**2, [1, 2, 3]), rtol=1e-3)


def test_the_average_velocity_of_a_gaussian_flow_has_no_loss_and_goes_there_at_once():
    """Normal data of deviation s: the flow is x_r = x_t |r| / |t|, |t|^2 = (1-t)^2 s^2 + t^2."""
    deviation = 0.6

    def length(t):
        return tf.sqrt((1 - t) ** 2 * deviation**2 + t**2)

    @keras.saving.register_keras_serializable("tests")
    class Exact(keras.layers.Layer):
        def call(self, x, t, s):
            slope = (t - (1 - t) * deviation**2) / length(t) ** 2
            average = (1 - length(t - s) / length(t)) / tf.maximum(s, 1e-6)
            return x * tf.where(s > 1e-4, average, slope)

    model = kg.models.MeanFlow(SHAPE, network=spanned(Exact()), every=1, power=0.0, clip=False)
    # The loss of a velocity that is the mean of those through x is their variance: the gradient
    # by which the network would move is zero in the mean.
    x = deviation * tf.random.stateless_normal([4096, *SHAPE], [0, 1])
    with tf.GradientTape() as tape:
        scale = tf.Variable(1.0)
        u_scaled = model.average_velocity
        model.average_velocity = lambda *args, **kwargs: scale * u_scaled(*args, **kwargs)
        loss = tf.reduce_mean(model.compute_loss(x)["loss"])
    assert abs(tape.gradient(loss, scale)) < 0.02
    del model.average_velocity
    seeds = np.arange(16)
    noise = model.prior(tf.constant(seeds, tf.int64))
    drawn = model.generate_step(tf.constant(seeds, tf.int64))
    np.testing.assert_allclose(drawn, deviation * noise, atol=1e-4)
    jumps = {n: model.generate(4, steps=n).astype(int) for n in (1, 3)}
    assert abs(jumps[1] - jumps[3]).max() <= 1


@pytest.mark.parametrize("batch, every", [(1, 4), (2, 4), (8, 4), (9, 4), (11, 3), (5, 2), (4, 1)])
def test_one_of_so_many_rows_has_two_times(batch, every):
    pairs, others, back = _split(batch, every)
    np.testing.assert_array_equal(pairs, np.arange(0, batch, every))
    if every == 1:
        assert others is None
        others = []
    together = np.concatenate([pairs, others]).astype(int)
    np.testing.assert_array_equal(together[np.asarray(back)], np.arange(batch))
    assert len(others) == max(batch - len(pairs), every > 1)


def test_the_others_learn_the_velocity():
    model = kg.models.MeanFlow(SHAPE, network=spanned(lambda x, t, s: 0.3 * x + s), power=0.0)
    x = tf.constant(next(iter(digits(SHAPE, False).batches(16, seed=0))))
    key = model.step_key()
    t = model.times([16], kg.randomness.key(key, "times", 0))
    noise, _ = model.noise_and_labels(x, None, key, True)
    error = 0.3 * model.noise_path.mix(x, noise, t) - (noise - x)
    expected = tf.reduce_mean(error**2, [1, 2, 3]).numpy()
    found = model.compute_loss(x)["loss"].numpy()
    alone = np.arange(16) % 4 > 0
    np.testing.assert_allclose(found[alone], expected[alone], rtol=1e-4)
    assert (abs(found[~alone] - expected[~alone]) > 1e-3).all()


def test_the_weight_divides_by_a_power_of_the_error():
    x = next(iter(digits(SHAPE, False).batches(16, seed=0)))
    plain, weighted = (
        kg.models.MeanFlow(SHAPE, network=with_span(network()), power=p).compute_loss(x)["loss"]
        for p in (0.0, 0.75)
    )
    np.testing.assert_allclose(weighted, plain / (64 * plain + 1e-2) ** 0.75, rtol=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
def test_all_examples_may_have_two_times(recompute):
    """None is left for the other kind, as of a batch of one; and forward differentiation goes
    through blocks that recomputed."""
    before = lively(kg.models.Diffusion(SHAPE, network=network(recompute=recompute)))
    model = kg.models.MeanFlow.tuned_from(before, every=1)
    model.compile()
    start = model.network.get_weights()
    found = model.fit(digits(SHAPE, False).batches(64, seed=0), verbose=0).history["loss"]
    assert np.isfinite(found).all()
    assert all(np.isfinite(weight).all() for weight in model.network.get_weights())
    assert any((a != b).any() for a, b in zip(start, model.network.get_weights()))


def test_pictures_are_drawn_anew_and_completed():
    model = kg.models.MeanFlow.tuned_from(flow())
    pictures = digits(SHAPE).take(3, seed=0)[0]
    drawn = model.image_to_image(pictures, 0.5, steps=4)
    assert (drawn != pictures).any()
    mask = np.zeros(SHAPE[:2], bool)
    mask[4:] = True
    done = model.inpaint(pictures, mask, steps=2)
    np.testing.assert_array_equal(done[:, :4], pictures[:, :4])
    assert (done[:, 4:] != pictures[:, 4:]).any()


def test_what_it_cannot_do_is_refused():
    model = kg.models.MeanFlow.tuned_from(flow(10))
    pictures = digits(SHAPE).take(2, seed=0)[0]
    for call in (
        lambda: model.generate(2, sampler="heun"),
        lambda: model.generate(2, guidance_scale=2.0),
    ):
        with pytest.raises(ValueError, match="without guidance"):
            call()
    for call in (model.interpolate, model.mix_classes, model.log_prob, model.variational_bound):
        with pytest.raises(NotImplementedError):
            call(pictures)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"every": 0}, "every=0"),
        ({"power": -1.0}, "power=-1.0"),
        ({"path": "cosine"}, "is a rectified flow"),
        ({"prediction": "data"}, "predicts velocities"),
        ({"weighting": "min_snr"}, "weights its loss itself"),
        ({"times": "stratified"}, "always near one another"),
        ({"sampler": "heun"}, "sampler='heun'"),
        ({"network": zero_network()}, r"must take \[image, time, span\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        kg.models.MeanFlow(SHAPE, **{"network": with_span(network()), **arguments})


def test_only_a_diffusion_model_of_this_project_is_tuned():
    with pytest.raises(ValueError, match="Received: model=MeanFlow"):
        kg.models.MeanFlow.tuned_from(kg.models.MeanFlow.tuned_from(flow()))
    with pytest.raises(ValueError, match="'time_embedding' and 'time_1'"):
        kg.models.MeanFlow.tuned_from(kg.models.Diffusion(SHAPE, network=zero_network()))


def test_transformers_learn_spans_too():
    network = kg.networks.dit.denoiser(SHAPE, 10, width=32, depth=1, heads=2)
    x = tf.zeros([2, *SHAPE]), tf.constant([0.3, 0.7]), tf.constant([0.1, 0.5]), tf.constant([1, 2])
    before = network([x[0], x[1], x[3]])
    spans = with_span(network)
    np.testing.assert_allclose(spans(list(x)), before, atol=1e-6)
    again = spans.__class__.from_config(spans.get_config())
    again.set_weights(spans.get_weights())
    np.testing.assert_allclose(again(list(x)), before, atol=1e-6)


def test_the_jump_of_exact_maps_is_exact_at_any_times():
    """x_s = x_t length(s) / length(t), of the module's other test; one jump or many."""
    path = d.RectifiedFlow()
    x = tf.random.stateless_normal([5, 3], [0, 1], dtype=tf.float64)
    ticks = []

    def move(x, t, s):
        return x * ((1 + s) / (1 + t))[:, None]

    def callback(i, s, x, data):
        ticks.append(i)
        return x

    for times in ([1.0, 0.0], [1.0, 0.7, 0.2, 0.0]):
        np.testing.assert_allclose(d.flow_map(move, path, x, times, callback=callback), x / 2)
    assert len(ticks) == 4
