"""What every model guarantees (the numbers are those of the design)."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen as kg
from keras_gen import randomness
from tests.conformance.cases import CASES, assert_same_state, one_step, state

SHAPE = (8, 8, 1)

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def make(case, image_shape=SHAPE, labelled=None, **kwargs):
    labelled = case.labelled if labelled is None else labelled
    return case.make(image_shape, 10 if labelled else None, **kwargs)


def assert_trained(case, model, before):
    """All trainable weights have changed, but for those that the case says no loss moves."""
    same = {
        weight.path
        for weight, old in zip(model.trainable_weights, before)
        if (np.asarray(weight) == old).all()
    }
    assert same <= case.unmoved, same


def data(case, image_shape=SHAPE, labelled=None):
    labelled = case.labelled if labelled is None else labelled
    return case.data(image_shape, labelled)


def batch_of(case, image_shape=SHAPE, size=16, labelled=None):
    return next(iter(data(case, image_shape, labelled).batches(size, seed=0)))


def request(case, count, image_shape=SHAPE, labelled=None):
    """What a model is asked for: seeds 0, 1, ..., and classes likewise, modulo 10."""
    labelled = case.labelled if labelled is None else labelled
    seeds = np.arange(count, dtype=np.int64)
    return case.request(image_shape, seeds, seeds % 10 if labelled else None)


def case_named(name):
    return next(case for case in CASES if case.name == name)


class PowerCut(keras.callbacks.Callback):
    """Keeps what a run's folder holds when the run is killed after so many batches."""

    def __init__(self, batches, run_dir, kept):
        super().__init__()
        self.batches, self.run_dir, self.kept = batches, run_dir, kept

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            shutil.copytree(self.run_dir, self.kept)


RUNS = tempfile.TemporaryDirectory(prefix="conformance")


@dataclass
class Run:
    """A model of a case, trained for 10 epochs of 8 batches.

    Attributes:
        model: the model; tests may train it further.
        ended: its state when the training ended.
        history: Keras's record of the training.
        before, after: how far the model was from the data.
        begun: the model's file, made before the training.
        cut: a copy of the run's folder, made after 8 epochs and 7 batches.
    """

    model: keras.Model
    ended: list
    history: keras.callbacks.History
    before: float
    after: float
    begun: Path
    cut: Path


def ready(case):
    """A model of the case, compiled with the learning rate of the case."""
    model = make(case)
    model.compile()
    for optimizer in model.optimizers.values():
        optimizer.learning_rate = case.learning_rate
    return model


def ten_epochs(case, model, run_dir, *callbacks):
    """Trains the model, or goes on with what the folder holds; Keras's record of it."""
    callbacks = [kg.callbacks.Resume(run_dir, every_batches=5), *callbacks]
    batches = data(case).batches(32, seed=0)
    return model.fit(batches, epochs=10, callbacks=callbacks, verbose=0)


@cache
def run_of(name):
    case = case_named(name)
    whole, cut = (Path(RUNS.name, name, part) for part in ("whole", "cut"))
    model = ready(case)
    whole.mkdir(parents=True)
    begun = whole / "begun.keras"
    model.save(begun)
    before = case.progress(model, data(case))
    history = ten_epochs(case, model, whole, PowerCut(8 * 8 + 7, whole, cut))
    return Run(model, state(model), history, before, case.progress(model, data(case)), begun, cut)


@pytest.fixture(scope="module", autouse=True)
def nothing_kept():
    """The graphs of all models take gigabytes, which the tests of other modules need."""
    yield
    run_of.cache_clear()
    two_plain_steps.cache_clear()
    gc.collect()


def trained(name):
    return run_of(name).model


def compile_with_sgd(model, rate, **kwargs):
    """With plain gradient descent, of which a step is traced fastest."""
    model.compile()
    model.compile(**{name: keras.optimizers.SGD(rate) for name in model.optimizers}, **kwargs)


def two_steps(case, **kwargs):
    """A model after two steps of gradient descent on one batch, and their history."""
    model = make(case)
    compile_with_sgd(model, 0.1, **kwargs)
    batches = tf.data.Dataset.from_tensors(batch_of(case)).repeat(2)
    return model, model.fit(batches, verbose=0).history


