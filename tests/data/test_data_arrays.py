"""Arrays, `.npz` files and the built-in digits."""

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import data


@pytest.fixture
def random_images():
    return np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)


def test_arrays_with_labels(random_images):
    labels = np.array([0, 3] * 6, np.int64)
    source = data.load((random_images, labels))
    assert source.image_shape == (9, 7, 3)
    assert (len(source), source.num_classes, source.class_names) == (12, 4, None)
    images, numbers = next(iter(source.batches(12, shuffle=False)))
    assert images.dtype == tf.float32 and numbers.dtype == tf.int32
    np.testing.assert_allclose(images, random_images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(numbers, labels)


def test_the_range_is_minus_one_to_one():
    images = np.stack([np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)])
    low, high = next(iter(data.load(images).batches(2, shuffle=False)))
    assert np.all(low == -1) and np.all(high == 1)


def test_images_alone_without_labels(random_images):
    source = data.load(random_images)
    assert source.num_classes is None and source.class_names is None
    assert source.batches(5).element_spec.shape[1:] == (9, 7, 3)
    assert source.take(2)[1] is None
    assert all(labels is None for _, labels in source.numpy_batches(5))
    unlabelled = data.load((random_images, np.zeros(12, int)), label=False)
    assert unlabelled.num_classes is None


def test_grey_images_of_rank_three(random_images):
    assert data.load(random_images[..., 0]).image_shape == (9, 7, 1)


def test_class_names(random_images):
    source = data.load((random_images, np.zeros(12, int)), class_names=["a", "b"])
    assert (source.num_classes, source.class_names) == (2, ["a", "b"])
    with pytest.raises(ValueError, match="below 2"):
        data.load((random_images, np.full(12, 2)), class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"class_names.*needs labels"):
        data.load(random_images, class_names=["a"])
    with pytest.raises(ValueError, match="Received: class_names="):
        data.load("digits", class_names=["a"])
    for wrong in ("ab", [], [1, 2]):
        with pytest.raises(ValueError, match="list of strings"):
            data.load((random_images, np.zeros(12, int)), class_names=wrong)


def test_labels_of_shape_n_1_as_keras_gives_them(random_images):
    labels = np.arange(12)[:, None] % 3
    np.testing.assert_array_equal(data.load((random_images, labels)).take(12)[1], labels[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, bool])
def test_other_types_than_uint8_are_refused_with_their_range(random_images, dtype):
    with pytest.raises(ValueError, match=r"uint8.*Received: .*values in \["):
        data.load((random_images // 128).astype(dtype))


def test_the_recipe_in_the_error_is_right(random_images):
    floats = random_images / 255
    np.testing.assert_array_equal(np.round(floats * 255).astype("uint8"), random_images)
    floats = random_images / 127.5 - 1
    np.testing.assert_array_equal(np.round((floats + 1) * 127.5).astype("uint8"), random_images)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (2, 4, 4, 2), (2, 3, 8, 8), (1, 2, 4, 4, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"Received: images of shape="):
        data.load(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4, 1)])
def test_no_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"no images.*Received: images of shape="):
        data.load(np.zeros(shape, np.uint8))


def test_arrays_of_several_sizes_are_refused():
    images = [np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.uint8)]
    with pytest.raises(ValueError, match=r"one size.*\(4, 4\), \(5, 4\)"):
        data.load(images)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.zeros(11, int), "12 images and 11 labels"),
        (np.zeros(12), "integers"),
        (np.full(12, -1), "negative"),
        (np.eye(12, dtype=int), "argmax"),
        (np.array(["cat"] * 12), "integers"),
        (np.int64(3), "one class number an image"),
        (np.full(12, 2**40), "below"),
        ([[0], [1, 2]] * 6, "integers"),
    ],
)
def test_wrong_labels_are_refused(random_images, labels, problem):
    with pytest.raises(ValueError, match=rf"{problem}(.|\n)*Received: labels of shape="):
        data.load((random_images, labels))


def test_a_tuple_of_three_is_refused(random_images):
    with pytest.raises(ValueError, match="tuple of 3"):
        data.load((random_images, random_images, random_images))


def test_an_array_is_not_copied(random_images):
    source = data.load(random_images)
    random_images[0] = 77  # shows through, where a copy would not
    np.testing.assert_array_equal(source.take(1)[0], random_images[:1])


