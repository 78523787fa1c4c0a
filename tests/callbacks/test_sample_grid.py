import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from keras_gen import images as kgi
from keras_gen.callbacks.sample_grid import SampleGrid


class FakeModel(keras.Model):
    """Its images depend on its one layer, the labels and the seed."""

    def __init__(self, image_shape=(8, 8, 1), num_classes=None):
        super().__init__(name="fake")
        self.dense = keras.layers.Dense(1)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.calls = []
        self.dense.build((None, 2))
        self.built = True
        self.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)

    @property
    def optimizers(self):
        return {"optimizer": self.optimizer}

    def call(self, inputs):
        return self.dense(inputs)

    def generate(self, n, labels=None, seed=0):
        self.calls.append((n, labels, seed))
        rng = np.random.default_rng([seed, int(self.weights_hash()[:8], 16)])
        return rng.integers(0, 256, (n, *self.image_shape), dtype=np.uint8)

    def weights_hash(self):
        return hashlib.sha256(b"".join(w.numpy().tobytes() for w in self.weights)).hexdigest()


def built(**arguments):
    keras.utils.set_random_seed(0)
    return FakeModel(**arguments)


def fit(model, callbacks, **arguments):
    x = np.ones([4, 2], "float32")
    return model.fit(x, x[:, :1] * 3, verbose=0, callbacks=callbacks, **arguments)


def names(run_dir):
    return sorted(path.name for path in (run_dir / "samples").iterdir())


def summaries(run_dir):
    """Step -> PNG of the TensorBoard image."""
    events = event_accumulator.EventAccumulator(
        str(run_dir / "logs" / "samples"), size_guidance={"tensors": 0}
    ).Reload()
    metadata = events.SummaryMetadata("samples")
    assert metadata.plugin_data.plugin_name == "images"
    return {
        event.step: tf.make_ndarray(event.tensor_proto).tolist()
        for event in events.Tensors("samples")
    }


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_writes_every_epoch_and_the_untrained_model(tmp_path):
    model = built()
    fit(model, [SampleGrid(tmp_path, seed=5)], epochs=2)
    assert names(tmp_path) == ["epoch_0000.png", "epoch_0001.png", "epoch_0002.png"]
    assert [(n, labels, seed) for n, labels, seed in model.calls] == [(36, None, 5)] * 3
    last = tmp_path / "samples" / "epoch_0002.png"
    expected = kgi.grid(model.generate(36, seed=5), scale=8)
    np.testing.assert_array_equal(pixels(last), expected[..., 0])
    provenance = kgi.Provenance("fake", model.weights_hash(), 5)
    assert kgi.read_provenance(last) == provenance.text()


def test_tensorboard_shows_the_same_pictures(tmp_path):
    fit(built(image_shape=(16, 32, 3)), [SampleGrid(tmp_path, num_images=4)], epochs=2)
    shown = summaries(tmp_path)
    assert sorted(shown) == [0, 1, 2]
    for step, (width, height, png) in shown.items():
        path = tmp_path / "samples" / f"epoch_{step:04d}.png"
        assert png == path.read_bytes()
        assert pixels(path).shape == (int(height), int(width), 3) == (70, 134, 3)


def test_tensorboard_callback_does_not_switch_it_off(tmp_path):
    tensorboard = keras.callbacks.TensorBoard(tmp_path / "logs", update_freq=1000)
    fit(built(), [tensorboard, SampleGrid(tmp_path)], epochs=3, batch_size=1)
    assert sorted(summaries(tmp_path)) == [0, 1, 2, 3]


@pytest.mark.parametrize("epochs", [4, 5])
def test_every_and_always_the_last(tmp_path, epochs):
    fit(built(), [SampleGrid(tmp_path, every=2)], epochs=epochs)
    expected = sorted({0, 2, 4, epochs})
    assert names(tmp_path) == [f"epoch_{epoch:04d}.png" for epoch in expected]


