"""Pix2Pix and CycleGAN beyond what the conformance suite asks."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import losses, models
from tests.conformance.cases import convolution, cyclegan, digits, negatives, one_step, pix2pix

SHAPE = (8, 8, 1)


@cache
def untrained(make, **kwargs):
    model = make(SHAPE, None, **kwargs)
    model.compile(run_eagerly=True)
    return model


@cache
def pictures():
    return digits(labelled=False).take(20)[0]


@cache
def batch():
    return next(iter(negatives().batches(6)))


def terms(model, **kwargs):
    a, b = batch()
    key = model.step_key()
    made = model.translations(a, b, key)
    return made, {k: v.numpy() for k, v in model.generator_terms(a, b, made, key).items()}


def test_defaults_are_those_of_the_papers():
    model = models.Pix2Pix((8, 8, 3))
    assert model.generator.name == "unet_generator" and model.l1_weight == 100
    assert len(model.discriminator.inputs) == 2
    assert isinstance(model.loss_function, losses.NonSaturating)
    model = models.CycleGAN((8, 8, 3))
    assert model.generator_to_a.name == "residual_generator"
    assert (model.cycle_weight, model.identity_weight, model.history_b.size) == (10, 5, 50)
    assert model.loss_function.scale == 1
    for optimizer in untrained(pix2pix).optimizers.values():
        assert float(optimizer.learning_rate) == pytest.approx(2e-4) and optimizer.beta_1 == 0.5


def test_the_terms_of_pix2pix_against_numpy():
    model = untrained(pix2pix, l1_weight=7.0)
    made, found = terms(model)
    a, b = batch()
    distance = np.abs(made.numpy() - b.numpy()).mean((1, 2, 3))
    np.testing.assert_allclose(found["l1_loss"], 7 * distance, rtol=1e-5)
    logits = model.discriminator([a, made]).numpy()
    expected = np.log1p(np.exp(-logits)).mean((1, 2, 3))
    np.testing.assert_allclose(found["generator_loss"], expected, rtol=1e-5)


def test_the_terms_of_cyclegan_against_numpy():
    model = untrained(cyclegan, cycle_weight=3.0, identity_weight=0.5)
    (fake_a, fake_b), found = terms(model)
    a, b = batch()

    def mean(x):
        return np.asarray(x).mean((1, 2, 3))

    cycle = mean(
        np.abs(model.generator_to_a(fake_b) - a) + np.abs(model.generator_to_b(fake_a) - b)
    )
    same = mean(np.abs(model.generator_to_a(a) - a) + np.abs(model.generator_to_b(b) - b))
    fooled = mean((model.discriminator_a(fake_a) - 1) ** 2)
    fooled += mean((model.discriminator_b(fake_b) - 1) ** 2)
    for name, expected in (
        ("cycle_loss", 3 * cycle),
        ("identity_loss", 0.5 * same),
        ("generator_loss", fooled),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, err_msg=name)


def test_the_discriminators_terms_against_numpy():
    a, b = batch()
    model = untrained(pix2pix)
    key = model.step_key()
    made = model.translations(a, b, key)
    found, logits = model.discriminator_terms(a, b, made, key)
    real, fake = (model.discriminator([a, x]).numpy() for x in (b, made))
    expected = np.log1p(np.exp(-real)) + np.log1p(np.exp(fake))
    np.testing.assert_allclose(found["discriminator_loss"], expected.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(logits[""][0], real, rtol=1e-5)

    model = untrained(cyclegan, history=0)
    made = model.translations(a, b, key)
    found, logits = model.discriminator_terms(a, b, made, key)
    expected = 0.0
    for kind, judge, real, fake in zip("ab", model.discriminators, (a, b), made):
        real, fake = judge(real).numpy(), judge(fake).numpy()
        expected += ((real - 1) ** 2 + fake**2).mean((1, 2, 3))
        np.testing.assert_allclose(logits[kind], [real, fake], rtol=1e-5)
    np.testing.assert_allclose(found["discriminator_loss"], expected, rtol=1e-5)


def test_the_way_between_two_kinds_is_learned_without_pairs():
    """Digits become negatives of themselves, not only something that can be translated back."""
    source = negatives()
    model = cyclegan(SHAPE, None, identity_weight=0.0, cycle_weight=1.0)
    model.compile(*(keras.optimizers.Adam(1e-2, 0.5) for _ in range(2)))
    model.fit(source.batches(32, seed=0), epochs=30, verbose=0)
    digit = pictures().astype(float)
    for to, given, wanted in (("b", digit, 255 - digit), ("a", 255 - digit, digit)):
        made = model.translate(given.astype("uint8"), to=to).astype(float)
        assert np.abs(made - wanted).mean() < 0.5 * np.abs(made - given).mean()
        assert made.mean() == pytest.approx(wanted.mean(), rel=0.2)


def test_without_identity_there_is_no_such_term():
    model = untrained(cyclegan, identity_weight=0.0)
    assert "identity_loss" not in model.loss_names
    assert set(one_step(model, batch())) == set(model.loss_names)


def test_the_relativistic_loss_sees_real_images():
    for make in (pix2pix, cyclegan):
        history = one_step(untrained(make, loss="relativistic"), batch())
        assert np.isfinite(history["loss"]).all()


def test_the_discriminators_are_shown_earlier_fakes():
    model = cyclegan(SHAPE, None)
    model.compile(run_eagerly=True)
    for count in (6, 10, 10):
        one_step(model, batch())
        assert model.history_a.count.numpy() == model.history_b.count.numpy() == count
    assert (np.abs(model.history_a.images.numpy()).max((1, 2, 3)) > 0).all()
    before = model.history_b.images.numpy()
    fakes = tf.fill([8, *SHAPE], 0.5)
    shown, _ = model.history_b(fakes, None, kg.randomness.key(3))
    shown = shown.numpy()
    after = model.history_b.images.numpy()
    old = [any((image == known).all() for known in before) for image in shown]
    assert 0 < sum(old) < 8
    assert ((after != before).any((1, 2, 3)).sum()) == len({x.tobytes() for x in shown[old]})
    none = cyclegan(SHAPE, None, history=0)
    none.compile(run_eagerly=True)
    one_step(none, batch())


def test_different_seeds_translate_a_picture_differently():
    model = pix2pix(SHAPE, None)
    model.averaged_generator.set_weights(
        [10 * weight for weight in model.averaged_generator.get_weights()]
    )
    same = np.repeat(pictures()[:1], 5, axis=0)
    made = model.translate(same, seed=[1, 2, 3, 1, 1])
    assert (made[0] != made[1]).any() and (made[1] != made[2]).any()
    np.testing.assert_array_equal(made[[3, 4]], made[[0, 0]])
    certain = kg.networks.translation.unet(SHAPE, width=4, depth=2, dropout=0)
    certain = models.Pix2Pix(SHAPE, None, certain, model.discriminator)
    made = certain.translate(same, seed=[1, 2, 3, 1, 1])
    np.testing.assert_array_equal(made, made[[0] * 5])


def test_cyclegan_translates_both_ways_with_the_averages():
    model = untrained(cyclegan)
    there, back = model.translate(pictures()), model.translate(pictures(), to="a")
    assert there.shape == back.shape == (20, *SHAPE) and there.dtype == np.uint8
    for made, network in ((there, model.averaged_to_b), (back, model.averaged_to_a)):
        floats = network(pictures() / np.float32(127.5) - 1).numpy()
        assert np.abs((floats + 1) * 127.5 - made).max() < 0.51
    with pytest.raises(ValueError, match="to='c'"):
        model.translate(pictures(), to="c")


def test_strips_stand_beside_one_another():
    first, second = pictures()[:4], 255 - pictures()[:4]
    model = untrained(pix2pix)
    strips = model.strips(first, second, seed=3).reshape(4, 3, *SHAPE)
    np.testing.assert_array_equal(strips[:, 0], first)
    np.testing.assert_array_equal(strips[:, 1], model.translate(first, seed=3))
    np.testing.assert_array_equal(strips[:, 2], second)
    model = untrained(cyclegan)
    strips = model.strips(first, second[:2]).reshape(6, 3, *SHAPE)
    there = model.translate(second[:2], to="a")
    np.testing.assert_array_equal(strips[4:, 0], second[:2])
    np.testing.assert_array_equal(strips[4:, 1], there)
    np.testing.assert_array_equal(strips[4:, 2], model.translate(there, to="b"))


def test_nothing_is_drawn_from_seeds_alone():
    for make in (pix2pix, cyclegan):
        with pytest.raises(ValueError, match=r"translate\(pictures\).*generate\(3\)"):
            untrained(make).generate(3)


def test_the_saved_model_translates_both_ways(tmp_path):
    model = untrained(cyclegan)
    model.export(tmp_path / "1", verbose=False)
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    image = tf.constant(pictures())
    for to, names in (("b", ("serving_default", "translate")), ("a", ("translate_to_a",))):
        for name in names:
            served = signatures[name](image=image)["images"].numpy()
            np.testing.assert_array_equal(served, model.translate(pictures(), to=to))
    png = signatures["png_bytes_to_a"](image=image[:2])["png_bytes"].numpy()
    np.testing.assert_array_equal(
        [tf.io.decode_png(p).numpy() for p in png], model.translate(pictures()[:2], to="a")
    )


def test_a_falling_rate_is_saved_and_followed(tmp_path):
    model = cyclegan(SHAPE, None)
    rates = kg.schedules.LinearDecay(0.1, 4), kg.schedules.LinearDecay(0.2, 4, constant=0.0)
    model.compile(*map(keras.optimizers.SGD, rates), run_eagerly=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first, second = (o._learning_rate for o in loaded.optimizers.values())
    np.testing.assert_allclose([first(i) for i in range(6)], [0.1, 0.1, 0.1, 0.05, 0, 0], atol=1e-7)
    np.testing.assert_allclose([second(i) for i in range(5)], [0.2, 0.15, 0.1, 0.05, 0], atol=1e-7)
    for bad in ({"steps": 0}, {"steps": 4, "constant": 1}):
        with pytest.raises(ValueError, match="Received: learning_rate"):
            kg.schedules.LinearDecay(0.1, **bad)


def test_bad_arguments_are_named():
    other = convolution((8, 8, 3), 0, 1)
    for match, make in (
        ("num_classes=3", lambda: models.Pix2Pix(SHAPE, 3)),
        ("loss='wasserstein'", lambda: models.CycleGAN(SHAPE, loss="wasserstein")),
        ("l1_weight=-1", lambda: pix2pix(SHAPE, None, l1_weight=-1)),
        ("cycle_weight=-1", lambda: cyclegan(SHAPE, None, cycle_weight=-1)),
        (r"history=0\.5", lambda: cyclegan(SHAPE, None, history=0.5)),
        (r"multiples of 4.*\(30, 30, 1\)", lambda: models.Pix2Pix((30, 30, 1))),
        (r"generator must take.*\(8, 8, 3\)", lambda: models.Pix2Pix(SHAPE, None, other)),
        (r"discriminator_a must take", lambda: models.CycleGAN(SHAPE, discriminator_a=other)),
        (
            "discriminator must take two kinds of images",
            lambda: models.Pix2Pix(SHAPE, discriminator=convolution(SHAPE, 0, 1)),
        ),
        (
            r"logits \[batch, rows, columns, 1\]",
            lambda: models.CycleGAN(SHAPE, discriminator_b=convolution(SHAPE, 0, 2)),
        ),
    ):
        with pytest.raises(ValueError, match=match):
            make()
    adam = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="same object twice"):
        untrained(pix2pix).compile(adam, adam)


def test_bad_data_are_refused_before_training():
    model = pix2pix(SHAPE, None)
    model.compile(run_eagerly=True)
    floats = np.zeros((4, *SHAPE), "float32")
    for match, data in (
        ("two kinds of images", (digits(labelled=False).batches(8),)),
        ("two kinds of images", (floats,)),
        ("float images", (digits().batches(8),)),  # the second is labels
        ("float images", (floats, floats.astype("uint8"))),
        ("4 and 3 images", (floats, floats[:3])),
        (r"float images.*12", (negatives((8, 12, 1)).batches(8),)),
    ):
        with pytest.raises(ValueError, match=match):
            model.fit(*data, verbose=0)
    assert model.step == 0
    with pytest.raises(ValueError, match=r"must be \[n"):
        model.translate(np.zeros((2, 8, 12, 1), "uint8"))
    with pytest.raises(ValueError, match="uint8"):
        model.translate(floats)
    model.fit(floats, floats, verbose=0)
    assert model.step == 1


def test_grids_of_translations_must_be_told_how(tmp_path):
    with pytest.raises(ValueError, match="needs `draw`"):
        untrained(pix2pix).fit(
            negatives().batches(16, seed=0),
            callbacks=[kg.callbacks.SampleGrid(tmp_path)],
            verbose=0,
        )
