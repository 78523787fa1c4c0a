"""`PixelCNN`: what the conformance suite does not ask of every model."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from tests.conformance.cases import digits

GREY, COLOUR = (6, 7, 1), (4, 5, 3)


def pixelcnn(shape=GREY, num_classes=None, levels=4, likelihood="categorical", **kwargs):
    """A tiny model whose weights are all lively, so that what could matter does."""
    network = kg.networks.pixelcnn.gated(
        shape, levels, num_classes, likelihood, width=16, blocks=2, first_kernel=3, dilations=(1, 2)
    )
    return lively(shape, num_classes, levels, network, likelihood, **kwargs)


def plus_plus(shape, num_classes=None, levels=4, likelihood="logistic_mixture", resolutions=2):
    network = kg.networks.pixelcnn.plus_plus(
        shape,
        levels,
        num_classes,
        likelihood,
        width=8,
        blocks=1,
        resolutions=resolutions,
        first_kernel=3,
    )
    return lively(shape, num_classes, levels, network, likelihood)


def lively(shape, num_classes, levels, network, likelihood, **kwargs):
    model = kg.models.PixelCNN(shape, num_classes, levels, network, likelihood, **kwargs)
    random = np.random.default_rng(0)
    for average, weight in model.averages.pairs:
        value = np.asarray(weight) + 0.3 * random.normal(size=weight.shape)
        weight.assign(value)
        average.assign(value)
    return model


@pytest.fixture(scope="module")
def grey():
    return pixelcnn()


@pytest.fixture(scope="module")
def labelled():
    return pixelcnn(num_classes=3)


def pictures_of(model, n, seed=0):
    """Random pictures of the model's levels, uint8 [n, h, w, c]."""
    levels = np.random.default_rng(seed).integers(0, model.levels, (n, *model.image_shape))
    return np.round(levels * 255 / (model.levels - 1)).astype(np.uint8)


# Likelihood


def test_probabilities_sum_to_one_at_several_resolutions():
    model = plus_plus((3, 3, 1), levels=2)
    every = np.array(list(itertools.product((0, 255), repeat=9)), np.uint8).reshape(-1, 3, 3, 1)
    nats = model.log_prob(every)["log_prob"]
    assert nats.std() > 0.1
    np.testing.assert_allclose(np.exp(nats.astype(np.float64)).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "shape, levels, likelihood",
    [
        ((2, 2, 1), 2, "categorical"),
        ((2, 2, 1), 3, "logistic_mixture"),
        ((1, 2, 3), 2, "categorical"),
        ((1, 2, 3), 3, "logistic_mixture"),
    ],
)
def test_the_probabilities_of_all_images_sum_to_one(shape, levels, likelihood):
    model = pixelcnn(shape, levels=levels, likelihood=likelihood)
    every = list(itertools.product(range(levels), repeat=int(np.prod(shape))))
    every = np.array(every).reshape(-1, *shape) * 255 / (levels - 1)
    nats = model.log_prob(np.round(every).astype(np.uint8))["log_prob"]
    assert len(nats) == levels ** np.prod(shape)
    assert nats.std() > 0.1
    np.testing.assert_allclose(np.exp(nats.astype(np.float64)).sum(), 1, rtol=1e-5)


def test_images_are_drawn_as_often_as_their_probability_says():
    model = pixelcnn((2, 2, 1), levels=2)
    drawn = model.generate(4096, seed=3) // 255
    every = np.array(list(itertools.product((0, 1), repeat=4))).reshape(-1, 2, 2, 1)
    counts = np.bincount((drawn.reshape(-1, 4) @ [8, 4, 2, 1]), minlength=16)
    expected = 4096 * np.exp(model.log_prob((every * 255).astype(np.uint8))["log_prob"])
    assert (((counts - expected) ** 2 / expected).sum()) < 37.7  # chi-squared, 15: 0.1 %


def test_a_network_of_zeros_says_that_all_levels_are_alike():
    model = kg.models.PixelCNN(GREY, levels=8)  # the head's last layer begins at zero
    found = model.log_prob(pictures_of(model, 3))
    np.testing.assert_allclose(found["log_prob"], -42 * np.log(8), rtol=1e-6)
    np.testing.assert_allclose(found["bits_per_dimension"], 3, rtol=1e-6)


