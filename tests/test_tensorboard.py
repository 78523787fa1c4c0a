"""What TensorBoard shows of a run: read from its event files, and asked of its server."""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

import keras_gen as kg
from tests.conformance.cases import digits, mlp_gan

EPOCHS = 3
LOSSES = {"epoch_loss", "epoch_generator_loss", "epoch_discriminator_loss"}
RATES = {"learning_rate", "discriminator_learning_rate"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder and the history of a short run with the callbacks of training/gan.py."""
    run_dir = tmp_path_factory.mktemp("run")
    model = mlp_gan((8, 8, 1), 10)
    model.compile()
    source = digits()
    model.fit(
        source.batches(128, seed=0),
        validation_data=source.batches(128, shuffle=False),
        epochs=EPOCHS,
        verbose=0,
        callbacks=[
            kg.callbacks.SampleGrid(run_dir),
            kg.callbacks.LearningRates(run_dir),
            keras.callbacks.TensorBoard(run_dir / "logs"),
        ],
    )
    return run_dir, model.history.history


def scalars(folder):
    """Tag -> its values, one for each epoch."""
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    values = {}
    for tag in events.Tags()["tensors"]:
        if tag.startswith("epoch_") or tag in RATES:
            assert events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
            tensors = events.Tensors(tag)
            assert [event.step for event in tensors] == list(range(EPOCHS))
            values[tag] = [float(tf.make_ndarray(event.tensor_proto)) for event in tensors]
    return values


def test_losses(run):
    run_dir, history = run
    written = scalars(run_dir / "logs" / "train")
    assert set(written) >= LOSSES
    for tag in LOSSES:
        np.testing.assert_allclose(written[tag], history[tag.removeprefix("epoch_")], rtol=1e-6)
    written = scalars(run_dir / "logs" / "validation")
    for tag in LOSSES:
        name = tag.replace("epoch_", "val_")
        np.testing.assert_allclose(written[tag], history[name], rtol=1e-6)


def test_learning_rates(run):
    run_dir, history = run
    written = scalars(run_dir / "logs" / "learning_rates")
    assert set(written) == RATES
    for tag in RATES:
        assert written[tag] == history[tag]


def test_pictures(run):
    run_dir, _ = run
    events = event_accumulator.EventAccumulator(
        str(run_dir / "logs" / "samples"), {event_accumulator.TENSORS: 0}
    ).Reload()
    assert events.SummaryMetadata("samples").plugin_data.plugin_name == "images"
    pictures = events.Tensors("samples")
    assert [event.step for event in pictures] == list(range(EPOCHS + 1))
    for event in pictures:
        width, height, png = tf.make_ndarray(event.tensor_proto)
        path = run_dir / "samples" / f"epoch_{event.step:04d}.png"
        assert png == path.read_bytes()
        image = Image.open(io.BytesIO(png))
        assert image.size == (int(width), int(height))
        assert np.asarray(image).std() > 0


@pytest.fixture(scope="module")
def server(run):
    """Address of a real `tensorboard` process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--logdir", str(run[0] / "logs")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if len(ask(address, "/data/runs")) == 4:
                    break
            except urllib.error.URLError:
                pass
            assert process.poll() is None and time.monotonic() < deadline, "no tensorboard"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def ask(address, path):
    with urllib.request.urlopen(address + path, timeout=30) as response:
        return json.load(response)


def test_server_shows_losses_rates_and_pictures(run, server):
    tags = ask(server, "/data/plugin/scalars/tags")
    assert set(tags["train"]) >= LOSSES and set(tags["validation"]) >= LOSSES
    assert set(tags["learning_rates"]) == RATES
    curve = ask(server, "/data/plugin/scalars/scalars?run=train&tag=epoch_generator_loss")
    np.testing.assert_allclose([v for _, _, v in curve], run[1]["generator_loss"], rtol=1e-6)

    assert set(ask(server, "/data/plugin/images/tags")) == {"samples"}
    shown = ask(server, "/data/plugin/images/images?run=samples&tag=samples&sample=0")
    assert [picture["step"] for picture in shown] == list(range(EPOCHS + 1))
    url = f"{server}/data/plugin/images/individualImage?{shown[-1]['query']}"
    with urllib.request.urlopen(url, timeout=30) as response:
        assert response.headers["Content-Type"] == "image/png"
        png = response.read()
    assert png == (run[0] / "samples" / f"epoch_{EPOCHS:04d}.png").read_bytes()
