"""`VQVAE`: what the conformance suite does not ask of every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen.models import codebook
from tests.conformance.cases import assert_same_state, digits, one_step, state, vqvae

SHAPE, GRID = (8, 8, 1), (4, 4)


@pytest.fixture(scope="module")
def trained():
    """Both stages; and the state of the autoencoder between them."""
    model = vqvae(SHAPE, 10)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(digits(count=512).batches(64, seed=0), epochs=8, verbose=0)
    between = [np.asarray(weight) for weight in autoencoder_weights(model)]
    model.stage = "prior"
    model.compile(keras.optimizers.Adam(5e-3))
    history = model.fit(digits(count=512).batches(64, seed=0), epochs=3, verbose=0).history
    return model, between, history


@pytest.fixture(scope="module")
def pictures():
    return digits().take(20, seed=0)[0]


def autoencoder_weights(model):
    parts = (model.encoder, model.averaged_encoder, model.decoder, model.averaged_decoder)
    codes = [model.codebook, model.averaged_codebook, model.counts]
    return [weight for part in parts for weight in part.weights] + codes


def linear(**kwargs):
    """An encoder and a decoder of one matrix each: gradients can be written down."""
    image, units = keras.Input((4, 4, 1)), keras.Input((8,))
    z = keras.layers.Dense(8, use_bias=False)(keras.layers.Flatten()(image))
    made = keras.layers.Reshape((4, 4, 1))(keras.layers.Dense(16, use_bias=False)(units))
    return kg.models.VQVAE(
        (4, 4, 1),
        encoder=keras.Model(image, z),
        decoder=keras.Model(units, made),
        latent_shape=(2, 2, 2),
        codebook_size=6,
        prior=kg.networks.pixelcnn.gated((2, 2, 1), 6, width=4, blocks=1, embedding=4),
        **kwargs,
    )


# Gradients and terms


@pytest.fixture(scope="module")
def parts():
    """A linear model, images, its vectors, the codes in their places and the two matrices."""
    model = linear()
    x = np.random.default_rng(0).uniform(-1, 1, (5, 4, 4, 1)).astype(np.float32)
    there, back = model.encoder.weights[0], model.decoder.weights[0]
    z = x.reshape(5, 16) @ np.asarray(there)
    book = np.asarray(model.codebook)
    squared = ((z.reshape(20, 1, 2) - book) ** 2).sum(-1)
    return model, x, z, book[squared.argmin(1)].reshape(5, 8), np.asarray(back)


def encoder_gradient(model, x, term):
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(model.compute_loss(tf.constant(x), training=False)[term])
    return tape.gradient(value, model.encoder.trainable_weights[0]).numpy()


def test_the_gradient_passes_straight_through(parts):
    model, x, _, e, back = parts
    pixels = x.reshape(5, 16)
    at_codes = 2 * (e @ back - pixels) @ back.T / 16 / 5  # of the mean squared error
    found = encoder_gradient(model, x, "reconstruction")
    np.testing.assert_allclose(found, pixels.T @ at_codes, rtol=1e-4, atol=1e-7)


def test_the_commitment_draws_vectors_to_their_codes(parts):
    model, x, z, e, _ = parts
    expected = x.reshape(5, 16).T @ (2 * (z - e)) / 8 / 5
    found = encoder_gradient(model, x, "commitment")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_the_terms_of_the_loss(parts):
    model, x, z, e, back = parts
    terms = model.compute_loss(tf.constant(x), training=False)
    reconstruction = np.square(e @ back - x.reshape(5, 16)).mean(1)
    commitment = np.square(z - e).mean(1)
    np.testing.assert_allclose(terms["reconstruction"], reconstruction, rtol=1e-5)
    np.testing.assert_allclose(terms["commitment"], commitment, rtol=1e-5)
    np.testing.assert_allclose(terms["loss"], reconstruction + 0.25 * commitment, rtol=1e-5)
    _, counts = np.unique(e.reshape(20, 2), axis=0, return_counts=True)
    np.testing.assert_allclose(terms["perplexity"], codebook.perplexity(1.0 * counts), rtol=1e-5)


def test_evaluation_leaves_the_codebook_alone(parts):
    model, x, *_ = parts
    before = np.asarray(model.codebook)
    model.compute_loss(tf.constant(x), training=False)
    np.testing.assert_array_equal(model.codebook, before)
    assert all(weight is not model.codebook for weight in model.trainable_weights)


# Restarts


def test_dead_codes_restart_and_a_saved_run_goes_on_alike(tmp_path, monkeypatch):
    pictures = digits(labelled=False).take(128, seed=0)[0][:, 2:6, 2:6]
    batches = tf.split(kg.images.from_uint8(pictures), 4)
    restart, restarts = codebook.restarted, []

    def counted(book, counts, *args):
        result = restart(book, counts, *args)
        restarts.append(int(tf.math.count_nonzero(result[1] != counts)))
        return result

    monkeypatch.setattr(codebook, "restarted", counted)
    whole = linear(restart_below=0.9, decay=0.5)
    whole.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for batch in batches[:2]:
        one_step(whole, batch)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for model in (whole, loaded):
        for batch in batches[2:]:
            one_step(model, batch)
    assert restarts[2:4] == restarts[4:] != [0, 0]
    assert_same_state(whole, loaded)


def test_replicas_restart_codes_at_the_same_vectors(two_replicas):
    with two_replicas.scope():
        model = linear(restart_below=0.9)
        model.compile()
    x = tf.random.stateless_uniform([16, 4, 4, 1], [0, 1], -1, 1)
    before = np.asarray(model.codebook)
    model.fit(tf.data.Dataset.from_tensors(x).repeat(2), verbose=0)
    for variable in (model.codebook, model.counts):
        first, second = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)
    assert (np.asarray(model.codebook) != before).all()


# Codes


def test_codes_there_and_back(trained, pictures):
    model, *_ = trained
    codes = model.encode(pictures)
    assert codes.shape == (20, *GRID) and codes.dtype == np.int32
    assert 2 < len(np.unique(codes)) <= 16
    again = model.reconstruct(pictures)
    assert again.shape == (20, *SHAPE) and again.dtype == np.uint8
    np.testing.assert_array_equal(again, model.decode(codes))
    np.testing.assert_array_equal(model.encode(pictures[7:9]), codes[7:9])
    error = np.square(again.astype(float) - pictures).mean()
    shuffled = np.square(again.astype(float) - np.roll(pictures, 1, 0)).mean()
    assert error < 0.5 * shuffled


def test_vectors_are_those_of_the_codes_and_decode_to_the_nearest(trained, pictures):
    model, *_ = trained
    vectors = model.latents(pictures[:3])
    book = np.asarray(model.averaged_codebook)
    np.testing.assert_array_equal(vectors.reshape(3, *GRID, 4), book[model.encode(pictures[:3])])
    near = model.decode_step(vectors + 1e-4).numpy()
    np.testing.assert_allclose(near, model.decode_step(vectors).numpy(), atol=1e-6)


def test_the_signatures_answer_as_the_model_does(trained, pictures):
    model, *_ = trained
    served = {name: tf.function(function) for name, (function, _) in model.signatures().items()}
    codes = served["encode"](tf.constant(pictures))["codes"]
    np.testing.assert_array_equal(codes, model.encode(pictures))
    for name, given in (("decode", codes), ("reconstruct", pictures)):
        made = served[name](tf.constant(given))["images"]
        np.testing.assert_array_equal(made, model.reconstruct(pictures))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Codes must lie in"):
        served["decode"](tf.fill([20, *GRID], 16))


# Stages


def test_the_prior_learns_and_leaves_the_autoencoder_as_it_is(trained):
    model, between, history = trained
    for old, new in zip(between, autoencoder_weights(model)):
        np.testing.assert_array_equal(old, new)
    assert set(history) == {"loss", "bits_per_dimension"}
    assert history["loss"][-1] < 0.95 * 16 * np.log(16)
    assert int(model.step) == int(model.prior.step) == 3 * 8  # a stage counts its own steps


def test_images_are_decoded_draws_of_the_prior(trained, monkeypatch):
    model, *_ = trained
    codes = np.random.default_rng(0).integers(0, 16, (64, *GRID)).astype(np.int32)
    asked = []
    monkeypatch.setattr(
        model.prior, "draw_levels", lambda *rows: asked.append(rows) or codes[..., None]
    )
    made = model.generate_step("seeds", "labels")
    assert asked == [("seeds", "labels")]
    np.testing.assert_array_equal(kg.images.to_uint8(made), model.decode(codes))


def test_a_new_stage_must_be_compiled(trained):
    model = linear()
    model.compile()
    model.stage = "autoencoder"  # which it is in
    assert model.compiled
    model.stage = "prior"
    with pytest.raises(ValueError, match="compile"):
        one_step(model, tf.zeros([2, 4, 4, 1]))
    trainable = {id(weight) for weight in model.trainable_weights}
    assert trainable == {id(weight) for weight in model.prior.network.trainable_weights}


def test_what_the_user_froze_stays_frozen():
    model = linear()
    model.decoder.trainable = False
    for stage in ("prior", "autoencoder"):
        model.stage = stage
    before = model.decoder.get_weights()
    model.compile()
    x = tf.random.stateless_uniform([4, 4, 4, 1], [0, 1], -1, 1)
    one_step(model, x)
    for weight, old in zip(model.decoder.get_weights(), before):
        np.testing.assert_array_equal(weight, old)
    assert [w.path for w in model.trainable_variables] == [w.path for w in model.encoder.weights]


def test_the_weights_of_both_stages_name_the_images(trained):
    model, *_ = trained
    first = model.weights_hash()
    prior, decoder = model.prior.averaged_network, model.averaged_decoder
    for variable in (prior.weights[0], decoder.weights[0], model.averaged_codebook):
        old = variable.numpy()
        variable.assign(old + 1)
        assert model.weights_hash() != first
        variable.assign(old)
    assert model.weights_hash() == first


def test_a_stage_begins_at_its_first_step_in_both_models():
    model = linear(stage="prior")
    model.compile()
    x = tf.random.stateless_uniform([16, 4, 4, 1], [0, 1], -1, 1)
    model.fit(tf.data.Dataset.from_tensors(x).repeat(3), verbose=0)
    assert int(model.step) == int(model.prior.step) == 3
    for stage in ("autoencoder", "prior"):
        model.stage = stage
        assert int(model.step) == int(model.prior.step) == 0


def test_an_untrained_prior_says_that_all_codes_are_alike():
    model = linear(stage="prior")
    model.compile()
    images = np.random.default_rng(0).uniform(-1, 1, (8, 4, 4, 1)).astype(np.float32)
    found = model.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], 4 * np.log(6), rtol=1e-5)
    assert state(model)  # it was built without data


@pytest.mark.parametrize(
    "image_shape, expected",
    [
        ((28, 28, 1), (7, 7, 16)),
        ((32, 32, 3), (8, 8, 16)),
        ((64, 48, 3), (8, 6, 16)),
        ((8, 12, 1), (4, 6, 16)),
        ((25, 28, 1), (25, 28, 16)),
    ],
)
def test_the_default_grid_has_about_eight_places_a_side(image_shape, expected):
    assert kg.models.vqvae.default_latent_shape(image_shape) == expected


# Bad input


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"codebook_size": 1}, "Received: codebook_size=1"),
        ({"codebook_size": 2.5}, "Received: codebook_size=2.5"),
        ({"commitment_cost": -1}, "Received: commitment_cost=-1"),
        ({"decay": "0.9"}, "Received: decay='0.9'"),
        ({"decay": 1.0}, r"`decay` must lie in \[0, 1\). Received: decay=1.0"),
        ({"restart_below": -0.1}, "Received: restart_below=-0.1"),
        ({"loss": "huber"}, "Received: loss='huber'"),
        ({"latent_shape": (4, 4)}, r"Received: latent_shape=\(4, 4\)"),
        ({"latent_shape": (3, 3, 2)}, "power of two"),
        ({"stage": "both"}, "Received: stage='both'"),
        ({"encoder": "decoder"}, "The encoder must take"),
        ({"decoder": "encoder"}, "The decoder must take"),
        ({"prior": "levels"}, r"from \(4, 4, 1\) to \(4, 4, 512\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    own = {"width": 4, "blocks": 0}
    networks = {
        "encoder": kg.networks.autoencoder.spatial_encoder(SHAPE, (4, 4, 2), parameters=1, **own),
        "decoder": kg.networks.autoencoder.spatial_decoder(SHAPE, (4, 4, 2), **own),
        "levels": kg.networks.pixelcnn.gated((4, 4, 1), 8, width=4, blocks=1),
    }
    arguments = {
        name: networks.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    with pytest.raises(ValueError, match=message) as error:
        kg.models.VQVAE(SHAPE, **{"latent_shape": (4, 4, 2), **arguments})
    assert "Received:" in str(error.value)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((2, 4, 5), int), np.zeros((2, 4, 4)), np.full((2, 4, 4), 16), [[[-1] * 4] * 4]],
)
def test_codes_that_do_not_fit_are_refused(trained, codes):
    with pytest.raises(ValueError, match=r"`codes` must .* Received: codes"):
        trained[0].decode(codes)
