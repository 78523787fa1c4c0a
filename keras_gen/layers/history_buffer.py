"""A buffer of earlier fakes."""

import keras
import tensorflow as tf

from keras_gen import randomness


def exchanged(size, count, coins, slots):
    """Which images a buffer shows and keeps as new ones come, one after another.

    A new image that finds the buffer not yet full is kept, and shown. Of a later one the coin
    decides: on heads it takes a slot, and what was there is shown in its place; on tails it is
    shown and not kept.

    Args:
        size: int, slots of the buffer.
        count: int32 scalar, how many of them are filled, from the first on.
        coins: bool [batch], True for heads.
        slots: int32 [batch] in [0, size).

    Returns:
        (int32 [batch], the images shown; int32 [size], those then in the slots; int32 scalar, the
        count then). Below `size` a number is that of a slot before; above, `size` more than that of
        a new image.
    """
    order, places = tf.range(tf.size(coins)), tf.range(size)
    filling = count + order < size
    slots = tf.where(filling, count + order, slots)
    kept = filling | coins
    to_same_slot = kept[None] & (slots[None] == slots[:, None]) & (order[None] < order[:, None])
    before = _last(to_same_slot, order)
    there = tf.where(before >= 0, size + before, slots)
    shown = tf.where(kept & ~filling, there, size + order)
    last = _last(kept[None] & (slots[None] == places[:, None]), order)
    held = tf.where(last >= 0, size + last, places)
    return shown, held, tf.minimum(count + tf.size(order), size)


def _last(chosen, order):
    """The last number that is chosen in each row of bool [rows, numbers], -1 where none is."""
    return tf.reduce_max(tf.where(chosen, order[None], -1), axis=1)


@keras.saving.register_keras_serializable("keras_gen")
class HistoryBuffer(keras.layers.Layer):
    """Keeps generated images, and gives some of them back later, in place of new ones.

    It is filled first; from then on an image is exchanged for an earlier one with probability 1/2
    (Shrivastava et al. 2017, section 2.3; one image after another as in Zhu et al. 2017), so that a
    discriminator does not forget what the generator made before. Its contents are weights: they are
    saved, and a resumed run goes on with them. All replicas hold the same, and take in the images
    of all, those of the first replica first.

    Args:
        image_shape: (height, width, channels).
        size: int, images that it holds.

    Raises:
        ValueError: when `size` is not positive.
    """

    def __init__(self, image_shape, size, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if size < 1:
            raise ValueError(f"`size` must be positive. Received: size={size!r}")
        self.image_shape, self.size = tuple(image_shape), size

        def kept(name, shape, dtype):
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )

        self.images = kept("images", (size, *self.image_shape), "float32")
        self.labels = kept("labels", (size,), "int32")
        self.count = kept("count", (), "int32")  # images held
        self.built = True

    def call(self, images, labels, key):
        """A batch in which earlier images stand in place of those that the buffer takes in.

        Args:
            images: float32 [batch, h, w, c].
            labels: int32 [batch], or None.
            key: key of `keras_gen.randomness`.

        Returns:
            images and labels, shaped as they were.
        """
        rows = tf.shape(images)[:1]
        draws = randomness.uniform([rows[0], 2], randomness.key(key, "history"))
        first, new = 0, [images] if labels is None else [images, labels]
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            counts, draws, *new = (context.all_gather(x, axis=0) for x in (rows, draws, *new))
            first = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
        slots = tf.cast(draws[:, 1] * self.size, tf.int32)
        shown, held, count = exchanged(self.size, self.count.value, draws[:, 0] < 0.5, slots)
        own = shown[first : first + rows[0]]
        results = []
        for buffer, batch in zip((self.images, self.labels), new):
            known = tf.concat([buffer.value, batch], 0)
            buffer.assign(tf.gather(known, held))
            results.append(tf.ensure_shape(tf.gather(known, own), [None, *batch.shape[1:]]))
        self.count.assign(count)
        return results[0], None if labels is None else results[1]

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape, "size": self.size}
