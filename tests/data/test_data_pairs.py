import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen.data.pairs import augmented


def wide(count, channels=1):
    """Grey 4x4 images side by side: image i is all i on the left, all 100 + i on the right."""
    values = np.stack([np.arange(count), 100 + np.arange(count)], 1).astype(np.uint8)
    images = values.repeat(4, 1)[:, None, :, None]
    return np.broadcast_to(images, (count, 4, 8, channels)).copy()


def levels(images):
    return np.round((np.asarray(images) + 1) * 127.5).astype(int)[:, 0, 0, 0]


def passes(source, count, **arguments):
    batches = source.batches(4, **arguments)
    return [
        [np.concatenate([levels(b[kind]) for b in epoch]) for kind in (0, 1)]
        for epoch in ([tuple(b) for b in batches] for _ in range(count))
    ]


def test_pairs_stay_together_in_every_order():
    source = kg.data.pairs(wide(11))
    assert source.image_shape == (4, 4, 1) and len(source) == 11 and source.num_classes is None
    one, two = passes(source, 2, seed=3)
    for inputs, targets in (one, two):
        np.testing.assert_array_equal(targets, inputs + 100)
        np.testing.assert_array_equal(np.sort(inputs), range(11))
    assert (one[0] != two[0]).any()
    np.testing.assert_array_equal(passes(source, 2, seed=3), [one, two])
    assert (passes(source, 1, seed=4)[0][0] != one[0]).any()
    np.testing.assert_array_equal(passes(source, 1, shuffle=False)[0][0], range(11))
    for images in (source.take(5), source.take(5, seed=0), next(source.numpy_batches(5))):
        assert [x.shape for x in images] == [(5, 4, 4, 1)] * 2 and images[0].dtype == np.uint8
        np.testing.assert_array_equal(images[1], images[0] + 100)


def test_pairs_from_the_other_side_and_from_two_arrays():
    inputs, targets = wide(5)[:, :, :4], wide(5)[:, :, 4:]
    for source in (kg.data.pairs(wide(5), swap=True), kg.data.pairs(targets, inputs)):
        first, second = source.take(5)
        np.testing.assert_array_equal(first, targets)
        np.testing.assert_array_equal(second, inputs)


def test_a_batch_of_pairs_is_one_of_a_data_set():
    batches = kg.data.pairs(wide(11, 3)).batches(4, drop_remainder=True)
    assert len(batches) == 2
    assert batches.element_spec == (tf.TensorSpec((4, 4, 4, 3), tf.float32),) * 2
    assert kg.data.epochs_of(batches) is not None


def test_folders_are_matched_by_name(tmp_path, save):
    for i in (3, 1, 2):
        save(tmp_path / "photos" / f"{i}.png", np.full((4, 6), i, np.uint8))
        save(tmp_path / "maps" / f"{i}.bmp", np.full((4, 6), 10 * i, np.uint8))
        save(tmp_path / "both" / "train" / f"{i}.png", np.full((8, 16), i, np.uint8))
    folders = tmp_path / "photos", tmp_path / "maps"
    for limit in (0, 2**20):  # streamed, in memory
        source = kg.data.pairs(*folders, memory_limit=limit)
        first, second = source.take(3)
        assert first[:, 0, 0, 0].tolist() == [1, 2, 3]
        np.testing.assert_array_equal(second, 10 * first)
        assert source.in_memory == (limit > 0)
    assert kg.data.pairs(tmp_path / "both", image_size=4).image_shape == (4, 4, 1)
    assert kg.data.pairs(tmp_path / "both", image_size=(4, 8)).image_shape == (4, 8, 1)
    with pytest.raises(ValueError, match=r"cropped alike.*Received: .*\(8, 4\) of images \(8, 8\)"):
        kg.data.pairs(tmp_path / "both", image_size=(8, 4))
    with pytest.raises(ValueError, match="on_error='skip'"):
        kg.data.pairs(*folders, on_error="skip")
    save(tmp_path / "maps" / "4.bmp", np.full((4, 6), 1, np.uint8))
    with pytest.raises(ValueError, match=r"none in .*photos, 4 in .*maps"):
        kg.data.pairs(*folders)


def test_unpaired_images_are_shuffled_apart_and_the_smaller_set_begins_again():
    a, b = wide(12)[:, :, :4], wide(5)[:, :, 4:]
    source = kg.data.unpaired(a, b)
    assert len(source) == 12
    one, two = passes(source, 2, seed=0)
    for first, second in (one, two):
        np.testing.assert_array_equal(np.sort(first), range(12))
        assert set(second) == set(range(100, 105))
        assert sorted(np.bincount(second - 100)) == [2, 2, 2, 3, 3]
    assert (one[1] != two[1]).any()
    np.testing.assert_array_equal(passes(source, 2, seed=0), [one, two])
    equal = passes(kg.data.unpaired(a, a + 100), 1, seed=0)[0]
    assert (equal[1] != equal[0] + 100).any()
    assert [len(x) for x in source.take(12)] == [12, 12]


