"""The GAN family: every loss with every network, errors, and what its steps do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import losses, models, networks
from keras_gen.data.arrays import float_batches
from tests.conformance.cases import assert_same_state, dcgan, digits, mlp_gan, one_step

SHAPE = (8, 8, 1)


def eager(model, **kwargs):
    model.compile(run_eagerly=True, **kwargs)
    return model


@pytest.mark.parametrize("loss", losses.ADVERSARIAL_LOSSES)
@pytest.mark.parametrize("num_classes", [None, 10], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("make", [mlp_gan, dcgan])
def test_every_loss_trains_both_networks(make, num_classes, loss):
    model = eager(make(SHAPE, num_classes, loss=loss))
    before = [network.get_weights() for network in (model.generator, model.discriminator)]
    history = one_step(model, next(iter(digits(labelled=bool(num_classes)).batches(16))))
    assert set(history) == set(model.loss_names)
    parts = [history[name][0] for name in model.loss_names if name != "loss"]
    assert history["loss"][0] == pytest.approx(sum(parts), rel=1e-5)
    for network, old in zip((model.generator, model.discriminator), before):
        assert any((a != b).any() for a, b in zip(old, network.get_weights()))
    assert model.generate(2, seed=0).shape == (2, *SHAPE)


@pytest.mark.parametrize(
    "penalty, name",
    [
        (losses.R1(), "r1_penalty"),
        (losses.R2(), "r2_penalty"),
        (losses.GradientPenalty(), "gradient_penalty"),
    ],
)
def test_penalties_are_reported_by_name(penalty, name):
    model = eager(mlp_gan(SHAPE, None, penalties=[penalty]))
    history = one_step(model, next(iter(digits(labelled=False).batches(16))))
    assert history[name][0] > 0


def test_wasserstein_has_its_penalty_by_default_and_can_do_without():
    assert [p.name for p in mlp_gan(SHAPE, None, loss="wasserstein").penalties] == [
        "gradient_penalty"
    ]
    assert mlp_gan(SHAPE, None, loss="wasserstein", penalties=[]).penalties == []
    assert mlp_gan(SHAPE, None, loss="hinge").penalties == []


def test_discriminator_steps_are_updates_of_the_discriminator_alone():
    model = eager(mlp_gan(SHAPE, None, discriminator_steps=3))
    one_step(model, next(iter(digits(labelled=False).batches(16))))
    assert model.discriminator_optimizer.iterations == 3
    assert model.optimizer.iterations == 1
    assert model.step == 1


def test_the_generators_step_leaves_the_discriminator_alone():
    model = mlp_gan(SHAPE, None)
    model.compile(keras.optimizers.SGD(1.0), keras.optimizers.SGD(0.0), run_eagerly=True)
    before = model.discriminator.get_weights()
    one_step(model, next(iter(digits(labelled=False).batches(16))))
    for a, b in zip(before, model.discriminator.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_new_loss_is_one_small_object():
    class Shifted(losses.AdversarialLoss):
        def discriminator(self, real, fake):
            return tf.abs(real - 2) + tf.abs(fake + 2)

        def generator(self, fake, real=None):
            return tf.abs(fake - 2)

    model = eager(mlp_gan(SHAPE, None, loss=Shifted()))
    history = one_step(model, next(iter(digits(labelled=False).batches(16))))
    assert history["discriminator_loss"][0] > 3


def test_works_with_no_further_argument():
    source = kg.data.load("digits")
    model = models.GAN(source.image_shape, num_classes=source.num_classes)
    model.compile()
    assert float(model.optimizer.learning_rate) == pytest.approx(2e-3)
    assert model.generate(4, labels=3, seed=0).shape == (4, 8, 8, 1)
    assert model.generator.name == "resnet_generator" and model.recipe == "r3gan"


def test_recipes_are_one_argument_away():
    for recipe, name, loss, penalties in (
        ("dcgan", "dcgan", losses.NonSaturating, []),
        ("gan", "mlp", losses.NonSaturating, []),
        ("sngan", "resnet", losses.Hinge, []),
        ("r3gan", "resnet", losses.Relativistic, ["r1_penalty", "r2_penalty"]),
    ):
        model = models.GAN((28, 28, 1), recipe=recipe)
        networks_of = model.generator.name, model.discriminator.name
        assert networks_of == (f"{name}_generator", f"{name}_discriminator")
        assert type(model.loss_function) is loss
        assert [penalty.name for penalty in model.penalties] == penalties
    assert models.GAN(SHAPE, recipe="dcgan", loss="hinge").penalties == []
    with pytest.raises(ValueError, match="recipe='x'"):
        models.GAN(SHAPE, recipe="x")


def test_the_average_warms_up_and_generates():
    model = eager(mlp_gan(SHAPE, None))
    weight, average = model.generator.weights[0], model.averaged_generator.weights[0]
    first = weight.numpy()
    batch = next(iter(digits(labelled=False).batches(16)))
    one_step(model, batch)
    share = 1 - 2 / 11  # of the first step: decay (1 + 1) / (10 + 1)
    expected = first + share * (weight.numpy() - first)
    np.testing.assert_allclose(average.numpy(), expected, rtol=1e-5, atol=1e-7)
    before = model.generate(4)
    model.generator.set_weights([0 * w for w in model.generator.get_weights()])
    np.testing.assert_array_equal(model.generate(4), before)


def test_labels_are_drawn_from_the_seeds_and_reach_every_class():
    model = mlp_gan(SHAPE, 10)
    labels = model._row_labels(None, np.arange(1000))
    assert np.bincount(labels, minlength=10).min() > 60
    np.testing.assert_array_equal(labels[5:7], model._row_labels(None, np.array([5, 6])))


def test_bad_arguments_are_named():
    generator = networks.mlp.generator(SHAPE)
    for match, arguments in (
        (r"image_shape=\(8, 8\)", {"image_shape": (8, 8)}),
        (r"image_shape=\(8, 0, 1\)", {"image_shape": (8, 0, 1)}),
        ("num_classes=0", {"image_shape": SHAPE, "num_classes": 0}),
        ("ema=1", {"image_shape": SHAPE, "ema": 1}),
        ("seed=0.5", {"image_shape": SHAPE, "seed": 0.5}),
        ("discriminator_steps=0", {"image_shape": SHAPE, "discriminator_steps": 0}),
        ("discriminator_steps=1.5", {"image_shape": SHAPE, "discriminator_steps": 1.5}),
        ("loss='x'", {"image_shape": SHAPE, "loss": "x"}),
        ("one input|two inputs", {"image_shape": SHAPE, "num_classes": 3, "generator": generator}),
        (r"\(8, 8, 1\)", {"image_shape": (8, 8, 3), "generator": generator}),
    ):
        with pytest.raises(ValueError, match=match):
            models.GAN(**arguments)


def test_bad_data_are_refused_before_training():
    source, model = digits(), eager(mlp_gan(SHAPE, 10))
    for data in (
        digits(labelled=False).batches(8),  # no labels
        digits((8, 12, 1)).batches(8),  # another shape
        source.batches(8).map(lambda x, y: (tf.cast(x, tf.uint8), y)),  # another dtype
        np.zeros((4, 8, 8, 1), "uint8"),
    ):
        with pytest.raises(ValueError, match="Received: "):
            model.fit(data, verbose=0)
        with pytest.raises(ValueError, match="Received: "):
            model.evaluate(data, verbose=0)
    assert model.step == 0


def test_images_and_labels_out_of_range_are_refused():
    source, model = digits(), eager(mlp_gan(SHAPE, 10))
    for data, message in (
        (source.batches(8).map(lambda x, y: (x * 255, y)), "Images must lie in"),
        (source.batches(8).map(lambda x, y: (x, y + 5)), "Labels must lie in"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            model.fit(data, verbose=0)
    assert model.step == 0


def test_bad_calls_of_generate_are_named():
    model = mlp_gan(SHAPE, 10)
    for match, arguments in (
        ("n=-1", {"n": -1}),
        ("n=2.0", {"n": 2.0}),
        ("labels=10", {"n": 2, "labels": 10}),
        (r"labels=\[0, -1\]", {"n": 2, "labels": [0, -1]}),
        (r"labels=\[0\]", {"n": 2, "labels": [0]}),
        ("labels=0.5", {"n": 2, "labels": 0.5}),
    ):
        with pytest.raises(ValueError, match=match):
            model.generate(**arguments)
    with pytest.raises(ValueError, match="no classes"):
        mlp_gan(SHAPE, None).generate(2, labels=1)


def test_one_optimizer_cannot_serve_both_networks():
    adam = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="an optimizer each"):
        mlp_gan(SHAPE, None).compile(adam, adam)


def test_arrays_can_be_fitted_as_in_keras():
    pixels, labels = next(iter(digits().batches(32)))
    model = eager(mlp_gan(SHAPE, 10))
    history = model.fit(pixels.numpy(), labels.numpy(), batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"][0]) and model.step == 2


def test_fitting_arrays_resumes_bit_for_bit(tmp_path):
    pixels, labels = (tensor.numpy() for tensor in next(iter(digits().batches(50))))

    def fit(run_dir, epochs):
        model = eager(mlp_gan(SHAPE, 10))
        resume = kg.callbacks.Resume(run_dir)
        model.fit(pixels, labels, batch_size=16, epochs=epochs, callbacks=[resume], verbose=0)
        return model

    whole = fit(tmp_path / "whole", 3)
    fit(tmp_path / "parts", 1)
    assert_same_state(whole, fit(tmp_path / "parts", 3))


def test_arrays_are_shuffled_by_seed_and_epoch():
    images = np.arange(10, dtype="float32").reshape(10, 1, 1, 1)
    labels = np.arange(10)

    def epochs(**kwargs):
        dataset = float_batches(images, labels, 4, **kwargs)
        return [[(x.numpy().ravel(), y.numpy()) for x, y in dataset] for _ in range(2)]

    first, second = epochs(seed=1)
    order = np.concatenate([y for _, y in first])
    assert sorted(order) == list(range(10)) and (order != np.arange(10)).any()
    assert all((x == y).all() for x, y in first + second)
    assert (order != np.concatenate([y for _, y in second])).any()
    np.testing.assert_array_equal(order, np.concatenate([y for _, y in epochs(seed=1)[0]]))
    plain = np.concatenate([y for _, y in epochs(shuffle=False)[1]])
    np.testing.assert_array_equal(plain, np.arange(10))
    with pytest.raises(ValueError, match="Received: 9 labels"):
        float_batches(images, labels[:9], 4)


def test_a_split_for_validation_leaves_the_order_of_the_rest_as_it_is():
    """Shuffled by the model's seed and the epoch, as arrays are that are given for it whole."""
    pixels, _ = digits().take(64)
    x = kg.images.from_uint8(pixels).numpy()
    histories = []
    for given in ({"x": x, "validation_split": 0.25}, {"x": x[:48], "validation_data": x[48:]}):
        model = eager(mlp_gan((8, 8, 1), None))
        histories.append(model.fit(**given, batch_size=16, epochs=2, verbose=0).history)
    assert histories[0] == histories[1] and "val_loss" in histories[0]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"validation_split": 0.99}, "leaves images for .*validation_split=0.99 of 16 images"),
        ({"validation_split": 1.5}, "validation_split=1.5"),
        ({"validation_split": -0.5}, "validation_split=-0.5"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be a positive integer"),
    ],
)
def test_numbers_that_leave_nothing_to_train_on_are_named(given, message):
    model = eager(mlp_gan((8, 8, 1), None))
    with pytest.raises(ValueError, match=message):
        model.fit(np.zeros((16, 8, 8, 1), np.float32), verbose=0, **given)
    assert int(model.step) == 0


