"""Training in several processes at once, and on several devices of one process."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_gen as kg
from tests.conformance.cases import digits
from tests.processes import ForkedScript

ROOT = Path(__file__).resolve().parents[1]

# Every batch of 64 is of both workers; each writes what it ends with to a file of its own.
SCRIPT = """
import os, sys

run_dir, out = sys.argv[1], sys.argv[2]
written = []

def audit(event, arguments):
    # Whatever Python opens for writing, makes, renames or removes in the run's folder.
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in ("os.mkdir", "os.rename", "os.remove", "shutil.rmtree"):
        if str(arguments[0]).startswith(run_dir):
            written.append(f"{event} {arguments[0]}")

sys.addaudithook(audit)

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()

import json
import keras
import numpy as np
import keras_gen as kg
from tests.conformance.cases import digits

batches = digits(count=300).batches(64, seed=3)
halves = [
    strategy.experimental_local_results(images)[0].numpy()
    for images, _ in strategy.experimental_distribute_dataset(batches)
]
with strategy.scope():
    shape = (8, 8, 1)
    model = kg.models.GAN(
        shape,
        10,
        generator=kg.networks.mlp.generator(shape, 4, (16,), 10),
        discriminator=kg.networks.mlp.discriminator(shape, (16,), 10, seed=1),
        recipe="gan",
    )
    model.compile()
