"""Extractors: what they say of themselves, bit-identical batches, the trained classifier."""

import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

from keras_gen import data
from keras_gen.metrics import extractors
from keras_gen.metrics.extractors import (
    InceptionV3,
    KerasExtractor,
    extract,
    extract_batches,
    train_extractor,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_GEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def classifier(digits):
    return train_extractor(digits, held_out=data.load("digits", "test"), cache=False)


def small_model(shape=(8, 8, 1), dimension=5):
    inputs = keras.Input(shape)
    maps = keras.layers.Conv2D(dimension, 3, name="maps")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps)
    outputs = keras.layers.Dense(3, name="scores")(pooled)
    return keras.Model(inputs, outputs, name="small")


def noise(count, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


class TestExtract:
    @pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
    def test_batch_size_changes_no_bit(self, classifier, digits, batch_size):
        whole = extract(classifier, digits, num_images=300)
        cut = extract(classifier, digits, num_images=300, batch_size=batch_size)
        np.testing.assert_array_equal(cut.features, whole.features)
        np.testing.assert_array_equal(cut.logits, whole.logits)

    def test_neighbours_in_the_batch_change_no_bit(self, classifier, digits):
        images, _ = digits.take(300)
        whole = classifier(images).features
        order = np.random.default_rng(0).permutation(300)
        np.testing.assert_array_equal(classifier(images[order]).features, whole[order])
        np.testing.assert_array_equal(classifier(images[17:18]).features, whole[17:18])

    def test_all_forms_of_images_agree(self, classifier, digits):
        images, labels = digits.take(100)
        expected = classifier(images).features
        forms = [
            images,
            images[..., 0],
            (images, labels),
            data.load(images),
            [images[:30], images[30:]],
            iter([(images[:99], labels[:99]), (images[99:], labels[99:])]),
        ]
        for form in forms:
            np.testing.assert_array_equal(extract(classifier, form).features, expected)

    def test_progress_and_batches(self, classifier, digits):
        seen = []
        batches = list(
            extract_batches(
                classifier, digits, 200, batch_size=64, progress=lambda *done: seen.append(done)
            )
        )
        assert [len(batch.features) for batch in batches] == [64, 64, 64, 8]
        assert seen == [(64, 200), (128, 200), (192, 200), (200, 200)]

    def test_too_few_images(self, classifier, digits):
        with pytest.raises(ValueError, match=r"There are 1,500 images. Received: num_images=2000"):
            extract(classifier, digits, num_images=2000)
        with pytest.raises(ValueError, match="There are 0 images"):
            extract(classifier, [])

    def test_wrong_range_is_refused(self, classifier):
        with pytest.raises(ValueError, match="must be uint8"):
            classifier(noise(2) / 255.0)

    def test_wrong_shape_is_refused(self, classifier):
        with pytest.raises(ValueError, match=r"images of shape \(9, 8, 1\)"):
            classifier(noise(2, (9, 8, 1)))


class TestKerasExtractor:
    def test_output_layer_and_logits(self):
        model = small_model()
        images = noise(5)
        floats = images / 127.5 - 1
        extractor = KerasExtractor(model, layer="maps", logits="scores")
        features, logits = extractor(images)
        np.testing.assert_allclose(logits, model.predict(floats, verbose=0), atol=1e-5)
        maps = keras.Model(model.input, model.get_layer("maps").output)
        np.testing.assert_allclose(
            features, maps.predict(floats, verbose=0).mean((1, 2)), atol=1e-5
        )
        assert extractor.dimension == 5 and extractor.name == "keras small maps"
        assert KerasExtractor(model)(images).logits is None
        assert not extractor.inception

    def test_weights_name_the_weights(self):
        model = small_model()
        before = KerasExtractor(model).weights
        assert before == KerasExtractor(model).weights
        model.get_layer("scores").bias.assign([1.0, 2.0, 3.0])
        assert KerasExtractor(model).weights != before

    @pytest.mark.parametrize("channels,shape", [(3, (8, 8, 1)), (1, (8, 8, 3)), (3, (20, 13, 3))])
    def test_size_and_channels_are_fitted(self, channels, shape):
        extractor = KerasExtractor(small_model((8, 8, channels)))
        assert extractor(noise(3, shape)).features.shape == (3, 3)
        assert extractor.resize == "8x8 px, bicubic, antialiased"

    def test_own_preprocessing(self):
        import tensorflow as tf

        def tenths(images):
            return tf.cast(images, "float32") / 10

        extractor = KerasExtractor(small_model((None, None, 1)), preprocess=tenths)
        assert extractor.resize == "tenths"
        assert extractor(noise(3, (9, 10, 1))).features.shape == (3, 3)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"no such layer.*Received: layer='none'"):
            KerasExtractor(small_model(), "none")
        inputs = keras.Input((8, 3))
        with pytest.raises(ValueError, match="must have one input"):
            KerasExtractor(keras.Model(inputs, keras.layers.ReLU()(inputs)))
        inputs = keras.Input((8, 8, 3))
        with pytest.raises(ValueError, match="Features must be"):
            KerasExtractor(keras.Model(inputs, keras.layers.Reshape((64, 3))(inputs)))


