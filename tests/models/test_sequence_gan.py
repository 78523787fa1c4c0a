"""`SequenceGAN`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import losses, randomness
from tests.conformance.cases import moving_digits, sequence_gan
from tests.models import rollouts

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    """A labelled model of 3 frames, a little trained; without penalties it compiles faster."""
    model = sequence_gan(SHAPE, 10, loss="non_saturating", penalties=[])
    model.compile()
    for optimizer in model.optimizers.values():
        optimizer.learning_rate = 4e-3
    model.fit(moving_digits().batches(64), epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def sequences():
    return moving_digits().take(6, seed=0)


constant = keras.initializers.Constant


def adding(frames=5, max_given=2, shape=(1, 1, 1), **kwargs):
    """Of generators without noise: the first frame is 0.3, and each other the frame before / 2 plus
    0.01 times the new memory, which counts; content and noise have 2 numbers each."""
    before, memory = keras.Input(shape), keras.Input((1,))
    content, noise = keras.Input((2,)), keras.Input((2,))
    counted = memory + 1.0
    frame = 0.5 * before + 0.01 * counted[:, :, None, None]
    generator = keras.Model([before, memory, content, noise], [frame, counted])
    latent = keras.Input((4,))
    number = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=constant(0.3))
    first = keras.Model(latent, keras.layers.Reshape(shape)(number(latent)))
    judged = [keras.Input(shape), keras.Input((frames, *shape))]
    judges = [keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(x))) for x in judged]
    return kg.models.SequenceGAN(
        shape, None, frames, max_given, generator, first, *judges, **kwargs
    )


# Training sequences


def test_sequences_begin_with_the_frames_given_and_go_on_from_them():
    """Of x_0 = 0.8 given, the next is 0.4 + 0.01; nothing given, the first is 0.3."""
    model = adding()
    real = tf.fill([3, 5, 1, 1, 1], 0.8)
    given = tf.constant([0, 1, 2])
    made = model.fakes(real, given, None, randomness.key(0))[:, :, 0, 0, 0].numpy()
    for row, count in zip(made, given.numpy()):
        expected = []
        for t in range(5):
            made = 0.5 * expected[-1] + 0.01 * t if t else 0.3
            expected.append(0.8 if t < count else made)
        np.testing.assert_allclose(row, expected, rtol=1e-5)


def test_half_of_the_sequences_are_given_frames_and_none_all_of_them():
    model = adding(frames=5, max_given=3)
    given, times = (x.numpy() for x in model._times(4000, randomness.key(3)))
    shares = np.bincount(given, minlength=4) / 4000
    np.testing.assert_allclose(shares, [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.03)
    assert (times >= given).all() and times.max() == 4
    alone = np.bincount(times[given == 0], minlength=5) / (given == 0).sum()
    np.testing.assert_allclose(alone, 1 / 5, atol=0.04)
    assert set(times[given == 3]) == {3, 4}
    none, _ = adding(max_given=0)._times(100, randomness.key(3))
    assert not none.numpy().any()


def test_the_judge_of_frames_sees_the_frame_of_each_row_s_time():
    x = tf.random.stateless_uniform([3, 5, 1, 1, 1], [0, 1])
    seen = adding().seen(x, tf.constant([4, 0, 2]))
    np.testing.assert_allclose(seen["frame"], [x[0, 4], x[1, 0], x[2, 2]], rtol=1e-6)
    assert seen["motion"] is x


def test_losses_are_their_formulas():
    """Linear judges: each logit is a known number, and the penalties the square of the kernel."""
    model = adding(max_given=0, loss="non_saturating", penalties=[losses.R1(3.0)])
    weights = {}
    for name, judge in (("frame", model.discriminator), ("motion", model.motion_discriminator)):
        kernel, _ = judge.trainable_weights
        kernel.assign(np.linspace(0.5, -1, kernel.shape[0])[:, None])
        weights[name] = kernel.numpy()[:, 0]
    real = tf.constant([[0.1, 0.4, -0.3, 0.9, -1.0], [0.0, 0.2, 0.4, 0.6, 0.8]])[..., None, None]
    batch = tf.data.Dataset.from_tensors(real[..., None])
    model.compile()
    found = model.evaluate(batch, verbose=0, return_dict=True)
    fake = np.zeros(5)
    for t in range(5):
        fake[t] = 0.5 * fake[t - 1] + 0.01 * t if t else 0.3
    model.reset_metrics()
    with model.test_scope():
        times = model._times(2, model.step_key(training=False))[1].numpy()
    seen = {
        "frame": (real.numpy()[[0, 1], times, :, 0], fake[times][:, None]),
        "motion": (real.numpy()[:, :, 0, 0], np.stack([fake, fake])),
    }
    total = 0
    for name, (true, made) in seen.items():
        r, f = true @ weights[name], made @ weights[name]
        expected = {
            "discriminator_loss": (np.log1p(np.exp(-r)) + np.log1p(np.exp(f))).mean(),
            "generator_loss": np.log1p(np.exp(-f)).mean(),
            "r1_penalty": 1.5 * (weights[name] ** 2).sum(),
        }
        for term, value in expected.items():
            np.testing.assert_allclose(found[f"{name}_{term}"], value, rtol=1e-4, err_msg=term)
            total += value
    np.testing.assert_allclose(found["loss"], total, rtol=1e-4)


def test_continuations_of_two_frames_and_more_are_drawn_to_the_true_ones():
    model = adding(max_given=3, continuation_weight=2.0)
    assert model.loss_names[-1] == "continuation_loss"
    real = tf.random.stateless_uniform([4, 5, 1, 1, 1], [0, 1], -1, 1)
    given, key = tf.constant([0, 1, 2, 3]), randomness.key(0)
    fake = model.fakes(real, given, None, key)
    seen = (model.seen(x, given) for x in (real, fake))
    terms = model.generator_terms(*seen, given, None, key)
    away = np.abs(fake - real)[..., 0, 0, 0]
    expected = [0, 0, 2 * away[2, 2:].mean(), 2 * away[3, 3:].mean()]
    np.testing.assert_allclose(terms["continuation_loss"], expected, rtol=1e-5)
    assert "continuation_loss" not in adding().loss_names


def test_the_default_penalties_follow_the_loss():
    found = [(p.name, p.weight) for p in adding().penalties]
    assert found == [("r1_penalty", 10.0), ("r2_penalty", 10.0)]
    assert [p.name for p in adding(loss="wasserstein").penalties] == ["gradient_penalty"]
    assert adding(loss="hinge", penalties=[]).loss_names == [
        "loss",
        "frame_generator_loss",
        "frame_discriminator_loss",
        "motion_generator_loss",
        "motion_discriminator_loss",
    ]


def test_sequences_move_once_trained(trained):
    real, labels = moving_digits().take(200, seed=1)
    found = kg.metrics.temporal_continuity(real, trained.generate(200, labels))
    assert 0.3 < found["frame_distance_ratio"] < 3, found


# Roll-out


@pytest.mark.parametrize("check", rollouts.CHECKS, ids=lambda check: check.__name__)
def test_roll_outs(check, trained, sequences):
    check(trained, *sequences)


def test_generation_makes_the_steps_of_training():
    """Both roll-outs, of a generator without noise, but for the rounding to grey levels."""
    model = adding()
    first = np.full([2, 2, 1, 1, 1], 200, np.uint8)
    x = tf.fill([2, 5, 1, 1, 1], 200 / 127.5 - 1)
    expected = model.fakes(x, tf.constant([2, 2]), None, randomness.key(0))
    made = model.generate(2, num_frames=5, first_frames=first)
    np.testing.assert_allclose(made, (expected + 1) * 127.5, atol=1.1)
    drawn = model.generate(1, num_frames=5)
    expected = model.fakes(x[:1], tf.constant([0]), None, randomness.key(0))
    np.testing.assert_allclose(drawn, (expected + 1) * 127.5, atol=1.1)


def test_the_content_and_each_frame_have_noise_of_their_own(trained):
    """The same seed with another label is another sequence; frames of two seeds differ in all."""
    a, b = trained.generate(2, 4, seed=np.array([1, 2]), num_frames=6)
    assert (a != b).any((1, 2, 3)).all()
    other = trained.generate(1, 5, seed=np.array([1]), num_frames=6)[0]
    assert (a != other).any((1, 2, 3)).all()


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


# Arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_frames": 1}, "`num_frames` must be an integer of at least 2"),
        ({"continuation_weight": -1.0}, "`continuation_weight` must not be negative"),
        ({"max_given": 1, "continuation_weight": 1.0}, "at least two frames are given"),
        ({"max_given": -1}, "`max_given` must be an integer of at least 0"),
        ({"max_given": 3}, "`max_given` must be less than num_frames=3"),
        ({"loss": "cross"}, "`loss` must be one of"),
        ({"generator": "discriminator"}, "The generator must take"),
        ({"num_classes": None}, "The generator must take"),
        ({"first_generator": "discriminator"}, "The first_generator must be a network from"),
        ({"discriminator": "motion_discriminator"}, "The discriminator must be a network from"),
        ({"num_frames": 4}, "The motion_discriminator must be a network from"),
    ],
)
def test_bad_models(trained, arguments, message):
    names = ("generator", "first_generator", "discriminator", "motion_discriminator")
    known = {name: getattr(trained, name) for name in names}
    given = {"num_classes": 10, "num_frames": 3, **known, **arguments}
    given |= {name: known.get(given[name], given[name]) for name in names if given[name] in names}
    with pytest.raises(ValueError, match=message + ".*Received: "):
        kg.models.SequenceGAN(SHAPE, **given)


def test_data_of_another_length(trained):
    source = kg.data.moving_digits("digits", 1, SHAPE[:2], 4, count=8)
    with pytest.raises(ValueError, match=r"needs batches of float images \(None, 3, 8, 8, 1\)"):
        trained.fit(source.batches(8))
