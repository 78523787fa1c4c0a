"""Synthetic data sets: balanced, without copies, reproducible."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import keras_gen as kg
from keras_gen import synthesis
from keras_gen.images import read_provenance
from keras_gen.synthesis import NearDuplicates, _Real, synthesize
from tests.conformance.cases import mlp_gan

DIGITS = [str(label) for label in range(10)]


@pytest.fixture(scope="module")
def digits():
    """(source to train on, fresh images, their labels)."""
    pixels, labels = kg.data.load("digits", "all").take(1797, seed=0)
    source = kg.data.load((pixels[:900], labels[:900]), class_names=DIGITS)
    return source, pixels[900:], labels[900:]


class Artist:
    """Draws mixtures of fresh digits; copies training images and repeats itself when told to."""

    name, image_shape, num_classes = "artist", (8, 8, 1), 10
    generate_step = None  # as models of the library, it takes a seed for each image

    def __init__(self, digits, copies_every=None, repeats_every=None):
        source, self.fresh, self.labels = digits
        self.train, self.train_labels = source.take(len(source))
        self.copies_every, self.repeats_every = copies_every, repeats_every
        self.count = 0

    def weights_hash(self):
        return "0123456789abcdef" * 4

    def generate(self, n, labels=None, seed=0, batch_size=64):
        self.count += n
        return np.stack([self._draw(int(s), label) for s, label in zip(seed, labels)])

    def _draw(self, seed, label):
        number = seed % 2**32
        random = np.random.default_rng(number)
        if self.copies_every and number % self.copies_every == 0:
            return random.choice(self.train[self.train_labels == label])
        of_class = self.fresh[self.labels == label]
        if self.repeats_every and number % self.repeats_every == 0:
            return of_class[0]
        first, second = random.choice(of_class, 2, replace=False).astype(float)
        share = random.uniform(0.05, 0.3)
        return np.rint(first * (1 - share) + second * share).astype(np.uint8)


def manifest(directory):
    with open(directory / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def files(directory):
    """Bytes by relative name of all but what holds times."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


