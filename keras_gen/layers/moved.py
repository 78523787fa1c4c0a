"""Images whose pixels are moved a little."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class Moved(keras.layers.Layer):
    """Each pixel becomes a weighted mean of those around it, up to `reach` pixels away.

    Every pixel has two distributions of its own, one over the rows and one over the columns around
    it: first means are taken over rows, then of these over columns. Where neighbours move alike,
    the weights are the outer product: the moved pixels of Finn et al. (2016, section 3.2), with
    separable kernels. Beyond its border an image is mirrored.

    Args:
        reach: int, pixels; a distribution has k = 2 reach + 1 numbers.
        inertia: float, added to the logit of no movement: where all logits are 0, the pixel itself
            weighs exp(inertia) times as much as each of the others.
    """

    def __init__(self, reach=4, inertia=4.0, **kwargs):
        super().__init__(**kwargs)
        self.reach, self.inertia = reach, inertia

    def call(self, image, logits):
        """Moved images, shaped as they are.

        Args:
            image: [batch, height, width, channels], sides of at least `reach`.
            logits: [batch, height, width, 2 k], of the distributions over rows and over columns:
                number i is of the pixel i - reach rows below, or columns to the right.
        """
        size, reach = 2 * self.reach + 1, [self.reach, self.reach]
        stay = self.inertia * tf.one_hot(self.reach, size, dtype=logits.dtype)
        for axis, own in zip((1, 2), tf.split(logits, 2, axis=-1)):
            margins = [reach if i == axis else [0, 0] for i in range(4)]
            padded = tf.pad(image, margins, "SYMMETRIC")
            starts = [[i if other == axis else 0 for other in range(4)] for i in range(size)]
            # the gradient of `tf.slice` is a pad, that of an index far slower
            shifts = [tf.slice(padded, start, tf.shape(image)) for start in starts]
            weights = tf.unstack(tf.nn.softmax(own + stay)[..., None, :], axis=-1)
            image = tf.add_n([weight * shift for weight, shift in zip(weights, shifts)])
        return image

    def compute_output_shape(self, image_shape, logits_shape):
        return image_shape

    def get_config(self):
        return {**super().get_config(), "reach": self.reach, "inertia": self.inertia}
