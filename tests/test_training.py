"""The training scripts, run as a user does, with tiny settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gen as kg

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "autoencoder.py": ["--network", "dense", "--hidden", "16"],
    "gan.py": ["--network", "mlp", "--hidden", "16"],
    "diffusion.py": ["--width", "8", "--multipliers", "1", "--attention", "--steps", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_a_script_leaves_pictures_logs_model_and_export(script, tmp_path):
    command = [sys.executable, str(ROOT / "training" / script), *TINY[script]]
    command += ["--data", "digits", "--steps-per-epoch", "2", "--epochs", "1", "--batch-size", "8"]
    command += ["--run-dir", str(tmp_path / "run"), "--export-dir", str(tmp_path / "export")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1].endswith(f"are in {tmp_path / 'run'}")
    run = tmp_path / "run"
    assert (run / "samples" / "epoch_0001.png").exists()
    assert (run / "model.keras").exists()
    assert list((run / "logs").rglob("events*"))
    assert len(json.loads((run / "metrics.json").read_text())["loss"]) == 1
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_a_vae_of_binary_images_reports_its_likelihood(tmp_path):
    command = [sys.executable, str(ROOT / "training" / "vae.py"), "--data", "digits"]
    command += ["--network", "dense", "--hidden", "16", "--binarization", "0.33", "--warm-up", "2"]
    command += ["--steps-per-epoch", "2", "--epochs", "1", "--batch-size", "8", "--latent-dim", "2"]
    command += ["--test-split", "test", "--samples", "60", "--run-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "likelihood.json").read_text())
    assert 10 < report["nats"] < 100
    assert report["bits_per_dimension"] == pytest.approx(report["nats"] / 64 / 0.6931472)
    assert report["likelihood"] == {"name": "bernoulli", "binarization": 0.33}
    assert "active_units" in json.loads((tmp_path / "metrics.json").read_text())
    assert (tmp_path / "samples" / "epoch_0001.png").exists()


@pytest.mark.slow
def test_ddpm_is_one_command(tmp_path):
    command = [sys.executable, str(ROOT / "training" / "diffusion.py"), *TINY["diffusion.py"]]
    command += ["--path", "linear", "--prediction", "noise", "--timesteps", "1000"]
    command += ["--data", "digits", "--steps-per-epoch", "2", "--epochs", "1", "--batch-size", "8"]
    command += ["--sampler", "ddpm", "--steps", "10", "--run-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(model.noise_path, kg.diffusion.Linear) and model.noise_path.timesteps == 1000
    assert isinstance(model.prediction, kg.diffusion.NoisePrediction)
    assert model.sampling["sampler"] == "ddpm"


@pytest.mark.slow
def test_pixelcnn_reports_the_likelihood_of_another_split(tmp_path):
    command = [sys.executable, str(ROOT / "training" / "pixelcnn.py"), "--width", "8"]
    command += ["--data", "digits", "--steps-per-epoch", "2", "--epochs", "1", "--batch-size", "8"]
    command += ["--blocks", "1", "--levels", "2", "--binarization", "0.33", "--unconditional"]
    command += ["--test-split", "test", "--run-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "likelihood.json").read_text())
    model = keras.saving.load_model(tmp_path / "model.keras")
    test = kg.data.load("digits", "test")
    nats = -model.log_prob(test.take(len(test), seed=0)[0])["log_prob"]
    assert abs(report["nats"] - nats.mean()) < 1e-3
    assert report["n"] == 297 and report["split"] == "test"
    assert report["data"] == "binarized: 1 where the pixel is at least 0.33"
    assert (tmp_path / "samples" / "epoch_0001.png").exists()


@pytest.mark.slow
def test_consistency_goes_on_from_a_diffusion_model(tmp_path):
    network = kg.networks.unet.denoiser((8, 8, 1), 10, width=8, multipliers=(1,), attention=())
    kg.models.Diffusion((8, 8, 1), 10, network).save(tmp_path / "model.keras")
    command = [sys.executable, str(ROOT / "training" / "consistency.py"), tmp_path / "model.keras"]
    command += ["--steps-per-epoch", "2", "--epochs", "1", "--run-dir", tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert isinstance(model, kg.models.ConsistencyModel)
    assert (tmp_path / "run" / "samples" / "epoch_0001.png").exists()


@pytest.mark.slow
def test_latent_diffusion_goes_on_from_an_autoencoder(tmp_path):
    parts = kg.networks.autoencoder
    encoder = parts.spatial_encoder((8, 8, 1), (4, 4, 2), width=4)
    decoder = parts.spatial_decoder((8, 8, 1), (4, 4, 2), width=4)
    kg.models.VAE((8, 8, 1), None, encoder, decoder).save(tmp_path / "model.keras")
    script = str(ROOT / "training" / "latent_diffusion.py")
    command = [sys.executable, script, tmp_path / "model.keras", "--latent-shape", "4", "4", "2"]
    command += ["--width", "8", "--multipliers", "1", "--attention", "--steps", "2"]
    command += ["--steps-per-epoch", "2", "--epochs", "1", "--run-dir", tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert isinstance(model, kg.models.LatentDiffusion)
    assert (model.statistics.numpy()[1] != 1).all()
    assert (tmp_path / "run" / "samples" / "epoch_0001.png").exists()


@pytest.mark.slow
def test_vqvae_trains_both_stages_and_goes_on(tmp_path):
    command = [sys.executable, str(ROOT / "training" / "vqvae.py"), "--steps-per-epoch", "2"]
    command += ["--width", "4", "--blocks", "0", "--codebook-size", "8", "--prior-width", "4"]
    command += ["--prior-blocks", "1", "--batch-size", "8", "--prior-batch-size", "8"]
    command += ["--epochs", "1", "--run-dir", str(tmp_path), "--prior-epochs"]
    for epochs in ("1", "2"):
        result = subprocess.run(
            [*command, epochs], capture_output=True, text=True, check=False, env=os.environ
        )
        assert result.returncode == 0, result.stderr[-3000:]
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.stage == "prior" and int(model.step) == 4
    assert (tmp_path / "reconstructions.png").exists()
    assert (tmp_path / "samples" / "epoch_0002.png").exists()
    first = keras.saving.load_model(tmp_path / "autoencoder" / "model.keras")
    np.testing.assert_array_equal(first.codebook, model.codebook)  # trained once


@pytest.mark.slow
def test_control_draws_strips(tmp_path):
    network = kg.networks.unet.denoiser(
        (8, 8, 1), 10, width=8, multipliers=(1,), attention=(), seed=0
    )
    kg.models.Diffusion((8, 8, 1), 10, network).save(tmp_path / "model.keras")
    command = [sys.executable, str(ROOT / "training" / "control.py"), tmp_path / "model.keras"]
    command += ["--split", "train", "--rows", "2", "--steps", "2", "--output", tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"inpaint", "image_to_image", "interpolate", "mix_classes"}
