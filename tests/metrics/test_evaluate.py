"""evaluate, compare and checkpoints on scikit-learn's digits."""

import importlib
import json
import types

import keras
import numpy as np
import pytest

import keras_gen as kg
from keras_gen import metrics
from keras_gen.images import Provenance, write_png
from keras_gen.metrics import generators
from keras_gen.metrics.evaluate import CHUNK, split_overlaps

evaluation = importlib.import_module("keras_gen.metrics.evaluate")

OPTIONS = {"bootstrap": 4, "progress": False, "audit_images": 200}


class Replay:
    """A "model" of real images with noise: what it draws depends on (seed, label) alone."""

    num_classes = 10

    def __init__(self, source, noise, fail_at=None):
        self.name = f"replay_{noise}"
        self._images, labels = source.take(len(source))
        self._of_class = [np.flatnonzero(labels == index) for index in range(10)]
        self.noise, self.fail_at, self.asked = noise, fail_at, []
        self.image_shape = source.image_shape

    def generate_step(self):
        """Its presence says that `seed` is one for each image."""

    def weights_hash(self):
        return f"{int(self.noise):064x}"

    def generate(self, n, labels=None, seed=0, batch_size=64):
        if self.fail_at is not None and len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append(n)
        images = []
        for one, label in zip(seed, labels):
            random = np.random.default_rng(int(one) % 2**32)
            image = self._images[random.choice(self._of_class[label])]
            noise = random.normal(0, self.noise, image.shape)
            images.append(np.clip(image + noise, 0, 255).astype(np.uint8))
        return np.stack(images)


def test_images_of_another_size_are_refused_before_a_classifier_is_trained(digits, monkeypatch):
    monkeypatch.setattr(evaluation, "train_extractor", None)
    model = Replay(digits, 0)
    model.image_shape = (32, 32, 1)
    message = r"of the source's shape, \(8, 8, 1\). Received: images of shape \(32, 32, 1\)"
    with pytest.raises(ValueError, match=message):
        kg.metrics.evaluate(model, digits, num_images=100)


@pytest.fixture(scope="module")
def digits():
    return kg.data.load("digits")


@pytest.fixture(scope="module")
def held_out():
    return kg.data.load("digits", "test")


@pytest.fixture(scope="module")
def extractor(digits, held_out):
    return metrics.train_extractor(
        digits, held_out, dimension=32, num_images_seen=20_000, cache=False
    )


@pytest.fixture(scope="module")
def report(digits, held_out, extractor):
    model = Replay(digits, 20)
    return metrics.evaluate(model, digits, 300, extractor, held_out, split="train", **OPTIONS)


def cast(images):
    return keras.ops.cast(images, "float32") / 255


def same(report):
    """What must be equal in two evaluations of the same model."""
    record = report.to_dict()
    for key in ("created", "seconds", "images_from_cache"):
        del record[key]
    return json.loads(json.dumps(record, sort_keys=True))


def test_every_number_has_its_provenance(report, extractor):
    names = [metric["name"] for metric in report.record["metrics"]]
    assert names == [
        "frechet_distance",
        "kernel_distance",
        "inception_score",
        "precision",
        "recall",
        "density",
        "coverage",
        "sliced_wasserstein_distance",
        "vendi_score",
        "mean_pairwise_distance",
    ]
    for metric in report.record["metrics"]:
        assert metric["n_fake"] == 300 and metric["dimension"] == 32
        assert metric["split"] == "train" and metric["source"] == "digits"
        assert metric["extractor"] == extractor.name and metric["weights"] == extractor.weights
        assert metric["resize"] == "none" and metric["seed"] == 0
        assert metric["floor"] is not None and metric["parameters"]["floor_of"]
        low, high = metric["interval"]
        assert low <= metric["value"] <= high and metric["confidence"] == 0.95
    assert report["precision"]["n_real"] == 300 and report["frechet_distance"]["n_real"] == 1500


def test_noise_is_told_from_real_images(digits, held_out, extractor, report):
    noisy = metrics.evaluate(Replay(digits, 80), digits, 300, extractor, held_out, **OPTIONS)
    assert noisy["frechet_distance"]["value"] > 3 * report["frechet_distance"]["value"]
    assert noisy["precision"]["value"] < report["precision"]["value"]
    assert any(level == "bad" for level, _ in noisy.findings())