def test_the_loss_is_the_negative_log_prob(labelled):
    pictures, labels = pictures_of(labelled, 5), np.array([0, 1, 2, 0, 1], np.int32)
    terms = labelled.compute_loss(kg.images.from_uint8(pictures), tf.constant(labels))
    found = labelled.log_prob(pictures, labels)
    np.testing.assert_allclose(terms["loss"], -found["log_prob"], rtol=1e-5)
    np.testing.assert_allclose(terms["bits_per_dimension"], found["bits_per_dimension"], rtol=1e-5)
    other = labelled.log_prob(pictures, 2)["log_prob"]
    np.testing.assert_array_equal(found["log_prob"] == other, labels == 2)


def test_log_prob_of_a_row_does_not_depend_on_the_others(grey):
    pictures = pictures_of(grey, 70)
    together = grey.log_prob(pictures)["log_prob"]
    np.testing.assert_array_equal(grey.log_prob(pictures[65:])["log_prob"], together[65:])
    np.testing.assert_array_equal(grey.log_prob(pictures, batch_size=7)["log_prob"], together)


# Levels and binarization


def test_levels_of_pixels_are_the_nearest():
    model = kg.models.PixelCNN((2, 2, 1), levels=256)
    every = np.arange(256, dtype=np.uint8).reshape(64, 2, 2, 1)
    levels = model.to_levels(kg.images.from_uint8(every))
    np.testing.assert_array_equal(levels, every)
    np.testing.assert_array_equal(kg.images.to_uint8(model.to_values(levels)), every)
    model = kg.models.PixelCNN((2, 2, 1), levels=4)
    levels = model.to_levels(kg.images.from_uint8(np.array([0, 42, 43, 127, 128, 255], np.uint8)))
    np.testing.assert_array_equal(levels, [0, 0, 1, 1, 2, 3])


def test_a_threshold_is_that_of_the_keras_example():
    model = kg.models.PixelCNN((16, 16, 1), levels=2, binarization=0.33)
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    levels = model.to_levels(kg.images.from_uint8(every))
    np.testing.assert_array_equal(levels, np.where(every < 0.33 * 256, 0, 1))
    assert model.data_description == "binarized: 1 where the pixel is at least 0.33"


def test_stochastic_binarization_is_drawn_anew_each_step_and_for_each_seed():
    model = pixelcnn((8, 8, 1), levels=2, binarization="stochastic")
    pictures = np.full((3, 8, 8, 1), 64, np.uint8)
    x = kg.images.from_uint8(pictures)

    def losses(training=True):
        return model.compute_loss(x, training=training)["loss"].numpy()

    first = losses()
    np.testing.assert_array_equal(losses(), first)
    model.step.assign_add(1)
    assert (losses() != first).all() and len(set(first)) == 3
    evaluated = losses(False)
    model.step.assign_add(1)
    np.testing.assert_array_equal(losses(False), evaluated)
    nats = model.log_prob(pictures, seed=np.array([1, 2, 1]))["log_prob"]
    assert nats[0] == nats[2] != nats[1]
    assert "at random" in model.data_description

    levels = model._row_levels(tf.fill([500, 8, 8, 1], tf.constant(64, tf.uint8)), tf.range(500))
    assert abs(np.mean(levels) - 64 / 255) < 0.01


# Sampling


@pytest.mark.parametrize(
    "shape, num_classes, levels, likelihood",
    [
        (GREY, 3, 4, "categorical"),
        (COLOUR, None, 3, "categorical"),
        (GREY, None, 256, "logistic_mixture"),
        (COLOUR, 3, 256, "logistic_mixture"),
    ],
)
def test_cached_sampling_draws_the_images_of_the_naive_loop(shape, num_classes, levels, likelihood):
    model = pixelcnn(shape, num_classes, levels, likelihood)
    cached = model.generate(66, seed=2)
    assert len(np.unique(cached)) > levels // 4
    np.testing.assert_array_equal(cached, model.generate(66, seed=2, cached=False))


@pytest.mark.parametrize(
    "shape, num_classes, likelihood, resolutions",
    [((6, 7, 1), 3, "categorical", 2), ((7, 6, 3), None, "logistic_mixture", 3)],
)
def test_cached_sampling_at_several_resolutions(shape, num_classes, likelihood, resolutions):
    model = plus_plus(shape, num_classes, 4, likelihood, resolutions)
    cached = model.generate(66, seed=2)
    assert len(np.unique(cached)) == 4
    np.testing.assert_array_equal(cached, model.generate(66, seed=2, cached=False))


