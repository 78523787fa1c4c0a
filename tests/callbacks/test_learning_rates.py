import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_gen.callbacks.learning_rates import LearningRates, learning_rates


class TwoOptimizers(keras.Model):
    """Trains its layer with `generator`; `discriminator` takes a step with no gradient."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 2))
        self.built = True
        self.generator, self.discriminator = generator, discriminator
        self.compile(generator, "mse")

    @property
    def optimizers(self):
        return {"optimizer": self.generator, "discriminator_optimizer": self.discriminator}

    def call(self, inputs):
        return self.dense(inputs)


def fit(model, callbacks, **arguments):
    x = np.ones([4, 2], "float32")
    return model.fit(x, x[:, :1], verbose=0, batch_size=2, callbacks=callbacks, **arguments)


def written(run_dir):
    """Tag -> step -> value."""
    events = event_accumulator.EventAccumulator(str(run_dir / "logs" / "learning_rates")).Reload()
    return {
        tag: {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


def plain_model(optimizer):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def test_every_optimizer(tmp_path):
    halving = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)  # two steps an epoch
    model = TwoOptimizers(keras.optimizers.SGD(halving), keras.optimizers.Adam(0.25))
    history = fit(model, [LearningRates(tmp_path)], epochs=3).history
    np.testing.assert_allclose(history["learning_rate"], [0.05, 0.025, 0.0125])
    assert history["discriminator_learning_rate"] == [0.25] * 3
    assert written(tmp_path) == {
        name: dict(enumerate(history[name]))
        for name in ("learning_rate", "discriminator_learning_rate")
    }


def test_single_optimizer_and_other_callbacks(tmp_path):
    seen = []
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, _: 0.5**epoch)
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: seen.append(logs["learning_rate"])
    )
    model = plain_model("sgd")
    history = fit(model, [halve, LearningRates(tmp_path), look], epochs=3).history
    assert history["learning_rate"] == seen == [1.0, 0.5, 0.25]
    assert written(tmp_path) == {"learning_rate": {0: 1.0, 1: 0.5, 2: 0.25}}


def test_resumed_run_goes_on(tmp_path):
    model = plain_model(keras.optimizers.SGD(0.5))
    fit(model, [LearningRates(tmp_path)], epochs=2)
    fit(model, [LearningRates(tmp_path)], epochs=4, initial_epoch=2)
    assert sorted(written(tmp_path)["learning_rate"]) == [0, 1, 2, 3]


def test_tensorboard_callback_does_not_switch_it_off(tmp_path):
    tensorboard = keras.callbacks.TensorBoard(tmp_path / "logs", update_freq=1000)
    fit(plain_model("sgd"), [tensorboard, LearningRates(tmp_path)], epochs=3)
    assert sorted(written(tmp_path)["learning_rate"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("optimizer", "learning_rate"),
        ("discriminator_optimizer", "discriminator_learning_rate"),
        ("prior", "prior_learning_rate"),
    ],
)
def test_names(name, expected):
    class Model:
        optimizers = {name: keras.optimizers.SGD(0.5)}

    assert learning_rates(Model()) == {expected: 0.5}


def test_loss_scaling_with_a_schedule(tmp_path):
    halving = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(halving), initial_scale=1)
    history = fit(plain_model(optimizer), [LearningRates(tmp_path)], epochs=2).history
    assert history["learning_rate"] == [0.25, 0.125]
