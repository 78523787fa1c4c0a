"""The order of a data set as a function of (seed, epoch), so that a killed run resumes exactly."""

import numpy as np
import tensorflow as tf

_FIXED_GRAPH_SEED = 87654321  # TensorFlow's own default


class Epochs:
    """Numbers the passes over a dataset.

    Every pass asks for its number with `start()`. While `counting`, passes are numbered 0, 1, 2 ...
    A training loop that knows its epoch sets `counting = False` and `next = epoch` instead; then
    looking into the dataset (to build a model, to draw a grid) changes nothing.

    The fields are plain Python values, not variables: a distribution strategy cannot mirror them.
    """

    def __init__(self):
        self.next = 0
        self.counting = True

    def start(self):
        """Returns the number of the pass that begins now, as `np.int64`."""
        epoch = self.next
        if self.counting:
            self.next += 1
        return np.int64(epoch)


def epochs_of(dataset):
    """The `Epochs` of a dataset made by `Source.batches`, or of what it was made from.

    Args:
        dataset: a `tf.data.Dataset`, possibly after `.map`, `.prefetch`, `.repeat` and the like.

    Returns:
        The `Epochs`, or None where there is none.
    """
    epochs = getattr(dataset, "epochs", None)
    if isinstance(epochs, Epochs):
        return epochs
    inputs = dataset._inputs() if isinstance(dataset, tf.data.Dataset) else []
    return next((found for found in map(epochs_of, inputs) if found is not None), None)


def numbered_dataset(make_epoch, num_batches):
    """A dataset each pass of which is `make_epoch(epoch)`.

    Args:
        make_epoch: function of an int64 scalar tensor that returns a `tf.data.Dataset`.
        num_batches: int, the number of elements of every pass.

    Returns:
        A `tf.data.Dataset` of known cardinality whose attribute `epochs` is its `Epochs`.
    """
    epochs = Epochs()

    def this_epoch(_):
        epoch = tf.numpy_function(epochs.start, [], tf.int64)
        epoch.set_shape([])
        return make_epoch(epoch)

    dataset = tf.data.Dataset.from_tensors(0).flat_map(this_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    dataset = dataset.with_options(_options()).prefetch(2)
    dataset.epochs = epochs
    return dataset


def untuned(dataset):
    """The data set without TensorFlow's tuning of its parallelism, unless that was asked for.

    When an iterator ends, or is given up, TensorFlow waits for the tuning thread, which sleeps for
    10, 20, 40 ... milliseconds, up to a minute: an epoch would last up to twice its time.
    """
    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _options():
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # as in `untuned`
    # Sharding by file would look for files behind the Python function, and find none.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def permutation(count, seed, epoch):
    """A permutation of `range(count)`, uniform among all, that (seed, epoch) alone choose.

    Takes 8 bytes an image. (`tf.random.experimental.index_shuffle` would take none, but
    its permutations of few items are far from uniform, whatever the number of rounds.)

    Args:
        count: int.
        seed, epoch: int or int64 scalar tensor.

    Returns:
        int64 `[count]`.
    """
    draws = tf.random.stateless_uniform(
        [count], _key(seed, epoch), None, None, tf.int64, alg="philox"
    )
    return tf.cast(tf.argsort(draws, stable=True), tf.int64)


def _key(seed, epoch):
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])


def buffer_shuffled(dataset, buffer_size, seed, epoch):
    """Shuffles a stream through a buffer, in an order that (seed, epoch) alone choose.

    Must be called while a dataset function is traced: there the seed that is pinned is the traced
    graph's own. Otherwise `tf.random.set_seed` elsewhere in the program would change the order.
    """
    if tf.executing_eagerly():
        raise RuntimeError("buffer_shuffled must be called inside a function of a tf.data.Dataset.")
    tf.random.set_seed(_FIXED_GRAPH_SEED)
    op_seed = tf.random.stateless_uniform([], _key(seed, epoch), None, None, tf.int64, alg="philox")
    return dataset.shuffle(buffer_size, seed=op_seed, reshuffle_each_iteration=False)
