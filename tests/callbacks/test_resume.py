"""Resume, beyond what the conformance suite asks of every model."""

import json
import warnings
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import randomness
from keras_gen.callbacks import resume as resume_module
from keras_gen.models.base import GenerativeModel
from tests.conformance.cases import assert_same_state, digits, state

BATCHES = 6  # an epoch: 96 images in batches of 16


class Killed(Exception):
    pass


class AfterBatches(keras.callbacks.Callback):
    """Acts once, after so many calls of the training function."""

    def __init__(self, calls, act):
        super().__init__()
        self.calls, self.act = calls, act

    def on_train_batch_end(self, batch, logs=None):
        self.calls -= 1
        if self.calls == 0:
            self.act(self.model)


class TrainedBatches(keras.callbacks.Callback):
    """Counts the training steps that were taken, not those passed over."""

    def on_train_begin(self, logs=None):
        self.before = None

    def on_epoch_begin(self, epoch, logs=None):
        self.before = self._step() if self.before is None else self.before

    def _step(self):
        return int(np.asarray(self.model.step))

    @property
    def count(self):
        return 0 if self.before is None else self._step() - self.before


class Mean(GenerativeModel):
    """Learns the mean image, noisily: all that Resume has to do with, and quick without tracing."""

    loss_names = ("loss",)

    def __init__(self, image_shape=(8, 8, 1), num_classes=None, **kwargs):
        super().__init__(image_shape, num_classes, ema=0.9, **kwargs)
        latent = keras.Input((1,))
        pixels = keras.layers.Dense(64, kernel_initializer="ones")(latent)
        self.network = keras.Model(
            latent, keras.layers.Reshape(image_shape, dtype="float32")(pixels)
        )
        self.averaged_network = self.averages.follow(self.network)
        self.built = True

    def compile(self, optimizer=None, **kwargs):
        optimizer = optimizer or keras.optimizers.Adam(1e-2)
        variables = self.network.trainable_variables
        super().compile(self._built_optimizer(optimizer, variables), **kwargs)

    def step_key(self):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.stack([self.step.value, tf.cast(replica, tf.int64)])

    def _terms(self, data, key):
        images, _ = self.unpack(data)
        latents = randomness.normal([tf.shape(images)[0], 1], key)
        return {"loss": tf.reduce_mean((self.network(latents) - images) ** 2, [1, 2, 3])}

    def train_step(self, data):
        with tf.GradientTape() as tape:
            terms = self._terms(data, self.step_key())
            loss = self.scaled(tf.reduce_mean(terms["loss"]), self.optimizer)
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.finish_step()
        return self.report(terms)

    def test_step(self, data):
        return self.report(self._terms(data, randomness.key(self.seed, "evaluation")))


def mean(optimizer=None, **compile_arguments):
    model = Mean()
    model.compile(optimizer, **{"run_eagerly": True, **compile_arguments})
    return model


def kill(model):
    raise Killed


def stop(model):
    model.stop_training = True


def gan(width=8, num_classes=None, discriminator=None, optimizer=None, **compile_arguments):
    mlp = kg.networks.mlp
    model = kg.models.GAN(
        (8, 8, 1),
        num_classes,
        generator=mlp.generator((8, 8, 1), 4, (width,), num_classes),
        discriminator=discriminator or mlp.discriminator((8, 8, 1), (width,), num_classes, seed=1),
        ema=0.9,
        recipe="gan",
    )
    model.compile(optimizer, **{"run_eagerly": True, **compile_arguments})
    return model


source = cache(digits)


def batches(size=16, labelled=False, count=16 * BATCHES):
    return source(labelled=labelled, count=count).batches(size, seed=3)


def fit(run_dir, epochs=2, *callbacks, model=None, data=None, every_batches=2, **arguments):
    model = model or mean()
    resume = kg.callbacks.Resume(run_dir, every_batches=every_batches)
    data = batches() if data is None else data
    model.fit(data, epochs=epochs, callbacks=[*callbacks, resume], verbose=0, **arguments)
    return model


def assert_same_run(first, second):
    assert_same_state(first, second)
    assert first.history.history == second.history.history
    assert first.history.epoch == second.history.epoch