class TestInceptionV3:
    @pytest.fixture(scope="class")
    @classmethod
    def full(cls):
        keras.utils.set_random_seed(0)
        return keras.applications.InceptionV3(weights=None)

    @pytest.fixture(scope="class")
    @classmethod
    def without_top(cls, full):
        model = keras.applications.InceptionV3(
            include_top=False, weights=None, input_shape=(75, 75, 3), pooling="avg"
        )
        model.set_weights(full.get_weights()[:-2])
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, full, tmp_path_factory):
        path = tmp_path_factory.mktemp("inception") / "random.weights.h5"
        full.save_weights(path)
        return path

    @pytest.fixture(scope="class")
    @classmethod
    def small(cls, weights):
        return InceptionV3(weights, size=75)

    def test_both_sizes(self, small, weights):
        large = InceptionV3(weights)
        assert small.weights == large.weights and small.name != large.name
        assert large.name == f"inception_v3 weights {large.weights[:12]}, avg_pool 2048, 299 px"
        assert (small.resize, large.resize) == (
            "75 px, bilinear, aliased",
            "299 px, bicubic, antialiased",
        )
        assert not large.inception  # random weights give no FID
        grey = noise(17, (28, 28, 1))
        features, logits = small(grey)
        assert features.shape == (17, 2048) and logits.shape == (17, 1000)
        rgb = small(np.repeat(grey, 3, axis=-1))
        np.testing.assert_array_equal(rgb.features, features)
        np.testing.assert_array_equal(small(grey[16:]).features, features[16:])

    def test_features_are_those_of_keras(self, small, without_top):
        images = noise(2, (75, 75, 3))
        inputs = keras.applications.inception_v3.preprocess_input(images.astype("float32"))
        np.testing.assert_allclose(small(images).features, without_top(inputs), atol=1e-5)

    def test_weights_without_top(self, small, without_top, tmp_path):
        path = tmp_path / "notop.weights.h5"
        without_top.save_weights(path)
        images = noise(1, (32, 32, 3))
        features, logits = InceptionV3(path, size=75)(images)
        assert logits is None
        np.testing.assert_array_equal(features, small(images).features)

    def test_shrinking_is_pillows(self):
        image = noise(1, (400, 500, 3))[0]
        found = extractors._resized(image[None].astype("float32"), (299, 299)).numpy()[0]
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype("float32"), mode="F")
            expected = np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC))
            np.testing.assert_allclose(found[..., channel], expected, atol=0.01)

    def test_errors_take_one_line(self, tmp_path, monkeypatch):
        def no_network(*args, **kwargs):
            raise Exception("URL fetch failure")

        monkeypatch.setattr(keras.utils, "get_file", no_network)
        with pytest.raises(RuntimeError, match=r"^Cannot download[^\n]*weights='imagenet'$"):
            InceptionV3()
        with pytest.raises(FileNotFoundError, match="Received: weights="):
            InceptionV3(tmp_path / "none.h5")
        with pytest.raises(ValueError, match="`size` must be 299 or 75"):
            InceptionV3(size=64)
        (tmp_path / "bad.h5").write_bytes(b"no weights")
        with pytest.raises(ValueError, match=r"no weights of InceptionV3.*'bad.h5'"):
            InceptionV3(tmp_path / "bad.h5", size=75)


