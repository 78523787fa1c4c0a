"""Continues a training run after any kill, bit for bit."""

import json
import os
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_gen.callbacks.chief import has_other_workers, is_chief
from keras_gen.networks.inputs import operations_of


class Resume(keras.callbacks.Callback):
    """Saves the whole state of training, and continues from it when `fit` is called again.

    Saved are all weights and their averages, the state of every optimizer, the random state, the
    losses of the epoch so far, the history and the position in the data: a run that was killed and
    continued ends with the same numbers as one that was not. Run the same script again; there is
    nothing else to do. A finished run goes on when `epochs` is raised, and one that a callback
    stopped inside an epoch goes on inside it.

    Inside an epoch, the batches that were already trained on are read again and passed over. The
    order of the data must be a function of the epoch, as it is for `source.batches(...)` and for
    any `tf.data.Dataset` that is not shuffled anew in each epoch. The memory of other callbacks
    (the patience of `EarlyStopping`) is their own and begins anew. List Resume after those that
    change the model or an optimizer after a batch.

    Checkpoints are written beside and renamed into place, and the two most recent are kept: when
    the newest cannot be read, the one before is used, with a warning; the damaged file is renamed
    to `*.damaged` at the next save. Weights that are not finite are never saved. Of several workers
    the first one writes, and all must see the same `run_dir`.

    Args:
        run_dir: folder of the run; checkpoints go to `run_dir/checkpoints`.
        every_batches: save after every so many batches of an epoch. None: only by time.
        every_seconds: save inside an epoch when so many seconds have passed since the last save.
            None: only by batches. The end of each epoch is always saved. Several workers, whose
            clocks differ, save by batches only.

    Raises:
        ValueError: in `fit`, before training, when the checkpoints are of another model (other
            weights, or layers told otherwise than theirs, such as their activation), of data
            with another number of batches or, inside an epoch, of another `steps_per_execution`.
    """

    kept = 2

    def __init__(self, run_dir, every_batches=None, every_seconds=300.0):
        super().__init__()
        for name, value in (("every_batches", every_batches), ("every_seconds", every_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be positive or None. Received: {name}={value!r}")
        self.directory = Path(run_dir) / "checkpoints"
        self.every_batches = every_batches
        self.every_seconds = every_seconds
        # The end of an epoch is saved when the next begins: all callbacks have then added to its
        # logs, Keras has put them into the history, and none has yet done what it does when an
        # epoch begins, which it will do again when the run continues from there.
        self.before_others = keras.callbacks.LambdaCallback(on_epoch_begin=self._between_epochs)

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()
        self._position = self._saved = (0, 0)  # epochs and batches that are trained, that are saved
        self._restored = self._passed_over = None
        self._damaged, self._warned = [], False
        self._metric_values = _reader_of_all_replicas(
            self.model.distribute_strategy, self.model.metrics_variables
        )
        for path in reversed(self._checkpoints()):
            try:
                self._restored = _read(path)
                break
            except Exception as error:
                self._damaged.append(path)
                warnings.warn(
                    f"The checkpoint {path} cannot be read and is passed over: {error}",
                    stacklevel=2,
                )
        if self._restored is not None:
            self._continue_from(self._restored)

    def _between_epochs(self, epoch, logs=None):
        if self._restored is not None:
            self._end_restoring()
        elif self._position != self._saved:
            self._save()
        self._position = max(self._position, (epoch, 0))

    def on_train_batch_end(self, batch, logs=None):
        epoch, _ = self._position
        self._position = max(self._position, (epoch, batch + 1))
        if self._passed_over and batch + 1 == self._position[1]:
            # What callbacks did to the model while batches were passed over, they had done before.
            self._restore(self._passed_over)
            self._passed_over = None
        elif self._position > self._saved and self._inside_epoch() and self._is_due():
            self._save()

    def on_test_begin(self, logs=None):
        self._save_where_stopped()  # before validation replaces the losses so far

    def on_epoch_end(self, epoch, logs=None):
        if self._stopped_inside_epoch():
            self._save_where_stopped()
        else:
            self._position = (epoch + 1, 0)

    def on_train_end(self, logs=None):
        if self._restored is not None:
            self._end_restoring()  # there was no epoch left to train
        if self._position != self._saved:
            self._save()

    # When to save

    def _inside_epoch(self):
        """Whether batches of this epoch are left (the last step may count past the last batch)."""
        steps = self.params.get("steps")
        return not steps or self._position[1] < steps

    def _is_due(self):
        if self._warned:
            return False
        (epoch, batch), (saved_epoch, saved_batch) = self._position, self._saved
        since = saved_batch if saved_epoch == epoch else 0
        if self.every_batches and batch // self.every_batches > since // self.every_batches:
            return True
        if not self.every_seconds or has_other_workers(self.model):
            return False
        return time.monotonic() - self._saved_at > self.every_seconds

    def _stopped_inside_epoch(self):
        known = self.params.get("steps") is not None
        return self.model.stop_training and known and self._inside_epoch()

    def _save_where_stopped(self):
        if self._stopped_inside_epoch() and self._position != self._saved:
            self._save()

    # State

    def _state(self):
        """All variables but the metrics', in groups; dict from a group's name to variables."""
        optimizers = self.model.optimizers.items()
        return {
            "variables": self.model.variables,
            **{name: optimizer.variables for name, optimizer in optimizers},
        }

    def _save(self):
        epoch, batch = self._position
        arrays = {
            f"{group}/{i}": np.asarray(variable)
            for group, variables in self._state().items()
            for i, variable in enumerate(variables)
        }
        if not all(_is_finite(array) for array in arrays.values()):
            self._warn_of_weights()
            return
        # Every worker reads the metrics, which takes all of them, and the first one writes.
        for i, values in enumerate(self._metric_values()):
            arrays[f"metrics/{i}"] = np.concatenate([np.asarray(value) for value in values])
        history = self.model.history
        position = {
            "epoch": epoch,
            "batch": batch,
            "steps": self.params.get("steps"),
            "steps_per_execution": self.model.steps_per_execution,
            "layers": layer_settings(self.model),
            "epochs": [int(e) for e in history.epoch],
            "history": {k: [_plain(v) for v in vs] for k, vs in history.history.items()},
        }
        arrays["position"] = np.frombuffer(json.dumps(position).encode(), np.uint8)
        if is_chief(self.model):
            self._write(self.directory / f"epoch-{epoch:06d}-batch-{batch:08d}.npz", arrays)
        self._saved, self._saved_at = self._position, time.monotonic()

    def _warn_of_weights(self):
        if not self._warned:
            warnings.warn(
                "Some weights are not finite, so Resume saves nothing more; the checkpoints in "
                f"{self.directory} are of epoch {self._saved[0]}, batch {self._saved[1]}, before.",
                stacklevel=2,
            )
            self._warned = True

    def _write(self, path, arrays):
        for leftover in self.directory.glob("*.partial"):
            leftover.unlink()
        _write(path, arrays)
        # A damaged file may be of a later position than the one that was reached anew: it must
        # not count as one of the two most recent.
        for damaged in set(self._damaged) - {path}:
            damaged.replace(damaged.with_suffix(".damaged"))
        self._damaged = []
        for old in self._checkpoints()[: -self.kept]:
            old.unlink()

    def _checkpoints(self):
        """The checkpoints on disk, oldest first."""
        return sorted(self.directory.glob("epoch-*-batch-*.npz"))

    def _continue_from(self, restored):
        position = restored["position"]
        epoch, batch = position["epoch"], position["batch"]
        self._check_data(position)
        self._check_fits(restored, self._state())
        self._check_layers(position.get("layers"))
        self._restore(restored)
        self.model._initial_epoch = epoch
        self.model.history.history = position["history"]
        self._position = self._saved = (epoch, batch)
        self.model.train_function = _PassOver(self.model, self._batches_before(epoch), batch)
        print(f"Resumed after {epoch} epochs and {batch} batches, from {self.directory}")

    def _batches_before(self, epoch):
        """How many batches the iterator of this epoch has given before it."""
        if not self.model.continuous_data:
            return 0
        together = self.model.steps_per_execution
        return epoch * -(-self.params["steps"] // together) * together

    def _check_data(self, position):
        before, steps = position["steps"], self.params.get("steps")
        if before and steps and before != steps:
            raise ValueError(
                f"The run in {self.directory} was made with {before} batches an epoch; "
                "continue it with the same data and batch size, or choose another run_dir. "
                f"Received: {steps} batches an epoch"
            )
        before, together = position["steps_per_execution"], self.model.steps_per_execution
        if before != together and (position["batch"] or self.model.continuous_data):
            raise ValueError(
                f"The run in {self.directory} was interrupted inside an epoch with "
                f"steps_per_execution={before}; compile with the same to finish the epoch. "
                f"Received: steps_per_execution={together}"
            )

    def _check_fits(self, restored, state):
        for group, variables in state.items():
            stored = sum(name.startswith(f"{group}/") for name in restored)
            for i, variable in enumerate(variables):
                array = restored.get(f"{group}/{i}")
                if array is None or array.shape != tuple(variable.shape):
                    raise ValueError(
                        f"The checkpoints in {self.directory} are of another model; choose another "
                        f"run_dir. Expected: {group} {variable.path} of shape "
                        f"{tuple(variable.shape)}. Received: "
                        f"{'nothing' if array is None else array.shape}"
                    )
            if stored != len(variables):
                raise ValueError(
                    f"The checkpoints in {self.directory} are of another model; choose another "
                    f"run_dir. Expected: {len(variables)} variables in {group}. Received: {stored}"
                )

    def _check_layers(self, before):
        """Layers whose weights fit may still be others, such as a convolution dilated otherwise."""
        layers = layer_settings(self.model)
        # None: of a version that did not write them. As many: blocks may be computed once more now,
        # or nothing be dropped any more, which takes layers and leaves the weights.
        if before is None or len(before) != len(layers):
            return
        for (name, kind, settings), (_, stored_kind, stored) in zip(layers, before):
            known = {"class": kind, **settings}
            stored = {"class": stored_kind, **stored}
            for key in known.keys() & stored.keys():
                if known[key] != stored[key]:
                    raise ValueError(
                        f"The checkpoints in {self.directory} are of another model; choose another "
                        f"run_dir. Expected: layer {name!r} with {key}={known[key]!r}. "
                        f"Received: {key}={stored[key]!r}"
                    )

    def _restore(self, restored):
        for group, variables in self._state().items():
            for i, variable in enumerate(variables):
                variable.assign(restored[f"{group}/{i}"])
        if restored["position"]["batch"]:
            metrics = self.model.metrics_variables
            arrays = [restored[f"metrics/{i}"] for i in range(len(metrics))]
            _assign_to_replicas(self.model.distribute_strategy, metrics, arrays)

    def _end_restoring(self):
        """After Keras has reset the metrics and the epochs of the history."""
        self._restore(self._restored)
        self.model.history.epoch = self._restored["position"]["epochs"]
        self.model._initial_epoch = None
        self._passed_over = self._restored if self._restored["position"]["batch"] else None
        self._restored = None


def layer_settings(model):
    """What makes the layers of a model what they are, besides their weights.

    Returns:
        list of [name, name of the class, dict of those of its settings that are numbers, strings
        or lists of these], as JSON has them, without those that leave the function as it is or
        that may change between two parts of a training, as rates of dropout.
    """
    passed_over = {"name", "dtype", "seed", "trainable", "rate", "dropout", "recurrent_dropout"}
    passed_over |= {"stddev", "synchronized", "unroll", "recomputes"}

    def is_plain(value):
        if isinstance(value, (list, tuple)):
            return all(map(is_plain, value))
        return value is None or isinstance(value, (bool, int, float, str))

    def settings(layer):
        try:
            config = layer.get_config() if isinstance(layer, keras.layers.Layer) else {}
        except NotImplementedError:  # of a user's own layer, of a network that is not averaged
            config = {}
        return {k: v for k, v in config.items() if k not in passed_over and is_plain(v)}

    found = [[o.name, type(o).__name__, settings(o)] for o in operations_of(model)]
    return json.loads(json.dumps(found))


class _PassOver:
    """A training function that first reads, without training, what was trained on before.

    Args:
        model: the model, whose `train_function` is taken up when all is passed over.
        before: batches of earlier epochs, passed over in the first call.
        batches: batches of this epoch, passed over one call at a time.
    """

    def __init__(self, model, before, batches):
        self.model, self.before, self.batches = model, before, batches
        self.train_function = model.train_function
        if isinstance(self.train_function, _PassOver):  # of a `fit` that was interrupted
            self.train_function = self.train_function.train_function

    def __call__(self, iterator):
        self._read(iterator, self.before)
        self.before = 0
        if not self.batches:
            self.model.train_function = self.train_function
            return self.train_function(iterator)
        read = min(self.batches, self.model.steps_per_execution)
        self._read(iterator, read)
        self.batches -= read
        return self.model.get_metrics_result()

    @staticmethod
    def _read(iterator, batches):
        for _ in range(batches):
            next(iterator)


def _reader_of_all_replicas(strategy, variables):
    """Reads variables that differ between replicas.

    Returns:
        Function that returns, for each variable, a list of tensors [replicas, ...] whose
        concatenation holds the values of all replicas, those of other workers too.
    """

    @tf.function(autograph=False)
    def read():
        values = strategy.run(lambda: [tf.identity(v.value)[None] for v in variables])
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            values = [strategy.gather(value, axis=0) for value in values]
        return values

    return lambda: [strategy.experimental_local_results(value) for value in read()]


def _assign_to_replicas(strategy, variables, arrays):
    """Assigns arrays [replicas, ...]; where the number of replicas changed, their sum counts."""
    replicas = strategy.num_replicas_in_sync

    def assign():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for variable, array in zip(variables, arrays):
            if len(array) != replicas:
                array = np.stack([array.sum(0)] + [np.zeros_like(array[0])] * (replicas - 1))
            variable.assign(tf.constant(array)[replica])

    tf.function(lambda: strategy.run(assign), autograph=False)()


def _is_finite(array):
    exact = array.dtype.kind in "biu"
    return exact or bool(np.isfinite(array).all())


def _read(path):
    """The arrays of a checkpoint, and its position as a dict; raises where it is damaged."""
    with np.load(path) as archive:  # each member of the archive carries a CRC
        restored = dict(archive)
    restored["position"] = json.loads(restored["position"].tobytes())
    return restored


def _write(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    with open(beside, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _plain(value):
    """A logged value as JSON takes it; a float32 keeps every bit."""
    value = np.asarray(value)
    return value.tolist() if value.dtype != np.float32 else value.astype(np.float64).tolist()