def test_real_images_reach_the_floor(digits, held_out, extractor):
    images = metrics.evaluate(held_out, digits, 10_000, extractor, held_out, **OPTIONS)
    assert images.record["settings"]["num_images"] == len(held_out)
    assert images.record["memorization"]["verdict"] == "no sign of copying"
    for name in ("frechet_distance", "kernel_distance", "precision", "coverage"):
        metric = images[name]
        # the same images in another order, of which the kernel distance draws subsets
        rel = 0.1 if name == "kernel_distance" else 1e-9
        assert metric["value"] == pytest.approx(metric["floor"], rel=rel), name
    assert "There are only 297 images, not 10,000." in images.record["warnings"]


def test_exact_copies_are_flagged(digits, held_out, extractor):
    copier = metrics.evaluate(Replay(digits, 0), digits, 300, extractor, held_out, **OPTIONS)
    audit = copier.record["memorization"]
    assert audit["verdict"] == "copies" and audit["exact_duplicates"] == audit["n_fake"] == 200
    assert copier.findings()[0][0] == "bad"


def test_classes(report, held_out):
    classes = report.record["classes"]
    assert classes["agreement"]["value"] > 0.9 and classes["agreement"]["n"] == 300
    assert classes["agreement_held_out"]["n"] == len(held_out)
    shares = [row["real_share"] for row in classes["rows"]]
    asked = [row["n_asked"] / 300 for row in classes["rows"]]
    np.testing.assert_allclose(asked, shares, atol=0.05)
    assert sum(row["n_asked"] for row in classes["rows"]) == 300
    assert sum(row["n_predicted"] for row in classes["rows"]) == 300
    assert sum(row["real_share"] for row in classes["rows"]) == pytest.approx(1)


def test_classes_are_compared_where_there_are_enough(digits, held_out, extractor):
    found = metrics.evaluate(
        Replay(digits, 20),
        digits,
        600,
        extractor,
        held_out,
        labels=np.repeat([1, 7], 300),
        **OPTIONS,
    ).record["classes"]["rows"]
    assert [row["n_asked"] for row in found] == [0, 300, 0, 0, 0, 0, 0, 300, 0, 0]
    assert "precision" in found[1] and 0 <= found[1]["precision"] <= 1
    assert found[1]["n_compared"] == found[1]["n_real"] // 2
    assert "precision" not in found[0]


def test_labels_as_in_the_source(digits, held_out, extractor):
    source = kg.data.load((digits.take(400)[0], np.r_[np.zeros(300, int), np.ones(100, int)]))
    model = Replay(digits, 20)
    model.num_classes = 2
    found = metrics.evaluate(
        model, source, 200, extractor, labels="source", **(OPTIONS | {"audit_images": 0})
    )
    asked = [row["n_asked"] for row in found.record["classes"]["rows"]]
    assert abs(asked[0] - 150) <= 20 and sum(asked) == 200


def test_an_interrupted_evaluation_goes_on(tmp_path, digits, held_out, extractor):
    count = 2 * CHUNK + 100
    options = {**OPTIONS, "bootstrap": 0, "cache_dir": tmp_path}
    broken = Replay(digits, 20, fail_at=3)  # the fingerprint's, and two chunks
    with pytest.raises(KeyboardInterrupt):
        metrics.evaluate(broken, digits, count, extractor, held_out, **options)
    assert broken.asked == [4, CHUNK, CHUNK]

    again = Replay(digits, 20)
    resumed = metrics.evaluate(again, digits, count, extractor, held_out, **options)
    assert again.asked == [4, 100] and resumed.record["images_from_cache"] == 2 * CHUNK
    options["cache_dir"] = None
    whole = metrics.evaluate(Replay(digits, 20), digits, count, extractor, held_out, **options)
    assert same(resumed) == same(whole)
    np.testing.assert_array_equal(resumed.samples, whole.samples)


