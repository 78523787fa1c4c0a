"""What synthetic images are worth: the table, the score, and classes matched by name."""

import json
import types

import numpy as np
import pytest

import keras_gen as kg
from keras_gen.usefulness import _Labelled, classification_accuracy_score, usefulness

DIGITS = [str(label) for label in range(10)]


@pytest.fixture(scope="module")
def digits():
    """(source to train on, fresh images, their labels)."""
    pixels, labels = kg.data.load("digits", "all").take(1797, seed=0)
    source = kg.data.load((pixels[:900], labels[:900]), class_names=DIGITS)
    return source, pixels[900:], labels[900:]


class TestUsefulness:
    def test_table(self, digits):
        source, fresh, labels = digits
        lines = []
        result = usefulness(
            source,
            (fresh[:100], labels[:100]),
            (fresh[400:], labels[400:]),
            images_per_class=(1,),
            all_images=False,
            num_seeds=1,
            num_images_seen=5000,
            progress=lines.append,
        )
        [row] = result.rows
        assert len(lines) == 3 and row["n_real"] == 10 and result.n_test == 497
        assert row["synthetic"]["value"] > row["real"]["value"] > 0.3
        assert row["gain"]["value"] > 0

    def test_rows_and_seeds(self, digits, monkeypatch):
        trainings = []

        def nearest_mean(source, held_out, seed, **options):
            trainings.append((len(source), seed))
            (images, labels), (queries, truth) = (s.take(len(s)) for s in (source, held_out))
            means = np.stack([images[labels == label].mean(0).ravel() for label in range(10)])
            distances = np.linalg.norm(queries.reshape(-1, 1, 64) - means, axis=2)
            return types.SimpleNamespace(accuracy=float((distances.argmin(1) == truth).mean()))

        monkeypatch.setattr("keras_gen.usefulness.train_extractor", nearest_mean)
        source, fresh, labels = digits
        result = usefulness(
            source,
            (fresh[:400], labels[:400]),
            (fresh[400:], labels[400:]),
            images_per_class=(5, 20),
            num_seeds=3,
        )
        assert [row["real_per_class"] for row in result.rows] == [5, 20, None]
        assert trainings[:3] == [(400, 0), (400, 1), (400, 2)]
        expected = [
            (size, seed)
            for n_real, both in ((50, 800), (200, 800), (900, 1300))
            for seed in range(3)
            for size in (n_real, both)
        ]
        assert trainings[3:] == expected
        assert [row["n_real"] for row in result.rows] == [50, 200, 900]
        scarce, _, whole = result.rows
        assert len(set(scarce["real"]["values"])) == 3  # each seed chooses other real images
        assert scarce["synthetic"]["std"] == whole["real"]["std"] == 0
        assert scarce["synthetic"]["value"] > scarce["real"]["value"] > 0.3
        for row in result.rows:
            gains = np.subtract(row["real + synthetic"]["values"], row["real"]["values"])
            np.testing.assert_allclose(row["gain"]["values"], gains)
            assert row["gain"]["value"] == pytest.approx(gains.mean())
            assert row["gain"]["std"] == pytest.approx(gains.std(ddof=1))
        text = result.markdown()
        assert "| 5 | 50 |" in text and "| all | 900 |" in text
        assert "497 real test images" in text
        json.dumps(result.to_dict())

    def test_score(self, digits):
        _, fresh, labels = digits
        shuffled = np.random.default_rng(0).permutation(labels[:300])
        test = (fresh[400:], labels[400:])
        wrong = classification_accuracy_score(
            (fresh[:300], shuffled), test, num_seeds=1, num_images_seen=1500
        )
        assert wrong["value"] < 0.4 and wrong["n_synthetic"] == 300

    def test_names_that_are_numbers_are_matched_by_value(self, digits):
        pixels = digits[1][:10]
        test = _Labelled.of(kg.data.load((pixels, np.arange(10))), "test")
        folder = kg.data.load((pixels[:2], [0, 1]), class_names=["03", "7"])
        matched = _Labelled.of(folder, "synthetic").named_as(test)
        assert matched.labels.tolist() == [3, 7] and matched.num_classes == 10
        for names in (["3", "11"], ["Bag", "Coat"]):
            other = kg.data.load((pixels[:2], [0, 1]), class_names=names)
            with pytest.raises(ValueError, match="Received: synthetic with"):
                _Labelled.of(other, "synthetic").named_as(test)

    def test_classes_are_matched_by_name(self, digits):
        pixels = digits[1][:3]
        names = ["T-shirt/top", "Bag", "Coat"]
        test = _Labelled.of(kg.data.load((pixels, [0, 1, 2]), class_names=names), "test")
        loaded = kg.data.load((pixels, [0, 1, 2]), class_names=["Bag", "Coat", "T-shirt_top"])
        matched = _Labelled.of(loaded, "synthetic").named_as(test)
        assert matched.labels.tolist() == [1, 2, 0] and matched.class_names == names
        other = kg.data.load((pixels, [0, 1, 2]), class_names=["Bag", "Coat", "Shoe"])
        with pytest.raises(ValueError, match="must have classes of `test`"):
            _Labelled.of(other, "synthetic").named_as(test)
        more = kg.data.load((pixels, [0, 1, 3]))
        with pytest.raises(ValueError, match=r"must have the 3 classes .* with 4 classes"):
            _Labelled.of(more, "synthetic").named_as(test)
        with pytest.raises(ValueError, match="images_per_class=1000"):
            usefulness(digits[0], digits[0], digits[0], images_per_class=(1000,))
