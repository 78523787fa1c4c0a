"""`Diffusion`: what the conformance suite does not ask of every model."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_gen as kg
from keras_gen import diffusion as d
from tests.conformance.cases import digits, one_step
from tests.conformance.test_guarantees import given_noise

SHAPE = (8, 8, 1)


def network(num_classes=None, **kwargs):
    return kg.networks.unet.denoiser(
        SHAPE,
        num_classes,
        **{"width": 8, "multipliers": (1,), "blocks": 1, "attention": (), **kwargs},
    )


def zero_network():
    """Puts out zeros, whatever it sees."""
    image, time = keras.Input(SHAPE), keras.Input(())
    return keras.Model([image, time], keras.layers.Rescaling(0.0)(image))


def half_network():
    image, time = keras.Input(SHAPE), keras.Input(())
    return keras.Model([image, time], keras.layers.Rescaling(0.0, dtype="bfloat16")(image))


def column_network():
    image, time = keras.Input(SHAPE), keras.Input((1,))
    return keras.Model([image, time], keras.layers.Rescaling(0.0)(image))


def lively(model):
    """The model with weights that are not zero where they begin as zero."""
    random = np.random.default_rng(0)
    for average, weight in model.averages.pairs:
        value = np.asarray(weight) + 0.1 * random.normal(size=weight.shape)
        weight.assign(value)
        average.assign(value)
    return model


@pytest.fixture(scope="module")
def labelled():
    return lively(kg.models.Diffusion(SHAPE, 10, network(10), steps=3))


@pytest.fixture(scope="module")
def plain():
    return lively(kg.models.Diffusion(SHAPE, network=network(), steps=3))


@pytest.fixture(scope="module")
def pictures():
    return digits(SHAPE).take(5, seed=0)[0]


@pytest.mark.parametrize("path", d.PATHS)
@pytest.mark.parametrize("prediction", d.PREDICTIONS)
@pytest.mark.parametrize("weighting", d.WEIGHTINGS)
def test_every_path_prediction_and_weighting_has_a_finite_loss(path, prediction, weighting):
    model = kg.models.Diffusion(
        SHAPE, network=zero_network(), path=path, prediction=prediction, weighting=weighting
    )
    x = tf.constant(next(iter(digits(SHAPE, False).batches(16, seed=0))))
    terms = model.compute_loss(x)
    assert terms["loss"].shape == (16,)
    assert np.isfinite(terms["loss"]).all() and (terms["loss"].numpy() > 0).all()


def test_the_loss_is_the_weighted_squared_error_of_the_target():
    model = kg.models.Diffusion(SHAPE, network=zero_network(), path="cosine", prediction="data")
    x = next(iter(digits(SHAPE, False).batches(16, seed=0)))
    # the network says 0, the target is x
    expected = np.mean(np.square(x), axis=(1, 2, 3))
    np.testing.assert_allclose(model.compute_loss(x)["loss"], expected, rtol=1e-5)


def test_labels_are_left_out_of_the_given_share():
    image, time = keras.Input(SHAPE), keras.Input(())
    label = keras.Input((), dtype="int32")
    seen = keras.ops.cast(keras.ops.equal(label, 10), "float32")[:, None, None, None]
    model = kg.models.Diffusion(
        SHAPE,
        10,
        keras.Model([image, time, label], 0.0 * image + 1e3 * seen),
        prediction="data",
        label_dropout=0.25,
    )
    x = tf.zeros([4000, *SHAPE])
    labels = tf.zeros([4000], tf.int32)
    dropped = model.compute_loss(x, labels)["loss"].numpy() > 1
    assert abs(dropped.mean() - 0.25) < 0.03
    assert not (model.compute_loss(x, labels, training=False)["loss"].numpy() > 1).any()


@pytest.mark.parametrize("sampler", sorted(set(d.SAMPLERS) - {"consistency"}))
def test_every_sampler_generates_and_rows_stand_alone(plain, sampler):
    images = plain.generate(18, sampler=sampler, seed=3)
    assert images.shape == (18, *SHAPE) and images.std() > 0
    seeds = 3 * 2**32 + np.arange(18)
    np.testing.assert_array_equal(plain.generate(1, sampler=sampler, seed=seeds[17:]), images[17:])


def test_a_function_can_be_the_sampler(plain):
    def stochastic(*args, **kwargs):
        return d.ddim(*args, eta=1.0, **kwargs)

    assert (plain.generate(2, sampler=stochastic) != plain.generate(2, sampler="ddim")).any()


def test_new_numbers_of_steps_and_scales_trace_nothing():
    model = lively(kg.models.Diffusion(SHAPE, 10, network(10)))
    for steps, scale in ((2, 2.0), (3, 2.0), (5, 0.5)):
        model.generate(3, 1, steps=steps, guidance_scale=scale, guidance_interval=(0, 0.1 * scale))
    (function,) = model._functions.values()
    assert function.experimental_get_tracing_count() == 1


def test_guidance(labelled):
    def made(**how):
        return labelled.generate(4, [0, 1, 2, 3], **how).astype(int)

    plain = made()
    assert (made(guidance_scale=4.0) != plain).any()
    # outside of the interval there is no guidance
    outside = made(guidance_scale=4.0, guidance_interval=(2, 3))
    assert abs(outside - plain).max() <= 1
    # 0 ignores the labels
    nothing = made(guidance_scale=0.0)
    others = labelled.generate(4, [9, 8, 7, 6], guidance_scale=0.0).astype(int)
    assert abs(nothing - others).max() <= 1
    assert (plain != labelled.generate(4, [9, 8, 7, 6])).any()


def test_progress_counts_every_step_of_every_group(plain):
    ticks = []

    def progress(done, total):
        ticks.append((done, total))

    images = plain.generate(20, batch_size=10, progress=progress)
    assert ticks == [(i, 6) for i in range(1, 7)]
    np.testing.assert_array_equal(images, plain.generate(20))
    ticks.clear()
    plain.image_to_image(images, 0.6, steps=5, progress=progress)
    assert ticks == [(i, 6) for i in range(1, 7)]
    ticks.clear()
    plain.inpaint(images[:1], np.ones(SHAPE[:2], bool), repeats=2, progress=progress)
    assert ticks == [(i, 6) for i in range(1, 7)]


# Control


def test_inpaint_draws_the_masked_part_alone(labelled, pictures):
    mask = np.zeros(SHAPE[:2], bool)
    mask[4:] = True
    drawn = labelled.inpaint(pictures, mask, labels=3, repeats=2)
    np.testing.assert_array_equal(drawn[:, :4], pictures[:, :4])
    assert (drawn[:, 4:] != pictures[:, 4:]).any()
    masks = np.stack([mask] * 5)
    np.testing.assert_array_equal(drawn, labelled.inpaint(pictures, masks, labels=3, repeats=2))
    none = np.zeros_like(mask)
    np.testing.assert_array_equal(labelled.inpaint(pictures, none, labels=3), pictures)


def test_inpaint_is_exported(labelled, pictures, tmp_path):
    labelled.export(tmp_path / "1", verbose=False)
    endpoint = tf.saved_model.load(tmp_path / "1").signatures["inpaint"]
    mask = np.zeros((5, *SHAPE[:2]), bool)
    mask[:, :, 4:] = True
    seeds = np.arange(5)

    def answered(labels):
        return endpoint(
            image=tf.constant(pictures),
            mask=tf.constant(mask),
            seed=tf.constant(seeds, tf.int64),
            label=tf.constant(labels),
        )["images"]

    labels = np.array([0, 1, 2, 3, 4], np.int32)
    expected = labelled.inpaint(pictures, mask, labels, seed=seeds)
    np.testing.assert_array_equal(answered(labels), expected)
    # no label is a label
    expected = labelled.inpaint(pictures, mask, seed=seeds)
    np.testing.assert_array_equal(answered(np.full(5, 10, np.int32)), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must lie"):
        answered(np.full(5, 11, np.int32))


def test_image_to_image_goes_from_the_picture_to_a_new_image(plain, pictures):
    np.testing.assert_array_equal(plain.image_to_image(pictures, 0.0), pictures)
    np.testing.assert_array_equal(
        plain.image_to_image(pictures, 1.0, seed=4), plain.generate(5, seed=4)
    )
    near, far = (
        np.abs(plain.image_to_image(pictures, s, steps=10).astype(int) - pictures).mean()
        for s in (0.1, 0.8)
    )
    assert near < far
    assert (plain.image_to_image(pictures, 0.1, steps=1) != pictures).any()  # one step at least


@pytest.mark.parametrize("path", ["edm", "linear"])
def test_image_to_image_of_strength_1_keeps_nothing_of_the_picture(path, pictures):
    model = lively(kg.models.Diffusion(SHAPE, network=network(), path=path, steps=3))
    made = model.image_to_image(pictures, 1.0, seed=4)
    np.testing.assert_array_equal(made, model.generate(5, seed=4))


def test_interpolation_ends_at_the_pictures(pictures):
    """Where there never is noise, every picture lies on its own straight line."""
    model = kg.models.Diffusion(
        SHAPE, network=zero_network(), path="linear", prediction="noise", steps=8
    )
    between = model.interpolate(pictures[:2], pictures[2:4], 5).astype(int)
    assert between.shape == (2, 5, *SHAPE)
    assert abs(between[:, 0] - pictures[:2]).max() <= 1
    assert abs(between[:, -1] - pictures[2:4]).max() <= 1
    assert (between[:, 2] != between[:, 0]).any() and (between[:, 2] != between[:, -1]).any()


def test_mixing_with_weight_0_is_the_first_class(labelled):
    mixed = labelled.mix_classes(1, 7, [0.0, 0.5, 1.0], seed=2).astype(int)
    first, second = (labelled.generate(3, c, seed=2).astype(int) for c in (1, 7))
    assert abs(mixed[0] - first[0]).max() <= 1
    assert abs(mixed[2] - second[2]).max() <= 1
    assert (mixed[1] != first[1]).any() and (mixed[1] != second[1]).any()
    with pytest.raises(ValueError, match="others=None"):
        labelled.mix_classes(1, None, [0.5])


# Super-resolution


def repeating_network(factor):
    """Says that the data are the small picture, whatever the noise."""
    height, width, channels = SHAPE
    image, time = keras.Input((height, width, 2 * channels)), keras.Input(())
    return keras.Model([image, time], image[..., channels:] + 0.0 * time[:, None, None, None])


@pytest.mark.parametrize("factor", [2, 4])
def test_the_network_sees_the_small_picture(factor, pictures):
    model = kg.models.Diffusion(
        SHAPE, network=repeating_network(factor), prediction="data", upscale=factor, steps=2
    )
    side = 8 // factor
    x = pictures.astype(np.float32) / 127.5 - 1
    small = x.reshape(5, side, factor, side, factor, 1).mean((2, 4))
    large = small.repeat(factor, 1).repeat(factor, 2)
    expected = np.mean((x - large) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(model.compute_loss(tf.constant(x))["loss"], expected, rtol=1e-4)
    given = np.round((small + 1) * 127.5).astype(np.uint8)
    made = model.enlarge(given)
    np.testing.assert_array_equal(made, given.repeat(factor, 1).repeat(factor, 2))


def test_a_model_that_enlarges_trains_saves_and_is_exported(tmp_path):
    net = network(10, condition_channels=1)
    model = kg.models.Diffusion(SHAPE, 10, net, upscale=2, steps=2, guidance_scale=2.0)
    model.compile()
    model.fit(digits(SHAPE).batches(64, seed=0), verbose=0)
    model.save(tmp_path / "model.keras")
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    made = model.enlarge(small, labels=[1, 2, 3], seed=5)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.enlarge(small, labels=[1, 2, 3], seed=5), made)
    model.export(tmp_path / "1", verbose=False)
    serve = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    answer = serve(
        image=tf.constant(small),
        seed=tf.constant((5 << 32) + np.arange(3), tf.int64),
        label=tf.constant([1, 2, 3]),
    )
    np.testing.assert_array_equal(answer["images"], made)


def test_enlarging_and_drawing_are_told_apart(plain, pictures):
    model = kg.models.Diffusion(SHAPE, network=repeating_network(2), upscale=2)
    for call in (
        lambda: model.generate(2),
        lambda: model.inpaint(pictures, np.ones(SHAPE[:2], bool)),
        lambda: model.log_prob(pictures),
    ):
        with pytest.raises(ValueError, match="upscale=2"):
            call()
    with pytest.raises(ValueError, match="can not enlarge"):
        plain.enlarge(pictures)
    with pytest.raises(ValueError, match=r"shape \(5, 8, 8, 1\)"):
        model.enlarge(pictures)
    with pytest.raises(ValueError, match="upscale=3"):
        kg.models.Diffusion(SHAPE, network=zero_network(), upscale=3)


# Likelihood


def test_log_prob_of_a_network_that_says_zero(pictures):
    """Its density is normal: x is noise alone, of the deviation at which the ODE starts."""
    model = kg.models.Diffusion(SHAPE, network=zero_network(), prediction="data")
    found = model.log_prob(pictures, steps=200, probes=1)
    times = d.logsnr(model.noise_path, 201).numpy()
    sigma = float(model.noise_path.sigma(times[-2]) / model.noise_path.alpha(times[-2]))
    x = pictures.reshape(5, -1) / 127.5 - 1
    nats = -0.5 * np.sum((x / sigma) ** 2, 1) - 64 * np.log(sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found["log_prob"], nats, rtol=0.05)
    bits = -found["log_prob"] / (64 * np.log(2)) + np.log2(127.5)
    np.testing.assert_allclose(found["bits_per_dimension"], bits, rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
class NormalPixels(keras.layers.Layer):
    """The noise in images of independent normal pixels, or that plus an error."""

    def __init__(self, path, deviation, error=0.0, **kwargs):
        super().__init__(**kwargs)
        self.noise_path, self.deviation, self.error = d.get_path(path), deviation, error
        self.settings = {"path": path, "deviation": deviation, "error": error}

    def call(self, x, t):
        alpha, sigma = (
            of(t)[:, None, None, None] for of in (self.noise_path.alpha, self.noise_path.sigma)
        )
        return sigma * x / (tf.square(alpha * self.deviation) + tf.square(sigma)) + self.error

    def get_config(self):
        return {**super().get_config(), **self.settings}


def exact_network(*args):
    image, time = keras.Input(SHAPE), keras.Input(())
    return keras.Model([image, time], NormalPixels(*args)(image, time))


@pytest.mark.parametrize("path", ["cosine", "linear"])
def test_log_prob_is_the_density_of_the_dequantized_images(pictures, path):
    deviation = 0.7
    settings = {"path": path, "prediction": "noise"}
    model = kg.models.Diffusion(SHAPE, network=exact_network(path, deviation), **settings)
    uniform = kg.randomness.row_uniform(
        np.arange(5), SHAPE, "dequantization", 0, minval=-1 / 255, maxval=1 / 255
    )
    x = pictures.astype(np.float64) / 127.5 - 1 + uniform
    expected = stats.norm.logpdf(x, 0, deviation).sum((1, 2, 3))
    found = model.log_prob(pictures)["log_prob"]
    np.testing.assert_array_equal(model.log_likelihood(pictures)["log_prob"], found)
    np.testing.assert_allclose(found, expected, atol=0.3)

    # a slightly wrong noise, blown up where there is hardly any data to divide by
    wrong = kg.models.Diffusion(SHAPE, network=exact_network(path, deviation, 0.02), **settings)
    np.testing.assert_allclose(wrong.log_prob(pictures)["log_prob"], found, atol=10)


@pytest.mark.parametrize("sampler", ["ddpm", d.ddpm, functools.partial(d.ddpm)])
def test_the_grid_is_that_of_the_path_however_the_sampler_is_named(sampler):
    for path, grid in (("linear", d.uniform), ("edm", d.karras)):
        model = kg.models.Diffusion(SHAPE, network=zero_network(), path=path)
        times = model.checked_sampling({"sampler": sampler, "steps": 5}).times
        np.testing.assert_array_equal(times, grid(model.noise_path, 5))


def test_a_grid_may_be_a_function_of_numpy(plain):
    images = plain.generate(2, steps=4, grid=lambda path, steps: np.linspace(1, 0, steps + 1))
    np.testing.assert_array_equal(images, plain.generate(2, steps=4))


def test_the_bound_is_that_of_the_mathematics(pictures):
    path = d.Linear(20)
    model = lively(kg.models.Diffusion(SHAPE, network=network(), path=path, prediction="noise"))
    found = model.variational_bound(pictures, batch_size=2)
    seeds = np.arange(5)

    def draw(step):
        return kg.randomness.row_normal(seeds, SHAPE, "bound", step)

    x = pictures.astype(np.float32) / 127.5 - 1
    expected = d.variational_bound(model.denoiser(), path, x, d.uniform(path, 20), draw)
    assert found["steps"].shape == (5, 19)
    np.testing.assert_allclose(found["steps"], tf.transpose(expected["steps"]), rtol=1e-3)
    likely = model.log_prob(pictures, estimator="bound", batch_size=2)
    np.testing.assert_allclose(likely["log_prob"], -64 * np.log(2) * found["total"], rtol=1e-6)
    assert likely["estimator"] == "variational bound, 20 steps"
    with pytest.raises(ValueError, match="Received: estimator='exact'"):
        model.log_prob(pictures, estimator="exact")
    for name in ("prior", "decoder", "total"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3)


# Errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"path": "straight"}, "path='straight'"),
        ({"prediction": "score"}, "prediction='score'"),
        ({"label_dropout": 1.0}, "label_dropout=1.0"),
        ({"steps": 0}, "steps=0"),
        ({"sampler": "magic"}, "sampler='magic'"),
        ({"sampler": d.heun}, "must be names"),
        ({"guidance_scale": 2.0}, "needs a model with classes"),
        ({"times": "log_normal"}, "alone. Received: times='log_normal'"),
        ({"times": "uniform", "path": "edm"}, "times='uniform'"),
        ({"network": network(10)}, "must take \\[image, time\\]"),
        ({"network": half_network()}, "puts out bfloat16"),
        ({"network": column_network()}, "takes \\[\\(1,\\)\\]"),
        ({"upscale": 2.5}, "upscale=2.5"),
        (
            {"times": "uniform", "weighting": "edm", "prediction": "noise"},
            "weight of the loss is infinite",
        ),
        ({"guidance_interval": (0.8, 0.2)}, "rising"),
        ({"grid": lambda path, steps: [1.0, 0.0]}, "must be names"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        kg.models.Diffusion(SHAPE, **{"network": zero_network(), **arguments})


def test_a_network_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"images \(8, 9, 1\)"):
        kg.models.Diffusion((8, 9, 1), network=zero_network())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, p: m.generate(2, steps=1.5), "steps=1.5"),
        (lambda m, p: m.generate(2, guidance_scale=-1.0), "not negative"),
        (lambda m, p: m.generate(2, guidance_scale=np.inf), "must be finite"),
        (lambda m, p: m.generate(2, grid=lambda path, steps: [0.5, 0.7, 0.0]), "must give 4 times"),
        (lambda m, p: m.image_to_image(p, 0.0, steps=0), "steps=0"),
        (lambda m, p: m.log_prob(p, steps=0), "steps=0"),
        (lambda m, p: m.log_prob(p, probes=0), "probes=0"),
        (lambda m, p: m.variational_bound(p, steps=1), "steps=1"),
        (lambda m, p: m.generate(2, guidance_interval=(1,)), "must be \\(low, high\\)"),
        (
            lambda m, p: m.inpaint(p, np.zeros((8, 8))),
            "masks of shape \\(8, 8\\) and dtype float64",
        ),
        (lambda m, p: m.inpaint(p, np.zeros((8, 9), bool)), "masks of shape \\(8, 9\\)"),
        (lambda m, p: m.inpaint(p[:, :4], np.zeros((8, 8), bool)), "pictures of shape"),
        (lambda m, p: m.image_to_image(p, 1.5), "strength=1.5"),
        (lambda m, p: m.image_to_image(p / 255), "dtype=float64"),
        (lambda m, p: m.interpolate(p[:2], p[:3], 4), "2 and 3 images"),
        (lambda m, p: m.interpolate(p[:2], p[:2], 4, steps=1), "Received: steps=1"),
        (lambda m, p: m.generate(1, sampler="consistency"), "Received: sampler='consistency'"),
        (lambda m, p: m.mix_classes(1, 2, [0.5]), "num_classes=None"),
    ],
)
def test_bad_calls_are_named(plain, pictures, call, message):
    with pytest.raises(ValueError, match=message):
        call(plain, pictures)


def test_pictures_without_labels_have_no_label(pictures):
    model = lively(kg.models.Diffusion(SHAPE, 10, network(10), path=d.Linear(5)))
    bound = model.variational_bound(pictures)["total"]
    none = tf.fill([5], 10)
    expected = d.variational_bound(
        model.denoiser(none),
        model.noise_path,
        pictures.astype(np.float32) / 127.5 - 1,
        d.uniform(model.noise_path, 5),
        lambda step: kg.randomness.row_normal(np.arange(5), SHAPE, "bound", step),
    )
    np.testing.assert_allclose(bound, expected["total"], rtol=1e-4)
    assert (bound != model.variational_bound(pictures, labels=0)["total"]).all()
    strict = kg.models.Diffusion(SHAPE, 10, network(10), label_dropout=0)
    for call in (strict.log_prob, strict.variational_bound, strict.image_to_image):
        with pytest.raises(ValueError, match="label_dropout=0"):
            call(pictures)


def test_the_sampler_of_interpolation_is_not_chosen(plain, pictures):
    with pytest.raises(ValueError, match="Received: sampler='euler'"):
        plain.interpolate(pictures, pictures, 3, sampler="euler")
    with pytest.raises(TypeError, match="Received: \\['progress'\\]"):
        plain.interpolate(pictures, pictures, 3, progress=print)


def test_the_grid_of_interpolation_is_its_own_where_none_is_given(plain, pictures):
    pair = pictures[:1], pictures[1:2]
    np.testing.assert_array_equal(
        plain.interpolate(*pair, 3, grid=None), plain.interpolate(*pair, 3, grid="logsnr")
    )
    assert (plain.interpolate(*pair, 3) != plain.interpolate(*pair, 3, grid="karras")).any()


def test_unknown_settings_are_named(plain, pictures):
    with pytest.raises(TypeError, match=r"Received: \['stepz'\]"):
        plain.image_to_image(pictures, stepz=3)


def test_strengths_and_repeats_trace_nothing(plain, pictures):
    mask = np.ones(SHAPE[:2], bool)
    for number in (1, 2, 3):
        plain.image_to_image(pictures, 0.3 * number)
        plain.inpaint(pictures, mask, repeats=number)
    counts = {f.experimental_get_tracing_count() for f in plain._functions.values()}
    assert counts == {1}


def test_works_with_no_further_argument():
    model = kg.models.Diffusion((28, 28, 1))
    assert model.network.output_shape == (None, 28, 28, 1)
    model.compile(run_eagerly=True)
    assert model.optimizer.global_clipnorm == 1


def test_a_path_may_have_a_single_step():
    model = kg.models.Diffusion(SHAPE, network=zero_network(), path=d.Linear(1))
    assert model.generate(2).shape == (2, *SHAPE)


def test_discrete_times_are_those_of_the_path():
    model = kg.models.Diffusion(SHAPE, network=zero_network(), path=d.Linear(7), times="discrete")
    assert model.times.timesteps == 7


def test_the_weights_of_edm_are_for_the_data_of_the_prediction():
    of = {"path": "edm", "prediction": d.PreconditionedPrediction(0.6), "weighting": "edm"}
    model = kg.models.Diffusion(SHAPE, network=zero_network(), **of)
    assert model.weighting.sigma_data == 0.6
    weights = model.weighting(model.noise_path, model.prediction, tf.constant([0.01, 1.0, 50.0]))
    np.testing.assert_allclose(weights, 1, rtol=1e-5)


def test_the_bound_of_edms_path_has_steps_small_enough_for_the_levels(pictures):
    """An exact model of normal pixels of deviation s has -log2 p = log2(s sqrt(2 pi e) / bin)."""
    deviation = 0.7
    model = kg.models.Diffusion(
        SHAPE, network=exact_network("edm", deviation), path="edm", prediction="noise", clip=False
    )
    random = np.random.default_rng(0)
    noise = random.normal(0, deviation, (64, *SHAPE)).clip(-1, 1)
    drawn = np.round((noise + 1) * 127.5).astype(np.uint8)
    inside = np.log2(deviation * np.sqrt(2 * np.pi * np.e) * 127.5)
    bits = model.variational_bound(drawn, steps=1000)["total"].mean()
    assert inside - 1 < bits < inside + 0.15  # the levels at the ends are cheaper


@pytest.mark.parametrize("limit", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_replicas_clip_as_one_device_does(limit, two_replicas, monkeypatch):
    given_noise(monkeypatch, 16)
    batch = next(iter(digits(SHAPE, labelled=False).batches(16, seed=0)))
    states = []
    for scope in (tf.distribute.get_strategy().scope(), two_replicas.scope()):
        with scope:
            image, time = keras.Input(SHAPE), keras.Input(())
            layer = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="ones")
            model = kg.models.Diffusion(SHAPE, network=keras.Model([image, time], layer(image)))
            model.compile(keras.optimizers.SGD(1.0, **{limit: 0.3}))
        one_step(model, batch)
        states.append(model.network.get_weights())
    for one, two in zip(*states):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    moved = [one - start for one, start in zip(states[0], (np.ones((3, 3, 1, 1)), [0.0]))]
    assert max(np.abs(change).max() for change in moved) > 0.05  # and the limits were reached
    assert np.linalg.norm(moved[0]) <= (0.9 if limit == "clipvalue" else 0.3) + 1e-5


def test_weights_and_averages_wait_for_accumulated_gradients():
    source = digits(SHAPE, labelled=False)
    model = kg.models.Diffusion(SHAPE, network=network())
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))

    def weights():
        pairs = model.averages.pairs
        return [[np.asarray(weight) for weight in column] for column in zip(*pairs)]

    before = weights()
    batch = next(iter(source.batches(16, seed=0)))
    one_step(model, batch)
    for a, b in zip(before, weights()):
        assert all((x == y).all() for x, y in zip(a, b))
    one_step(model, batch)
    for a, b in zip(before, weights()):
        assert any((x != y).any() for x, y in zip(a, b))
    # the first change of the weights moves the averages as a first step does: by 1 - 2 / 11
    averages, trained = weights()
    for start, average, weight in zip(before[0], averages, trained):
        np.testing.assert_allclose(average, start + 9 / 11 * (weight - start), atol=1e-6)


def test_evaluation_draws_anew_for_each_batch_and_alike_in_each_evaluation():
    model = lively(kg.models.Diffusion(SHAPE, network=network()))
    model.compile()
    batch = digits().take(16)[0]
    once = kg.data.load(batch)
    twice = kg.data.load(np.concatenate([batch, batch]))
    losses = [
        model.evaluate(source.batches(16, shuffle=False), verbose=0) for source in (once, twice)
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert model.evaluate(twice.batches(16, shuffle=False), verbose=0) == losses[1]


@pytest.mark.parametrize("times", ["uniform", "stratified"])
def test_a_weight_without_bound_towards_the_data_is_refused(times):
    settings = {"prediction": "data", "weighting": "edm", "network": network()}
    with pytest.raises(ValueError, match=r"without bound towards the data.*Received: .*EDMWeight"):
        kg.models.Diffusion(SHAPE, times=times, **settings)
    kg.models.Diffusion(SHAPE, times="logit_normal", **settings)
    for prediction in ("velocity", "noise"):
        kg.models.Diffusion(SHAPE, prediction=prediction, times=times, network=network())


def test_a_network_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"the 3 classes of the model. Received.* of 2 classes"):
        kg.models.Diffusion(SHAPE, 3, network(2))


@pytest.mark.parametrize(
    "settings", [{"guidance_scale": [1.0, 2.0]}, {"guidance_interval": (None, 0.5)}]
)
def test_settings_of_a_wrong_type_are_named(labelled, settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be"):
        labelled.generate(1, **settings)


def test_what_progress_raises_arrives_as_it_is(plain):
    def stop(done, total):
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt, match="1"):
        plain.generate(1, steps=2, progress=stop)
    with pytest.raises(ValueError, match="must be a function"):
        plain.generate(1, progress=3)


@pytest.mark.parametrize("weights", [{"sample_weight": np.ones(16)}, {"class_weight": {0: 1.0}}])
def test_weights_of_examples_are_refused(weights):
    model = kg.models.Diffusion(SHAPE, network=network())
    model.compile()
    images = np.zeros((16, *SHAPE), np.float32)
    with pytest.raises(ValueError, match="Examples have no weights"):
        model.fit(images, verbose=0, **weights)
    three = tf.data.Dataset.from_tensors((images, np.zeros(16, int), np.ones(16)))
    with pytest.raises(ValueError, match="Examples have no weights"):
        model.fit(three, verbose=0)
    for validation in (three, (images, None, np.ones(16))):
        with pytest.raises(ValueError, match="Examples have no weights"):
            model.fit(images, validation_data=validation, verbose=0)
    with pytest.raises(ValueError, match="Examples have no weights"):
        model.evaluate(images, None, 16, 0, np.ones(16))
    with pytest.raises(ValueError, match="needs batches of float images"):
        model.fit(images, validation_data=images[:, 1:], verbose=0)


@pytest.mark.parametrize(
    "images, message", [([np.zeros(SHAPE)], "one array"), (np.zeros((0, *SHAPE)), "no images")]
)
def test_lists_and_nothing_are_refused(images, message):
    model = kg.models.Diffusion(SHAPE, network=network())
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.fit(images, verbose=0)