def test_writes_the_last_epoch_of_a_stopped_run(tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", patience=0, mode="max")
    fit(built(), [SampleGrid(tmp_path, every=10), stop], epochs=50)
    assert names(tmp_path) == ["epoch_0000.png", "epoch_0002.png"]


def test_resumed_run_goes_on(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(built(), [SampleGrid(whole, gif=True)], epochs=4)

    model = built()
    fit(model, [SampleGrid(parts, gif=True)], epochs=2)
    fit(model, [SampleGrid(parts, gif=True)], epochs=4, initial_epoch=2)
    assert names(whole) == names(parts)
    for name in names(whole):
        assert (whole / "samples" / name).read_bytes() == (parts / "samples" / name).read_bytes()
    assert sorted(summaries(parts)) == [0, 1, 2, 3, 4]


def test_trained_model_is_not_taken_for_an_untrained_one(tmp_path):
    """As when a run is resumed in the middle of its first epoch."""
    model = built()
    fit(model, [], epochs=1)
    fit(model, [SampleGrid(tmp_path)], epochs=1)
    assert names(tmp_path) == ["epoch_0001.png"]


class TestGif:
    def test_shows_all_grids_in_order(self, tmp_path):
        fit(built(), [SampleGrid(tmp_path, gif=True)], epochs=3)
        path = tmp_path / "samples" / "training.gif"
        with Image.open(path) as film:
            assert film.n_frames == 4
            for epoch in range(4):
                film.seek(epoch)
                grid = pixels(tmp_path / "samples" / f"epoch_{epoch:04d}.png")
                np.testing.assert_array_equal(np.asarray(film.convert("L")), grid)
        assert kgi.read_provenance(path)["Model"] == "fake"

    def test_leaves_out_what_does_not_belong(self, tmp_path):
        samples = tmp_path / "samples"
        fit(built(), [SampleGrid(tmp_path, num_images=4)], epochs=4)
        (samples / "epoch_best.png").write_text("not ours")
        (samples / "epoch_0001.png").unlink()
        fit(built(), [SampleGrid(tmp_path, every=2, gif=True)], epochs=2)  # epochs 0 and 2
        with Image.open(samples / "training.gif") as film:
            assert film.n_frames == 2  # neither 3 and 4 of the longer run nor other sizes

    def test_run_with_nothing_left_to_do(self, tmp_path):
        model = built()
        fit(model, [SampleGrid(tmp_path)], epochs=2)
        fit(model, [SampleGrid(tmp_path, gif=True)], epochs=2, initial_epoch=2)
        with Image.open(tmp_path / "samples" / "training.gif") as film:
            assert film.n_frames == 3


class TestLabels:
    def labels(self, tmp_path, num_classes, **arguments):
        model = built(num_classes=num_classes)
        fit(model, [SampleGrid(tmp_path, every=9, **arguments)], epochs=1)
        n, labels, _ = model.calls[0]
        assert n == len(labels)
        height, width = pixels(tmp_path / "samples" / "epoch_0000.png").shape
        return labels, (height // 66, width // 66)

    def test_one_row_a_class(self, tmp_path):
        labels, rows_columns = self.labels(tmp_path, 3)
        np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], 8))
        assert rows_columns == (3, 8)

    def test_many_classes_are_sampled_evenly(self, tmp_path):
        labels, rows_columns = self.labels(tmp_path, 1000)
        assert rows_columns == (16, 8)
        assert len(set(labels)) == 16 and labels.min() == 0 and labels.max() == 999

    def test_num_images_limits(self, tmp_path):
        labels, rows_columns = self.labels(tmp_path, 10, num_images=4, per_class=2)
        np.testing.assert_array_equal(labels, [0, 0, 9, 9])
        assert rows_columns == (2, 2)
        labels, rows_columns = self.labels(tmp_path, 10, num_images=4)
        assert rows_columns == (1, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("every", 0), ("every", True), ("num_images", 0), ("per_class", None), ("scale", 0.5)]
    + [("seed", "zero")],
)
def test_rejects(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        SampleGrid(tmp_path, **{name: value})


def test_rejects_a_model_that_cannot_generate_before_training(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a model with `generate"):
        fit(model, [SampleGrid(tmp_path)])


def test_sequences_are_a_row_of_frames_each_and_an_animation(tmp_path):
    model = built(image_shape=(3, 8, 12, 1))
    model.num_frames = 3
    fit(model, [SampleGrid(tmp_path, num_images=4)], epochs=1)
    assert "epoch_0001.gif" in names(tmp_path)
    sequences = model.generate(4, seed=0)
    strips = kgi.grid(sequences.reshape(-1, 8, 12, 1), columns=3, scale=5)
    np.testing.assert_array_equal(pixels(tmp_path / "samples" / "epoch_0001.png"), strips[..., 0])
    with Image.open(tmp_path / "samples" / "epoch_0001.gif") as animation:
        assert animation.n_frames == 3
        animation.seek(2)
        shown = np.asarray(animation.convert("L"))
    np.testing.assert_array_equal(shown, kgi.grid(sequences[:, 2], scale=5)[..., 0])
    provenance = kgi.read_provenance(tmp_path / "samples" / "epoch_0001.gif")
    assert provenance["Weights"] == model.weights_hash()[:16]


@pytest.mark.parametrize("num_images, expected", [(None, 10), (4, 4)])
def test_sequences_of_classes_are_one_of_each(tmp_path, num_images, expected):
    model = built(image_shape=(2, 4, 4, 1), num_classes=10)
    model.num_frames = 2
    fit(model, [SampleGrid(tmp_path, num_images=num_images)], epochs=1)
    count, labels, _ = model.calls[0]
    assert count == len(set(labels.tolist())) == expected


def test_draws_what_it_is_told_to(tmp_path):
    model = built()
    model.generate = None  # as of a model that only translates

    def draw(given):
        assert given is model
        return np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1), 3

    fit(model, [SampleGrid(tmp_path, draw=draw, scale=1)])
    expected = kgi.grid(draw(model)[0], columns=3)
    np.testing.assert_array_equal(pixels(tmp_path / "samples" / "epoch_0001.png"), expected[..., 0])