class TestFolder:
    def test_loads_back_with_its_classes_and_provenance(self, digits, tmp_path):
        artist = Artist(digits)
        result = synthesize(artist, tmp_path / "out", 43, digits[0], seed=-3)
        assert result.complete and result.kept == result.wanted
        assert sorted(result.kept.values()) == [4] * 7 + [5] * 3
        loaded = kg.data.load(tmp_path / "out")
        assert len(loaded) == 43 and loaded.class_names == DIGITS
        assert loaded.image_shape == (8, 8, 1)
        rows = [row for row in manifest(tmp_path / "out") if row["file"]]
        assert len(rows) == 43
        for row in rows:
            path = tmp_path / "out" / row["file"]
            assert path.parent.name == row["class_name"] == row["label"]
            provenance = read_provenance(path)
            assert provenance["Seed"] == row["seed"] and provenance["Model"] == "artist"
            again = artist.generate(1, [int(row["label"])], [int(row["seed"])])
            np.testing.assert_array_equal(np.asarray(Image.open(path)), again[0, :, :, 0])
        record = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert record["complete"] and record["filters"]["memorization"]["n_train"] == 900

    def test_copies_and_repetitions_are_dropped_and_replaced(self, digits, tmp_path):
        artist = Artist(digits, copies_every=5, repeats_every=7)
        result = synthesize(artist, tmp_path / "out", 300, digits[0])
        assert result.complete and set(result.kept.values()) == {30}
        rows = manifest(tmp_path / "out")
        assert len(rows) == result.generated == artist.count - 4  # four name the model
        by_reason = {reason: [] for reason in ("", *result.dropped)}
        for row in rows:
            by_reason[row["dropped"]].append(int(row["seed"]))
            assert bool(row["file"]) == (row["dropped"] == "")
        assert all(seed % 5 == 0 for seed in by_reason["training image"])
        assert not any(seed % 5 == 0 for seed in by_reason[""])
        repeated = [seed for seed in by_reason[""] if seed % 7 == 0]
        assert len(repeated) <= 10 and len(by_reason["near-duplicate"]) > 20
        wrongly = [seed for seed in by_reason["copy of a training image"] if seed % 5]
        assert len(wrongly) < 0.08 * len(rows)

    def test_without_filters(self, digits, tmp_path):
        artist = Artist(digits, copies_every=5, repeats_every=7)
        result = synthesize(
            artist,
            tmp_path / "out",
            50,
            class_names=[f"class {label}" for label in DIGITS],
            memorization_filter=False,
            drop_near_duplicates=False,
        )
        assert result.generated == 50 and not result.dropped
        assert kg.data.load(tmp_path / "out").class_names[3] == "class 3"

    def test_balance(self, digits, tmp_path):
        options = {"memorization_filter": False, "drop_near_duplicates": False}
        artist, source = Artist(digits), digits[0]
        balance = {"3": 5, 7: 2}
        result = synthesize(artist, tmp_path / "a", None, source, balance, **options)
        assert {name: count for name, count in result.kept.items() if count} == {"3": 5, "7": 2}
        result = synthesize(artist, tmp_path / "b", 90, source, "source", **options)
        _, labels = source.take(900)
        np.testing.assert_allclose(list(result.kept.values()), np.bincount(labels) / 10, atol=1)
        assert sum(result.kept.values()) == 90

    def test_gives_up(self, digits, tmp_path):
        with pytest.warns(UserWarning, match=r"given up: 0: 1 of 3, .*max_attempts=2"):
            result = synthesize(
                Artist(digits, repeats_every=1), tmp_path / "out", 30, digits[0], max_attempts=2
            )
        assert not result.complete and result.generated == 60
        assert set(result.kept.values()) <= {0, 1}

    def test_models_and_their_files(self, tmp_path):
        source = kg.data.load("digits")
        options = {"memorization_filter": False, "duplicate_distance": 0.0}
        labelled, plain = mlp_gan((8, 8, 1), 10), mlp_gan((8, 8, 1), None)
        labelled.compile()
        labelled.save(tmp_path / "model.keras")
        labelled.export(tmp_path / "model", verbose=False)
        results = [
            synthesize(model, tmp_path / str(i), 20, source, **options)
            for i, model in enumerate([labelled, tmp_path / "model.keras", tmp_path / "model"])
        ]
        assert [result.kept for result in results] == [results[0].kept] * 3
        png = [
            sorted(path.read_bytes()[-80:] for path in result.directory.rglob("*.png"))
            for result in results
        ]
        assert png[0] == png[1] == png[2]
        synthesize(plain, tmp_path / "plain", 5, **options)
        assert kg.data.load(tmp_path / "plain").num_classes is None

    def test_rgb_above_32_pixels(self, tmp_path):
        model = mlp_gan((40, 48, 3), 2)
        result = synthesize(
            model, tmp_path / "out", 6, memorization_filter=False, duplicate_distance=0
        )
        assert result.complete
        assert kg.data.load(tmp_path / "out").image_shape == (40, 48, 3)