def assert_resumes(tmp_path, make=mean, kills=(3, 8), make_data=batches, callbacks=tuple, **kwargs):
    """A run killed after so many calls of the training function ends as the one that was not."""
    whole = fit(tmp_path / "whole", 2, *callbacks(), model=make(), data=make_data(), **kwargs)
    for calls in kills:
        killer = AfterBatches(calls, kill)
        with pytest.raises(Killed):
            parts = [*callbacks(), killer]
            fit(tmp_path / "parts", 2, *parts, model=make(), data=make_data(), **kwargs)
    counter = TrainedBatches()
    resumed = fit(
        tmp_path / "parts", 2, counter, *callbacks(), model=make(), data=make_data(), **kwargs
    )
    assert 0 < counter.count < int(np.asarray(whole.step))  # so that it was a resumed run
    assert_same_run(whole, resumed)
    return whole, resumed


def names(run_dir):
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def contents(run_dir):
    return {p.name: p.read_bytes() for p in (run_dir / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs that nothing interrupted."""
    return fit(tmp_path_factory.mktemp("whole"), 2)


@pytest.fixture
def silent():
    """Nothing in the test may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Which checkpoints there are


def test_the_two_most_recent_checkpoints_are_kept(tmp_path, silent):
    fit(tmp_path, 2)
    assert names(tmp_path) == ["epoch-000001-batch-00000004.npz", "epoch-000002-batch-00000000.npz"]


def test_without_an_interval_only_the_ends_of_epochs_are_saved(tmp_path):
    fit(tmp_path, 2, every_batches=None)
    assert names(tmp_path) == ["epoch-000001-batch-00000000.npz", "epoch-000002-batch-00000000.npz"]


def test_time_makes_a_checkpoint_due(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(resume_module.time, "monotonic", lambda: now[0])
    wait = AfterBatches(3, lambda model: now.__setitem__(0, 301.0))
    with pytest.raises(Killed):
        fit(tmp_path, 1, wait, AfterBatches(5, kill), every_batches=None)
    assert names(tmp_path) == ["epoch-000000-batch-00000003.npz"]


@pytest.mark.parametrize("arguments", [{"every_batches": 0}, {"every_seconds": -1.0}])
def test_an_interval_must_be_positive(arguments):
    with pytest.raises(ValueError, match="Received: "):
        kg.callbacks.Resume("runs/none", **arguments)


# Damage


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, position=0.5):
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 0x40
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, whole, damage):
    with pytest.raises(Killed):
        fit(tmp_path / "parts", 2, AfterBatches(BATCHES + 3, kill))
    newest = "epoch-000001-batch-00000002.npz"
    assert names(tmp_path / "parts")[-1] == newest
    damage(tmp_path / "parts" / "checkpoints" / newest)
    counter = TrainedBatches()
    with pytest.warns(UserWarning, match=newest):
        resumed = fit(tmp_path / "parts", 2, counter)
    assert counter.count == BATCHES  # from the end of the first epoch
    assert_same_run(whole, resumed)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path):
    """Wherever it is: what is read is what was written, or an exception."""
    fit(tmp_path, 1)
    path = tmp_path / "checkpoints" / names(tmp_path)[-1]
    intact, whole = path.read_bytes(), resume_module._read(path)
    noticed = 0
    for position in np.linspace(0, 1, 60, endpoint=False):
        flip(path, position)
        try:
            read = resume_module._read(path)
        except Exception:
            noticed += 1
        else:
            assert read.keys() == whole.keys()
            assert all(np.array_equal(read[name], whole[name]) for name in whole)
        path.write_bytes(intact)
    assert noticed > 30


def test_a_run_whose_checkpoints_are_all_damaged_starts_afresh(tmp_path, whole):
    fit(tmp_path / "parts", 2)
    for path in (tmp_path / "parts" / "checkpoints").iterdir():
        truncate(path)
    with pytest.warns(UserWarning) as caught:
        afresh = fit(tmp_path / "parts", 2)
    told = " ".join(str(warning.message) for warning in caught)
    assert "epoch-000001-batch-00000004.npz" in told and "epoch-000002" in told
    assert_same_run(whole, afresh)