@pytest.mark.parametrize("kind", ["gated", "plus_plus"])
def test_dropout_is_for_training_alone(kind):
    make = getattr(kg.networks.pixelcnn, kind)
    own = {"width": 8, "blocks": 1, "first_kernel": 3}
    networks = [make(GREY, 4, None, "categorical", dropout=rate, **own) for rate in (0.0, 0.5)]
    plain, dropped = (lively(GREY, None, 4, net, "categorical") for net in networks)
    images = plain.generate(3, seed=2)
    np.testing.assert_array_equal(images, dropped.generate(3, seed=2))
    np.testing.assert_array_equal(images, dropped.generate(3, seed=2, cached=False))
    x = tf.zeros([64, *GREY])
    first, second = (model.compute_loss(x)["loss"].numpy() for model in (plain, dropped))
    assert np.ptp(first) < 1e-6 and np.ptp(second) > 1e-3  # each image drops units of its own
    quiet = dropped.compute_loss(x, training=False)["loss"]
    np.testing.assert_allclose(quiet, first, rtol=1e-5)


def test_cached_sampling_of_embedded_levels():
    network = kg.networks.pixelcnn.gated(GREY, 300, width=8, blocks=1, embedding=4)
    model = kg.models.PixelCNN(GREY, levels=300, network=network)
    random = np.random.default_rng(0)
    for weight in model.averaged_network.weights:
        weight.assign(np.asarray(weight) + 0.3 * random.normal(size=weight.shape))
    seed = tf.range(model.generation_rows, dtype=tf.int64)
    cached, naive = (
        tf.function(lambda seed, how=how: model.draw_levels(seed, cached=how))(seed)
        for how in (True, False)
    )
    np.testing.assert_array_equal(cached, naive)
    assert np.max(cached) > 256


def test_what_the_caches_say_is_what_the_network_says(monkeypatch, grey):
    """Not the levels alone: the numbers that they are drawn by are equal, bit for bit."""
    seen = []
    draw = type(grey.likelihood).draw

    def recorded(self, parameters, *args):
        seen.append(parameters.numpy())
        return draw(self, parameters, *args)

    monkeypatch.setattr(type(grey.likelihood), "draw", recorded)
    seed = tf.range(grey.generation_rows, dtype=tf.int64)
    grey.generate_step(seed, cached=True)
    cached, seen[:] = list(seen), []
    grey.generate_step(seed, cached=False)
    assert len(seen) == len(cached) == 42
    np.testing.assert_array_equal(cached, seen)


def test_completion_keeps_what_is_given_and_draws_the_rest(labelled):
    pictures = np.random.default_rng(0).integers(0, 256, (5, *GREY)).astype(np.uint8)
    masks = np.zeros((5, *GREY[:2]), bool)
    masks[:, 3:] = True  # the lower half
    masks[4, :, :3] = True
    completed = labelled.complete(pictures, masks, labels=[0, 1, 2, 0, 1], seed=1)
    np.testing.assert_array_equal(completed[~masks], pictures[~masks])
    assert set(np.unique(completed[masks])) == {0, 85, 170, 255}
    naive = labelled.complete(pictures, masks, [0, 1, 2, 0, 1], seed=1, cached=False)
    np.testing.assert_array_equal(completed, naive)
    other = labelled.complete(pictures, masks, labels=[0, 1, 2, 0, 1], seed=2)
    assert (completed[masks] != other[masks]).any()


def test_completing_everything_or_nothing(grey):
    pictures, seeds = pictures_of(grey, 3), np.array([7, 8, 9])
    everything = np.ones(GREY[:2], bool)
    np.testing.assert_array_equal(
        grey.complete(pictures, everything, seed=seeds), grey.generate(3, seed=seeds)
    )
    np.testing.assert_array_equal(grey.complete(pictures, ~everything), pictures)


def test_a_completion_follows_what_is_given():
    """Every picture is of one level: a model that knows it goes on as the picture began."""
    random = np.random.default_rng(0)
    levels = random.integers(0, 2, 512)
    pictures = np.broadcast_to(levels[:, None, None, None] * 255, (512, 4, 4, 1)).astype(np.uint8)
    network = kg.networks.pixelcnn.gated((4, 4, 1), 2, width=8, blocks=1, first_kernel=3)
    model = kg.models.PixelCNN((4, 4, 1), levels=2, network=network, ema=0.0)
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(kg.data.load(pictures).batches(64, seed=0), epochs=6, verbose=0)
    masks = np.zeros((4, 4), bool)
    masks[2:] = True
    completed = model.complete(pictures[:32], masks)
    assert (completed == pictures[:32]).mean() > 0.98


