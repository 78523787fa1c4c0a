"""The one report of likelihoods."""

import json

import numpy as np
import pytest

import keras_gen as kg
from tests.conformance.cases import digits

SHAPE = (8, 8, 1)


class Told:
    """A model that says what it is told to: -log p of a picture is its first pixel, in nats."""

    image_shape, num_classes = SHAPE, None

    def log_prob(self, pictures, labels=None, seed=0, scale=1.0):
        self.received = labels, seed
        nats = scale * pictures[:, 0, 0, 0].astype(np.float32)
        return {
            "log_prob": -nats,
            "bits_per_dimension": nats / 64 / np.log(2),
            "estimator": "exact",
            "data": "256 levels",
        }


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (30, *SHAPE), np.uint8)


def test_the_numbers_are_means_with_their_errors(pictures, tmp_path):
    model = Told()
    result = kg.metrics.likelihood(model, kg.data.load(pictures), split="mine", seed=3, scale=2.0)
    nats = 2.0 * pictures[:, 0, 0, 0]
    assert result.nats == pytest.approx(nats.mean())
    assert result.standard_error == pytest.approx(nats.std(ddof=1) / np.sqrt(30))
    assert result.bits_per_dimension == pytest.approx(nats.mean() / 64 / np.log(2))
    bits_error = result.standard_error / 64 / np.log(2)
    assert result.bits_standard_error == pytest.approx(bits_error)
    assert (result.n, result.split, result.seed, result.conditional) == (30, "mine", 3, False)
    assert result.parameters == {"scale": 2.0} and result.weights is None
    assert model.received == (None, 3)
    result.save(tmp_path / "here" / "likelihood.json")
    assert json.loads((tmp_path / "here" / "likelihood.json").read_text()) == result.to_dict()
    assert "nats" in str(result) and "exact; 256 levels; n 30" in str(result)


def test_some_images_are_chosen_by_the_seed(pictures):
    first, again, other = (
        kg.metrics.likelihood(Told(), pictures, 7, seed).nats for seed in (0, 0, 1)
    )
    assert first == again != other


def test_arrays_have_the_split_that_they_are_said_to_have(pictures):
    assert kg.metrics.likelihood(Told(), pictures).split is None
    assert kg.metrics.likelihood(Told(), pictures, split="mine").split == "mine"


def test_what_is_infinite_is_null_in_json(pictures):
    record = kg.metrics.likelihood(Told(), pictures, 1).to_dict()
    assert record["standard_error"] is None
    json.dumps(record, allow_nan=False)


def test_every_family_gives_the_same_report():
    shape, own = SHAPE, {"width": 8}
    network = kg.networks.pixelcnn.gated(shape, 2, 10, blocks=1, first_kernel=3, **own)
    unet = kg.networks.unet.denoiser(shape, 10, multipliers=(1,), blocks=1, attention=(), **own)
    made = {
        "exact": (kg.models.PixelCNN(shape, 10, 2, network, binarization=0.33), {}),
        "importance-weighted bound, k = 3": (
            kg.models.VAE(shape, 10, latent_dim=2, likelihood=kg.losses.Bernoulli("stochastic")),
            {"samples": 3},
        ),
        "probability-flow ODE from noise of deviation 0.002, 2 steps of Heun, probes: 1": (
            kg.models.Diffusion(shape, 10, unet),
            {"steps": 2},
        ),
    }
    data = []
    for estimator, (model, settings) in made.items():
        result = kg.metrics.likelihood(model, digits(), 20, **settings)
        assert result.estimator == estimator
        assert result.conditional and result.n == 20
        assert result.weights == model.weights_hash()
        assert np.isfinite([result.nats, result.bits_per_dimension, result.standard_error]).all()
        data.append(result.data)
    assert data[0] == "binarized: 1 where the pixel is at least 0.33"
    assert data[1].startswith("binarized at random by the seed")
    assert data[2].startswith("a density of images in [-1, 1], dequantized")


def test_a_name_loads_its_test_split_and_a_path_its_model(tmp_path):
    network = kg.networks.pixelcnn.gated(SHAPE, 2, width=8, blocks=1, first_kernel=3)
    kg.models.PixelCNN(SHAPE, levels=2, network=network).save(tmp_path / "model.keras")
    result = kg.metrics.likelihood(tmp_path / "model.keras", "digits")
    assert (result.n, result.split, result.source) == (297, "test", "digits")
    assert result.nats == pytest.approx(64 * np.log(2))  # the head begins at zero


def test_bad_arguments_are_named(pictures):
    with pytest.raises(ValueError, match=r"no `log_prob`. Received: model=object"):
        kg.metrics.likelihood(object(), pictures)
    with pytest.raises(ValueError, match="Received: num_images=0"):
        kg.metrics.likelihood(Told(), pictures, 0)
