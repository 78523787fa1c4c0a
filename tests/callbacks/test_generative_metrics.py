"""GenerativeMetrics: what is in the logs, what it costs, and that training does not notice."""

import types

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import keras_gen as kg
from keras_gen.callbacks import generative_metrics
from keras_gen.callbacks.generative_metrics import GenerativeMetrics
from keras_gen.metrics.extractors import KerasExtractor, extract
from keras_gen.metrics.kernel import kernel_distance_all_pairs
from tests.conformance.cases import mlp_gan

NAMES = ("kernel_distance", "frechet_distance")


@pytest.fixture(scope="module")
def source():
    pixels, labels = kg.data.load("digits").take(400, seed=0)
    return kg.data.load((pixels, labels))


@pytest.fixture(scope="module")
def extractor():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(12, 3, activation="relu")(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(maps)
    return KerasExtractor(keras.Model(inputs, outputs, name="small"))


def gan(num_classes=10, **arguments):
    model = mlp_gan((8, 8, 1), num_classes, **arguments)
    model.compile(keras.optimizers.Adam(2e-3, 0.5), keras.optimizers.Adam(2e-3, 0.5))
    return model


def measured(source, extractor, **arguments):
    options = {"num_images": 50, "max_share": None, "verbose": 0} | arguments
    return GenerativeMetrics(source, extractor=extractor, **options)


def fit(model, source, callbacks, epochs=4):
    return model.fit(source.batches(100), epochs=epochs, verbose=0, callbacks=callbacks).history


class Clock:
    """A time that passes only when told to; each image generated takes a hundredth of a second."""

    def __init__(self, monkeypatch, model):
        self.now = 0.0
        monkeypatch.setattr(
            generative_metrics, "time", types.SimpleNamespace(perf_counter=lambda: self.now)
        )
        generate = model.generate

        def slow_generate(n, **arguments):
            self.now += n / 100
            return generate(n, **arguments)

        monkeypatch.setattr(model, "generate", slow_generate)

    def epoch(self, seconds):
        def pass_time(epoch, logs):
            self.now += seconds

        return keras.callbacks.LambdaCallback(on_epoch_begin=pass_time)


class TestLogs:
    def test_values_of_every_epoch_are_in_the_history(self, source, extractor):
        metrics = measured(source, extractor)
        history = fit(gan(), source, [metrics])
        for name in NAMES:
            assert len(history[name]) == 4 and len(set(history[name])) == 4
        assert metrics.values == {name: history[name][-1] for name in NAMES}
        assert set(metrics.floor) == set(NAMES)
        assert abs(metrics.floor["kernel_distance"]) < history["kernel_distance"][0]

    def test_value_is_that_of_the_generating_weights(self, source, extractor):
        model = gan()
        metrics = measured(source, extractor, num_real=300, seed=5)
        fit(model, source, [metrics])
        images, labels = source.take(350, seed=5)
        fake = model.generate(50, labels=labels[:50], seed=5)
        real = extract(extractor, images[:300]).features
        expected = kernel_distance_all_pairs(real, extract(extractor, fake).features)
        assert metrics.values["kernel_distance"] == expected

    def test_every_repeats_the_last_value(self, source, extractor):
        metrics = measured(source, extractor, every=3)
        values = fit(gan(), source, [metrics], epochs=7)["kernel_distance"]
        assert [values[i] == values[i - 1] for i in range(1, 7)] == [1, 0, 1, 1, 0, 1]
        assert metrics.num_measured == 3

    @pytest.mark.parametrize("first", [True, False])
    def test_keeps_the_best_wherever_it_is_listed(self, source, extractor, tmp_path, first):
        metrics = measured(source, extractor)
        monitor = {"monitor": "kernel_distance", "mode": "min"}
        best_path = tmp_path / "best.keras"
        others = [
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", save_best_only=True, **monitor
            ),
            keras.callbacks.EarlyStopping(patience=100, **monitor),
            kg.callbacks.ExportSavedModel(tmp_path / "versions", **monitor),
            keras.callbacks.TensorBoard(tmp_path / "logs"),
        ]
        callbacks = [metrics, *others] if first else [*others, metrics]
        values = fit(gan(), source, callbacks)["kernel_distance"]
        best = keras.saving.load_model(best_path)
        features = extract(extractor, best.generate(50, metrics._labels, seed=0)).features
        assert kernel_distance_all_pairs(metrics._real, features) == min(values)
        assert others[1].best == min(values)
        assert len(list((tmp_path / "versions").glob("[0-9]*"))) >= 1
        events = event_accumulator.EventAccumulator(str(tmp_path / "logs" / "train")).Reload()
        steps = [event.step for event in events.Tensors("epoch_kernel_distance")]
        assert steps == [0, 1, 2, 3]

    def test_plain_keras_model(self, source, extractor):
        class Plain(keras.Sequential):
            def generate(self, n, labels=None, seed=0):
                return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), np.uint8)

        model = Plain([keras.layers.Flatten(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        x = np.zeros((8, 8, 8, 1), "float32")
        metrics = measured(source, extractor)
        history = model.fit(x, x[:, 0, 0, 0], epochs=2, verbose=0, callbacks=[metrics]).history
        assert len(history["kernel_distance"]) == 2

    def test_more_features_than_images(self, source, extractor, capsys):
        metrics = measured(source, extractor, num_images=8, verbose=1)
        history = fit(gan(), source, [metrics], epochs=1)
        assert "frechet_distance" not in history and "kernel_distance" in history
        assert "no frechet_distance, which takes more than 12 images" in capsys.readouterr().out

    def test_unlabelled(self, source, extractor):
        images, _ = source.take(200)
        history = fit(gan(None), kg.data.load(images), [measured(images, extractor)], epochs=1)
        assert np.isfinite(history["kernel_distance"]).all()


class TestTraining:
    def test_does_not_notice(self, source, extractor):
        alone, watched = gan(), gan()
        fit(alone, source, [])
        fit(watched, source, [measured(source, extractor, every=2)])
        for one, other in zip(alone.variables, watched.variables):
            np.testing.assert_array_equal(one, other)

    def test_resumed_logs_are_those_without_interruption(self, source, extractor, tmp_path):
        def run(run_dir, epochs):
            metrics = measured(source, extractor, every=2)
            return fit(gan(), source, [kg.callbacks.Resume(run_dir), metrics], epochs)

        whole = run(tmp_path / "whole", 5)
        run(tmp_path / "cut", 3)
        resumed = run(tmp_path / "cut", 5)
        for name in NAMES:
            assert resumed[name] == whole[name]

    def test_distributed_with_its_own_classifier(self, source, two_replicas, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_GEN_CACHE", str(tmp_path))
        train = generative_metrics.train_extractor
        monkeypatch.setattr(
            generative_metrics, "train_extractor", lambda data: train(data, num_images_seen=500)
        )
        with two_replicas.scope():
            model = gan()
        metrics = GenerativeMetrics(source, num_images=100, max_share=None, verbose=0)
        history = fit(model, source, [metrics], epochs=1)
        assert metrics.extractor.name.startswith("keras_gen classifier")
        assert list(tmp_path.glob("extractors/*.npz"))
        assert set(NAMES) <= set(history)


class TestTime:
    def test_share_is_bounded_and_stated(self, source, extractor, monkeypatch, capsys):
        model = gan()
        clock = Clock(monkeypatch, model)
        metrics = measured(source, extractor, max_share=0.1, verbose=1)  # measuring takes 0.5 s
        values = fit(model, source, [clock.epoch(1.0), metrics], epochs=40)["kernel_distance"]
        assert 0.07 < metrics.time_share <= 0.1
        assert metrics.num_measured == len(set(values)) == 8
        out = capsys.readouterr().out
        assert out.count("some epochs repeat the last values") == 1
        assert "measured 8 of 40 epochs in 4.0 s, 9.1% of the training time" in out

    def test_nothing_is_skipped_where_there_is_time(self, source, extractor, monkeypatch, capsys):
        model = gan()
        clock = Clock(monkeypatch, model)
        metrics = measured(source, extractor, max_share=0.1, verbose=1)
        fit(model, source, [clock.epoch(10.0), metrics])
        assert metrics.num_measured == 4
        assert "repeat the last values" not in capsys.readouterr().out


class TestErrors:
    def test_arguments(self, source, extractor):
        images, _ = source.take(50)
        with pytest.raises(ValueError, match=r"give `extractor`.*extractor=None"):
            GenerativeMetrics(images)
        for name, value in (("every", 0), ("num_images", 2), ("num_real", 1), ("seed", 2**31)):
            with pytest.raises(ValueError, match=f"Received: {name}={value}"):
                GenerativeMetrics(source, extractor=extractor, **{name: value})
        with pytest.raises(ValueError, match="max_share=0"):
            GenerativeMetrics(source, extractor=extractor, max_share=0)

    def test_model_that_does_not_fit(self, source, extractor):
        metrics = measured(source, extractor)
        small = kg.data.load(np.zeros((20, 9, 8, 1), np.uint8))
        model = mlp_gan((9, 8, 1), None)
        model.compile()
        with pytest.raises(ValueError, match=r"those of the model, \(9, 8, 1\)"):
            fit(model, small, [metrics])
        with pytest.raises(ValueError, match="5 classes, and the images must not have more"):
            few = kg.data.load((np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 5))
            fit(gan(5), few, [metrics])
        plain = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
        plain.compile("sgd", "mse")
        with pytest.raises(ValueError, match="needs a model with `generate"):
            plain.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0, callbacks=[metrics])