def test_damaged_checkpoints_of_later_positions_do_not_push_out_the_new_ones(tmp_path):
    fit(tmp_path, 2)
    for path in (tmp_path / "checkpoints").iterdir():
        truncate(path)
    with pytest.warns(UserWarning), pytest.raises(Killed):
        fit(tmp_path, 2, AfterBatches(5, kill))
    assert names(tmp_path) == [
        "epoch-000000-batch-00000002.npz",
        "epoch-000000-batch-00000004.npz",
        "epoch-000001-batch-00000004.damaged",
        "epoch-000002-batch-00000000.damaged",
    ]
    counter = TrainedBatches()
    fit(tmp_path, 2, counter)
    assert counter.count == 2 * BATCHES - 4


def test_the_leftover_of_an_interrupted_write_is_harmless(tmp_path, whole, silent):
    with pytest.raises(Killed):
        fit(tmp_path / "parts", 2, AfterBatches(5, kill))
    folder = tmp_path / "parts" / "checkpoints"
    (folder / "epoch-000000-batch-00000006.partial").write_bytes(b"half of it")
    (folder / "epoch-000001-batch-00000002.partial").write_bytes(b"half of it")
    assert_same_run(whole, fit(tmp_path / "parts", 2))
    assert not list(folder.glob("*.partial"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path, whole):
    def spoil(model):
        weight = model.network.trainable_variables[0]
        weight.assign(np.full(weight.shape, np.nan))

    with pytest.warns(UserWarning, match="not finite.*epoch 0, batch 4"):
        fit(tmp_path / "parts", 2, AfterBatches(5, spoil))
    assert names(tmp_path / "parts")[-1] == "epoch-000000-batch-00000004.npz"
    assert_same_run(whole, fit(tmp_path / "parts", 2))


# Other models, other data


@pytest.mark.parametrize(
    "other, received",
    [
        ({"width": 9}, r"Received: \(\d+,.*\)$"),
        ({"num_classes": 10}, r"Received: \(\d+,.*\)$"),
        ({"optimizer": "sgd"}, r"Received: (\d+|\(.*\))$"),
    ],
    ids=["width", "labelled", "optimizer"],
)
def test_checkpoints_of_another_model_are_refused(tmp_path, other, received):
    with pytest.raises(Killed):
        fit(tmp_path, 2, AfterBatches(2, kill), model=gan(), every_batches=1)
    before = contents(tmp_path)
    model = gan(**other)
    untouched = state(model)
    with pytest.raises(ValueError, match="of another model; choose another run_dir.*" + received):
        fit(tmp_path, 2, model=model, data=batches(labelled="num_classes" in other))
    assert contents(tmp_path) == before
    for a, b in zip(untouched, state(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_checkpoints_of_layers_told_otherwise_are_refused(tmp_path):
    """A convolution dilated otherwise has the same weights, and is another function."""

    def pixelcnn(dilations):
        network = kg.networks.pixelcnn.gated(
            (8, 8, 1), 4, width=4, blocks=2, first_kernel=3, dilations=dilations
        )
        model = kg.models.PixelCNN((8, 8, 1), levels=4, network=network)
        model.compile(run_eagerly=True)
        return model

    fit(tmp_path, 1, model=pixelcnn((1, 2)))
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"layer 'vertical_1_conv' with dilation=1. Received: .*=2"
    ):
        fit(tmp_path, 2, model=pixelcnn((1,)))
    assert contents(tmp_path) == before
    fit(tmp_path, 2, model=pixelcnn((1, 2)))
    assert contents(tmp_path) != before


def test_another_number_of_batches_is_refused(tmp_path):
    fit(tmp_path, 1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"6 batches an epoch.*Received: 12 batches an epoch$"):
        fit(tmp_path, 2, data=batches(size=8))
    assert contents(tmp_path) == before


def test_other_steps_per_execution_may_begin_an_epoch_but_not_end_one(tmp_path):
    fit(tmp_path / "ended", 1)
    fit(tmp_path / "ended", 2, model=mean(steps_per_execution=2))
    with pytest.raises(Killed):
        fit(tmp_path / "inside", 1, AfterBatches(5, kill))
    with pytest.raises(ValueError, match=r"Received: steps_per_execution=3$"):
        fit(tmp_path / "inside", 1, model=mean(steps_per_execution=3))


# Ends


def test_a_finished_run_trains_nothing_and_keeps_its_history(tmp_path, silent):
    first = fit(tmp_path, 2)
    before, counter = contents(tmp_path), TrainedBatches()
    again = fit(tmp_path, 2, counter)
    assert counter.count == 0
    assert contents(tmp_path) == before
    assert_same_run(first, again)
    fewer = fit(tmp_path, 1)
    assert_same_run(first, fewer)


def test_raised_epochs_go_on(tmp_path):
    whole = fit(tmp_path / "whole", 3)
    fit(tmp_path / "parts", 1)
    assert_same_run(whole, fit(tmp_path / "parts", 3))


def test_the_same_model_goes_on_after_an_interrupt(tmp_path, whole):
    """As in a notebook: the cell with `fit` is run again, also when interrupted while resuming."""
    model = mean()
    for calls in (5, 2, 9):
        with pytest.raises(Killed):
            fit(tmp_path / "parts", 2, AfterBatches(calls, kill), model=model)
    assert_same_run(whole, fit(tmp_path / "parts", 2, model=model))
    history = model.fit(batches(), epochs=1, verbose=0)  # without Resume, from the first epoch
    assert history.epoch == [0]


def test_a_run_stopped_inside_an_epoch_goes_on_inside_it(tmp_path):
    """As with a callback that keeps to a limit of time."""
    validation = batches(size=32)
    whole = fit(tmp_path / "whole", 2, validation_data=validation)
    stopped = fit(
        tmp_path / "parts", 2, AfterBatches(BATCHES + 3, stop), validation_data=validation
    )
    assert int(stopped.step) == BATCHES + 3
    assert names(tmp_path / "parts")[-1] == "epoch-000001-batch-00000003.npz"
    assert_same_run(whole, fit(tmp_path / "parts", 2, validation_data=validation))


def test_a_run_stopped_after_an_epoch_goes_on_with_the_next(tmp_path):
    whole = fit(tmp_path / "whole", 3)
    early = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    stopped = fit(tmp_path / "parts", 3, early)
    assert stopped.history.epoch == [0, 1]  # Keras never stops after the first
    assert_same_run(whole, fit(tmp_path / "parts", 3))


# Kinds of training


@pytest.mark.parametrize("steps", [4, 10])
def test_steps_per_epoch_of_a_repeated_data_set(tmp_path, steps):
    assert_resumes(tmp_path, kills=(3, steps + 3), steps_per_epoch=steps)


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
def test_several_steps_per_execution(tmp_path, silent, steps_per_epoch):
    def make():
        return mean(steps_per_execution=2, run_eagerly=False)

    def odd():  # 5 batches: the last execution has one of its two steps
        return batches(count=80)

    assert_resumes(tmp_path, make, (2, 5), odd, every_batches=1, steps_per_epoch=steps_per_epoch)


def test_an_interval_inside_which_executions_end(tmp_path):
    with pytest.raises(Killed):
        model = mean(steps_per_execution=4)
        data = batches(count=16 * 20)
        fit(tmp_path, 1, AfterBatches(5, kill), model=model, data=data, every_batches=6)
    assert names(tmp_path) == ["epoch-000000-batch-00000008.npz", "epoch-000000-batch-00000012.npz"]


def test_a_data_set_of_the_users_own(tmp_path):
    pixels, _ = kg.data.load("digits").take(16 * BATCHES, seed=0)
    images = (pixels / 127.5 - 1).astype("float32")

    def own():
        return tf.data.Dataset.from_tensor_slices(images).batch(16).prefetch(2)

    assert_resumes(tmp_path, make_data=own)


def test_a_data_set_of_unknown_length(tmp_path):
    def unknown():
        return batches().filter(lambda images: True)

    assert int(unknown().cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert_resumes(tmp_path, make_data=unknown)


def test_a_learning_rate_schedule(tmp_path):
    def make():
        schedule = keras.optimizers.schedules.CosineDecay(1e-2, 2 * BATCHES)
        return mean(keras.optimizers.RMSprop(schedule, momentum=0.9))

    _, resumed = assert_resumes(tmp_path, make)
    assert float(resumed.optimizer.learning_rate) == 0  # the end of the schedule


def test_a_learning_rate_that_a_callback_changes_each_epoch(tmp_path):
    """It is changed again when an interrupted epoch begins again, which must not count."""

    def halving():
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)]

    whole, _ = assert_resumes(tmp_path, callbacks=halving)
    assert float(whole.optimizer.learning_rate) == pytest.approx(1e-2 / 4)


def test_a_learning_rate_that_a_callback_changes_each_batch(tmp_path):
    class Decay(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = self.model.optimizer.learning_rate * 0.9

    whole, _ = assert_resumes(tmp_path, callbacks=lambda: [Decay()])
    rate = float(whole.optimizer.learning_rate)
    assert rate == pytest.approx(1e-2 * 0.9 ** (2 * BATCHES), rel=1e-4)


def test_gradient_accumulation(tmp_path):
    assert_resumes(
        tmp_path,
        lambda: mean(keras.optimizers.AdamW(1e-3, gradient_accumulation_steps=4)),
    )


def test_a_network_with_dropout_of_keras(tmp_path):
    """Its random state is a variable that `.keras` files leave out."""

    def make():
        discriminator = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(8, kernel_initializer=keras.initializers.GlorotUniform(0)),
                keras.layers.Dropout(0.5, seed=0),
                keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(1)),
            ]
        )
        return gan(discriminator=discriminator)

    assert any("seed_generator_state" in variable.path for variable in make().variables)
    assert_resumes(tmp_path, make)


