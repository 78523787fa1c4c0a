"""The order of the batches: a function of (seed, epoch)."""

import collections
import gc

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import data
from keras_gen.data.epochs import permutation


def passes(dataset, count=1):
    """The labels of `count` passes, in order."""
    return [np.concatenate([labels.numpy() for _, labels in dataset]) for _ in range(count)]


def at(source, epoch, **arguments):
    """The labels of one epoch as a resumed run sees them."""
    dataset = source.batches(8, **arguments)
    data.epochs_of(dataset).counting = False
    data.epochs_of(dataset).next = epoch
    return passes(dataset)[0]


@pytest.fixture(params=["array", "folder", "tfds"])
def source(request, numbered, save, tmp_path):
    """Thirty images, each with a label of its own, from each kind of source."""
    images, labels = numbered(30)
    if request.param == "array":
        return data.load((images, labels))
    if request.param == "folder":
        for image, label in zip(images, labels):
            save(tmp_path / f"{label:02}" / "x.png", image[..., 0])
        return data.load(tmp_path, memory_limit=0)
    from data_tools import numbered_builder

    numbered_builder(tmp_path, 30)
    return data.load("numbered", data_dir=tmp_path, memory_limit=0)


def test_every_epoch_is_a_permutation_and_epochs_differ(source):
    first, second = passes(source.batches(8), 2)
    assert sorted(first) == sorted(second) == list(range(30))
    assert list(first) != list(second)
    assert list(first) != list(range(30))


def test_the_image_stays_with_its_label(source):
    for images, labels in source.batches(8):
        expected = labels.numpy().reshape(-1, 1, 1, 1) / 127.5 - 1
        np.testing.assert_allclose(images, np.broadcast_to(expected, images.shape), atol=1e-6)


def test_the_order_is_a_function_of_seed_and_epoch(source):
    first = passes(source.batches(8, seed=5), 3)
    again = passes(source.batches(8, seed=5), 3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(at(source, 2, seed=5), first[2])
    assert list(passes(source.batches(8, seed=6))[0]) != list(first[0])


def test_the_global_seed_of_tensorflow_does_not_matter(source):
    tf.random.set_seed(1)
    first = passes(source.batches(8))
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, passes(source.batches(8)))


def test_a_run_resumes_inside_an_epoch(source):
    dataset = source.batches(8, seed=1)
    epochs = data.epochs_of(dataset)
    epochs.counting = False
    epochs.next = 4
    whole = passes(dataset)[0]
    np.testing.assert_array_equal(passes(dataset.skip(2))[0], whole[16:])


def test_without_shuffling_every_epoch_has_the_order_of_the_source(source):
    for labels in passes(source.batches(8, shuffle=False), 2):
        np.testing.assert_array_equal(labels, range(30))


def test_the_length_is_known_and_the_remainder_may_be_dropped(source):
    assert len(source.batches(8)) == 4
    assert [len(labels) for _, labels in source.batches(8)] == [8, 8, 8, 6]
    dropped = source.batches(8, drop_remainder=True)
    assert len(dropped) == 3
    assert [len(labels) for _, labels in dropped] == [8, 8, 8]
    assert dropped.element_spec[0].shape == (8, 4, 4, 1)


def test_repeat_begins_new_epochs(source):
    repeated = passes(source.batches(10).repeat(2))[0]
    np.testing.assert_array_equal(repeated, np.concatenate(passes(source.batches(10), 2)))
    assert list(repeated[:30]) != list(repeated[30:])


def test_the_counter_is_found_behind_other_steps(source):
    dataset = source.batches(8)
    later = dataset.map(lambda images, labels: labels).prefetch(1).repeat()
    assert data.epochs_of(later) is data.epochs_of(dataset) is dataset.epochs
    assert data.epochs_of(tf.data.Dataset.range(3)) is None
    assert data.epochs_of("no dataset") is None


def test_looking_does_not_count_while_counting_is_off(source):
    dataset = source.batches(8)
    epochs = data.epochs_of(dataset)
    epochs.counting = False
    first, second = passes(dataset, 2)
    np.testing.assert_array_equal(first, second)
    assert epochs.next == 0


def test_an_iterator_outlives_its_dataset(source):
    gc.freeze()  # the graphs of other tests, to go through which takes long
    iterator = iter(source.batches(8))
    gc.collect()
    gc.unfreeze()
    assert sum(len(labels) for _, labels in iterator) == 30


@pytest.mark.parametrize("inside_scope", [True, False])
def test_two_replicas_share_each_batch(source, inside_scope, two_replicas):
    strategy = two_replicas
    if inside_scope:
        with strategy.scope():
            dataset = source.batches(8, seed=3)
    else:
        dataset = source.batches(8, seed=3)
    expected = passes(source.batches(8, seed=3), 2)
    distributed = strategy.experimental_distribute_dataset(dataset)
    for epoch in range(2):
        seen = []
        for _, labels in distributed:
            values = strategy.experimental_local_results(labels)
            assert len(values) == 2
            seen += [value.numpy() for value in values]
        np.testing.assert_array_equal(np.concatenate(seen), expected[epoch])


def test_permutations_are_uniform():
    """Each of the 24 permutations of 4 comes up as often, within 5 standard deviations."""
    orders = tf.data.Dataset.range(4800).map(lambda epoch: permutation(4, 7, epoch)).batch(4800)
    counts = collections.Counter(map(tuple, next(iter(orders)).numpy()))
    assert len(counts) == 24
    assert max(abs(count - 200) for count in counts.values()) < 5 * np.sqrt(200)


def test_permutations_of_neighbouring_seeds_and_epochs_are_unrelated():
    orders = [permutation(1500, s, e).numpy() for s in (-1, 0, 1, 2**40) for e in (0, 1, 64)]
    correlations = np.corrcoef(orders) - np.eye(len(orders))
    assert np.abs(correlations).max() < 5 / np.sqrt(1500)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, None, "8"])
def test_a_wrong_batch_size_is_refused(source, batch_size):
    with pytest.raises(ValueError, match=r"Received: batch_size="):
        source.batches(batch_size)


def test_a_batch_larger_than_the_set(source):
    assert [len(labels) for _, labels in source.batches(64)] == [30]
    with pytest.raises(ValueError, match=r"30 images. Received: batch_size=64"):
        source.batches(64, drop_remainder=True)


@pytest.mark.parametrize("seed", [0.5, "1", None, 2**63])
def test_a_wrong_seed_is_refused(source, seed):
    with pytest.raises(ValueError, match=f"Received: seed={seed!r}"):
        source.batches(8, seed=seed)


def test_take_and_numpy_batches(source):
    images, labels = source.take(5)
    np.testing.assert_array_equal(labels, range(5))
    assert images.dtype == np.uint8 and images.shape == (5, 4, 4, 1)
    some, numbers = source.take(12, seed=1)
    np.testing.assert_array_equal(some[:, 0, 0, 0], numbers)
    assert len(set(numbers)) == 12
    assert list(numbers) != list(range(12))
    np.testing.assert_array_equal(numbers, source.take(12, seed=1)[1])
    for wrong in (0, 31, "5"):
        with pytest.raises(ValueError, match=f"Received: num_images={wrong!r}"):
            source.take(wrong)
    batches = list(source.numpy_batches(8))
    assert [len(images) for images, _ in batches] == [8, 8, 8, 6]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), range(30))
    assert all(images.dtype == np.uint8 for images, _ in batches)


def test_fit_sees_the_same_epochs(source):
    """Keras's own `fit` takes one pass an epoch, over a dataset of this kind."""
    import keras

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(30)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(source.batches(8), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    assert model.optimizer.iterations == 8
