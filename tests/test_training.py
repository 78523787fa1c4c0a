"""The training scripts with tiny settings: gan.py as a user runs it, the others in this process."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_gen as kg

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "autoencoder.py": ["--network", "dense", "--hidden", "16"],
    "gan.py": ["--network", "mlp", "--hidden", "16"],
    "diffusion.py": [
        "--width",
        "8",
        "--multipliers",
        "1",
        "--blocks",
        "1",
        "--attention",
        "--steps",
        "2",
    ],
}


FEW_STEPS = ["--steps-per-epoch", "2", "--epochs", "1"]
DIGITS = ["--data", "digits", *FEW_STEPS, "--batch-size", "8"]


@pytest.fixture
def run(monkeypatch):
    """Runs a script with the arguments given, as `python training/<script>` does."""

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.syspath_prepend(ROOT / "training")
        runpy.run_path(str(ROOT / "training" / script), run_name="__main__")

    return run


def assert_complete(tmp_path, output):
    assert output.splitlines()[-1].endswith(f"are in {tmp_path / 'run'}")
    run = tmp_path / "run"
    assert (run / "samples" / "epoch_0001.png").exists()
    assert (run / "model.keras").exists()
    assert list((run / "logs").rglob("events*"))
    assert len(json.loads((run / "metrics.json").read_text())["loss"]) == 1
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_gan_leaves_pictures_logs_model_and_export(tmp_path):
    command = [sys.executable, ROOT / "training" / "gan.py", *TINY["gan.py"], *DIGITS]
    command += ["--run-dir", tmp_path / "run", "--export-dir", tmp_path / "export"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_complete(tmp_path, result.stdout)


@pytest.mark.parametrize("script", ["autoencoder.py", "diffusion.py"])
def test_a_script_leaves_pictures_logs_model_and_export(script, tmp_path, run, capsys):
    folders = ["--run-dir", tmp_path / "run", "--export-dir", tmp_path / "export"]
    run(script, *TINY[script], *DIGITS, *folders)
    assert_complete(tmp_path, capsys.readouterr().out)


def test_a_vae_of_binary_images_reports_its_likelihood(tmp_path, run):
    model = ["--network", "dense", "--hidden", "16", "--latent-dim", "2"]
    model += ["--binarization", "0.33", "--warm-up", "2"]
    run("vae.py", *DIGITS, *model, "--test-split", "test", "--samples", 60, "--run-dir", tmp_path)
    report = json.loads((tmp_path / "likelihood.json").read_text())
    assert 10 < report["nats"] < 100
    assert report["bits_per_dimension"] == pytest.approx(report["nats"] / 64 / 0.6931472)
    assert report["data"] == "binarized: 1 where the pixel is at least 0.33"
    assert report["estimator"] == "importance-weighted bound, k = 60" and report["n"] == 297
    assert "active_units" in json.loads((tmp_path / "metrics.json").read_text())
    assert (tmp_path / "samples" / "epoch_0001.png").exists()


def test_images_are_counted_to_the_batch(tmp_path, run):
    """And the same command again adds nothing."""
    small = [*TINY["gan.py"], "--data", "digits", "--batch-size", "8", "--images", "100"]
    for _ in range(2):
        run("gan.py", *small, "--steps-per-epoch", "5", "--run-dir", tmp_path)
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.step == 15  # in 3 epochs; 13 batches are 104 images, 15 make equal epochs
    with pytest.raises(SystemExit, match=r"--image-size takes one side.*\[8, 8, 8\]"):
        run("gan.py", *small, "--image-size", "8", "8", "8")


def test_ddpm_is_one_command(tmp_path, run):
    path = ["--path", "linear", "--prediction", "noise", "--timesteps", "1000"]
    sampling = ["--sampler", "ddpm", "--steps", "10"]
    run("diffusion.py", *TINY["diffusion.py"], *DIGITS, *path, *sampling, "--run-dir", tmp_path)
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(model.noise_path, kg.diffusion.Linear) and model.noise_path.timesteps == 1000
    assert isinstance(model.prediction, kg.diffusion.NoisePrediction)
    assert model.sampling["sampler"] == "ddpm"


def test_pixelcnn_reports_the_likelihood_of_another_split(tmp_path, run):
    model = ["--network", "plus_plus", "--width", "8", "--blocks", "1"]
    model += ["--levels", "2", "--binarization", "0.33"]
    run(
        "pixelcnn.py",
        *DIGITS,
        *model,
        "--unconditional",
        "--test-split",
        "test",
        "--run-dir",
        tmp_path,
    )
    with pytest.raises(ValueError, match="'dev'"):  # before anything is trained
        run("pixelcnn.py", *DIGITS, "--test-split", "dev", "--run-dir", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    report = json.loads((tmp_path / "likelihood.json").read_text())
    model = keras.saving.load_model(tmp_path / "model.keras")
    test = kg.data.load("digits", "test")
    nats = -model.log_prob(test.take(len(test), seed=0)[0])["log_prob"]
    assert abs(report["nats"] - nats.mean()) < 1e-3
    assert report["n"] == 297 and report["split"] == "test"
    assert report["data"] == "binarized: 1 where the pixel is at least 0.33"
    assert (tmp_path / "samples" / "epoch_0001.png").exists()


@pytest.mark.parametrize(
    "script, arguments, message",
    [
        ("vae.py", ["--test-split", "test", "--samples", "0"], "argument --samples: must be a"),
        ("pixelcnn.py", ["--test-images", "-5"], "argument --test-images: must be a positive"),
        ("frame_predictor.py", ["--rows", "0"], "argument --rows: must be a positive integer"),
        ("frame_predictor.py", ["--channels", "3", "--binarization", "stochastic"], "Bernoulli's"),
    ],
)
def test_flags_are_checked_before_the_training(script, arguments, message, tmp_path, run, capsys):
    with pytest.raises(SystemExit) as told:
        run(script, *DIGITS, *arguments, "--run-dir", tmp_path / "run")
    assert message in f"{told.value} {capsys.readouterr().err}"
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_frame_predictor_continues_test_digits(tmp_path, run):
    model = ["--width", "4", "--context", "2", "--blocks", "1"]
    data = ["--canvas", "12", "16", "--frames", "4", "--sequences", "32", "--test-sequences", "8"]
    steps = [*FEW_STEPS, "--batch-size", "8", "--rows", "3", "--first-frames", "2"]
    folders = ["--run-dir", tmp_path, "--export-dir", tmp_path / "export"]
    run("frame_predictor.py", *model, *data, *steps, *folders)
    report = json.loads((tmp_path / "likelihood.json").read_text())
    assert report["n"] == 8 and report["estimator"] == "exact" and report["split"] == "test"
    said = kg.images.read_provenance(tmp_path / "continued.png")["Model"]
    assert said.startswith("frame_predictor")
    assert (tmp_path / "continued.gif").exists()
    assert (tmp_path / "samples" / "epoch_0001.gif").exists()
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()


def test_sequence_gan_draws_and_continues_test_digits(tmp_path, run):
    model = ["--width", "4", "--content-dim", "4", "--noise-dim", "2", "--max-given", "2"]
    data = ["--canvas", "12", "16", "--frames", "3", "--sequences", "32", "--test-sequences", "8"]
    steps = [*FEW_STEPS, "--batch-size", "8", "--rows", "3", "--first-frames", "2"]
    first = ["--first-images", "16", "--first-batch-size", "8"]
    run("sequence_gan.py", *model, *data, *steps, *first, "--run-dir", tmp_path)
    report = json.loads((tmp_path / "continuity.json").read_text())
    assert report["n"] == 8
    parts = ["drawn_trained", "drawn_beyond", "continued_trained", "continued_beyond"]
    assert all(report[part]["frame_distance_ratio"] > 0 for part in ["floor", *parts])
    said = kg.images.read_provenance(tmp_path / "continued.png")["Model"]
    assert said.startswith("sequence_gan")
    frames, whole = (
        keras.saving.load_model(tmp_path / part / "model.keras") for part in ("first", "")
    )
    learned = frames.averaged_generator.get_weights()
    for a, b in zip(learned, whole.averaged_first_generator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with Image.open(tmp_path / "continued.gif") as animation:
        assert animation.n_frames == 6
    assert (tmp_path / "samples" / "epoch_0001.gif").exists()


def test_consistency_goes_on_from_a_diffusion_model(tmp_path, run):
    network = kg.networks.unet.denoiser(
        (8, 8, 1), 10, width=8, multipliers=(1,), blocks=1, attention=()
    )
    kg.models.Diffusion((8, 8, 1), 10, network).save(tmp_path / "model.keras")
    run("consistency.py", tmp_path / "model.keras", *FEW_STEPS, "--run-dir", tmp_path / "run")
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert isinstance(model, kg.models.ConsistencyModel)
    assert (tmp_path / "run" / "samples" / "epoch_0001.png").exists()


def test_latent_diffusion_goes_on_from_an_autoencoder(tmp_path, run):
    parts = kg.networks.autoencoder
    encoder = parts.spatial_encoder((8, 8, 1), (4, 4, 2), width=4)
    decoder = parts.spatial_decoder((8, 8, 1), (4, 4, 2), width=4)
    kg.models.VAE((8, 8, 1), None, encoder, decoder).save(tmp_path / "model.keras")
    network = ["--width", "8", "--multipliers", "1", "--blocks", "1", "--attention", "--steps", "2"]
    run(
        *["latent_diffusion.py", tmp_path / "model.keras", "--latent-shape", "4", "4", "2"],
        *[*network, *FEW_STEPS, "--run-dir", tmp_path / "run"],
    )
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert isinstance(model, kg.models.LatentDiffusion)
    assert (model.statistics.numpy()[1] != 1).all()
    assert (tmp_path / "run" / "samples" / "epoch_0001.png").exists()


def test_vqvae_trains_both_stages_and_goes_on(tmp_path, run):
    model_flags = ["--width", "4", "--blocks", "0", "--codebook-size", "8"]
    prior = ["--prior-width", "4", "--prior-blocks", "1", "--prior-batch-size", "8"]
    for epochs in (1, 2):
        run(
            "vqvae.py",
            *DIGITS,
            *model_flags,
            *prior,
            "--prior-epochs",
            epochs,
            "--run-dir",
            tmp_path,
        )
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.stage == "prior" and int(model.step) == 4
    assert (tmp_path / "autoencoder" / "samples" / "epoch_0001.png").exists()
    assert (tmp_path / "samples" / "epoch_0002.png").exists()
    first = keras.saving.load_model(tmp_path / "autoencoder" / "model.keras")
    np.testing.assert_array_equal(first.codebook, model.codebook)  # trained once
    further = [*DIGITS, "--epochs", "2", *model_flags, *prior, "--run-dir", tmp_path]
    with pytest.raises(SystemExit, match="before it was trained further"):
        run("vqvae.py", *further)


def test_control_draws_strips(tmp_path, run):
    network = kg.networks.unet.denoiser(
        (8, 8, 1), 10, width=8, multipliers=(1,), blocks=1, attention=(), seed=0
    )
    kg.models.Diffusion((8, 8, 1), 10, network).save(tmp_path / "model.keras")
    small = ["--split", "train", "--rows", "2", "--steps", "2"]
    run("control.py", tmp_path / "model.keras", *small, "--output", tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"inpaint", "image_to_image", "interpolate", "mix_classes"}


def test_super_resolution_draws_while_it_trains_and_after(tmp_path, run):
    """And EDM predicts for the deviation of the data."""
    small = ["--width", "8", "--multipliers", "1", "--blocks", "1", "--steps", "2", "--path", "edm"]
    run("diffusion.py", *DIGITS, *small, "--upscale", "2", "--run-dir", tmp_path)
    assert (tmp_path / "samples" / "epoch_0001.png").exists()
    model = keras.saving.load_model(tmp_path / "model.keras")
    pixels = kg.data.load("digits").take(1400, seed=1)[0] / 127.5 - 1
    assert abs(model.prediction.sigma_data - pixels.std()) < 0.02
    strips = ["--rows", "2", "--steps", "2", "--output", tmp_path / "out", "--scale", "1"]
    run("control.py", tmp_path / "model.keras", *strips)
    with Image.open(tmp_path / "out" / "enlarge.png") as picture:
        shown = np.asarray(picture)[..., 0] if picture.mode != "L" else np.asarray(picture)
    held_out, _ = kg.data.load("digits", "test").take(2, seed=0)
    side, padding = held_out.shape[1], 2
    last = shown[padding : padding + side, -padding - side : -padding]
    np.testing.assert_array_equal(last, held_out[0, ..., 0])


def test_control_draws_the_latents_of_a_gan(tmp_path, run, capsys):
    model = kg.models.GAN(
        (8, 8, 1),
        generator=kg.networks.mlp.generator((8, 8, 1), 8, (16,)),
        discriminator=kg.networks.mlp.discriminator((8, 8, 1), (16,)),
        recipe="gan",
    )
    model.save(tmp_path / "model.keras")
    small = ["--rows", "2", "--inversion-steps", "2", "--output", tmp_path / "out"]
    run("control.py", tmp_path / "model.keras", *small)
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"interpolate", "truncate", "directions", "invert"}
    output = capsys.readouterr().out
    assert output.count("told from latents") + output.count("must be some") == 10


def tiny_pixelcnn():
    network = kg.networks.pixelcnn.gated((8, 8, 1), 2, 10, width=4, blocks=1)
    return kg.models.PixelCNN((8, 8, 1), 10, 2, network, binarization=0.5)


@pytest.mark.parametrize(
    "make, names",
    [
        (
            lambda: kg.models.VAE((8, 8, 1), 10, latent_dim=2),
            {"reconstruct", "interpolate", "traverse", "manifold"},
        ),
        (
            lambda: kg.models.Autoencoder((8, 8, 1), latent_dim=3),
            {"reconstruct", "interpolate", "traverse"},
        ),
        (lambda: kg.models.VQVAE((8, 8, 1), codebook_size=8), {"reconstruct"}),
        (tiny_pixelcnn, {"complete"}),
    ],
)
def test_control_draws_what_autoencoders_and_pixelcnns_can_be_told(tmp_path, run, make, names):
    make().save(tmp_path / "model.keras")
    run("control.py", tmp_path / "model.keras", "--rows", "2", "--output", tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names


def test_the_default_network_with_options(tmp_path, run):
    small = ["--width", "8", "--attention", "4", *DIGITS, "--run-dir", tmp_path]
    run("gan.py", *small, "--loss", "non_saturating", "--real-target", "0.9")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.recipe == "r3gan" and model.discriminator_steps == 1
    assert model.loss_function.real_target == 0.9
    assert model.generator.name == "resnet_generator"
    model.generator.get_layer("level_1_attention")


def test_flags_that_are_not_given_are_those_of_the_recipe(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "training")
    monkeypatch.setattr(sys, "argv", ["gan.py", "--recipe", "sngan", "--width", "8"])
    script = runpy.run_path(str(ROOT / "training" / "gan.py"))
    model = script["build"](script["arguments"](), kg.data.load("digits"), 10, 100)
    assert model.recipe == "sngan" and model.discriminator_steps == 5
    assert isinstance(model.loss_function, kg.losses.Hinge) and model.penalties == []
    assert any("spectral" in layer.name for layer in model.discriminator.layers)
    assert float(model.optimizer.learning_rate) == pytest.approx(2e-4)


@pytest.mark.parametrize("script", ["pix2pix", "cyclegan"])
def test_translation_shows_inputs_and_outputs(script, tmp_path, run):
    pictures, _ = kg.data.load("digits").take(40)
    digits = tmp_path / "digits.npz"
    np.savez(digits, images=pictures)
    data = ["--complete", digits] if script == "pix2pix" else [digits, digits, "--blocks", "1"]
    model = ["--width", "4", "--discriminator-width", "4", "--patches", "1", "--jitter", "1"]
    steps = [*FEW_STEPS, "--batch-size", "8", "--flip", "--schedule", "linear"]
    run(f"{script}.py", *data, *model, *steps, "--run-dir", tmp_path / "run")
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert type(model).__name__.lower() == script and model.step == 2
    assert model.translate(pictures).shape == pictures.shape
    with Image.open(tmp_path / "run" / "samples" / "epoch_0001.png") as grid:
        assert grid.width == 6 * (8 * 8 + 2) + 2
