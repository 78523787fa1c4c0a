"""A buffer of earlier fakes."""

import keras
import tensorflow as tf

from keras_gen import randomness


@keras.saving.register_keras_serializable("keras_gen")
class HistoryBuffer(keras.layers.Layer):
    """Keeps generated images, and gives some of them back later, in place of new ones.

    Until it is full it takes half of each batch and gives the batch as it is. From then on half of
    each batch is exchanged for images drawn from it (Shrivastava et al. 2017, section 2.3), so that
    a discriminator does not forget what the generator made before. Its contents are weights: they
    are saved, and a resumed run goes on with them. Of several replicas the first one's images are
    kept.

    Args:
        image_shape: (height, width, channels).
        size: int, images that it holds.

    Raises:
        ValueError: when `size` is not positive.
    """

    def __init__(self, image_shape, size, **kwargs):
        super().__init__(**kwargs)
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
                autocast=False,
                aggregation="only_first_replica",
            )

        self.images = kept("images", (size, *self.image_shape), "float32")
        self.labels = kept("labels", (size,), "int32")
        self.count = kept("count", (), "int32")  # images held
        self.built = True

    def call(self, images, labels, key):
        """A batch in which some images are earlier ones, and takes the others in.

        Args:
            images: float32 [batch, h, w, c].
            labels: int32 [batch], or None.
            key: key of `keras_gen.randomness`.

        Returns:
            images and labels, shaped as they were.
        """
        taken = tf.minimum((tf.shape(images)[0] + 1) // 2, self.size)
        full = self.count.value >= self.size
        draw = randomness.uniform([self.size], randomness.key(key, "history"))
        in_turn = (self.count.value + tf.range(taken)) % self.size
        slots = tf.where(full, tf.argsort(draw)[:taken], in_turn)

        def exchanged(buffer, batch):
            new = batch[:taken]
            old = tf.where(full, tf.gather(buffer.value, slots), new)
            buffer.assign(tf.tensor_scatter_nd_update(buffer.value, slots[:, None], new))
            return tf.concat([old, batch[taken:]], 0)

        mixed = tf.ensure_shape(exchanged(self.images, images), images.shape)
        if labels is not None:
            labels = tf.ensure_shape(exchanged(self.labels, labels), labels.shape)
        self.count.assign(tf.minimum(self.count.value + taken, self.size))
        return mixed, labels

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape, "size": self.size}
