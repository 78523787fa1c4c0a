"""`FramePredictor`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_gen as kg
from keras_gen.models.frames import windows_before
from tests.conformance.cases import frame_predictor, moving_digits
from tests.models import rollouts

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    """A labelled model of 2 frames before, a little trained."""
    model = frame_predictor(SHAPE, 10)
    model.compile()
    model.optimizer.learning_rate = 4e-3
    model.fit(moving_digits().batches(64), epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def sequences():
    return moving_digits().take(6, seed=0)


def linear(likelihood, context=2, shape=(1, 2, 1), scale=0.5, **kwargs):
    """x_t = scale * (x_t-1 - x_t-2 ...) as the first parameter, and a constant as the others."""
    frames = keras.Input((context, *shape))
    signs = np.resize([1.0, -1.0], context)
    first = sum(scale * float(sign) * frames[:, -i] for i, sign in enumerate(signs, start=1))
    rest = [keras.ops.ones_like(first)] * (likelihood.parameters - 1)
    out = keras.ops.concatenate([first, *rest], axis=-1)
    network = keras.Model(frames, out)
    return kg.models.FramePredictor(shape, None, context, 4, network, likelihood, **kwargs)


# Time


def test_windows_are_the_frames_before():
    x = np.arange(1.0, 13).reshape(2, 6, 1, 1, 1)
    windows = windows_before(tf.constant(x), 3).numpy()
    assert windows.shape == (2, 6, 3, 1, 1, 1)
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    np.testing.assert_array_equal(windows[0, ..., 0, 0, 0], expected)


def test_a_frame_depends_on_the_frames_before_it_alone():
    """By gradient: the parameters of frame t move with frames t-2 and t-1, and with no other."""
    model = frame_predictor(SHAPE, None)
    for weight in model.network.weights:  # the last layers of blocks are zero at first
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]) * 0.3)
    x = tf.random.stateless_uniform([1, 5, *SHAPE], [0, 1], -1, 1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        windows = tf.reshape(windows_before(x, 2), [5, 2, *SHAPE])
        sums = tf.reduce_sum(model.network(windows), [1, 2, 3])
    jacobian = tape.jacobian(sums, x)[:, 0]
    moved = (np.abs(jacobian) > 0).any((2, 3, 4))
    expected = [[s in (t - 1, t - 2) for s in range(5)] for t in range(5)]
    np.testing.assert_array_equal(moved, expected)


# Likelihood


def test_log_prob_is_its_formula():
    model = linear(kg.losses.Gaussian("predicted", dequantize=False))
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 1, 2, 1), np.uint8)
    found = model.log_prob(frames)
    x = frames / 127.5 - 1
    before = np.concatenate([np.zeros((3, 2, 1, 2, 1)), x], 1)
    mean = 0.5 * (before[:, 1:-1] - before[:, :-2])
    least = np.log(1 / 256)
    deviation = np.exp(least + np.log1p(np.exp(1 - least)))
    terms = stats.norm.logpdf(x, mean, deviation).sum((2, 3, 4))
    np.testing.assert_allclose(found["frame_log_prob"], terms, rtol=1e-4)
    np.testing.assert_allclose(found["log_prob"], terms.sum(1), rtol=1e-4)
    history = model.compile() or model.fit(
        tf.data.Dataset.from_tensors(tf.constant(x, tf.float32)), verbose=0
    )
    np.testing.assert_allclose(history.history["nats_per_frame"], -terms.mean(), rtol=1e-4)
    np.testing.assert_allclose(history.history["loss"], -terms.mean() / 2, rtol=1e-4)


def test_noise_is_added_to_the_frames_before_in_training_alone():
    """The loss of 0.5 (x_t-1 - x_t-2) grows by that of the noise: none, one or two frames of it."""
    model = linear(kg.losses.Gaussian(1.0, dequantize=False), context_noise=0.4)
    x = tf.random.stateless_uniform([5000, 4, 1, 2, 1], [0, 1], -1, 1)
    noisy, clean = (model.compute_loss(x, training=t)["nats_per_frame"] for t in (True, False))
    added = np.mean(noisy - clean)
    expected = 2 * 0.4**2 / 2 * np.mean([0, 0.25, 0.5, 0.5])  # two pixels
    assert added == pytest.approx(expected, rel=0.1)
    again = linear(kg.losses.Gaussian(1.0, dequantize=False))
    np.testing.assert_array_equal(again.compute_loss(x)["nats_per_frame"], clean)


def test_binary_frames_are_learned_from_as_they_are_learned():
    """Thresholded to 0 and 1: the same logits whatever the grey levels on either side."""
    model = linear(kg.losses.Bernoulli(0.5))
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 1, 2, 1), np.uint8)
    black_or_white = np.where(frames >= 128, 255, 0).astype(np.uint8)
    found, same = (model.log_prob(f)["frame_log_prob"] for f in (frames, black_or_white))
    np.testing.assert_array_equal(found, same)
    losses = (model.compute_loss(kg.images.from_uint8(f)) for f in (frames, black_or_white))
    np.testing.assert_array_equal(*(terms["nats_per_frame"] for terms in losses))
    x = black_or_white / 255
    np.testing.assert_allclose(found[:, 0], 2 * np.log(0.5), rtol=1e-5)
    logits = 0.5 * (2 * x[:, 1] - 2 * x[:, 0])
    nats = x[:, 2] * logits - np.log1p(np.exp(logits))
    np.testing.assert_allclose(found[:, 2], nats.sum((1, 2, 3)), rtol=1e-4)


def test_likelihood_is_reported_as_that_of_other_models(trained):
    source = moving_digits()
    result = kg.metrics.likelihood(trained, source, num_images=8, seed=1)
    frames, labels = source.take(8, seed=1)
    assert result.nats == pytest.approx(-trained.log_prob(frames, labels, 1)["log_prob"].mean())
    assert result.estimator == "exact" and result.data.startswith("binarized at random")
    assert result.n == 8 and result.conditional


def test_log_prob_of_a_batch_is_that_of_its_rows(trained, sequences):
    frames, labels = sequences
    whole = trained.log_prob(frames, labels, seed=3)
    seeds = (3 << 32) + np.arange(6)
    rows = [4, 1]
    part = trained.log_prob(frames[rows], labels[rows], seeds[rows], batch_size=1)
    for name, values in part.items():
        expected = whole[name] if isinstance(values, str) else whole[name][rows]
        np.testing.assert_array_equal(values, expected)
    longer = np.concatenate([frames, frames], 1)
    terms = trained.log_prob(longer, labels, seed=3)["frame_log_prob"]
    assert terms.shape == (6, 6)
    np.testing.assert_allclose(terms[:, :3], whole["frame_log_prob"], rtol=1e-5)
    other = trained.log_prob(frames, (labels + 1) % 10, seed=3)["log_prob"]
    assert (other != whole["log_prob"]).all()
    assert trained._functions["log_prob"].experimental_get_tracing_count() == 1


def test_frames_before_help_to_tell_the_next(trained):
    frames, labels = moving_digits().take(200, seed=1)
    terms = trained.log_prob(frames, labels)["frame_log_prob"].mean(0)
    assert terms[0] + 1 < terms[1] < terms[2], terms


# Roll-out


@pytest.mark.parametrize("check", rollouts.CHECKS, ids=lambda check: check.__name__)
def test_roll_outs(check, trained, sequences):
    check(trained, *sequences)


def test_without_noise_the_expected_frame_follows():
    model = linear(kg.losses.Gaussian(0.1), scale=0.8)
    first = np.random.default_rng(0).integers(0, 256, (3, 2, 1, 2, 1), np.uint8)
    found = model.generate(3, seed=4, num_frames=4, first_frames=first, noise=False)
    x = [first[:, t] / 127.5 - 1 for t in range(2)]
    for t in (2, 3):
        expected = np.clip(0.8 * (x[t - 1] - x[t - 2]), -1, 1)
        x.append(np.rint((expected + 1) * 127.5) / 127.5 - 1)
    np.testing.assert_allclose(found, (np.stack(x, 1) + 1) * 127.5, atol=1)
    noisy = model.generate(3, seed=4, num_frames=4, first_frames=first)
    assert (noisy[:, 2:] != found[:, 2:]).any((1, 2, 3, 4)).all()


def test_the_noise_is_that_of_the_likelihood():
    """x_1 is normal around 0, its deviation 0.1; x_t has the deviation of an AR(1) process."""
    model = linear(kg.losses.Gaussian(0.1), context=1, scale=0.6)
    x = model.generate(2000, num_frames=6)[..., 0] / 127.5 - 1
    variances = 0.1**2 * np.cumsum(0.36 ** np.arange(6))
    np.testing.assert_allclose(x.var((0, 2, 3)), variances, rtol=0.1)
    next_to = (x[:, 4] * x[:, 5]).mean() / x[:, 4].var()
    assert abs(next_to - 0.6) < 0.05


# Export


def test_the_signature_predict_goes_on_from_given_frames(trained, sequences):
    frames, labels = sequences
    function, signature = trained.signatures()["predict"]
    predict = tf.function(function, signature).get_concrete_function()
    for given in (1, 3):
        found = predict(
            seed=tf.range(6, dtype=tf.int64),
            label=tf.constant(labels),
            first_frames=tf.constant(frames[:, :given]),
        )["images"].numpy()
        expected = trained.generate(6, labels, num_frames=given + 3, first_frames=frames[:, :given])
        np.testing.assert_array_equal(found, expected[:, given:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many rows"):
        predict(
            seed=tf.range(5, dtype=tf.int64),
            label=tf.constant(labels),
            first_frames=tf.constant(frames),
        )


def test_the_signature_log_prob_is_of_sequences_of_any_length(trained, sequences):
    frames, labels = sequences
    function, signature = trained.signatures()["log_prob"]
    served = tf.function(function, signature).get_concrete_function()
    for time in (1, 3):
        found = served(
            sequence=tf.constant(frames[:, :time]),
            seed=tf.range(6, dtype=tf.int64),
            label=tf.constant(labels),
        )
        expected = trained.log_prob(frames[:, :time], labels)
        for name in ("log_prob", "bits_per_dimension"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Sequences need frames"):
        none = {"sequence": tf.constant(frames[:, :0]), "seed": tf.range(6, dtype=tf.int64)}
        served(**none, label=tf.constant(labels))
    _, signature = linear(kg.losses.Bernoulli(0.5)).signatures()["log_prob"]
    assert [spec.name for spec in signature] == ["sequence"]  # nothing is drawn


# Arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"context": 0}, "`context` must be a positive integer"),
        ({"num_frames": 1.5}, "`num_frames` must be a positive integer"),
        ({"likelihood": "cauchy"}, "`likelihood` must be one of"),
        ({"context_noise": -1}, "`context_noise` must not be negative"),
        ({"context": 3}, "The network must take frames"),
        ({"num_classes": 10}, "The network must take frames"),
        ({"likelihood": "discretized_logistic"}, "The network must take frames"),
    ],
)
def test_bad_models(arguments, message):
    network = kg.networks.convlstm.predictor(SHAPE, 2, width=4, blocks=0)
    with pytest.raises(ValueError, match=message + ".*Received: "):
        kg.models.FramePredictor(SHAPE, **{"context": 2, "network": network, **arguments})


def test_bad_frames(trained, sequences):
    frames, labels = sequences
    with pytest.raises(ValueError, match=r"`first_frames` must be \[n, given.*Received"):
        trained.generate(6, labels, num_frames=2, first_frames=frames)
    with pytest.raises(ValueError, match=r"`first_frames` must be \[n, given.*Received"):
        trained.generate(5, labels[:5], first_frames=frames)
    with pytest.raises(ValueError, match=r"need their labels.*Received: labels=None"):
        trained.generate(6, first_frames=frames)
    with pytest.raises(ValueError, match=r"`first_frames` must be uint8.*Received"):
        trained.generate(6, labels, first_frames=frames[:, 0])
    with pytest.raises(ValueError, match=r"`sequences` must be uint8.*Received"):
        trained.log_prob(frames / 255, labels)
    with pytest.raises(ValueError, match=r"`num_frames` must be a positive integer.*Received"):
        trained.generate(2, num_frames=0)
    images = kg.data.load("digits").batches(8)
    with pytest.raises(ValueError, match=r"needs batches of float images.*Received"):
        trained.fit(images)


def test_the_defaults_fit_grey_and_coloured_frames():
    grey = kg.models.FramePredictor((16, 16, 1))
    assert isinstance(grey.likelihood, kg.losses.Bernoulli)
    assert grey.likelihood.binarization == "stochastic" and grey.context == 4
    coloured = kg.models.FramePredictor((9, 21, 3), 4, likelihood="gaussian")
    assert coloured.network.output_shape == (None, 9, 21, 6)
    assert isinstance(kg.models.FramePredictor((8, 8, 3)).likelihood, kg.losses.DiscretizedLogistic)