def test_damaged_and_foreign_cache_files_are_not_used(tmp_path, digits, held_out, extractor):
    options = {**OPTIONS, "bootstrap": 0, "audit_images": 0, "cache_dir": tmp_path}
    first = metrics.evaluate(Replay(digits, 20), digits, 100, extractor, held_out, **options)
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-100])
    again = metrics.evaluate(Replay(digits, 20), digits, 100, extractor, held_out, **options)
    assert again.record["images_from_cache"] == 0 and same(again) == same(first)
    other = Replay(digits, 30)
    other.weights_hash = Replay(digits, 20).weights_hash  # equal weights, other images
    found = metrics.evaluate(other, digits, 100, extractor, held_out, **options)
    assert found.record["images_from_cache"] == 0


def test_a_folder_of_images(tmp_path, digits, held_out, extractor):
    images, labels = digits.take(60, seed=1)
    for index, (image, label) in enumerate(zip(images, labels)):
        path = tmp_path / str(label) / f"{index}.png"
        write_png(path, image, Provenance("test", "0" * 16, index))
    found = metrics.evaluate(tmp_path, digits, 60, extractor, held_out, **OPTIONS)
    assert found.record["model"]["kind"] == "images"
    assert found.record["classes"]["agreement"]["value"] > 0.8
    asked = [row["n_asked"] for row in found.record["classes"]["rows"]]
    assert asked == np.bincount(labels, minlength=10).tolist()


def test_a_part_of_a_folder_is_of_all_classes(digits, held_out, extractor):
    """A folder is sorted by class: its first images are those of its first class."""
    pixels, labels = digits.take(len(digits))
    order = np.argsort(labels, kind="stable")
    sorted_digits = kg.data.load((pixels[order], labels[order]))
    options = OPTIONS | {"bootstrap": 0, "audit_images": 30}
    found = metrics.evaluate(sorted_digits, digits, 300, extractor, held_out, **options)
    asked = [row["n_asked"] for row in found.record["classes"]["rows"]]
    assert sum(asked) == 300 and min(asked) > 10
    assert len(np.unique(found.sample_labels)) > 7  # the first are those shown and audited
    wrapped = generators.as_generator(sorted_digits)
    whole, whole_labels = wrapped.images(0, np.zeros(60), seed=4)
    part, part_labels = wrapped.images(37, np.zeros(23), seed=4)
    np.testing.assert_array_equal(part, whole[37:])
    np.testing.assert_array_equal(part_labels, whole_labels[37:])
    other, _ = wrapped.images(0, np.zeros(60), seed=5)
    assert (other != whole).any()


def test_floors_of_fewer_images_are_compared_at_their_n(digits, extractor):
    """A model that is far off is not called good because the floor is one of few images."""
    pixels, labels = digits.take(400)
    source = kg.data.load((pixels, labels), class_names=digits.class_names)
    options = OPTIONS | {"bootstrap": 0, "audit_images": 0}
    found = metrics.evaluate(Replay(source, 35), source, 1000, extractor, **options)
    distance = found["frechet_distance"]
    assert distance["n_fake"] == 1000 and distance["floor_n"] == 200
    assert distance["value"] < 1.5 * distance["floor"]  # what the finding went by
    assert distance["value_at_floor"] > 1.5 * distance["floor"]
    assert not any("hardly more" in text for _, text in found.findings())
    assert "warning: 400 real images are less than twice the 1,000 fakes" in str(found)


def test_other_shares_than_the_source_are_noted(digits, extractor):
    pixels, labels = digits.take(len(digits))
    kept = np.flatnonzero((labels == 0) | (np.arange(len(labels)) % 4 == 0))
    source = kg.data.load((pixels[kept], labels[kept]), class_names=digits.class_names)
    options = OPTIONS | {"bootstrap": 0, "audit_images": 0}
    by_default = metrics.evaluate(Replay(digits, 20), source, 200, extractor, **options)
    balanced = metrics.evaluate(
        Replay(digits, 20), source, 200, extractor, labels="balanced", **options
    )
    noted = [
        any("other shares of classes" in text for text in report.record["warnings"])
        for report in (by_default, balanced)
    ]
    assert noted == [False, True]
    assert balanced.record["classes"]["rows"][0]["n_asked"] == 20
    assert by_default.record["classes"]["rows"][0]["n_asked"] > 40