def test_the_scale_of_float16_losses(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")

    def make():
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(1e-3), initial_scale=2.0**8, dynamic_growth_steps=5
        )
        return mean(optimizer)

    whole, resumed = assert_resumes(tmp_path, make)
    assert float(whole.optimizer.dynamic_scale) != 2.0**8
    assert float(resumed.optimizer.dynamic_scale) == float(whole.optimizer.dynamic_scale)
    assert int(resumed.optimizer.step_counter) == int(whole.optimizer.step_counter) != 0


def test_two_replicas(tmp_path, two_replicas):
    """The losses so far of each replica are kept apart: their sum would round otherwise."""

    def make():
        with two_replicas.scope():
            return mean(run_eagerly=False)

    assert_resumes(tmp_path, make, kills=(3,))


def test_a_checkpoint_of_another_number_of_replicas(tmp_path):
    """The losses so far, [replicas, ...], count as their sum."""
    total = keras.metrics.Mean()
    total.update_state([0.0])
    resume_module._assign_to_replicas(
        tf.distribute.get_strategy(), total.variables, [np.float32([3, 5]), np.float32([1, 3])]
    )
    assert float(total.result()) == 2


# Other callbacks


def test_among_the_callbacks_of_a_real_run(tmp_path):
    def callbacks():
        return [
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
            keras.callbacks.TerminateOnNaN(),
            kg.callbacks.LearningRates(tmp_path / "rates"),
        ]

    whole, _ = assert_resumes(tmp_path, callbacks=callbacks, validation_data=batches(size=48))
    assert {"loss", "val_loss", "learning_rate"} <= set(whole.history.history)


