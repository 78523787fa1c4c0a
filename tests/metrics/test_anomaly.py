"""Anomaly scores and how they are judged."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_gen as kg
from keras_gen.metrics.anomaly import png_bits, surprise

SHAPE = (16, 16, 1)


class Grey:
    """A model that knows grey 100: it reconstructs that and finds other greys unlikely."""

    image_shape, num_classes = SHAPE, None

    def reconstruct(self, pictures):
        return np.full_like(pictures, 100)

    def log_prob(self, pictures, seed=0, factor=1.0):
        away = factor * np.abs(pictures.astype(float) - 100).mean((1, 2, 3))
        bits = away / 256 / np.log(2)
        described = {"data": "256 levels, not binarized", "estimator": "exact"}
        return {"log_prob": -away, "bits_per_dimension": bits, **described}


def flat(n, level):
    return np.full((n, *SHAPE), level, np.uint8)


def noise(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), np.uint8)


def test_the_area_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    normal, anomalous = random.integers(0, 9, 300), random.integers(3, 12, 200)  # with ties
    found = kg.metrics.auroc(normal, anomalous, seed=1)
    told = np.repeat([0, 1], [300, 200])
    expected = roc_auc_score(told, np.concatenate([normal, anomalous]))
    assert found["value"] == pytest.approx(expected, rel=1e-12)
    low, high = found["interval"]
    assert low < expected < high
    assert kg.metrics.auroc(normal, anomalous, seed=1) == found
    assert kg.metrics.auroc(anomalous, normal)["value"] == pytest.approx(1 - expected)
    assert kg.metrics.auroc([1, 2], [3], num_resamples=5)["interval"] == (1, 1)


def test_the_interval_covers_what_other_samples_give():
    """Of two normal distributions a deviation apart, the area is Phi(1 / sqrt 2) = 0.7602."""
    hits = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        normal, anomalous = random.normal(size=150), 1 + random.normal(size=100)
        low, high = kg.metrics.auroc(normal, anomalous, 200, 0.9)["interval"]
        hits += low < 0.7602 < high
    assert 31 <= hits <= 40, hits  # 36 are expected


def test_scores_of_single_images():
    pictures = np.concatenate([flat(1, 100), flat(1, 103)])
    np.testing.assert_array_equal(kg.metrics.reconstruction_error(Grey(), pictures), [0, 9])
    bits = surprise(Grey(), pictures, factor=2.0)
    np.testing.assert_allclose(bits, [0, 6 / np.log(2)])
    np.testing.assert_allclose(
        kg.metrics.likelihood_score(Grey(), pictures), [0, 3 / np.log(2)] - png_bits(pictures)
    )
    plain = kg.metrics.likelihood_score(Grey(), pictures, corrected=False)
    np.testing.assert_allclose(plain, surprise(Grey(), pictures))


def test_complex_images_take_more_bits():
    pictures = np.concatenate([flat(1, 7), noise(1)])
    smooth, rough = png_bits(pictures)
    assert smooth < 0.3 * rough and rough > 16 * 16 * 8
    assert png_bits(np.repeat(pictures, 3, -1))[1] > rough
    sequences = np.stack([pictures, pictures], 1)  # the frames side by side
    assert png_bits(sequences)[1] == png_bits(np.concatenate([pictures, pictures], 2))[1]


def test_each_score_stands_with_its_sources_and_interval():
    found = kg.metrics.anomaly(Grey(), noise(30), flat(20, 90), num_images=25, factor=3.0)
    names = ["reconstruction_error", "likelihood", "likelihood_corrected", "complexity"]
    assert list(found) == names
    result = found["reconstruction_error"]
    assert (result.name, result.n_real, result.parameters["n_anomalous"]) == ("auroc", 25, 20)
    assert result.parameters["score"] == "reconstruction_error"
    assert "factor" not in result.parameters and result.confidence == 0.95
    assert result.split is None
    assert found["likelihood"].parameters["factor"] == 3.0
    # flat images are nearer to grey 100 than noise is, and much simpler
    assert found["likelihood"].value == found["complexity"].value == 0
    assert found["likelihood_corrected"].value == 1
    assert "auroc 0" in str(result)


def test_the_scores_are_those_that_the_model_has():
    class Half:
        image_shape, num_classes = SHAPE, None
        reconstruct = Grey.reconstruct

    assert list(kg.metrics.anomaly(Half(), noise(3), flat(3, 0), num_resamples=2)) == [
        "reconstruction_error",
        "complexity",
    ]


def test_a_likelihood_of_other_data_than_the_picture_is_warned_of():
    assert kg.metrics.anomaly(Grey(), noise(2), noise(2))["likelihood_corrected"].warnings == ()
    model = kg.models.VAE(SHAPE, likelihood=kg.losses.Bernoulli(0.5))
    found = kg.metrics.anomaly(model, noise(2), noise(2), num_resamples=2, samples=2)
    assert found["likelihood"].warnings == ()
    assert "binarized: 1 where" in found["likelihood_corrected"].warnings[0]
    for dequantize in (True, False):
        gaussian = kg.losses.Gaussian(dequantize=dequantize)
        model = kg.models.VAE(SHAPE, likelihood=gaussian)
        again = kg.metrics.anomaly(model, noise(2), noise(2), num_resamples=2, samples=2)
        assert bool(again["likelihood_corrected"].warnings) != dequantize
    assert found["likelihood"].parameters["estimator"] == "importance-weighted bound, k = 2"


def test_grey_pictures_need_no_channel_and_a_model_may_be_a_file(tmp_path):
    pictures = noise(16)  # as many as there are rows
    error = kg.metrics.reconstruction_error(Grey(), pictures[..., 0])
    np.testing.assert_array_equal(error, kg.metrics.reconstruction_error(Grey(), pictures))
    model = kg.models.Autoencoder(SHAPE)
    model.save(tmp_path / "model.keras")
    sets = noise(3), flat(3, 0)
    of_file = kg.metrics.anomaly(tmp_path / "model.keras", *sets, num_resamples=2)
    assert of_file == kg.metrics.anomaly(model, *sets, num_resamples=2)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"settings \['samples'\] are of"):
        kg.metrics.anomaly(kg.models.Autoencoder(SHAPE), noise(2), noise(2), samples=5)
    model = kg.models.Autoencoder(SHAPE, 10)
    with pytest.raises(ValueError, match="Received: a model with num_classes=10"):
        kg.metrics.anomaly(model, noise(2), noise(2))
    with pytest.raises(ValueError, match="Received: model=object"):
        kg.metrics.anomaly(object(), noise(2), noise(2))
    with pytest.raises(ValueError, match="it has no `log_prob`"):
        kg.metrics.likelihood_score(model, noise(2))
    with pytest.raises(ValueError, match=r"anomalous of shape .*1 not finite"):
        kg.metrics.auroc([0.0], [np.nan])
    with pytest.raises(ValueError, match="Received: seed=-1"):
        kg.metrics.anomaly(Grey(), noise(2), noise(2), seed=-1)
    with pytest.raises(ValueError, match="Received: num_images=0"):
        kg.metrics.anomaly(Grey(), noise(2), noise(2), num_images=0)