@cache
def two_plain_steps(name):
    """`two_steps` on one device, run eagerly, the noise being that of `given_noise`."""
    return two_steps(case_named(name), run_eagerly=True)


# 1. fit, evaluate, all kinds of images


@each_case
def test_fit_makes_progress_on_real_digits(case):
    run = run_of(case.name)
    assert run.after < 0.7 * run.before, (run.before, run.after)
    assert set(run.model.loss_names) == set(run.history.history)
    assert all(np.isfinite(values).all() for values in run.history.history.values())


@each_case
def test_evaluate_reports_every_loss_and_trains_nothing(case):
    model = trained(case.name)
    before = state(model)
    batches = data(case).batches(32, shuffle=False)
    first, second = (model.evaluate(batches, verbose=0, return_dict=True) for _ in range(2))
    assert first == second
    assert set(first) == set(model.loss_names)
    for a, b in zip(before, state(model)):
        np.testing.assert_array_equal(a, b)


@each_case
def test_other_images_and_the_other_labelling(case):
    """RGB, and not square."""
    shape, labelled = (8, 12, 3), not case.labelled
    model = make(case, shape, labelled)
    model.compile(run_eagerly=True)
    history = one_step(model, batch_of(case, shape, labelled=labelled))
    assert np.isfinite(history["loss"]).all()
    made = case.outputs(model, request(case, 3, shape, labelled))
    assert made.shape == (3, *data(case, shape, labelled).example_shape)


# 2. .keras


def eager_step(model, batch):
    """`one_step`, run eagerly: what a model trains with in a graph, the killed runs test."""
    model.run_eagerly = True
    model.make_train_function(force=True)
    history = one_step(model, batch)
    model.run_eagerly = False
    model.make_train_function(force=True)
    return history


def settings(model):
    """The model's own settings (Keras writes a loaded network's config in other words)."""
    config = model.get_config()
    return {
        k: without_networks(v)
        for k, v in config.items()
        if not isinstance(getattr(model, k, None), keras.Model)
    }


def without_networks(value):
    if isinstance(value, list):
        return list(map(without_networks, value))
    is_network = isinstance(value, dict) and value.get("class_name") == "Functional"
    return value["config"]["name"] if is_network else value


