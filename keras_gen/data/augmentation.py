"""Augmentations that a discriminator sees real and generated images through, for small data sets.

Differentiable, of operations that XLA compiles: what moves pixels is two small matrices an image,
one over its rows and one over its columns, so that no operation gathers. Each image is augmented
by draws of its own row of the batch.
"""

import keras
import tensorflow as tf

from keras_gen import randomness
from keras_gen.strategies import Strategy, checked_count, is_number, resolve


def color(images, draws):
    """Brightness, saturation and contrast (Zhao et al. 2020: DiffAugment's "color").

    Args:
        images: float32 [batch, h, w, c] in [-1, 1].
        draws: float32 [batch, n], uniform in [0, 1); 0.5 everywhere changes nothing.

    Returns:
        float32, as `images`; not within [-1, 1].
    """
    brightness, saturation, contrast = (draws[:, i, None, None, None] for i in range(3))
    images += brightness - 0.5
    grey = tf.reduce_mean(images, 3, keepdims=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = tf.reduce_mean(images, [1, 2, 3], keepdims=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images, draws, share=0.125):
    """A shift by whole pixels, up to `share` of the sides; what comes in is grey (0).

    Arguments and result as in `color`.
    """
    sides = images.shape[1:3]
    moved = [
        tf.floor(draws[:, i] * (2 * round(share * side) + 1)) - round(share * side)
        for i, side in enumerate(sides)
    ]
    return _resampled(images, *(_matrix(side, shift) for side, shift in zip(sides, moved)))


def scale(images, draws, strength=0.25):
    """Both sides scaled by 2 to the power of up to `strength` either way, around the middle.

    Arguments and result as in `color`.
    """
    factor = tf.pow(2.0, strength * (2 * draws[:, 0] - 1))
    return _resampled(images, *(_matrix(side, 0.0, factor) for side in images.shape[1:3]))


def flip(images, draws):
    """Left and right exchanged for half of the images. Not for digits or letters."""
    mirrored = draws[:, 0, None, None, None] < 0.5
    return tf.where(mirrored, images[:, :, ::-1], images)


def cutout(images, draws, share=0.5):
    """A box of `share` of either side is grey (0); its middle is anywhere.

    Arguments and result as in `color`.
    """
    outside = []
    for i, side in enumerate(images.shape[1:3]):
        middle = draws[:, i, None] * side
        centers = tf.range(side, dtype=tf.float32)[None] + 0.5
        outside.append(tf.abs(centers - middle) > share * side / 2)
    kept = outside[0][:, :, None] | outside[1][:, None, :]
    return images * tf.cast(kept, images.dtype)[..., None]


OPERATIONS = {
    "color": color,
    "translation": translation,
    "scale": scale,
    "flip": flip,
    "cutout": cutout,
}
_DRAWS = 3


def _matrix(side, shift, factor=1.0):
    """Matrices [batch, side, side] that move and scale along one axis, with linear interpolation.

    Args:
        side: int.
        shift: float32 [batch], pixels, or a number.
        factor: float32 [batch] or a number, of the size of what is shown.
    """
    middle = (side - 1) / 2
    places = tf.range(side, dtype=tf.float32)
    shift, factor = (tf.reshape(x, [-1, 1]) for x in (shift, factor))
    source = (places[None] - shift - middle) / factor + middle
    return tf.nn.relu(1 - tf.abs(source[:, :, None] - places[None, None]))


def _resampled(images, rows, columns):
    """Images [batch, h, w, c] by matrices over rows [batch, h, h] and columns [batch, w, w]."""
    return tf.einsum("bij,bjkc,blk->bilc", rows, images, columns)


@keras.saving.register_keras_serializable("keras_gen")
class Augmentation(Strategy):
    """Operations in turn, each on an image with the same probability.

    Args:
        operations: names out of OPERATIONS.
        probability: float in [0, 1].

    Raises:
        ValueError: when an operation is unknown, or the probability out of range.
    """

    adapts = False

    def __init__(self, operations, probability=1.0):
        unknown = [name for name in operations if name not in OPERATIONS]
        if unknown or not operations:
            raise ValueError(
                f"`operations` must be some of {sorted(OPERATIONS)}. "
                f"Received: operations={operations!r}"
            )
        if not 0 <= probability <= 1:
            raise ValueError(
                f"`probability` must lie in [0, 1]. Received: probability={probability!r}"
            )
        self.operations, self.probability = tuple(operations), probability

    def __call__(self, images, key, probability=None):
        """Augmented images.

        Args:
            images: float32 [batch, h, w, c] in [-1, 1].
            key: key of `keras_gen.randomness`.
            probability: float32 scalar; None: the usual one.
        """
        probability = self.probability if probability is None else probability
        for name in self.operations:
            shape = [tf.shape(images)[0], _DRAWS + 1]
            draws = randomness.uniform(shape, randomness.key(key, name))
            done = OPERATIONS[name](images, draws)
            images = tf.where(draws[:, -1, None, None, None] < probability, done, images)
        return images

    def get_config(self):
        return {"operations": list(self.operations), "probability": self.probability}


@keras.saving.register_keras_serializable("keras_gen")
class DiffAugment(Augmentation):
    """DiffAugment (Zhao et al. 2020): always color, translation and cutout."""

    def __init__(self, operations=("color", "translation", "cutout"), probability=1.0):
        super().__init__(operations, probability)


@keras.saving.register_keras_serializable("keras_gen")
class AdaptiveAugmentation(Augmentation):
    """Augmentation whose probability follows how well real images are told (ADA, Karras et al.
    2020); its operations are those of this module, fewer than theirs: nothing is rotated.

    The mean sign of the discriminator's verdict on real images is to be `target`: when it is
    above, the discriminator overfits, and the probability rises; else it falls. The probability
    begins at 0 and is a weight of the model.

    Args:
        operations: names out of OPERATIONS.
        target: float in [-1, 1], of the mean sign.
        images: int, how many images take the probability from 0 to 1.

    Raises:
        ValueError: when an argument is out of range.
    """

    adapts = True

    def __init__(
        self, operations=("color", "translation", "scale", "cutout"), target=0.6, images=500_000
    ):
        super().__init__(operations, 0.0)
        if not (is_number(target) and -1 <= target <= 1):
            raise ValueError(f"`target` must lie in [-1, 1]. Received: target={target!r}")
        self.target, self.images = float(target), checked_count("images", images)

    def adapted(self, probability, confidence, batch):
        """The probability after a batch.

        Args:
            probability: float32 scalar.
            confidence: float32 scalar, mean sign over the batch, in [-1, 1].
            batch: int scalar, its images.
        """
        step = tf.sign(confidence - self.target) * (tf.cast(batch, tf.float32) / self.images)
        return tf.clip_by_value(probability + step, 0.0, 1.0)

    def get_config(self):
        return {"operations": list(self.operations), "target": self.target, "images": self.images}


AUGMENTATIONS = {"diff_augment": DiffAugment, "ada": AdaptiveAugmentation}


def get_augmentation(identifier):
    """An `Augmentation` from its name or from an object, which is returned as it is; None of None.

    Raises:
        ValueError: when it is none of these.
    """
    if identifier is None:
        return None
    return resolve(identifier, AUGMENTATIONS, Augmentation, "augmentation")
