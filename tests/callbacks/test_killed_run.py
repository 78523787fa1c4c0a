"""A run that is killed by signal 9 five times ends with the numbers of one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.conformance.cases import assert_same_state
from tests.processes import ForkedScript

ROOT = Path(__file__).resolve().parents[2]
KILLS = 5
STEPS = 20 * 8  # epochs times batches
SEED = 2

# What a user would write, with a line for each batch so that the test knows where the run is.
SCRIPT = """
import sys

import keras
import numpy as np
import keras_gen as kg

source = kg.data.load("digits")
pixels, labels = source.take(500, seed=0)
source = kg.data.load((pixels, labels))
shape, classes = source.image_shape, source.num_classes
arguments = {"width": 4, "kernel_size": 3, "num_classes": classes}
model = kg.models.GAN(
    shape,
    classes,
    generator=kg.networks.dcgan.generator(shape, 8, seed=1, **arguments),
    discriminator=kg.networks.dcgan.discriminator(shape, seed=2, dropout=0.3, **arguments),
    recipe="dcgan",
)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 160)),
    keras.optimizers.RMSprop(1e-3, momentum=0.5),
)
tell = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: print("step", int(model.step), flush=True)
)
model.fit(
    source.batches(64, seed=5),
    epochs=20,
    verbose=0,
    callbacks=[tell, kg.callbacks.Resume(sys.argv[1], every_batches=1)],
)
model.save(sys.argv[1] + "/model.keras")
print("finished", flush=True)
"""


def run_until(script, run_dir, step, delay):
    """Starts a run and kills it `delay` seconds after it has told of the step; its output."""
    process = ForkedScript([script, run_dir], {})
    output = []
    for line in process.stdout:
        output.append(line.rstrip())
        if line.startswith("step") and int(line.split()[1]) >= step:
            time.sleep(delay)
            process.kill()
            break
    output += process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL, output[-20:]
    assert "finished" not in output
    return output


def steps_of(output):
    return [int(line.split()[1]) for line in output if line.startswith("step")]


def last_checkpoint(run_dir):
    path = max((run_dir / "checkpoints").glob("*.npz"))
    with np.load(path) as archive:
        return path.name, dict(archive)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def undisturbed(script, tmp_path):
    """The run that is left alone, beside the other for the sake of time, in a new interpreter."""
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "whole")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()


@pytest.mark.slow
def test_five_kills_change_nothing(script, undisturbed, tmp_path):
    draw = random.Random(SEED)
    targets = sorted(draw.sample(range(5, STEPS - 10, 7), KILLS))

    reached = [0]
    leftovers = 0
    for number, target in enumerate(targets):
        output = run_until(script, tmp_path / "parts", target, draw.uniform(0, 0.03))
        leftovers += len(list((tmp_path / "parts" / "checkpoints").glob("*.partial")))
        resumed = [line for line in output if line.startswith("Resumed after")]
        assert len(resumed) == min(number, 1)
        # At most the batch that was being trained, or saved, when the kill came is trained anew.
        assert reached[-1] - 1 <= steps_of(output)[0] <= reached[-1] + 1
        reached.append(steps_of(output)[-1])
    assert reached == sorted(set(reached)) and reached[-1] < STEPS
    inside = [step for step in reached[1:] if step % 8]
    print(f"killed after steps {reached[1:]}, {leftovers} times while a checkpoint was written")
    assert len(inside) >= 3

    last = ForkedScript([script, tmp_path / "parts"], {})
    for process in (last, undisturbed):
        output = process.communicate(timeout=150)[0]
        assert process.returncode == 0 and "finished" in output, output[-3000:]
    assert_same_ends(tmp_path / "whole", tmp_path / "parts")


def assert_same_ends(whole, parts):
    (name, arrays), (other_name, others) = last_checkpoint(whole), last_checkpoint(parts)
    assert name == other_name == "epoch-000020-batch-00000000.npz"
    assert arrays.keys() == others.keys()
    for key, array in arrays.items():  # weights, averages, optimizers, losses, position, history
        np.testing.assert_array_equal(array, others[key], err_msg=key)
    history = json.loads(arrays["position"].tobytes())["history"]
    assert all(len(values) == 20 for values in history.values())
    loaded = [keras.saving.load_model(run / "model.keras") for run in (whole, parts)]
    assert_same_state(*loaded)
    assert int(loaded[0].step) == STEPS
