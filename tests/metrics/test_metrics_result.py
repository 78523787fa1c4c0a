import dataclasses
import json
import warnings

import numpy as np
import pytest

from keras_gen.metrics.frechet import frechet_distance
from keras_gen.metrics.kernel import kernel_distance
from keras_gen.metrics.precision_recall import precision_recall
from keras_gen.metrics.result import MetricResult, MetricWarning, measure, metric_name


def gaussian(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_fid_is_said_of_inception_alone():
    assert metric_name("frechet_distance", inception=True) == "FID"
    assert metric_name("kernel_distance", inception=True) == "KID"
    assert metric_name("frechet_distance", inception=False) == "frechet_distance"
    assert metric_name("precision", inception=True) == "precision"
    assert metric_name("kernel_distance", inception=True, size=75) == "KID"
    assert metric_name("frechet_distance", inception=True, size=75) == "frechet_distance"


def test_a_result_says_all_and_is_json():
    result = MetricResult(
        "FID",
        12.345678,
        interval=(12.0, 13.0),
        confidence=0.95,
        n_real=10_000,
        n_fake=5000,
        dimension=2048,
        source="mnist",
        split="test",
        extractor="inception_v3",
        weights="0123456789abcdef",
        resize="299 px",
        seed=3,
        floor=1.5,
        warnings=("Too few.",),
    )
    assert str(result) == (
        "FID 12.3457 [95% 12 to 13] (floor 1.5; n_real 10,000; n_fake 5,000; source mnist; "
        "split test; extractor inception_v3; weights 0123456789ab; dimension 2048; resize 299 px; "
        "seed 3)\n  warning: Too few."
    )
    record = json.loads(json.dumps(result.to_dict()))
    assert set(record) == {field.name for field in dataclasses.fields(MetricResult)}
    assert record["interval"] == [12.0, 13.0] and record["warnings"] == ["Too few."]


@pytest.mark.filterwarnings("error")
def test_measure_keeps_warnings_and_provenance():
    real, fake = gaussian(50, 4, 0), gaussian(4, 4, 1)
    [result] = measure(frechet_distance, real, fake, name="FID", n_real=50, n_fake=4, split="test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.value == frechet_distance(real, fake)
    assert (result.name, result.n_real, result.n_fake, result.split) == ("FID", 50, 4, "test")
    assert len(result.warnings) == 1 and "4 fake images are not more" in result.warnings[0]


def test_measure_records_parameters_and_std():
    real, fake = gaussian(50, 4, 0), gaussian(60, 4, 1)
    options = {"num_subsets": 3, "subset_size": 20, "seed": 5}
    [result] = measure(kernel_distance, real, fake, parameters=options)
    expected = kernel_distance(real, fake, **options)
    assert (result.name, result.value, result.std) == (
        "kernel_distance",
        expected["value"],
        expected["std"],
    )
    assert result.seed == 5 and result.parameters == {"num_subsets": 3, "subset_size": 20}


def test_measure_of_several_numbers():
    real, fake = gaussian(50, 4, 0), gaussian(50, 4, 1)
    results = measure(precision_recall, real, fake, parameters={"k": 2}, n_real=50)
    assert {result.name: result.value for result in results} == precision_recall(real, fake, k=2)
    assert all(result.parameters == {"k": 2} and result.n_real == 50 for result in results)


def test_measure_passes_other_warnings_on():
    def metric(real):
        warnings.warn("of the metric", MetricWarning, stacklevel=1)
        warnings.warn("of something else", RuntimeWarning, stacklevel=1)
        return 1.0

    with pytest.warns(RuntimeWarning, match="something else"):
        [result] = measure(metric, None)
    assert result.warnings == ("of the metric",)