def test_a_source_without_labels(digits, extractor):
    source = kg.data.load(digits.take(400)[0])
    options = OPTIONS | {"bootstrap": 0, "audit_images": 0}
    found = metrics.evaluate(Replay(digits, 20), source, 100, extractor, **options)
    assert any("and the source no labels" in text for text in found.record["warnings"])
    assert np.bincount(found.sample_labels[found.sample_labels >= 0]).sum() == 0


def test_a_saved_model_that_takes_no_label_says_so():
    generator = generators.SavedModelGenerator.__new__(generators.SavedModelGenerator)
    generator._function = types.SimpleNamespace(structured_input_signature=((), {"seed": 0}))
    generator.num_classes = 10
    with pytest.raises(ValueError, match=r"takes no `label`, but its .* 10 classes"):
        generator._check_signature("saved/1")
    generator._function.structured_input_signature[1]["label"] = 0
    generator.num_classes = None
    with pytest.raises(ValueError, match=r"takes `label`, but its .* how many classes"):
        generator._check_signature("saved/1")


def test_class_names_are_those_of_folders(tmp_path, digits, held_out, extractor):
    pixels, labels = digits.take(len(digits))
    names = ["T-shirt/top", *"bcdefghij"]
    source = kg.data.load((pixels, labels), class_names=names)
    for index in range(80):
        folder = {0: "T-shirt_top", 1: "unheard of"}.get(labels[index], names[labels[index]])
        write_png(tmp_path / folder / f"{index}.png", pixels[index], Provenance("t", "0", index))
    options = OPTIONS | {"bootstrap": 0, "audit_images": 0}
    found = metrics.evaluate(tmp_path, source, 80, extractor, **options).record["classes"]
    asked = [row["n_asked"] for row in found["rows"]]
    expected = np.bincount(labels[:80], minlength=10)
    assert asked[0] == expected[0] > 0 and asked[1] == 0
    assert found["agreement"]["n"] == 80 - expected[1]
    assert found["agreement"]["value"] > 0.9


def test_held_out_classes_are_matched_by_name(digits, held_out, extractor):
    pixels, labels = held_out.take(len(held_out))
    kept = labels > 0  # a folder without the first class
    lacking = kg.data.load((pixels[kept], labels[kept] - 1), class_names=list("123456789"))
    assert extractor.accuracy_on(lacking) > 0.85
    options = OPTIONS | {"bootstrap": 0, "audit_images": 0}
    found = metrics.evaluate(Replay(digits, 20), digits, 100, extractor, lacking, **options)
    classes = found.record["classes"]
    assert classes["agreement_held_out"]["value"] > 0.85
    assert classes["rows"][0]["agreement_held_out"] is None
    foreign = kg.data.load((pixels[kept], labels[kept] - 1), class_names=list("abcdefghi"))
    with pytest.raises(ValueError, match="Received: images with the classes"):
        extractor.accuracy_on(foreign)


def test_splits_are_those_asked_for(extractor, monkeypatch):
    pixels = kg.data.load("digits").take(50)[0]
    options = {"bootstrap": 0, "audit_images": 0, "progress": False}
    test = metrics.evaluate(pixels, "digits", 50, extractor, split="test", **options)
    assert test.record["real"]["n"] == 297 and test.record["real"]["split"] == "test"
    assert test.record["real"]["n_held_out"] is None
    whole = metrics.evaluate(pixels, "digits", 50, extractor, split="all", **options)
    assert whole.record["real"]["n"] == 1797 and whole.record["real"]["n_held_out"] is None
    assert not split_overlaps("train[:90%]", "train[90%:]")
    assert split_overlaps("train", "train[90%:]") and split_overlaps("train+test", "test")

    def broken(source, split="train"):
        if split == "test":
            raise ValueError("A damaged file. Received: source='digits'")
        return load(source, split)

    load = evaluation.load
    monkeypatch.setattr(evaluation, "load", broken)
    with pytest.raises(ValueError, match="A damaged file"):
        metrics.evaluate(pixels, "digits", 50, extractor, **options)