def gradual(count=64, size=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def test_both_of_a_pair_are_flipped_and_jittered_alike():
    images = gradual()
    source = kg.data.pairs(images, 255 - images, flip=True, jitter=2)
    batches = source.batches(64, seed=1)
    (first, second), (other, _) = next(iter(batches)), next(iter(batches))
    np.testing.assert_allclose(second, -first, atol=1e-5)
    assert np.abs(other - first).max() > 0.1
    kg.data.epochs_of(batches).next = 0
    np.testing.assert_array_equal(next(iter(batches))[0], first)
    np.testing.assert_array_equal(source.take(4)[0], images[:4])
    free = kg.data.unpaired(images, images, flip=True, jitter=2)
    a, b = next(iter(free.batches(64, shuffle=False)))
    assert 0.2 < np.mean(np.abs(a - b).max((1, 2, 3)) > 1e-5) <= 1


def test_augmentation_against_numpy():
    images = gradual(6).astype("float32")
    draws = np.array([[0, 0, 0.9], [0.99, 0, 0.9], [0, 0.99, 0.1], [0.5, 0.5, 0.1]] * 2)[:6]
    plain = augmented(images, draws.astype("float32"), flip=False, jitter=0)
    np.testing.assert_array_equal(plain, images)
    mirrored = augmented(images, draws.astype("float32"), flip=True, jitter=0)
    np.testing.assert_array_equal(mirrored[2], images[2, :, ::-1])
    np.testing.assert_array_equal(mirrored[0], images[0])
    jitter, side = 3, 8
    made = augmented(images, draws.astype("float32"), flip=True, jitter=jitter).numpy()
    larger = tf.image.resize(images, [side + jitter] * 2).numpy()
    for image, draw, result in zip(larger, draws, made):
        top, left = (int(d * (jitter + 1)) for d in draw[:2])
        expected = image[top : top + side, left : left + side]
        expected = expected[:, ::-1] if draw[2] < 0.5 else expected
        np.testing.assert_allclose(result, expected, atol=1e-3)


def test_masked_images_have_a_hole_and_are_whole_again():
    images = np.maximum(gradual(20), 1)
    images[images == 128] = 127
    whole = kg.data.load(images)
    source = kg.data.masked(whole, fraction=0.5, seed=2)
    holed, targets = source.take(20)
    np.testing.assert_array_equal(targets, images)
    hidden = holed != images
    assert (hidden.sum((1, 2, 3)) == 16).all() and (holed[hidden] == 128).all()
    assert len(np.unique(hidden, axis=0)) > 5
    np.testing.assert_array_equal(kg.data.masked(whole, seed=2).take(20)[0], holed)
    assert (kg.data.masked(whole, seed=3).take(20)[0] != holed).any()
    middle = kg.data.masked(whole, 0.25, anywhere=False).take(20)[0] != images
    assert middle[:, 3:5, 3:5].all() and middle.sum() == 20 * 4


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: kg.data.pairs(wide(3)[:, :, :7]), "even width"),
        (lambda: kg.data.pairs(wide(3), wide(4)), "3 inputs and 4 targets"),
        (lambda: kg.data.pairs(wide(3), wide(3, 3)), r"\(4, 8, 1\) and \(4, 8, 3\)"),
        (lambda: kg.data.unpaired(wide(3), wide(3)[:, :2]), "same shape"),
        (lambda: kg.data.pairs(wide(3), jitter=-1), "jitter=-1"),
        (lambda: kg.data.masked(kg.data.load(wide(3)), 1.0), r"fraction=1\.0"),
        (lambda: kg.data.masked(kg.data.Source("s", 3, (4, 4, 1))), "in memory"),
    ],
)
def test_what_does_not_fit_is_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_the_emoji_are_pairs(shared_data):
    source = kg.data.pairs(shared_data / "images" / "emoji_pairs", split="test")
    assert len(source) == 276 and source.image_shape == (64, 64, 3)


def test_a_source_is_not_loaded_anew():
    source = kg.data.load(np.zeros((4, 8, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"image_size.*Received: "):
        kg.data.pairs(source, image_size=4)
    with pytest.raises(ValueError, match=r"split.*Received: "):
        kg.data.unpaired(source, source, split="test")
