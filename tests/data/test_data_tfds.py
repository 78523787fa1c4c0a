"""TFDS sets: real ones, small ones made here, and mock data for what cannot be had offline."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from data_tools import make_builder, numbered_builder

from keras_gen import data


def image_feature(*shape):
    return tfds.features.Image(shape=shape)


def test_mnist(tfds_dir):
    source = data.load("mnist", split="test", data_dir=tfds_dir)
    assert (len(source), source.image_shape, source.num_classes) == (10_000, (28, 28, 1), 10)
    assert source.class_names == list("0123456789") and source.in_memory
    first = next(iter(tfds.load("mnist", split="test", data_dir=tfds_dir, download=False)))
    images, labels = source.take(1)
    np.testing.assert_array_equal(images[0], first["image"])
    assert labels[0] == first["label"]


def test_the_environment_names_the_folder(tfds_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    assert len(data.load("fashion_mnist", split="test[:10%]")) == 1000


def test_jpeg_is_decoded_accurately(tfds_dir):
    """The published mean of CIFAR-10; TensorFlow's default gives (0.487, 0.482, 0.441)."""
    source = data.load("cifar10", data_dir=tfds_dir)
    total = sum(images.sum((0, 1, 2), dtype=np.int64) for images, _ in source.numpy_batches(5000))
    mean = total / (len(source) * 32 * 32 * 255)
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-4)


def test_streamed_is_the_same_as_held_in_memory(tfds_dir):
    arguments = {"split": "train[:3%]", "data_dir": tfds_dir, "image_size": (20, 24)}
    kept = data.load("cifar10", **arguments)
    streamed = data.load("cifar10", memory_limit=0, **arguments)
    assert (kept.in_memory, streamed.in_memory, len(kept), len(streamed)) == (
        True,
        False,
        1500,
        1500,
    )
    for left, right in zip(kept.take(1500), streamed.take(1500)):
        np.testing.assert_array_equal(left, right)


def test_streamed_in_a_seeded_order(tfds_dir):
    source = data.load("mnist", "test[:300]", data_dir=tfds_dir, memory_limit=0)
    images, labels = (np.concatenate(part) for part in zip(*source.numpy_batches(64, seed=1)))
    expected = source.take(300, seed=1)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
    assert (labels != source.take(300)[1]).any()


def test_no_iterator_waits_for_the_tuner(tfds_dir, monkeypatch):
    tuned, iterate = [], tf.data.Dataset.as_numpy_iterator

    def seen(dataset):
        tuned.append(dataset.options().autotune.enabled)
        return iterate(dataset)

    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", seen)
    source = data.load("mnist", "test[:300]", data_dir=tfds_dir, memory_limit=0)
    source.take(3, seed=1)
    for seed in (None, 1):
        next(source.numpy_batches(64, seed=seed))
    assert tuned == [False] * 3


def test_slices_and_all(tfds_dir):
    lengths = {
        split: len(data.load("mnist", split=split, data_dir=tfds_dir, memory_limit=0))
        for split in ("train", "train[:10%]", "test[100:150]", "train+test", "all")
    }
    assert lengths == {
        "train": 60_000,
        "train[:10%]": 6000,
        "test[100:150]": 50,
        "train+test": 70_000,
        "all": 70_000,
    }


@pytest.mark.parametrize("split", ["valid", "train[:", "train[:0]"])
def test_a_wrong_split_is_refused(tfds_dir, split):
    with pytest.raises(ValueError, match=r"'train', 'test', 'all'(.|\n)*Received: split="):
        data.load("mnist", split=split, data_dir=tfds_dir)


@pytest.mark.parametrize("name", ["mnist:9.9.9", "mnist/none", "cycle_gan/none"])
def test_a_wrong_version_or_configuration_is_refused(name):
    with pytest.raises(ValueError, match=rf"Received: source='{name}'"):
        data.load(name)


def test_a_prepared_set_is_not_downloaded(tfds_dir, monkeypatch):
    def no_download(*_, **__):
        raise AssertionError("downloaded")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_download)
    assert len(data.load("mnist", split="test", data_dir=tfds_dir)) == 10_000