def test_the_cache_knows_all_images_and_what_the_extractor_computes(tmp_path, digits):
    pixels, labels = digits.take(1200)
    changed = pixels.copy()
    changed[1100:] = 255 - changed[1100:]
    options = {"bootstrap": 0, "audit_images": 0, "progress": False, "cache_dir": tmp_path}

    def mean(extractor, pixels):
        found = metrics.evaluate(pixels[:100], (pixels, labels), 100, extractor, **options)
        return found["frechet_distance"]["value"]

    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.AveragePooling2D(4)(inputs), name="mean")
    plain, other = (
        metrics.KerasExtractor(model, preprocess=lambda images, scale=scale: cast(images) * scale)
        for scale in (1.0, 2.0)
    )
    first = mean(plain, pixels)
    assert mean(plain, changed) != first
    assert mean(other, pixels) == pytest.approx(4 * first, rel=1e-3)
    assert mean(plain, pixels) == first


def test_the_seed_does_not_change_the_classifier(digits, monkeypatch, extractor):
    asked = []

    def trained(source, **options):
        asked.append(options)
        return extractor

    monkeypatch.setattr(evaluation, "train_extractor", trained)
    pixels = digits.take(50)[0]
    options = {"bootstrap": 0, "audit_images": 0, "progress": False}
    for seed in (0, 5):
        metrics.evaluate(pixels, digits, 50, seed=seed, **options)
    assert asked[0] == asked[1]