def test_labels_in_a_list_are_split_too():
    model = eager(mlp_gan((8, 8, 1), 10))
    x = np.zeros((16, 8, 8, 1), np.float32)
    history = model.fit(x, [3] * 16, batch_size=8, validation_split=0.5, verbose=0).history
    assert int(model.step) == 1 and "val_loss" in history


def test_a_column_of_labels_is_told_from_one_hot_rows():
    model = eager(mlp_gan((8, 8, 1), 10))
    x = np.zeros((16, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"labels\[:, 0\].*Received: labels of shape \(16, 1\)"):
        model.fit(x, np.zeros((16, 1), np.int32))
    with pytest.raises(ValueError, match=r"labels.argmax\(-1\)"):
        model.fit(x, np.zeros((16, 10), np.int32))


def test_validation_data_are_evaluated():
    model = eager(mlp_gan(SHAPE, None))
    batches = digits(labelled=False, count=32).batches(16)
    history = model.fit(batches, validation_data=batches, verbose=0).history
    assert {f"val_{name}" for name in model.loss_names} <= set(history)


def test_export_refuses_what_exists_and_other_formats(tmp_path):
    model = mlp_gan(SHAPE, None)
    (tmp_path / "1").mkdir()
    with pytest.raises(FileExistsError, match="which exists"):
        model.export(tmp_path / "1")
    with pytest.raises(ValueError, match="format='onnx'"):
        model.export(tmp_path / "2", format="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