tell = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: print(
        "step", int(np.asarray(model.step)), flush=True
    )
)
history = model.fit(batches, epochs=2, verbose=0, callbacks=[
    kg.callbacks.SampleGrid(run_dir, num_images=4, gif=True),
    kg.callbacks.LearningRates(run_dir),
    tell,
    kg.callbacks.Resume(run_dir, every_batches=2),
    kg.callbacks.ExportSavedModel(run_dir + "/exports"),
]).history
variables = list(model.variables) + [v for o in model.optimizers.values() for v in o.variables]
np.savez(
    out,
    *[np.asarray(variable) for variable in variables],
    history=np.array(json.dumps({k: np.asarray(v).tolist() for k, v in history.items()})),
    written=np.array(json.dumps(written)),
    pid=np.array(os.getpid()),
    images=model.generate(4, labels=3, seed=0),
    **{f"half_{i}": half for i, half in enumerate(halves)},
)
print("finished", flush=True)
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def new_interpreter(command, env):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_workers(*commands, process=ForkedScript):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(commands))]
    cluster = {"worker": addresses}
    return [
        process(
            command,
            {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
        )
        for i, command in enumerate(commands)
    ]


def finish(processes):
    outputs = []
    try:
        outputs += [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def kill_at(processes, step):
    """Kills all once the first has told of the step."""
    output = ""
    for line in processes[0].stdout:
        output += line
        if line.startswith(f"step {step}"):
            break
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2, output[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Results of both workers, of a run and of one that was killed and continued."""
    folder = tmp_path_factory.mktemp("workers")
    script = folder / "train.py"
    script.write_text(SCRIPT)

    def workers(name, **kwargs):
        run, outs = folder / name, [folder / f"{name}-{i}.npz" for i in range(2)]
        return start_workers(*[[script, run, out] for out in outs], **kwargs)

    finish(workers("whole", process=new_interpreter))
    kill_at(workers("parts"), 8)  # of 10 batches, 5 an epoch
    outputs = finish(workers("parts"))
    assert all("Resumed after 1 epochs and 2 batches" in output for output in outputs)
    return folder, {
        name: [np.load(folder / f"{name}-{i}.npz") for i in range(2)] for name in ("whole", "parts")
    }


def weights(result):
    return [result[name] for name in result.files if name.startswith("arr_")]


def assert_equal(first, second):
    assert len(first) == len(second) > 10
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
class TestTwoWorkers:
    def test_they_end_with_the_same_weights(self, runs):
        _, results = runs
        one, other = results["whole"]
        assert_equal(weights(one), weights(other))
        np.testing.assert_array_equal(one["images"], other["images"])
        assert all(np.isfinite(array).all() for array in weights(one))

    def test_their_history_holds_plain_numbers(self, runs):
        _, results = runs
        one, other = (json.loads(str(result["history"])) for result in results["whole"])
        assert one == other
        assert {"loss", "generator_loss", "discriminator_loss", "learning_rate"} <= set(one)
        assert all(
            np.isfinite(values).all() and np.shape(values) == (2,) for values in one.values()
        )
        assert one["loss"] == pytest.approx(
            np.add(one["generator_loss"], one["discriminator_loss"]), rel=1e-5
        )

    def test_each_trains_on_its_half_of_every_batch(self, runs):
        _, results = runs
        one, other = results["whole"]
        for i, (images, _) in enumerate(digits(count=300).batches(64, seed=3)):
            halves = [one[f"half_{i}"], other[f"half_{i}"]]
            assert abs(len(halves[0]) - len(halves[1])) <= 1
            np.testing.assert_array_equal(np.concatenate(halves), images)

    def test_only_the_first_writes(self, runs):
        folder, results = runs
        chief, other = results["whole"]
        assert json.loads(str(chief["written"]))
        assert json.loads(str(other["written"])) == []
        events = list((folder / "whole" / "logs").rglob("events.*"))
        assert len(events) == 2 and all(f".{chief['pid']}." in path.name for path in events)

    def test_the_files_of_the_run_are_there(self, runs):
        folder, _ = runs
        for name in ("whole", "parts"):
            files = {str(p.relative_to(folder / name)) for p in (folder / name).rglob("*")}
            assert {
                "samples/epoch_0000.png",
                "samples/epoch_0002.png",
                "samples/training.gif",
                "checkpoints/epoch-000002-batch-00000000.npz",
                "exports/1/saved_model.pb",
            } <= files

    def test_killed_inside_an_epoch_they_continue_bit_for_bit(self, runs):
        _, results = runs
        for whole, resumed in zip(results["whole"], results["parts"], strict=True):
            assert_equal(weights(whole), weights(resumed))
            assert str(whole["history"]) == str(resumed["history"])


def training_script(run_dir, strategy):
    sizes = ["--network", "mlp", "--hidden", "8", "--latent-dim", "4", "--batch-size", "256"]
    where = ["--run-dir", run_dir, "--export-dir", run_dir / "exports"]
    return [ROOT / "training" / "gan.py", *sizes, *where, "--epochs", "1", "--strategy", strategy]


@pytest.mark.slow
@pytest.mark.parametrize("strategy, workers", [("multiworker", 2), ("mirrored", 1)])
def test_the_training_script_runs(tmp_path, strategy, workers):
    finish(start_workers(*[training_script(tmp_path, strategy)] * workers))
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {
        "model.keras",
        "metrics.json",
        "samples/epoch_0001.png",
        "checkpoints/epoch-000001-batch-00000000.npz",
        "exports/1/saved_model.pb",
    } <= files
    for folder in ("train", "samples", "learning_rates"):
        assert len(list((tmp_path / "logs" / folder).glob("events.*"))) == 1


def test_callbacks_on_two_replicas(tmp_path, two_replicas):
    with two_replicas.scope():
        mlp = kg.networks.mlp
        model = kg.models.GAN(
            (8, 8, 1),
            generator=mlp.generator((8, 8, 1), 4, (8,)),
            discriminator=mlp.discriminator((8, 8, 1), (8,)),
            recipe="gan",
        )
        model.compile()
    callbacks = [
        kg.callbacks.SampleGrid(tmp_path, num_images=4),
        kg.callbacks.LearningRates(tmp_path),
        kg.callbacks.Resume(tmp_path, every_batches=1),
        kg.callbacks.ExportSavedModel(tmp_path / "exports"),
    ]
    batches = digits(labelled=False, count=32).batches(16)
    history = model.fit(batches, verbose=0, callbacks=callbacks).history
    assert history["learning_rate"] == [pytest.approx(2e-4)]
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [
        "epoch_0000.png",
        "epoch_0001.png",
    ]
    assert (tmp_path / "exports" / "1" / "saved_model.pb").exists()
