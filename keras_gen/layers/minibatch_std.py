"""Minibatch standard deviation."""

import keras
import tensorflow as tf

from keras_gen.strategies import checked_count


@keras.saving.register_keras_serializable("keras_gen")
class MinibatchStd(keras.layers.Layer):
    """Appends a channel that says how much the images of a group differ (Karras et al. 2018).

    The batch is cut into groups of neighbours; the standard deviations over a group, one for each
    feature, have one mean, which every image of that group gets. A discriminator can so see that a
    generator makes one image only. A last smaller group is a group too.

    Args:
        group: int, images in a group.
    """

    def __init__(self, group=4, **kwargs):
        super().__init__(**kwargs)
        self.group = checked_count("group", group)

    def call(self, inputs):
        x = tf.cast(inputs, tf.float32)
        groups = tf.range(tf.shape(x)[0]) // self.group
        same = tf.cast(groups[:, None] == groups[None], tf.float32)
        # means over groups as one matrix product, whatever the size of the last group
        means = same / tf.reduce_sum(same, 1, keepdims=True)
        flat = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        variance = tf.matmul(means, tf.square(flat - tf.matmul(means, flat)))
        deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8), 1)[:, None, None, None]
        channel = tf.broadcast_to(deviation, tf.concat([tf.shape(x)[:3], [1]], 0))
        return tf.concat([inputs, tf.cast(channel, inputs.dtype)], -1)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], inputs_shape[-1] + 1)

    def get_config(self):
        return {**super().get_config(), "group": self.group}
