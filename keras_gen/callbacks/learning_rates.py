"""LearningRates: the learning rate of every optimizer, not of one alone."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_gen.callbacks.chief import is_chief


class LearningRates(keras.callbacks.Callback):
    """Records the learning rates of all of a model's optimizers after each epoch.

    Keras's own TensorBoard callback knows one optimizer a model. This one writes each of
    `model.optimizers` (a `dict` from name to optimizer) to the logs of the epoch, and so to the
    history and to the callbacks listed after it, and to TensorBoard in
    `run_dir/logs/learning_rates`, with the step that Keras uses: the epoch, counted from 0.
    `optimizer` is written as `learning_rate`, which is Keras's name for it, and any other, such
    as `discriminator_optimizer`, as `discriminator_learning_rate`.

    The value is the rate of the next step: that of a schedule at the optimizer's `iterations`,
    through a `LossScaleOptimizer` too. Of several workers the first one writes to TensorBoard.

    Args:
        run_dir: folder of the run.

    Example:
        `model.fit(batches, epochs=20, callbacks=[kg.callbacks.LearningRates("runs/mnist")])`
    """

    def __init__(self, run_dir):
        super().__init__()
        self.run_dir = pathlib.Path(run_dir)
        self._writer = None

    def on_train_begin(self, logs=None):
        if is_chief(self.model):
            self._writer = tf.summary.create_file_writer(
                str(self.run_dir / "logs" / "learning_rates")
            )

    def on_epoch_end(self, epoch, logs=None):
        rates = learning_rates(self.model)
        if logs is not None:
            logs.update(rates)
        if self._writer is None:
            return
        # Keras's TensorBoard callback with an `update_freq` leaves recording switched off.
        with self._writer.as_default(), tf.summary.record_if(True):
            for name, rate in rates.items():
                tf.summary.scalar(name, rate, step=epoch)
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()


def learning_rates(model):
    """The current learning rates of a model, by the names of `LearningRates`.

    Args:
        model: a compiled `keras.Model`; `model.optimizers`, a `dict` from name to optimizer, is
            used where there is one, otherwise `model.optimizer`.

    Returns:
        A `dict` from name to `float`.
    """
    optimizers = getattr(model, "optimizers", None) or {"optimizer": model.optimizer}
    return {
        _log_name(name): float(np.asarray(optimizer.learning_rate))
        for name, optimizer in optimizers.items()
        if optimizer is not None
    }


def _log_name(name):
    name = name.removesuffix("optimizer").removesuffix("_")
    return f"{name}_learning_rate" if name else "learning_rate"