@each_case
def test_keras_file_round_trip(case, tmp_path):
    model = trained(case.name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert settings(loaded) == settings(model)
    assert_same_state(model, loaded)
    asked = request(case, 20)
    np.testing.assert_array_equal(case.outputs(model, asked), case.outputs(loaded, asked))
    next_steps = [eager_step(each, batch_of(case)) for each in (model, loaded)]
    assert next_steps[0] == next_steps[1]
    assert_same_state(model, loaded)


# 3. Resume (a process killed by signal 9: tests/callbacks/test_killed_run.py)


@each_case
def test_a_killed_run_continues_bit_for_bit(case):
    """With the model of a file, which then also trains as the one that was saved."""
    whole = run_of(case.name)
    checkpoints = sorted(path.name for path in (whole.cut / "checkpoints").glob("*.npz"))
    assert checkpoints[-1] == "epoch-000008-batch-00000005.npz"
    resumed = keras.saving.load_model(whole.begun)
    history = ten_epochs(case, resumed, whole.cut)
    for a, b in zip(whole.ended, state(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.history.history == history.history
    assert whole.history.epoch == history.epoch == list(range(10))


# 4. Export


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Exports every case; one process that imports TensorFlow alone answers for all of them."""
    folder = tmp_path_factory.mktemp("exports")
    for case in CASES:
        model = trained(case.name)
        model.export(folder / case.name / "1", verbose=False)
        np.savez(folder / case.name / "request.npz", **request(case, 1000))
    worker = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
answers = {}
for name in os.listdir(sys.argv[1]):
    loaded = tf.saved_model.load(f"{sys.argv[1]}/{name}/1")
    generate = loaded.signatures["serving_default"]
    inputs = generate.structured_input_signature[1]
    request = dict(np.load(f"{sys.argv[1]}/{name}/request.npz"))
    def call(n, endpoint=generate, **other):
        taken = {k: tf.constant(rows[:n]) for k, rows in request.items()}
        return endpoint(**{**taken, **other})
    answer = {"inputs": {k: [v.dtype.name, v.shape.as_list()] for k, v in inputs.items()}}
    images = {n: call(n)["images"].numpy() for n in (0, 1, 20, 1000)}
    np.savez(f"{sys.argv[1]}/{name}/images.npz", **{str(n): x for n, x in images.items()})
    png = call(3, loaded.signatures["png_bytes"])["png_bytes"].numpy()
    decoded = np.stack([tf.io.decode_png(p).numpy() for p in png])
    expected = images[20][:3]
    if expected.ndim == 5:  # the frames of a sequence, side by side
        expected = np.concatenate(list(np.moveaxis(expected, 1, 0)), 2)
    answer["png"] = bool((decoded == expected).all())
    if "label" in inputs:
        try:
            call(1, label=tf.constant([10]))
            answer["bad label"] = None
        except tf.errors.InvalidArgumentError as error:
            answer["bad label"] = error.message
    answers[name] = answer
print(json.dumps(answers))
"""
    # TensorFlow imports Keras where it is installed: here it finds one that cannot be imported.
    blocked = tmp_path_factory.mktemp("blocked")
    for name in ("keras", "keras_gen"):
        (blocked / f"{name}.py").write_text("raise ImportError('blocked by the test')")
    result = subprocess.run(
        [sys.executable, "-c", worker, str(folder)],
        env={**os.environ, "PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, json.loads(result.stdout.splitlines()[-1])


@each_case
def test_export_serves_the_images_of_generate(case, served):
    folder, answers = served
    model = trained(case.name)
    answer = answers[case.name]
    asked = request(case, 1000)
    expected = {k: [rows.dtype.name, [None, *rows.shape[1:]]] for k, rows in asked.items()}
    assert answer["inputs"] == expected
    assert answer["png"]
    if case.labelled:
        assert "Labels must lie in [0, 10)" in answer["bad label"]
    images = np.load(folder / case.name / "images.npz")
    whole = case.outputs(model, asked)
    for count in (0, 1, 20, 1000):
        np.testing.assert_array_equal(images[str(count)], whole[:count])


# 5. Seeds


@each_case
def test_a_row_depends_on_its_own_seed_and_label_alone(case):
    model = trained(case.name)
    seeds = np.array([5, -7, 2**40, 0, 5, 11, 3])
    labels = np.array([1, 2, 3, 4, 1, 6, 7]) if case.labelled else None
    asked = case.request(SHAPE, seeds, labels)
    together = case.outputs(model, asked)
    for rows in ([0], [6, 2], [3, 1, 0, 5], np.random.default_rng(0).integers(0, 7, 40)):
        alone = case.outputs(model, {k: given[rows] for k, given in asked.items()})
        np.testing.assert_array_equal(alone, together[rows])
    np.testing.assert_array_equal(together[0], together[4])
    assert (together[0] != together[5]).any()
    np.testing.assert_array_equal(case.outputs(model, asked, batch_size=2), together)
    if "image" not in asked:
        label = 0 if case.labelled else None
        np.testing.assert_array_equal(
            model.generate(3, label, seed=2), model.generate(3, label, 2 * 2**32 + np.arange(3))
        )


@each_case
def test_a_second_call_never_retraces(case):
    model = trained(case.name)
    for count in (1, 2, 17, 33):
        case.outputs(model, request(case, count))
    functions = {**model._functions, **getattr(model, "diffusion", model)._functions}
    assert {f.experimental_get_tracing_count() for f in functions.values()} == {1}


# 6. Precision

# In a graph, half precisions differ by the scaling of float16's loss alone: these are enough.
BFLOAT16_GRAPHS = {"gan-mlp-minimax", "gan-dcgan-minimax", "vae", "diffusion-rectified_flow"}


@each_case
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(case, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = make(case)
    in_a_graph = policy == "mixed_float16" or case.name in BFLOAT16_GRAPHS
    model.compile(run_eagerly=case.eager or not in_a_graph)
    before = [np.asarray(weight) for weight in model.trainable_weights]
    batches = data(case).batches(32, seed=0)
    history = model.fit(batches, steps_per_epoch=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert_trained(case, model, before)
    assert all(value.dtype == tf.float32 for value in model.train_function(iter(batches)).values())
    group = request(case, model.generation_rows).values()
    specs = [
        tf.TensorSpec(rows.shape, tf.float32 if rows.dtype == np.uint8 else rows.dtype)
        for rows in group
    ]
    generate = tf.function(getattr(model, case.step), specs, autograph=False)
    assert generate.get_concrete_function().structured_outputs.dtype == tf.float32
    if policy == "mixed_bfloat16":
        return
    scaled = keras.optimizers.LossScaleOptimizer
    assert all(isinstance(o, scaled) for o in model.optimizers.values())
    keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == policy
    assert_same_state(model, loaded)


# 7. Distribution


def given_noise(monkeypatch, batch):
    """Random draws of whole batches are slices of one global draw, whatever the replicas."""

    def sliced(draw, dtype="float32"):
        def given(shape, key, *args, dtype=dtype):
            context = tf.distribute.get_replica_context()
            share = batch // context.num_replicas_in_sync
            row = tf.get_static_value(shape, partial=True)[1:]
            whole = tf.cast(draw(*args, [batch, *map(int, row)]), dtype)
            return whole[context.replica_id_in_sync_group * share :][:share]

        return given

    def normal(shape):
        return np.random.default_rng(0).normal(size=shape)

    def uniform(*args):
        *bounds, shape = args
        return np.random.default_rng(1).uniform(*bounds, size=shape)

    def random_bytes(shape):
        return np.random.default_rng(2).integers(0, 256, size=shape)

    monkeypatch.setattr(randomness, "normal", sliced(normal))
    monkeypatch.setattr(randomness, "uniform", sliced(uniform))
    monkeypatch.setattr(randomness, "random_bytes", sliced(random_bytes, "uint8"))


@each_case
def test_two_replicas_make_the_update_of_one_device(case, two_replicas, monkeypatch):
    given_noise(monkeypatch, 16)
    one, one_history = two_plain_steps(case.name)
    with two_replicas.scope():
        two, two_history = two_steps(case, run_eagerly=case.eager)
    assert two.distribute_strategy.num_replicas_in_sync == 2
    assert_same_state(one, two, rtol=1e-4, atol=1e-5)
    for name, values in one_history.items():
        np.testing.assert_allclose(values, two_history[name], rtol=1e-4, err_msg=name)


@each_case
def test_replicas_draw_different_noise(case, two_replicas):
    with two_replicas.scope():
        model = make(case)
    keys = two_replicas.experimental_local_results(two_replicas.run(model.step_key))
    draws = [randomness.normal([4], key).numpy() for key in keys]
    assert (draws[0] != draws[1]).all()


# 8. Weights of loss terms

weighted = [(case, name) for case in CASES for name in case.weighted]


@pytest.mark.parametrize("case, name", weighted, ids=[f"{c.name}-{n}" for c, n in weighted])
def test_every_weight_of_a_loss_term_matters(case, name):
    steps = []
    for weight in (0.5, 5.0):
        model = make(case, **case.weighted[name](weight))
        compile_with_sgd(model, 1.0, run_eagerly=True)
        one_step(model, batch_of(case))
        steps.append(state(model))
    assert any((a != b).any() for a, b in zip(*steps))


@each_case
def test_every_trainable_weight_is_trained(case):
    model = trained(case.name)
    assert_trained(case, model, [np.asarray(weight) for weight in make(case).trainable_weights])


# 9. XLA


@each_case
def test_jit_compile_trains(case, monkeypatch):
    given_noise(monkeypatch, 16)  # XLA's generator gives other numbers for the same key
    plain, plain_history = two_plain_steps(case.name)
    compiled, compiled_history = two_steps(case, jit_compile=True)
    assert compiled.jit_compile and not plain.jit_compile
    assert_same_state(plain, compiled, rtol=1e-3, atol=1e-5)
    for name, values in plain_history.items():
        np.testing.assert_allclose(values, compiled_history[name], rtol=1e-3, err_msg=name)
