"""What a GAN can be told besides its networks and its loss; diagnosis and control."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import control, layers, losses, models, networks
from keras_gen.callbacks.gan_diagnosis import neighbour_distance
from keras_gen.models.average import WeightAverages
from tests.conformance.cases import (
    acgan,
    assert_same_state,
    cyclegan,
    digits,
    mlp_gan,
    moving_digits,
    negatives,
    one_step,
    pix2pix,
    resnet,
    sequence_gan,
)

SHAPE = (8, 8, 1)


def eager(model, **kwargs):
    model.compile(run_eagerly=True, **kwargs)
    return model


def batch(labelled=False, size=16):
    return next(iter(digits(labelled=labelled).batches(size, seed=0)))


def test_clipped_weights_stay_within_the_bound():
    model = eager(mlp_gan(SHAPE, None, loss="wasserstein", weight_clip=0.01))
    assert model.penalties == []  # the other way to keep the critic Lipschitz
    one_step(model, batch())
    weights = [np.abs(w).max() for w in model.discriminator.get_weights()]
    assert max(weights) == pytest.approx(0.01)
    assert np.abs(model.generator.get_weights()[0]).max() > 0.05


def test_options_out_of_range_are_named():
    for match, arguments in (
        ("burn_in=0", {"burn_in": 0}),
        ("weight_clip=-0.1", {"weight_clip": -0.1}),
        ("classification_weight=0", {"classification_weight": 0, "num_classes": 10}),
        ("history=-1", {"history": -1}),
    ):
        with pytest.raises(ValueError, match=match):
            models.GAN(SHAPE, **arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": [4]},
        {"attention": [4], "normalization": "spectral"},
        {"minibatch_std": 4},
        {"normalization": "equalized"},
    ],
    ids=str,
)
def test_every_weight_of_an_optional_part_is_trained(options):
    shared = {name: value for name, value in options.items() if name != "minibatch_std"}
    model = models.GAN(
        SHAPE,
        generator=networks.resnet.generator(SHAPE, 8, width=8, **shared),
        discriminator=networks.resnet.discriminator(SHAPE, width=8, seed=1, **options),
        loss="non_saturating",  # a relativistic one sees no bias of logits
    )
    eager(model)
    trained = [network.trainable_variables for network in (model.generator, model.discriminator)]
    before = [[weight.numpy() for weight in weights] for weights in trained]
    for _ in range(3):  # what ends in a factor of zero is reached after it
        one_step(model, batch())
    for weights, old in zip(trained, before):
        assert all(np.isfinite(weight.numpy()).all() for weight in weights)
        still = [w.path for w, b in zip(weights, old) if (w.numpy() == b).all()]
        assert not still


def test_an_augmentation_of_operations_of_ones_own_is_saved(tmp_path):
    augmentation = kg.data.augmentation.Augmentation(["flip", "cutout"], 0.25)
    model = mlp_gan(SHAPE, None, augmentation=augmentation)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.augmentation) == repr(augmentation)


def test_penalties_refuse_a_discriminator_that_normalizes_over_the_batch():
    network = networks.dcgan.discriminator(SHAPE, width=4, batch_normalization=True)
    models.GAN(SHAPE, discriminator=network, recipe="dcgan")
    with pytest.raises(ValueError, match=r"without batch normalization. Received: .*GradientPen"):
        models.GAN(SHAPE, discriminator=network, recipe="dcgan", loss="wasserstein")


def test_the_probability_of_ada_follows_the_discriminator_and_is_used(monkeypatch):
    ada = kg.data.augmentation.AdaptiveAugmentation(["cutout"], target=-1.0, images=64)
    ada.target = -1.1  # below every verdict
    model = eager(mlp_gan(SHAPE, None, augmentation=ada, discriminator_steps=2))
    used = []
    call = type(ada).__call__

    def spied(self, images, key, probability):
        used.append(float(probability))
        return call(self, images, key, probability)

    monkeypatch.setattr(type(ada), "__call__", spied)
    history = one_step(model, batch())  # 16 images, twice: above the target, whatever it says
    assert float(model.augmentation_probability) == pytest.approx(0.5)
    assert history["augmentation_probability"] == pytest.approx([0.5])
    # real and fake of the first update, of the second, and the generator's fake
    assert used == pytest.approx([0, 0, 0.25, 0.25, 0.5])


def test_earlier_fakes_are_judged_by_their_own_labels():
    seen = []

    class Spy(losses.Penalty):
        name = "spy"

        def __call__(self, discriminate, real, fake, key, images_seen=0):
            for images in (real, fake):
                seen.append(discriminate(images).numpy())
            return tf.zeros(len(real))

    model = eager(mlp_gan(SHAPE, 10, penalties=[Spy(1.0)], augmentation="diff_augment"))
    images, labels = batch(labelled=True)
    others = (labels + 1) % 10
    key = kg.randomness.key(0)
    fake = model.fakes(labels, 16, key)._replace(labels=others)
    model.discriminator_terms(images, fake, labels, key)
    own = kg.randomness.key(key, "penalty")
    for found, pictures, of in ((seen[0], images, labels), (seen[1], fake.images, others)):
        np.testing.assert_allclose(found, model.judge(pictures, of, own)[0], rtol=1e-5)


def test_the_schedules_follow_the_images():
    model = eager(resnet(SHAPE, None, burn_in=64))
    weights = [p.weight.initial for p in model.penalties]
    assert weights == [1, 1] and model.half_life.final == 64 / 20
    for _ in range(2):
        one_step(model, batch(size=64))
    assert int(model.images_seen) == 128
    for optimizer in model.optimizers.values():
        assert float(optimizer.learning_rate) == pytest.approx(5e-4)
        assert float(optimizer.beta_2) == pytest.approx(0.99)


def test_the_average_has_a_half_life_in_images():
    model = eager(mlp_gan(SHAPE, None, half_life=32))
    weight, average = model.generator.weights[0], model.averaged_generator.weights[0]
    first = weight.numpy()
    one_step(model, batch())  # 16 images: half of a half-life
    expected = first + (1 - 0.5**0.5) * (weight.numpy() - first)
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6)
    assert models.GAN(SHAPE, ema=0.5).half_life is None
    assert isinstance(model.averages, WeightAverages)


def test_the_history_is_saved_and_resumed(tmp_path):
    def fit(run_dir, epochs):
        model = eager(mlp_gan(SHAPE, 10, history=14))
        resume = kg.callbacks.Resume(run_dir)
        data = digits(count=32).batches(16, seed=1)
        model.fit(data, epochs=epochs, callbacks=[resume], verbose=0)
        return model

    whole = fit(tmp_path / "whole", 3)
    assert whole.history_buffer.count == 14 and whole.history_buffer.images.numpy().any()
    fit(tmp_path / "parts", 1)
    resumed = fit(tmp_path / "parts", 3)
    assert_same_state(whole, resumed)
    whole.save(tmp_path / "m.keras")
    assert_same_state(whole, keras.saving.load_model(tmp_path / "m.keras"))


def test_one_sided_smoothing_is_cross_entropy_with_a_target():
    real, fake = tf.constant([-1.0, 2.0]), tf.constant([0.5, -3.0])
    found = losses.NonSaturating(0.9).discriminator(real, fake)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits
    expected = entropy(0.9 * tf.ones(2), real) + entropy(tf.zeros(2), fake)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"real_target=0\.5"):
        losses.Minimax(0.5)


def test_codes_are_told_drawn_and_counted():
    codes = losses.Codes([3], 2, weight=2.0)
    drawn = codes.codes(tf.constant([[0.0, 0.5, 1.0], [0.99, 0.0, 0.25]])).numpy()
    np.testing.assert_allclose(drawn, [[1, 0, 0, 0, 1], [0, 0, 1, -1, -0.5]], atol=1e-6)
    np.testing.assert_allclose(codes.encode([0, 2], [[0, 1], [-1, -0.5]]), drawn, atol=1e-6)
    found = codes(tf.zeros([2, 5]), drawn)
    expected = 2 * (np.log(3) + 0.5 * np.array([1.0, 1.25]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for arguments in ({"categorical": [0]}, {"categorical": [3], "continuous": [[0, 0]]}):
        with pytest.raises(ValueError, match="Received: "):
            codes.encode(**arguments)
    for arguments in (
        {"categorical": [0], "continuous": [[0, 1.5]]},
        {"categorical": [0], "continuous": [[0, 0], [0, 0]]},
        {"categorical": [3], "continuous": [[0, 0]]},
    ):
        with pytest.raises(ValueError, match="Received: "):
            codes.encode(**arguments)
    with pytest.raises(ValueError, match="must be a code"):
        losses.Codes()


def test_chosen_codes_reach_the_images():
    model = acgan(SHAPE, 10)
    chosen = model.codes.encode([0, 1], [0.0, 0.0])
    made = model.generate(2, labels=3, seed=[7, 7], codes=chosen)
    assert (made[0] != made[1]).any()
    again = model.generate(3, labels=3, seed=[9, 7, 7], codes=chosen[[0, 0, 1]])
    np.testing.assert_array_equal(made, again[1:])
    own = model.seed_latents(tf.constant([7], tf.int64))[:, -3:].numpy()
    usual = model.generate(1, labels=3, seed=[7])
    np.testing.assert_array_equal(usual, model.generate(1, labels=3, seed=[7], codes=own))
    with pytest.raises(ValueError, match=r"must be \[2, 3\]"):
        model.generate(2, labels=3, codes=[[1, 2]])
    with pytest.raises(ValueError, match="no codes"):
        resnet(SHAPE, None).generate(2, codes=[1, 2])


def test_the_saved_model_takes_codes(tmp_path):
    model = acgan(SHAPE, 10)
    model.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1").signatures["generate_with_codes"]
    codes = model.codes.encode([0, 1], [0.5, -1.0])
    request = {"seed": tf.constant([7, 8], tf.int64), "label": tf.constant([3, 4])}
    found = served(**request, codes=tf.constant(codes))["images"].numpy()
    np.testing.assert_array_equal(found, model.generate(2, [3, 4], seed=[7, 8], codes=codes))
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many rows"):
        served(**request, codes=tf.constant(codes[:1]))


def test_networks_must_have_the_outputs_that_are_asked_for():
    discriminator = networks.resnet.discriminator(SHAPE, 8, num_classes=10, classifier=True)
    with pytest.raises(ValueError, match="two inputs"):
        models.GAN(SHAPE, 10, discriminator=discriminator)
    with pytest.raises(ValueError, match=r"shapes \[\(1,\), \(10,\), \(3,\)\]"):
        models.GAN(
            SHAPE,
            10,
            discriminator=discriminator,
            classification_weight=1.0,
            codes=losses.Codes([3]),
        )
    with pytest.raises(ValueError, match="needs classes"):
        models.GAN(SHAPE, classification_weight=1.0, recipe="r3gan")
    with pytest.raises(ValueError, match="Received: recipe='dcgan'"):
        models.GAN(SHAPE, 10, classification_weight=1.0, recipe="dcgan")
    with pytest.raises(ValueError, match="without the codes"):
        models.GAN(SHAPE, codes=losses.Codes([3]), history=10, recipe="r3gan")


def test_penalties_are_on_images_as_they_are():
    seen = []

    class Seen(losses.Penalty):
        name = "seen"

        def __call__(self, discriminate, real, fake, key, seen_images=0):
            seen.append(real.numpy())
            return tf.zeros(tf.shape(real)[0]) * discriminate(real)

    model = eager(mlp_gan(SHAPE, None, penalties=[Seen(1.0)], augmentation="diff_augment"))
    images = batch()
    one_step(model, images)
    np.testing.assert_array_equal(seen[0], images)


def test_a_forward_pass_serves_the_loss_and_the_penalties():
    calls = []
    judged = losses.Judged(lambda x: calls.append(1) or tf.reduce_sum(x**2, [1, 2, 3]))
    images = tf.ones([2, 2, 2, 1])
    np.testing.assert_allclose(judged(images), [4, 4])
    for _ in range(2):
        np.testing.assert_allclose(losses.R1(1.0)(judged, images, images, None), [8, 8])
    assert len(calls) == 1


# Diagnosis


@pytest.mark.parametrize("make, num_classes", [(mlp_gan, 10), (resnet, None)])
def test_the_diagnosis_is_in_the_history(make, num_classes):
    source = digits(labelled=bool(num_classes), count=64)
    model = eager(make(SHAPE, num_classes))
    callback = kg.callbacks.GANDiagnosis(*source.take(32, seed=0), patience=100)
    history = model.fit(source.batches(32), epochs=2, callbacks=[callback], verbose=0).history
    for network in ("real", "fake"):
        assert all(0 <= share <= 1 for share in history[f"{network}_accuracy"])
        assert np.isfinite(history[f"{network}_logit"]).all()
    for network in ("generator", "discriminator"):
        assert min(history[f"{network}_gradient_norm"]) > 0
    assert history["diversity"][-1] > 0
    pictures, labels = source.take(32, seed=0)
    assert model.diagnose(pictures, labels) == model.diagnose(pictures, labels)


@pytest.mark.parametrize(
    "make, data, judges",
    [
        (sequence_gan, moving_digits, ["frame_", "motion_"]),
        (pix2pix, negatives, [""]),
        (cyclegan, negatives, ["a_", "b_"]),
    ],
)
def test_all_adversarial_models_are_diagnosed(make, data, judges):
    source = data(labelled=False)
    pictures, others = source.take(8, seed=0)
    model = eager(make(SHAPE, None))
    callback = kg.callbacks.GANDiagnosis(pictures, others, patience=100)
    fit = {"steps_per_epoch": 1, "epochs": 2, "callbacks": [callback], "verbose": 0}
    history = model.fit(source.batches(8, seed=0), **fit).history
    names = {f"{judge}{of}_accuracy" for judge in judges for of in ("real", "fake")}
    assert names <= set(history)
    for name in names:
        assert all(0 <= share <= 1 for share in history[name])
    for name in ("generator_gradient_norm", "discriminator_gradient_norm", "diversity"):
        assert min(history[name]) > 0
    told = model.diagnose(pictures, others)
    assert told == {name: pytest.approx(history[name][-1], rel=1e-4) for name in told}


def test_examples_for_the_diagnosis_are_checked_before_training():
    pictures, _ = digits().take(4)
    for make, classes, examples, match in (
        (mlp_gan, 10, (pictures,), "need their labels"),
        (mlp_gan, None, (pictures[:, :4],), "Pictures must be"),
        (pix2pix, None, (pictures,), "4 and none"),
        (sequence_gan, None, (pictures,), "n, time"),
    ):
        model = eager(make(SHAPE, classes))
        callback = kg.callbacks.GANDiagnosis(*examples)
        callback.set_model(model)
        with pytest.raises(ValueError, match=match):
            callback.on_train_begin()


def test_a_collapse_is_warned_of_once():
    pictures, _ = digits(labelled=False).take(32, seed=0)
    model = mlp_gan(SHAPE, None)
    model.compile()
    callback = kg.callbacks.GANDiagnosis(pictures, patience=3)
    callback.set_model(model)
    callback.on_train_begin()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback._watch(0, 0.1)  # not yet diverse
        callback._watch(1, 0.9)
    with pytest.warns(UserWarning, match="after epoch 3 its images differ 0.10"):
        callback._watch(2, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback._watch(3, 0.1)
    with pytest.raises(ValueError, match="two pictures"):
        kg.callbacks.GANDiagnosis(pictures[:1])


def test_the_diversity_of_copies_is_nothing():
    pictures = np.array([[0, 0], [0, 0], [3, 4], [3, 4]], "uint8")
    assert neighbour_distance(pictures) == 0
    assert neighbour_distance(pictures[1:3]) == 5


# Control


def test_latents_of_the_seeds_make_the_generated_images():
    for make, num_classes in ((resnet, 10), (acgan, None)):
        model = make(SHAPE, num_classes)
        labels = 4 if num_classes else None
        made = model.decode(control.random_latents(model, 3, seed=2), labels)
        np.testing.assert_array_equal(made, model.generate(3, labels, seed=2))


def test_interpolation_ends_at_its_ends():
    model = mlp_gan(SHAPE, 10)
    latents = control.random_latents(model, 4)
    found = control.interpolate(model, latents[:2], latents[2:], 5, labels=[1, 2])
    assert found.shape == (2, 5, *SHAPE)
    np.testing.assert_array_equal(found[:, 0], model.decode(latents[:2], [1, 2]))
    ends = found[:, -1].astype(int) - model.decode(latents[2:], [1, 2])
    assert np.abs(ends).max() <= 1  # a sine of pi / 2 is rounded
    middle = control.slerp(latents[:2], latents[2:], 0.5)
    lengths = np.linalg.norm(latents, axis=1)
    assert (np.linalg.norm(middle, axis=1) > 0.8 * lengths.min()).all()
    np.testing.assert_allclose(control.truncate(latents, 0.5), latents / 2)
    with pytest.raises(ValueError, match="psi=2"):
        control.truncate(latents, 2)


def test_interpolation_between_latents_without_a_length():
    zero = control.truncate(np.ones((1, 4)), 0.0)
    assert not control.slerp(zero, zero, 0.5).any()
    np.testing.assert_allclose(control.slerp(zero, np.ones((1, 4)), 1.0), np.ones((1, 4)))


def test_a_probe_finds_the_direction_of_an_attribute():
    latents = np.random.default_rng(0).normal(size=(2000, 6))
    true = np.array([0.6, 0, 0.8, 0, 0, 0])
    found = control.direction(latents, latents @ true > 0.5)
    assert found.vector @ true > 0.98 and found.accuracy > 0.93 > found.majority
    with pytest.raises(ValueError, match="one bool for each"):
        control.direction(latents, np.ones(2000))
    with pytest.raises(ValueError, match="must be some"):
        control.direction(latents, np.ones(2000, bool))


def test_a_class_has_a_direction_and_latents_move_along_it():
    model = mlp_gan(SHAPE, None)
    bright = control.class_direction(
        model, lambda pictures: pictures.mean((1, 2, 3)) > 127.5, True, n=200
    )
    assert bright.accuracy > max(0.8, bright.majority)
    latents = control.random_latents(model, 5, seed=1)
    moved = control.traverse(model, latents, bright.vector, [-2, 0, 2])
    assert moved.shape == (5, 3, *SHAPE)
    means = moved.mean((2, 3, 4))
    assert (means[:, 0] < means[:, 1]).all() and (means[:, 1] < means[:, 2]).all()


def test_only_gans_are_inverted():
    with pytest.raises(ValueError, match=r"`model` must be a `GAN`. Received: Autoencoder"):
        kg.control.invert(kg.models.Autoencoder((8, 8, 1)), np.zeros((1, 8, 8, 1), np.uint8))


def test_an_image_of_the_generator_is_inverted():
    model = mlp_gan(SHAPE, 10)
    pictures = model.generate(2, labels=[1, 2], seed=3)
    latents, errors = control.invert(model, pictures, [1, 2], steps=150, prior=0.0)
    variance = (pictures / 127.5 - 1).var()
    assert latents.shape == (2, 8) and (errors < 0.05 * variance).all()
    again = model.decode(latents, [1, 2]) / 127.5 - pictures / 127.5
    np.testing.assert_allclose((again**2).mean((1, 2, 3)), errors, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"discriminator": kg.networks.patchgan.discriminator((8, 8, 1), width=4)},
            r"shapes \[\(1,\)\]",
        ),
        ({"codes": losses.Codes([10])}, "shapes"),
        ({"penalties": [losses.R1(1.0), losses.R1(5.0)]}, "all different"),
        ({"half_life": -5.0}, "half_life=-5.0"),
    ],
)
def test_parts_that_do_not_fit_are_named(arguments, message):
    parts = {
        "generator": kg.networks.mlp.generator(SHAPE, 8, (16,)),
        "discriminator": kg.networks.mlp.discriminator(SHAPE, (16,)),
    }
    with pytest.raises(ValueError, match=message) as refused:
        models.GAN(SHAPE, **{**parts, **arguments})
    assert "Received: " in str(refused.value)


def test_a_latent_must_be_longer_than_its_codes():
    with pytest.raises(ValueError, match=r"longer than the 10 numbers.*Received: .*\(8,\)"):
        models.GAN(
            SHAPE,
            generator=kg.networks.resnet.generator(SHAPE, 8, width=8),
            codes=losses.Codes([10]),
        )


@pytest.mark.parametrize("arguments", [{"categorical": [1]}, {"continuous": -1}, {"weight": 0.0}])
def test_codes_are_checked(arguments):
    with pytest.raises(ValueError, match="Received: "):
        losses.Codes(**{"categorical": [10], **arguments})
    with pytest.raises(ValueError, match="images=0"):
        kg.data.augmentation.AdaptiveAugmentation(images=0)


def test_optimizers_may_be_named_alike():
    model = mlp_gan(SHAPE, None)
    model.compile("adam", "adam")
    assert model.optimizer is not model.discriminator_optimizer
    one = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="same object twice"):
        model.compile(one, one)


def test_an_optimizer_that_follows_images_needs_a_model_that_counts_them():
    kg.models.GAN((8, 8, 1)).compile(kg.optimizers.ScheduledAdam())
    with pytest.raises(ValueError, match="Autoencoder does not count"):
        kg.models.Autoencoder((8, 8, 1)).compile(kg.optimizers.ScheduledAdam())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"penalties": [losses.R1]}, r"must be a list of `keras_gen.losses.Penalty`"),
        ({"penalties": ["r1"]}, r"must be a list of `keras_gen.losses.Penalty`"),
        ({"codes": 10}, "`codes` must be a `keras_gen.losses.Codes`. Received: 10"),
        ({"half_life": "long"}, "half_life='long'"),
        ({"half_life": np.nan}, "half_life=nan"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.GAN(SHAPE, **arguments)


def test_what_losses_and_layers_cannot_be_is_named():
    with pytest.raises(ValueError, match="weight='a'"):
        losses.R1("a")
    with pytest.raises(ValueError, match="categorical=10"):
        losses.Codes(10)
    with pytest.raises(ValueError, match="`group` must be a positive integer"):
        layers.MinibatchStd(-1)
    with pytest.raises(ValueError, match="layer=Conv2DTranspose"):
        layers.EqualizedLearningRate(keras.layers.Conv2DTranspose(4, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, z: control.interpolate(m, z[:2], z[2:5], 3), "as many latents"),
        (lambda m, z: control.interpolate(m, z, z, 0), "`count` must be"),
        (lambda m, z: control.slerp(z[:2], z[:2], [0.1, 0.2, 0.3]), "one for each"),
        (lambda m, z: control.direction(z[:4], np.arange(4) < 2), "of five latents or more"),
        (lambda m, z: control.traverse(m, z, [1.0], [1]), "direction of the latents"),
        (lambda m, z: control.traverse(m, z[0], z[0], [1]), "Latents must be"),
        (lambda m, z: control.invert(m, np.zeros((1, *SHAPE), np.uint8), starts=0), "`starts`"),
    ],
)
def test_what_control_cannot_do_is_named(call, message):
    model = mlp_gan(SHAPE, None)
    with pytest.raises(ValueError, match=message):
        call(model, control.random_latents(model, 5))
