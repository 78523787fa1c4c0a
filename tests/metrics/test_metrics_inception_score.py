import numpy as np
import pytest

from keras_gen.metrics.inception_score import inception_score
from keras_gen.metrics.result import MetricWarning


def test_sure_and_balanced_classes_score_their_number():
    logits = 1000.0 * np.eye(5)[np.tile(np.arange(5), 40)]
    result = inception_score(logits, num_splits=4, seed=None)
    assert result == {"value": pytest.approx(5, rel=1e-12), "std": pytest.approx(0, abs=1e-12)}


def test_one_class_or_no_idea_scores_one():
    for logits in (1000.0 * np.eye(5)[np.zeros(200, int)], np.zeros((200, 5))):
        assert inception_score(logits)["value"] == pytest.approx(1, rel=1e-12)


def test_as_defined():
    logits = np.random.default_rng(0).normal(size=(103, 6)) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = []
    for part in (probabilities[:51], probabilities[51:]):
        divergences = np.sum(part * np.log(part / part.mean(axis=0)), axis=1)
        scores.append(np.exp(np.mean(divergences)))
    result = inception_score(logits, num_splits=2, seed=None)
    assert result["value"] == pytest.approx(np.mean(scores), rel=1e-13)
    assert result["std"] == pytest.approx(np.std(scores), rel=1e-10)


def test_images_in_the_order_of_their_classes_are_shuffled():
    logits = 20.0 * np.eye(10)[np.repeat(np.arange(10), 100)]
    assert inception_score(logits)["value"] > 8
    assert inception_score(logits, seed=None)["value"] == pytest.approx(1, abs=1e-3)
    assert inception_score(logits, seed=0) == inception_score(logits)
    assert inception_score(logits, seed=1) != inception_score(logits)


def test_a_shift_of_the_logits_is_of_no_consequence():
    logits = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    expected = inception_score(logits)["value"]
    shifted = inception_score(logits.astype(np.float64) + 1e5)["value"]
    assert shifted == pytest.approx(expected, rel=1e-9)


def test_warnings():
    random = np.random.default_rng(0)
    with pytest.warns(MetricWarning, match="Splits of 5 images are smaller than the 20 classes"):
        inception_score(random.normal(size=(50, 20)))
    with pytest.warns(MetricWarning, match="look like probabilities"):
        inception_score(random.dirichlet(np.ones(4), size=100))


@pytest.mark.parametrize(
    ("logits", "options", "received"),
    [
        (np.zeros((9, 3)), {}, "logits of shape"),
        (np.zeros(90), {}, "logits of shape"),
        (np.full((90, 3), np.nan), {}, r"logits\[0\] not finite"),
        (np.zeros((90, 3)), {"num_splits": 0}, "num_splits=0"),
        (np.zeros((90, 3)), {"seed": -1}, "seed=-1"),
    ],
)
def test_errors(logits, options, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        inception_score(logits, **options)
