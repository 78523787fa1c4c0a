"""ExportSavedModel: versions for TensorFlow Serving, made while a model trains."""

import json
import math
import pathlib
import warnings

import keras
import numpy as np

from keras_gen.callbacks.chief import is_chief
from keras_gen.images import write_atomically

# TensorFlow Serving looks at numbered entries only.
_RECORD = ".best.json"


class ExportSavedModel(keras.callbacks.Callback):
    """Exports the model into numbered folders, as TensorFlow Serving wants them.

    A version is one more than the highest number in `directory`, beginning with 1; whatever else
    lies there is ignored. `model.export` makes a version appear whole or not at all.

    Without `monitor`, the model is exported when training ends, and with `every` also after every
    so many epochs; weights that the last version already holds are not exported again, so running
    a finished script twice adds nothing. With `monitor`, it is exported after each epoch (or every
    so many) in which the metric is better than in all the versions before, so that the highest
    version is the best. The best value is kept in `directory/.best.json`: neither a resumed run
    nor a new one replaces a better version. Remove that file, or the version, to start afresh.

    A monitored metric that is missing from the logs gives a warning, never an exception: what has
    been trained is not to be lost. If there is no best version by the end of training, the model
    is exported as it is. List the callback that computes the metric before this one. NaN and
    infinity are never better. Of several workers the first one exports.

    Args:
        directory: folder of the versions.
        monitor: name of a metric in the epoch's logs, or None.
        mode: "min" or "max": which way `monitor` is better.
        every: epochs between exports or, with `monitor`, between comparisons.

    Raises:
        ValueError: an argument is none of the above.

    Example:
        `kg.callbacks.ExportSavedModel("saved_models/mnist_gan", monitor="kid")`
    """

    def __init__(self, directory, monitor=None, mode="min", every=None):
        super().__init__()
        if monitor is not None and (not isinstance(monitor, str) or not monitor):
            raise ValueError(
                f"`monitor` must be the name of a metric or None. Received: monitor={monitor!r}"
            )
        if mode not in ("min", "max"):
            raise ValueError(f'`mode` must be "min" or "max". Received: mode={mode!r}')
        if every is not None and not _is_count(every):
            raise ValueError(
                f"`every` must be a whole number >= 1 or None. Received: every={every!r}"
            )
        self.directory = pathlib.Path(directory)
        self.monitor = monitor
        self.mode = mode
        self.every = every
        self._epoch = None
        self._exported = False
        self._warned = False

    def on_train_begin(self, logs=None):
        self._epoch = None
        self._exported = self._warned = False

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self._epoch % (self.every or 1) or not is_chief(self.model):
            return
        if self.monitor is not None:
            self._export_if_better(logs or {})
        elif self.every is not None:
            self._export_if_new()

    def on_train_end(self, logs=None):
        if not is_chief(self.model):
            return
        if self.monitor is None:
            self._export_if_new()
        elif self._epoch is not None and not self._exported:
            self._explain_why_nothing_was_exported()

    def _export_if_better(self, logs):
        if self.monitor not in logs:
            self._warn_of_missing_metric(logs)
            return
        value = float(logs[self.monitor])
        if math.isfinite(value) and self._is_better(value):
            self._export(value)

    def _is_better(self, value):
        best = self._best()
        if best is None:
            return True
        return value < best if self.mode == "min" else value > best

    def _warn_of_missing_metric(self, logs):
        if not self._warned:
            warnings.warn(
                f"ExportSavedModel monitors a metric that epoch {self._epoch} does not have, so "
                "nothing is exported yet. The callback that computes it must stand before "
                f"ExportSavedModel. Expected one of {sorted(logs)}. "
                f"Received: monitor={self.monitor!r}",
                stacklevel=2,
            )
            self._warned = True

    def _explain_why_nothing_was_exported(self):
        best = self._best()
        if best is not None:
            warnings.warn(
                f"No epoch was better than {self.monitor} = {best} of version "
                f"{self._record()['version']}, so nothing was exported. Remove "
                f"{self.directory / _RECORD} to start afresh.",
                stacklevel=2,
            )
        else:
            warnings.warn(
                f"The metric {self.monitor!r} was never there or never finite, so the model is "
                "exported as it is at the end of training.",
                stacklevel=2,
            )
            self._export_if_new()

    def _export_if_new(self):
        if not all(np.isfinite(weight).all() for weight in self.model.generating_weights):
            warnings.warn("Some weights are not finite, so nothing is exported.", stacklevel=2)
            return
        if self._record().get("weights") != self.model.weights_hash():
            self._export(None)

    def _export(self, value):
        version = max(self._versions(), default=0) + 1
        self.model.export(str(self.directory / str(version)))
        record = {
            "version": version,
            "epoch": self._epoch,
            "weights": self.model.weights_hash(),
            "monitor": self.monitor if value is not None else None,
            "mode": self.mode,
            "value": value,
        }
        self._exported = True
        write_atomically(self.directory / _RECORD, json.dumps(record, indent=2).encode())

    def _versions(self):
        if not self.directory.is_dir():
            return []
        names = (entry.name for entry in self.directory.iterdir())
        return [int(name) for name in names if name.isascii() and name.isdecimal()]

    def _best(self):
        record = self._record()
        same = (record.get("monitor"), record.get("mode")) == (self.monitor, self.mode)
        return record.get("value") if same else None

    def _record(self):
        """What the last export wrote down; empty if that version is gone."""
        try:
            record = json.loads((self.directory / _RECORD).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        is_there = isinstance(record, dict) and record.get("version") in self._versions()
        return record if is_there else {}


def _is_count(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