def test_the_images_are_not_in_the_graph():
    images = np.zeros((4000, 32, 32, 3), np.uint8)
    dataset = data.load(images).batches(10)
    graph = dataset._as_serialized_graph(
        external_state_policy=tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    assert len(graph.numpy()) < 100_000


def test_centre_crop_keeps_the_aspect():
    image = np.zeros((1, 8, 16, 1), np.uint8)
    image[:, :, 4:12] = 200  # the centre square
    square = data.load(image, image_size=4).take(1)[0]
    np.testing.assert_array_equal(square, np.full((1, 4, 4, 1), 200))
    assert data.load(image, image_size=(2, 6)).image_shape == (2, 6, 1)
    tall = data.load(image.transpose(0, 2, 1, 3), image_size=4).take(1)[0]
    np.testing.assert_array_equal(tall, square)


def test_shrinking_is_antialiased():
    board = (np.indices((1, 64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = data.load(board, image_size=8).take(1)[0].astype(int)
    assert np.abs(small - 127.5).max() < 8  # without a filter the values would be 0 or 255


def test_the_same_size_changes_nothing(random_images):
    np.testing.assert_array_equal(
        data.load(random_images, image_size=(9, 7)).take(12)[0], random_images
    )


def test_channels_are_converted(random_images):
    grey = data.load(random_images, channels=1)
    luma = random_images @ np.array([0.299, 0.587, 0.114])
    assert grey.image_shape == (9, 7, 1)
    assert np.abs(grey.take(12)[0][..., 0] - luma).max() <= 0.51
    coloured = data.load(random_images[..., :1], channels=3)
    np.testing.assert_array_equal(
        coloured.take(12)[0], np.repeat(random_images[..., :1], 3, axis=-1)
    )


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 4, 3), 2.5, "64", True, (8, 0), (9000, 9000)])
def test_wrong_image_sizes_are_refused(random_images, size):
    with pytest.raises(ValueError, match=r"Received: image_size="):
        data.load(random_images, image_size=size)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": 4},
        {"on_error": "ignore"},
        {"memory_limit": -1},
        {"split": "test"},
        {"label": "Smiling"},
    ],
)
def test_other_wrong_arguments_are_refused(random_images, arguments):
    with pytest.raises(ValueError, match=f"Received: {next(iter(arguments))}="):
        data.load(random_images, **arguments)


@pytest.mark.parametrize(
    ("images_key", "labels_key"), [("images", "labels"), ("x", "y"), ("arr_0", "arr_1")]
)
def test_npz(tmp_path, random_images, images_key, labels_key):
    labels = np.arange(12) % 5
    np.savez(tmp_path / "set.npz", **{images_key: random_images, labels_key: labels})
    source = data.load(tmp_path / "set.npz")
    np.testing.assert_array_equal(source.take(12)[0], random_images)
    np.testing.assert_array_equal(source.take(12)[1], labels)
    assert source.num_classes == 5
    assert data.load(str(tmp_path / "set.npz"), label=False).num_classes is None


def test_npz_with_the_splits_of_keras(tmp_path, random_images):
    np.savez_compressed(
        tmp_path / "mnist.npz",
        x_train=random_images[:8],
        y_train=np.arange(8),
        x_test=random_images[8:],
        y_test=np.arange(4),
    )
    assert len(data.load(tmp_path / "mnist.npz")) == 8
    test = data.load(tmp_path / "mnist.npz", split="test")
    np.testing.assert_array_equal(test.take(4)[0], random_images[8:])
    with pytest.raises(ValueError, match=r"'train', 'test'. Received: split='valid'"):
        data.load(tmp_path / "mnist.npz", split="valid")


def test_npy(tmp_path, random_images):
    np.save(tmp_path / "set.npy", random_images)
    assert len(data.load(tmp_path / "set.npy")) == 12


def test_broken_npz_files_are_refused(tmp_path, random_images):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    np.savez(tmp_path / "whole.npz", images=random_images)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    np.savez(tmp_path / "objects.npz", images=np.array([None, 1], object))
    for name in ("junk", "cut", "objects"):
        with pytest.raises(ValueError, match=rf"Received: source='.*{name}.npz'"):
            data.load(tmp_path / f"{name}.npz")


def test_npz_with_other_keys_is_refused(tmp_path, random_images):
    np.savez(tmp_path / "set.npz", pictures=random_images)
    with pytest.raises(ValueError, match=r"images, x, arr_0.*keys=\['pictures'\]"):
        data.load(tmp_path / "set.npz")


def test_numpy_batches_in_the_order_of_take():
    source = data.load("digits")
    expected, labels = source.take(1500, seed=3)
    batches = list(source.numpy_batches(400, seed=3))
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([part for _, part in batches]), labels)
    with pytest.raises(ValueError, match=r"seed=0\.5"):
        next(source.numpy_batches(400, seed=0.5))


def test_digits():
    train, test, everything = (data.load("digits", split=s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(everything)) == (1500, 297, 1797)
    assert everything.image_shape == (8, 8, 1)
    assert everything.class_names == list("0123456789") and everything.num_classes == 10
    images, labels = everything.take(1797)
    np.testing.assert_array_equal(images[:1500], train.take(1500)[0])
    np.testing.assert_array_equal(images[1500:], test.take(297)[0])
    assert np.bincount(test.take(297)[1]).min() >= 27
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.testing.assert_array_equal(labels, digits.target)
    np.testing.assert_array_equal(images[..., 0], np.floor(digits.images * 255 / 16 + 0.5))
    with pytest.raises(ValueError, match=r"'train', 'test', 'all'. Received: split='valid'"):
        data.load("digits", split="valid")


def test_digits_may_be_resized_and_coloured():
    assert data.load("digits", image_size=32, channels=3).image_shape == (32, 32, 3)


def test_unknown_sources(tmp_path):
    with pytest.raises(ValueError, match=r"'mnist'.*Received: source='mnst'"):
        data.load("mnst")
    with pytest.raises(ValueError, match=r"Received: source=''$"):
        data.load("")
    for missing in (tmp_path / "none", f"{tmp_path}/none", "./none", "none.npz", "~/a", "no/x y"):
        with pytest.raises(FileNotFoundError, match="Received: source="):
            data.load(missing)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"npz.*Received: source="):
        data.load(tmp_path / "notes.txt")
    for nothing in (None, 3):
        with pytest.raises(ValueError, match="Received: images of shape="):
            data.load(nothing)
