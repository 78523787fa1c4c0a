import hashlib
import json
import os
import pathlib
import shutil
import warnings

import keras
import numpy as np
import pytest

from keras_gen.callbacks.export_saved_model import ExportSavedModel


class FakeModel(keras.Model):
    def __init__(self):
        super().__init__(name="fake")
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 2))
        self.built = True
        self.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)

    def call(self, inputs):
        return self.dense(inputs)

    @property
    def generating_weights(self):
        return self.weights

    def weights_hash(self):
        return hashlib.sha256(b"".join(w.numpy().tobytes() for w in self.weights)).hexdigest()

    def export(self, path):
        assert not os.path.exists(path)
        os.makedirs(path)
        pathlib.Path(path, "weights").write_text(self.weights_hash())


class Metric(keras.callbacks.Callback):
    """Puts given values of `kid` into the logs; None leaves it out."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs["kid"] = self.values[epoch]


def fit(model, callbacks, epochs, initial_epoch=0):
    x = np.ones([4, 2], "float32")
    model.fit(x, x[:, :1] * 9, epochs=epochs, initial_epoch=initial_epoch, verbose=0,
              callbacks=callbacks)  # fmt: skip


def fit_with(directory, values, initial_epoch=0, **arguments):
    """Trains with given values of `kid`; no warning may come."""
    callbacks = [Metric(values), ExportSavedModel(directory, monitor="kid", **arguments)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(FakeModel(), callbacks, len(values), initial_epoch)


def versions(directory):
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def best(directory):
    return json.loads((directory / ".best.json").read_text())


class TestWithoutMonitor:
    def test_exports_the_last(self, tmp_path):
        model = FakeModel()
        fit(model, [ExportSavedModel(tmp_path / "new" / "gan")], epochs=2)
        assert versions(tmp_path / "new" / "gan") == ["1"]
        exported = (tmp_path / "new" / "gan" / "1" / "weights").read_text()
        assert exported == model.weights_hash()

    @pytest.mark.parametrize(("epochs", "count"), [(4, 2), (5, 3)])
    def test_every_and_the_last_once(self, tmp_path, epochs, count):
        fit(FakeModel(), [ExportSavedModel(tmp_path, every=2)], epochs=epochs)
        assert len(versions(tmp_path)) == count

    def test_counts_up_from_what_is_there(self, tmp_path):
        for name in ("9", "10", "011x", "latest", "-30", "²"):
            (tmp_path / name).mkdir()
        fit(FakeModel(), [ExportSavedModel(tmp_path)], epochs=1)
        assert (tmp_path / "11" / "weights").is_file()

    def test_finished_run_again_adds_nothing(self, tmp_path):
        model = FakeModel()
        fit(model, [ExportSavedModel(tmp_path)], epochs=2)
        fit(model, [ExportSavedModel(tmp_path)], epochs=2, initial_epoch=2)
        assert versions(tmp_path) == ["1"]

    def test_run_killed_before_its_export_makes_up_for_it(self, tmp_path):
        model = FakeModel()
        fit(model, [], epochs=2)
        fit(model, [ExportSavedModel(tmp_path)], epochs=2, initial_epoch=2)
        assert versions(tmp_path) == ["1"]

    def test_removed_version_is_made_again(self, tmp_path):
        model = FakeModel()
        fit(model, [ExportSavedModel(tmp_path)], epochs=1)
        shutil.rmtree(tmp_path / "1")
        fit(model, [ExportSavedModel(tmp_path)], epochs=1, initial_epoch=1)
        assert versions(tmp_path) == ["1"]


class TestWithMonitor:
    @pytest.mark.parametrize(("mode", "count", "epoch"), [("min", 2, 3), ("max", 3, 5)])
    def test_exports_what_is_better(self, tmp_path, mode, count, epoch):
        fit_with(tmp_path, [2.0, 3.0, 1.0, 1.0, 4.0], mode=mode)
        assert versions(tmp_path) == [str(version + 1) for version in range(count)]
        record = best(tmp_path)
        assert record["epoch"] == epoch
        assert record["version"] == count
        assert record["weights"] == (tmp_path / str(count) / "weights").read_text()

    def test_a_resume_does_not_forget_the_best(self, tmp_path):
        fit_with(tmp_path, [2.0, 1.0])
        fit_with(tmp_path, [2.0, 1.0, 1.5, 0.5], initial_epoch=2)
        assert versions(tmp_path) == ["1", "2", "3"]
        assert best(tmp_path)["value"] == 0.5

    def test_says_so_when_nothing_was_better(self, tmp_path):
        fit_with(tmp_path, [1.0])
        callbacks = [Metric([7.0]), ExportSavedModel(tmp_path, monitor="kid")]
        with pytest.warns(UserWarning, match=r"better than kid = 1.0 of version 1"):
            fit(FakeModel(), callbacks, epochs=1)
        assert versions(tmp_path) == ["1"]

    @pytest.mark.parametrize("record", ["", "{", "[]", '{"version": 1}'])
    def test_unreadable_record(self, tmp_path, record):
        fit_with(tmp_path, [1.0])
        (tmp_path / ".best.json").write_text(record)
        fit_with(tmp_path, [2.0])
        assert versions(tmp_path) == ["1", "2"]

    def test_best_of_another_metric_or_removed_version_does_not_count(self, tmp_path):
        fit_with(tmp_path, [1.0])
        fit_with(tmp_path, [2.0, 3.0], mode="max")
        assert versions(tmp_path) == ["1", "2", "3"]
        shutil.rmtree(tmp_path / "3")
        fit_with(tmp_path, [1.0], mode="max")
        assert versions(tmp_path) == ["1", "2", "3"]

    def test_nan_and_infinity_are_never_better(self, tmp_path):
        fit_with(tmp_path, [np.nan, 2.0, -np.inf, np.nan, 1.0])
        assert versions(tmp_path) == ["1", "2"]

    def test_every(self, tmp_path):
        fit_with(tmp_path, [9.0, 8.0, 7.0, 6.0, 5.0], every=2)
        assert versions(tmp_path) == ["1", "2"]
        assert best(tmp_path)["value"] == 6.0

    def test_missing_metric_warns_and_nothing_is_lost(self, tmp_path):
        model = FakeModel()
        with pytest.warns(UserWarning) as caught:
            fit(model, [ExportSavedModel(tmp_path, monitor="kid")], epochs=3)
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 2
        assert "['loss']" in messages[0] and "Received: monitor='kid'" in messages[0]
        assert "exported as it is" in messages[1]
        assert (tmp_path / "1" / "weights").read_text() == model.weights_hash()

    def test_metric_of_every_other_epoch(self, tmp_path):
        callbacks = [Metric([None, 2.0, None, 1.0]), ExportSavedModel(tmp_path, monitor="kid")]
        with pytest.warns(UserWarning, match="epoch 1 does not have") as caught:
            fit(FakeModel(), callbacks, epochs=4)
        assert len(caught) == 1
        assert versions(tmp_path) == ["1", "2"]

    def test_resume_behind_the_last_measurement_keeps_the_best(self, tmp_path):
        fit_with(tmp_path, [1.0])
        with pytest.warns(UserWarning):
            fit(FakeModel(), [ExportSavedModel(tmp_path, monitor="kid")], epochs=1)
        assert versions(tmp_path) == ["1"]
        assert best(tmp_path)["value"] == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("monitor", ""), ("monitor", 3), ("mode", "auto"), ("every", 0), ("every", 1.5)],
)
def test_rejects(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        ExportSavedModel(tmp_path, **{name: value})


def test_weights_that_are_not_finite_are_not_served(tmp_path):
    model = FakeModel()
    fit(model, [ExportSavedModel(tmp_path)], 1)
    model.dense.kernel.assign([[np.nan], [1.0]])
    with pytest.warns(UserWarning, match="not finite"):
        fit(model, [ExportSavedModel(tmp_path)], 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".best.json", "1"]