def test_a_failed_download_gives_one_error(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(RuntimeError, match=r"no route to host(.|\n)*`data_dir`.*'mnist'"):
        data.load("mnist", data_dir=tmp_path)


def test_a_set_that_is_not_prepared_is_downloaded(tmp_path, monkeypatch):
    asked = []

    def download(builder, **_):
        asked.append(builder.name)
        raise ConnectionError

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    with pytest.raises(RuntimeError):
        data.load("mnist", data_dir=tmp_path)
    assert asked == ["mnist"]


def test_celeb_a():
    with tfds.testing.mock_data(num_examples=6):
        source = data.load("celeb_a", image_size=64)
        assert (len(source), source.image_shape) == (6, (64, 64, 3))
        assert source.num_classes is None
        smiling = data.load("celeb_a", image_size=64, label="Smiling", memory_limit=0)
        assert smiling.class_names == ["not Smiling", "Smiling"]
        images, labels = next(iter(smiling.batches(6)))
        assert images.shape == (6, 64, 64, 3) and set(labels.numpy()) <= {0, 1}
        by_path = data.load("celeb_a", label="attributes/Male")
        assert by_path.image_shape == (218, 178, 3) and by_path.num_classes == 2
        with pytest.raises(ValueError, match=r"attributes/Smiling.*Received: label='Smile'"):
            data.load("celeb_a", label="Smile")


def test_imagenet():
    with tfds.testing.mock_data(num_examples=6):
        for memory_limit in (0, 2**30):
            source = data.load("imagenet2012", image_size=32, memory_limit=memory_limit)
            assert (source.image_shape, source.num_classes) == ((32, 32, 3), 1000)
            assert source.class_names[0] == "n01440764"
            images, labels = next(iter(source.batches(6)))
            assert images.shape == (6, 32, 32, 3) and labels.dtype == tf.int32
        with pytest.raises(ValueError, match=r"\(1 images\).*Give `image_size`"):
            data.load("imagenet2012")


def test_oxford_flowers():
    with tfds.testing.mock_data(num_examples=4):
        source = data.load("oxford_flowers102", split="test", image_size=(16, 24), channels=1)
        assert (source.image_shape, source.num_classes) == ((16, 24, 1), 102)


def test_the_crop_is_central(tmp_path):
    """As celeb_a: 218 high and 178 wide gives the 178 rows from the 20th."""
    image = np.zeros((218, 178, 3), np.uint8)
    image[20:198] = 255
    make_builder(tmp_path, "faces", [{"image": image}], {"image": image_feature(218, 178, 3)})
    images, labels = data.load("faces", data_dir=tmp_path, image_size=64).take(1)
    assert labels is None
    np.testing.assert_array_equal(images, np.full((1, 64, 64, 3), 255))


def test_nested_labels_are_read_right(tmp_path):
    examples = [
        {"image": np.full((2, 2, 1), i, np.uint8), "attributes": {"Odd": bool(i % 2), "Low": i < 3}}
        for i in range(6)
    ]
    features = {"image": image_feature(2, 2, 1), "attributes": {"Odd": np.bool_, "Low": np.bool_}}
    make_builder(tmp_path, "faces", examples, features)
    for memory_limit in (0, 2**30):
        source = data.load("faces", data_dir=tmp_path, label="Odd", memory_limit=memory_limit)
        np.testing.assert_array_equal(source.take(6)[1], [0, 1, 0, 1, 0, 1])
    assert data.load("faces", data_dir=tmp_path).num_classes is None


def test_transparent_images_are_composited_on_white(tmp_path):
    image = np.array([[(10, 20, 30, 255), (10, 20, 30, 0)]], np.uint8)
    make_builder(tmp_path, "clear", [{"image": image}], {"image": image_feature(1, 2, 4)})
    images, _ = data.load("clear", data_dir=tmp_path).take(1)
    np.testing.assert_array_equal(images, [[[(10, 20, 30), (255, 255, 255)]]])


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_an_open_size_is_learnt_if_it_is_the_same_for_all(tmp_path, memory_limit):
    examples = [{"image": np.full((5, 6, 3), i, np.uint8)} for i in range(3)]
    make_builder(tmp_path, "open", examples, {"image": image_feature(None, None, 3)})
    assert data.load("open", data_dir=tmp_path, memory_limit=memory_limit).image_shape == (5, 6, 3)


def test_a_size_that_differs_late_is_an_error(tmp_path):
    examples = [{"image": np.zeros((5 + (i > 150), 6, 3), np.uint8)} for i in range(160)]
    make_builder(tmp_path, "late", examples, {"image": image_feature(None, None, 3)})
    with pytest.raises(ValueError, match=r"`image_size`(.|\n)*Received: source='late'"):
        data.load("late", data_dir=tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(data.load("late", data_dir=tmp_path, memory_limit=0).batches(8, shuffle=False))
    assert len(list(data.load("late", data_dir=tmp_path, image_size=4).batches(160))) == 1


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_labels_that_are_not_known_are_refused(tmp_path, memory_limit):
    """As the test split of imagenet2012, whose labels are -1."""
    examples = [{"image": np.zeros((2, 2, 1), np.uint8), "label": -1}]
    features = {
        "image": image_feature(2, 2, 1),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    make_builder(tmp_path, "hidden", examples, features)
    with pytest.raises(ValueError, match=r"`label=False`.*labels in \[-1, -1\]"):
        data.load("hidden", data_dir=tmp_path, memory_limit=memory_limit)
    assert len(data.load("hidden", data_dir=tmp_path, label=False)) == 1


def test_an_image_by_another_name(tmp_path):
    make_builder(
        tmp_path,
        "named",
        [{"photo": np.zeros((2, 2, 1), np.uint8)}],
        {"photo": image_feature(2, 2, 1)},
    )
    assert len(data.load("named", data_dir=tmp_path)) == 1


def test_a_set_without_images_is_refused(tmp_path):
    make_builder(tmp_path, "text", [{"words": "none"}], {"words": tfds.features.Text()})
    with pytest.raises(ValueError, match=r"`image`.*Received: source='text'.*words"):
        data.load("text", data_dir=tmp_path)


def test_a_name_means_tfds_and_a_path_the_folder(tmp_path, save, monkeypatch):
    numbered_builder(tmp_path / "sets", 7)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "numbered" / "a.png", np.zeros((4, 4), np.uint8))
    assert len(data.load("numbered", data_dir="sets")) == 7
    assert len(data.load("./numbered")) == 1


def test_tfds_is_not_imported_before_it_is_needed():
    import subprocess
    import sys

    code = "import sys, keras_gen.data; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