class TestRepeatable:
    def test_interrupted_run_ends_with_the_same_files(self, digits, tmp_path, monkeypatch):
        monkeypatch.setattr(synthesis, "_ROUND", 32)
        arguments = {"num_images": 90, "source": digits[0], "seed": 4}
        options = {"copies_every": 6, "repeats_every": 7}
        synthesize(Artist(digits, **options), tmp_path / "whole", **arguments)

        def interrupt(kept, wanted):
            if kept > 40:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            synthesize(Artist(digits, **options), tmp_path / "cut", progress=interrupt, **arguments)
        assert len(list((tmp_path / "cut").rglob("*.png"))) < 90
        (tmp_path / "cut" / "3" / f"{4 * 2**32 + 89}.png").write_bytes(b"left by a killed run")
        result = synthesize(Artist(digits, **options), tmp_path / "cut", **arguments)
        left = f"3/{4 * 2**32 + 89}.png"
        whole, cut = files(tmp_path / "whole"), files(tmp_path / "cut")
        assert result.complete
        assert cut == whole or {k: v for k, v in cut.items() if k != left} == whole
        again = Artist(digits, **options)
        assert synthesize(again, tmp_path / "cut", **arguments).kept == result.kept
        assert again.count == 4  # nothing but the four images that name the model

    def test_refuses_what_is_not_its_own(self, digits, tmp_path):
        options = {"source": digits[0], "memorization_filter": False}
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file.txt").write_text("mine")
        with pytest.raises(FileExistsError, match="neither new nor empty"):
            synthesize(Artist(digits), tmp_path / "other", 10, **options)
        synthesize(Artist(digits), tmp_path / "out", 10, **options)
        with pytest.raises(FileExistsError, match="They differ in: seed, wanted"):
            synthesize(Artist(digits), tmp_path / "out", 20, seed=1, **options)
        with pytest.raises(FileExistsError, match="differ in: fingerprint"):
            synthesize(Artist(digits, copies_every=1), tmp_path / "out", 10, **options)


class TestErrors:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"source": None}, "give `source`, or `memorization_filter=False`"),
            ({"num_images": 0}, "num_images=0"),
            ({"class_balance": "even"}, "class_balance='even'"),
            ({"class_balance": {"11": 3}}, "by number or by name"),
            ({"class_balance": {"1": 3}}, "asks for 3 images.*num_images=10"),
            ({"class_names": ["a", "b"]}, "10 names for different folders"),
            ({"class_names": ["a/b", "a:b", *"cdefghij"]}, "10 names for different folders"),
            ({"duplicate_distance": -1}, "duplicate_distance=-1"),
            ({"max_attempts": 0.5}, "max_attempts=0.5"),
            ({"model": np.zeros((3, 8, 8, 1), np.uint8)}, "must generate images"),
            ({"source": np.zeros((30, 9, 8), np.uint8)}, r"the model's shape, \(8, 8, 1\)"),
        ],
        ids=str,
    )
    def test_arguments(self, digits, tmp_path, arguments, message):
        given = {"model": Artist(digits), "num_images": 10, "source": digits[0]} | arguments
        with pytest.raises(ValueError, match=message):
            synthesize(directory=tmp_path / "out", **given)
        assert not (tmp_path / "out").exists()


class TestNearDuplicates:
    def test_rule(self):
        base = np.full((1, 8, 8, 1), 100, np.uint8)
        images = np.concatenate([base, base + 3, base + 4, base + 9, base])
        labels, seeds = np.array([0, 0, 0, 0, 1]), np.arange(5)
        distances, nearest = NearDuplicates(3.5).examine(images, labels, seeds)
        np.testing.assert_array_equal(distances, [np.inf, 3, 4, 5, np.inf])
        np.testing.assert_array_equal(nearest[1:4], [0, 0, 2])

    def test_duplicates_among_the_training_images_do_not_make_the_distance_0(self, digits):
        pixels = digits[0].take(300)[0]
        alone, doubled = (
            _Real(None, images, None).spacing()
            for images in (pixels, np.concatenate([pixels, pixels[:50]]))
        )
        assert 0 < doubled == pytest.approx(alone, rel=0.3)

    def test_cutting_into_rounds_changes_nothing(self, digits):
        _, images, labels = digits
        images, labels, seeds = images[:200], labels[:200], np.arange(200)
        whole = NearDuplicates(30).examine(images, labels, seeds)
        parts = NearDuplicates(30)
        cut = [
            parts.examine(images[i : i + 17], labels[i : i + 17], seeds[i : i + 17])
            for i in range(0, 200, 17)
        ]
        assert 5 < (whole[0] <= 30).sum() < 195
        for column in (0, 1):
            np.testing.assert_allclose(np.concatenate([c[column] for c in cut]), whole[column])
