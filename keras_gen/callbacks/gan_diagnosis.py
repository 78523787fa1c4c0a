"""GANDiagnosis: whether the two networks of a GAN are in balance, and whether it collapses."""

import warnings

import keras
import numpy as np


class GANDiagnosis(keras.callbacks.Callback):
    """Writes what tells the health of adversarial training to the logs of each epoch, measured on
    the same images: of `GAN`, `SequenceGAN`, `Pix2Pix` and `CycleGAN`.

    `real_accuracy` and `fake_accuracy` are the shares of real and of generated images that the
    discriminator takes for what they are (of losses that compare the two, the share of pairs), 0.5
    being chance; `real_logit` and `fake_logit` its mean logits; `generator_gradient_norm` and
    `discriminator_gradient_norm` the norms of the gradients of the losses. Of several
    discriminators the names begin with whose they are: `frame_` and `motion_` of a `SequenceGAN`,
    `a_` and `b_` of a `CycleGAN`. `diversity` is the mean distance of generated images from their
    nearest neighbours among as many, over the same of the real ones: about 1, and 0 where all
    images are one. They come to the history, and to TensorBoard and other callbacks that are listed
    after this one.

    A warning is given, once, when the diversity has fallen below `threshold`, or is still below it
    after `patience` epochs.

    Args:
        pictures: uint8 [n, h, w, c], real ones, some dozens or hundreds, which take the time and
            the memory of a training step of as many; sequences [n, time, h, w, c] of a
            `SequenceGAN`, those of the one kind of a model that translates.
        labels: int array [n], for models with classes; pictures of the other kind, as many, of a
            model that translates.
        threshold: float, least diversity that is not warned of.
        patience: int, epochs that a generator is given to become diverse.
        seed: int in [-2^31, 2^31), of the generated images.

    Example:
        `model.fit(batches, callbacks=[kg.callbacks.GANDiagnosis(*source.take(64))])`
    """

    def __init__(self, pictures, labels=None, threshold=0.3, patience=5, seed=0):
        super().__init__()
        if len(pictures) < 2:
            raise ValueError(
                f"GANDiagnosis needs two pictures or more. Received: {len(pictures)} pictures"
            )
        self.pictures, self.labels = pictures, labels
        self.threshold, self.patience, self.seed = threshold, patience, seed

    def on_train_begin(self, logs=None):
        if not callable(getattr(self.model, "diagnose", None)):
            raise ValueError(
                f"GANDiagnosis needs a model with `diagnose`. Received: model={self.model!r}"
            )
        self.model.checked_examples(self.pictures, self.labels)
        self._was_diverse = self._warned = False

    def on_epoch_end(self, epoch, logs=None):
        found = self.model.diagnose(self.pictures, self.labels)
        made, real = self.model.made_and_real(self.pictures, self.labels, self.seed)
        found["diversity"] = neighbour_distance(made) / max(neighbour_distance(real), 1e-12)
        if logs is not None:
            logs.update(found)
        self._watch(epoch, found["diversity"])

    def _watch(self, epoch, diversity):
        if diversity >= self.threshold:
            self._was_diverse = True
        elif not self._warned and (self._was_diverse or epoch + 1 >= self.patience):
            self._warned = True
            warnings.warn(
                f"The generator seems to collapse: after epoch {epoch + 1} its images differ "
                f"{diversity:.2f} times as much from one another as real ones (threshold "
                f"{self.threshold}). A lower learning rate, R1 and R2 penalties or more "
                "augmentation may help.",
                stacklevel=2,
            )


def neighbour_distance(pictures):
    """Mean distance of pictures [n, ...] from their nearest neighbours, in units of pixels."""
    flat = np.asarray(pictures, np.float64).reshape(len(pictures), -1)
    squared = (flat**2).sum(1)
    distances = squared[:, None] + squared[None] - 2 * flat @ flat.T
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(np.maximum(distances.min(1), 0)).mean())