@pytest.mark.parametrize("first", [True, False])
def test_the_place_among_the_callbacks_does_not_matter(tmp_path, first):
    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["twice"] = 2 * logs["loss"]

    def run(run_dir, *others):
        resume = kg.callbacks.Resume(run_dir, every_batches=2)
        callbacks = [resume, Logs()] if first else [Logs(), resume]
        model = mean()
        model.fit(batches(), epochs=2, callbacks=[*callbacks, *others], verbose=0)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "parts", AfterBatches(BATCHES + 3, kill))
    assert_same_run(whole, run(tmp_path / "parts"))
    assert len(whole.history.history["twice"]) == 2


def test_the_losses_shown_while_batches_are_passed_over_are_those_of_the_checkpoint(tmp_path):
    seen = []
    log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs))
    fit(tmp_path / "whole", 1, log)
    whole, seen[:] = list(seen), []
    with pytest.raises(Killed):
        fit(tmp_path / "parts", 1, AfterBatches(5, kill))
    fit(tmp_path / "parts", 1, log)
    assert [float(logs["loss"]) for logs in seen] == [
        float(whole[batch]["loss"]) for batch in (3, 3, 3, 3, 4, 5)
    ]


def test_the_checkpoint_says_where_it_is(tmp_path):
    fit(tmp_path, 2)
    with np.load(tmp_path / "checkpoints" / "epoch-000001-batch-00000004.npz") as archive:
        position = json.loads(archive["position"].tobytes())
    assert (position["epoch"], position["batch"], position["steps"]) == (1, 4, BATCHES)
    assert position["epochs"] == [0] and len(position["history"]["loss"]) == 1