# Export


def test_exported_log_prob_and_completion(tmp_path, labelled):
    labelled.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert set(served) == {"serving_default", "png_bytes", "log_prob", "complete"}
    pictures, labels = pictures_of(labelled, 5), np.array([0, 1, 2, 0, 1], np.int32)
    answer = served["log_prob"](image=tf.constant(pictures), label=tf.constant(labels))
    found = labelled.log_prob(pictures, labels)
    for name in ("log_prob", "bits_per_dimension"):
        np.testing.assert_allclose(answer[name], found[name], rtol=1e-6)
    masks, seeds = np.ones((5, *GREY[:2]), bool), np.arange(5)
    masks[:, :3] = False
    answer = served["complete"](
        image=tf.constant(pictures),
        mask=tf.constant(masks),
        seed=tf.constant(seeds),
        label=tf.constant(labels),
    )
    expected = labelled.complete(pictures, masks, labels, seed=seeds)
    np.testing.assert_array_equal(answer["images"], expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must lie in"):
        served["log_prob"](image=tf.constant(pictures), label=tf.constant(labels + 1))


def test_only_stochastic_binarization_asks_for_a_seed_in_log_prob():
    def names(**kwargs):
        model = pixelcnn((4, 4, 1), levels=2, **kwargs)
        return [spec.name for spec in model.signatures()["log_prob"][1]]

    assert names(binarization=0.5) == ["image"]
    assert names(binarization="stochastic") == ["image", "seed"]


# Arguments


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"levels": 1}, r"`levels` must be an integer in \[2, 256\]. Received: levels=1"),
        ({"levels": 2.5}, "Received: levels=2.5"),
        ({"likelihood": "gauss"}, "Received: likelihood='gauss'"),
        ({"binarization": 0.5}, "Received: binarization=0.5 with levels=256"),
        ({"levels": 2, "binarization": 85}, "Received: binarization=85"),
        ({"levels": 2, "binarization": "random"}, "Received: binarization='random'"),
        ({"num_classes": 3, "network": "plain"}, r"must take \[image, label\]"),
        ({"levels": 4, "network": "plain"}, r"from \(6, 7, 1\) to \(6, 7, 4\)"),
        ({"network": "other"}, r"Received: a network without \['head', 'horizontal', 'vertical'\]"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    image = keras.Input(GREY)
    given = {
        "plain": lambda: kg.networks.pixelcnn.gated(GREY, 2, width=8, blocks=1),
        "other": lambda: keras.Model(image, keras.layers.Dense(256)(image)),
    }
    if "network" in kwargs:
        kwargs = {**kwargs, "network": given[kwargs["network"]]()}
    with pytest.raises(ValueError, match=message):
        kg.models.PixelCNN(GREY, **kwargs)


def test_pictures_without_labels_or_of_another_shape_are_refused(labelled):
    pictures = pictures_of(labelled, 2)
    with pytest.raises(ValueError, match="Received: labels=None"):
        labelled.log_prob(pictures)
    with pytest.raises(ValueError, match="Received: labels=None"):
        labelled.complete(pictures, np.ones(GREY[:2], bool))
    with pytest.raises(ValueError, match=r"Received: pictures of shape \(2, 6, 6, 1\)"):
        labelled.log_prob(pictures[:, :, :6], 0)
    with pytest.raises(ValueError, match="`masks` must be bool"):
        labelled.complete(pictures, np.ones(GREY[:2], int), 0)


def test_stochastic_binarization_trains_and_reloads(tmp_path):
    network = kg.networks.pixelcnn.gated((8, 8, 1), 2, width=8, blocks=1, first_kernel=3)
    model = kg.models.PixelCNN(
        (8, 8, 1), levels=2, network=network, binarization="stochastic", ema=0.5
    )
    model.compile(keras.optimizers.Adam(0.01))
    source = digits(labelled=False)
    history = model.fit(source.batches(64, seed=0), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] < 64 * np.log(2)
    np.testing.assert_allclose(
        history["bits_per_dimension"], np.array(history["loss"]) / 64 / np.log(2), rtol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pictures = source.take(9, seed=0)[0]
    np.testing.assert_array_equal(
        loaded.log_prob(pictures)["log_prob"], model.log_prob(pictures)["log_prob"]
    )
