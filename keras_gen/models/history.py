"""A history of generated images, shown to a discriminator among new ones (Shrivastava et al. 2017,
section 2.3), so that it does not forget what the generator did before."""

import tensorflow as tf

from keras_gen import randomness


def exchanged(history, count, fakes, coins, slots):
    """What a history does to fakes that come one after another: pure tensors in and out.

    A fake that finds the history not yet full is stored, and shown. Of a later one the coin
    decides: on heads it takes a slot, and what was there is shown in its place; on tails it is
    shown and not stored.

    Args:
        history: [size, ...].
        count: int32 scalar, how many of its slots are filled, from the first on.
        fakes: [batch, ...].
        coins: bool [batch], True for heads.
        slots: int32 [batch] in [0, size).

    Returns:
        (shown [batch, ...], history [size, ...], count int32 scalar).
    """
    size, order = tf.shape(history)[0], tf.range(tf.shape(fakes)[0])
    filling = count + order < size
    slots = tf.where(filling, count + order, slots)
    stored = filling | coins
    # Images by number: those of the history, then the fakes.
    images = tf.concat([history, fakes], 0)
    to_same_slot = stored[None] & (slots[None] == slots[:, None]) & (order[None] < order[:, None])
    before = _last(to_same_slot, order)
    there = tf.where(before >= 0, size + before, slots)
    shown = tf.where(stored & ~filling, there, size + order)
    places = tf.range(size)
    last = _last(stored[None] & (slots[None] == places[:, None]), order)
    kept = tf.where(last >= 0, size + last, places)
    count = tf.minimum(count + tf.size(order), size)
    return tf.gather(images, shown), tf.gather(images, kept), count


def _last(chosen, order):
    """The last number that is chosen in each row of bool [rows, numbers], -1 where none is."""
    return tf.reduce_max(tf.where(chosen, order[None], -1), axis=1)


class History:
    """The last fakes of one generator, as weights of its model, so that they are saved with it.

    All replicas hold the same history and see the fakes of all, those of the first replica first.

    Args:
        model: the `keras.Model` that the weights belong to.
        name: of the weights.
        size: how many fakes it holds; 0 for none, which shows every fake as it is.
        image_shape: (height, width, channels).
    """

    def __init__(self, model, name, size, image_shape):
        self.name, self.size = name, size
        own = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        shape = (size, *image_shape)
        self.images = model.add_weight(name=f"{name}_images", shape=shape, dtype="float32", **own)
        self.count = model.add_weight(name=f"{name}_count", shape=(), dtype="int32", **own)

    def exchange(self, fakes, key):
        """The fakes [batch, ...] of this replica, some of them exchanged for earlier ones.

        Args:
            fakes: float32 [batch, height, width, channels].
            key: of the training step and the replica.
        """
        if not self.size:
            return fakes
        draws = randomness.uniform([tf.shape(fakes)[0], 2], randomness.key(key, self.name))
        own = tf.shape(fakes)[:1]
        context = tf.distribute.get_replica_context()
        first, rows = 0, own
        if context.num_replicas_in_sync > 1:
            fakes, draws, rows = (context.all_gather(x, axis=0) for x in (fakes, draws, own))
            first = tf.reduce_sum(rows[: context.replica_id_in_sync_group])
        slots = tf.cast(draws[:, 1] * self.size, tf.int32)
        shown, images, count = exchanged(
            self.images.value, self.count.value, fakes, draws[:, 0] < 0.5, slots
        )
        self.images.assign(images)
        self.count.assign(count)
        return shown[first : first + own[0]]