class TestClassifier:
    def test_accuracy_and_record(self, classifier):
        assert classifier.accuracy > 0.93
        assert classifier.num_train == 1500 and classifier.num_held_out == 297
        assert classifier.name == f"keras_gen classifier digits {classifier.weights[:12]}"
        assert classifier.record()["accuracy"] == classifier.accuracy
        assert not classifier.inception

    def test_labels_and_accuracy(self, classifier, digits):
        images, labels = digits.take(200)
        predicted = classifier.predict_labels(images)
        assert predicted.dtype == np.int32 and predicted.shape == (200,)
        assert (predicted == labels).mean() == classifier.accuracy_on(images, labels)
        assert classifier.accuracy_on(digits) > 0.99

    def test_training_of_a_large_set_is_bounded(self):
        steps = extractors._num_steps(1_000_000, None) * extractors.BATCH_SIZE
        assert 240_000 <= steps < 242_000
        assert extractors._num_steps(60_000, None) * extractors.BATCH_SIZE == steps

    def test_no_feature_is_dead(self, classifier, digits):
        assert (extract(classifier, digits).features.std(0) > 1e-3).mean() > 0.9

    def test_same_seed_same_weights(self, digits):
        first, second, other = (
            train_extractor(digits, seed=seed, num_images_seen=2000, cache=False).weights
            for seed in (1, 1, 2)
        )
        assert first == second != other

    def test_same_weights_in_another_process(self, digits):
        code = (
            "from keras_gen import data; from keras_gen.metrics.extractors import train_extractor;"
            "print(train_extractor(data.load('digits'), num_images_seen=500, cache=False).weights)"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        here = train_extractor(digits, num_images_seen=500, cache=False).weights
        assert found.stdout.split()[-1] == here

    def test_policy_of_the_program_changes_nothing(self, digits):
        options = {"num_images_seen": 500, "cache": False}
        expected = train_extractor(digits, **options).weights
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert train_extractor(digits, **options).weights == expected

    def test_cache(self, digits, cache, monkeypatch):
        options = {"num_images_seen": 500}
        first = train_extractor(digits, **options)
        (file,) = (cache / "extractors").iterdir()
        images, labels = digits.take(len(digits))
        with monkeypatch.context() as patch:
            patch.setattr(extractors, "_train", None)  # nothing is trained again
            again = train_extractor((images, labels), **options)
            assert again.weights == first.weights and again.seconds == first.seconds
            assert again.accuracy == first.accuracy
        changed = images.copy()
        changed[0, 0, 0] += 1
        assert train_extractor((changed, labels), **options).weights != first.weights
        assert len(list((cache / "extractors").iterdir())) == 2
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.warns(UserWarning, match="damaged"):
            assert train_extractor(digits, **options).weights == first.weights
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train_extractor(digits, **options)

    @pytest.mark.parametrize(
        "shape", [(8, 8, 3), (28, 28, 1), (33, 20, 3), (64, 64, 3), (128, 96, 3), (300, 200, 1)]
    )
    def test_any_size(self, shape):
        images, labels = noise(24, shape), np.arange(24) % 3
        classifier = train_extractor((images, labels), num_images_seen=24, cache=False)
        features, logits = classifier(images)
        assert features.shape == (24, 64) and logits.shape == (24, 3)
        shrunk = max(shape) > extractors.MAX_SIDE
        assert classifier.resize == ("128x85 px, bicubic, antialiased" if shrunk else "none")

    def test_errors(self):
        with pytest.raises(ValueError, match="InceptionV3"):
            train_extractor(noise(20))
        with pytest.raises(ValueError, match="labels of two classes"):
            train_extractor((noise(20), np.zeros(20, int)))
        with pytest.raises(ValueError, match="at least 8 pixels"):
            train_extractor((noise(20, (6, 6, 1)), np.arange(20) % 2))


@pytest.mark.slow
def test_accuracy_on_real_data(shared_data):
    train, test = (
        data.load("mnist", split, data_dir=shared_data / "tfds")
        for split in ("train[:10000]", "test[:2000]")
    )
    classifier = train_extractor(train, held_out=test, num_images_seen=20_000, cache=False)
    assert classifier.accuracy >= 0.97  # 0.993 from all 60,000: docs/mnist_report.json
