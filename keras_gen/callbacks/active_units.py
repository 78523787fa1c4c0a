"""ActiveUnits: how much of a VAE's latent is in use, epoch after epoch."""

import keras


class ActiveUnits(keras.callbacks.Callback):
    """Writes the number of a VAE's active latent units to the logs, as `active_units`.

    It comes to the history, and to TensorBoard and other callbacks that are listed after this one.
    A number that stays near 0 means that the posterior collapses.

    Args:
        pictures: uint8 [n, h, w, c], some hundreds.
        labels: int array [n], for models with classes.

    Example:
        `model.fit(batches, callbacks=[kg.callbacks.ActiveUnits(*source.take(500))])`
    """

    def __init__(self, pictures, labels=None):
        super().__init__()
        self.pictures, self.labels = pictures, labels

    def on_train_begin(self, logs=None):
        if not callable(getattr(self.model, "active_units", None)):
            raise ValueError(
                f"ActiveUnits needs a model with `active_units`. Received: model={self.model!r}"
            )
        self.model.checked_pictures(self.pictures)
        self.model.picture_rows(len(self.pictures), self._labels)

    @property
    def _labels(self):
        return self.labels if self.model.num_classes else None

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            active = self.model.active_units(self.pictures, self._labels)
            logs["active_units"] = int(active.sum())