def test_the_audit_takes_known_features_and_is_calibrated_once(
    digits, held_out, extractor, monkeypatch, capsys
):
    made = []

    class Counted(evaluation.CopyDetector):
        def __init__(self, *arguments, **options):
            made.append(options["train_features"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(evaluation, "CopyDetector", Counted)
    models = {"a": digits.take(60)[0], "b": digits.take(60, seed=1)[0]}
    options = OPTIONS | {"bootstrap": 0, "progress": True, "num_real": 200}
    metrics.compare(models, digits, 60, extractor, held_out, **options)
    assert len(made) == 1 and made[0].shape == (1500, 32)
    np.testing.assert_array_equal(made[0], extractor(digits.take(1500)[0]).features)
    assert "Looking for copies: calibration on 297 images" in capsys.readouterr().err


def test_values_that_end_at_1_are_warned_of(digits, extractor):
    pixels = (digits.take(50)[0] > 127).astype(np.uint8)
    options = {"bootstrap": 0, "audit_images": 0, "progress": False}
    with pytest.warns(metrics.MetricWarning, match="generated images is above 1 of 255"):
        found = metrics.evaluate(pixels, digits, 50, extractor, **options)
    assert any("must be multiplied by 255" in text for text in found.record["warnings"])
    with pytest.warns(metrics.MetricWarning, match="No pixel of the images"):
        metrics.extract(extractor, pixels)


def test_inception_at_75_px(monkeypatch, digits, extractor):
    made = []

    def inception(weights="imagenet", size=299):
        made.append((weights, size))
        return extractor

    monkeypatch.setattr(evaluation, "InceptionV3", inception)
    for text in ("inception", "inception-75", "inception-75:a.h5", "a.h5"):
        evaluation._extractor(text, digits, None, None)
    assert made == [("imagenet", 299), ("imagenet", 75), ("a.h5", 75), ("a.h5", 299)]


def test_saved_models_and_keras_files_draw_the_same(tmp_path, digits):
    model = tiny_gan(digits)
    model.save(tmp_path / "m.keras")
    for version in (2, 10):
        model.export(str(tmp_path / "saved" / str(version)), verbose=False)
    labels = np.arange(20, dtype=np.int32) % 10
    wrapped = [
        generators.as_generator(one)
        for one in (model, tmp_path / "m.keras", tmp_path / "saved", tmp_path / "saved" / "2")
    ]
    assert [one.kind for one in wrapped] == ["model", ".keras file", "SavedModel", "SavedModel"]
    assert wrapped[2].path.endswith("10") and wrapped[2].training_steps == 0
    expected = model.generate(20, labels=labels, seed=5)
    for one in wrapped:
        images, asked = one.images(0, labels, seed=5)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(asked, labels)
        part, _ = one.images(13, labels[13:], seed=5)
        np.testing.assert_array_equal(part, expected[13:])
        assert one.weights == model.weights_hash()


def test_compare(digits, held_out, extractor):
    options = {**OPTIONS, "audit_images": 0}
    models = {"good": Replay(digits, 10), "poor": Replay(digits, 90)}
    found = metrics.compare(models, digits, 200, extractor, held_out, **options)
    assert found.best("frechet_distance") == ("good", [])
    table = found.markdown()
    assert "| good | **" in table and "*other real images*" in table and "95%" in table
    record = json.loads(json.dumps(found.to_dict()))
    assert set(record["reports"]) == {"good", "poor"}
    assert record["table"]["frechet_distance"]["best"] == "good"


def test_checkpoints_are_a_curve(tmp_path, digits, held_out, extractor):
    model = tiny_gan(digits)
    model.compile()
    for version in (1, 2):
        model.fit(digits.batches(64).take(version), verbose=0)
        model.export(str(tmp_path / str(version)), verbose=False)
    options = {**OPTIONS, "audit_images": 0, "bootstrap": 0}
    found = metrics.evaluate_checkpoints(tmp_path, digits, 50, extractor, held_out, **options)
    assert list(found.reports) == ["1", "2"] and found.positions() == [1, 3]
    assert "<polyline" in found.html()
    with pytest.raises(ValueError, match="must hold SavedModel versions"):
        metrics.evaluate_checkpoints(tmp_path / "1" / "assets.extra", digits)


def test_a_name_brings_its_test_split(extractor):
    found = metrics.evaluate(
        kg.data.load("digits").take(50)[0], "digits", 50, extractor, bootstrap=0, progress=False
    )
    assert found.record["real"]["split"] == "train" and found.record["real"]["n_held_out"] == 297
    assert found.record["memorization"]["exact_duplicates"] == 50


def test_errors_name_what_to_do(tmp_path, digits, extractor):
    unlabelled = kg.data.load(digits.take(50)[0])
    with pytest.raises(ValueError, match="KerasExtractor"):
        metrics.evaluate(unlabelled, unlabelled, 50)
    with pytest.raises(ValueError, match="must have `generate"):
        metrics.evaluate(object(), digits, 50, extractor)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        metrics.evaluate(tmp_path / "nowhere", digits, 50, extractor)
    with pytest.raises(ValueError, match="num_images"):
        metrics.evaluate(unlabelled, digits, 5, extractor)
    with pytest.raises(ValueError, match="bootstrap=1"):
        metrics.evaluate(unlabelled, digits, 50, extractor, bootstrap=1)
    with pytest.raises(ValueError, match="labels='many'"):
        metrics.evaluate(unlabelled, digits, 50, extractor, labels="many")
    with pytest.raises(ValueError, match="source's shape"):
        other = np.zeros((50, 9, 9, 1), np.uint8)
        metrics.evaluate(other, digits, 50, extractor, progress=False)
    with pytest.raises(ValueError, match="at least one"):
        metrics.compare({}, digits)


def test_the_package_names_functions_not_modules():
    for name in ("evaluate", "compare", "inception_score", "precision_recall", "audit"):
        assert callable(getattr(metrics, name)), name


def test_foreign_models_get_one_seed_for_each_chunk(digits, extractor):
    class Foreign:
        def generate(self, n, labels=None, seed=0):
            assert labels is None and isinstance(seed, int)
            return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), np.uint8)

    found = metrics.evaluate(Foreign(), digits, 50, extractor, **OPTIONS)
    assert found.record["model"]["name"] == "Foreign"
    assert found.record["classes"]["grouped_by"] == "predicted class"


def tiny_gan(source):
    shape, latent = source.image_shape, 4
    return kg.models.GAN(
        shape,
        10,
        generator=kg.networks.mlp.generator(shape, latent, hidden=[8], num_classes=10),
        discriminator=kg.networks.mlp.discriminator(shape, hidden=[8], num_classes=10),
        recipe="gan",
    )
