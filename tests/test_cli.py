"""The command line: what it writes, its exit codes, errors in one line."""

import importlib
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_gen as kg
from keras_gen.cli import _load_splits, main
from keras_gen.images import Provenance, read_provenance, write_png


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny GAN of digits, its .keras file and its exports."""
    folder = tmp_path_factory.mktemp("models")
    shape = (8, 8, 1)
    gan = kg.models.GAN(
        shape,
        10,
        generator=kg.networks.mlp.generator(shape, 4, hidden=[8], num_classes=10),
        discriminator=kg.networks.mlp.discriminator(shape, hidden=[8], num_classes=10),
        recipe="gan",
    )
    gan.compile()
    gan.save(folder / "m.keras")
    gan.export(str(folder / "saved" / "1"), verbose=False)
    gan.folder = folder
    return gan


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """The classifier of the digits is trained once, briefly, and not left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kg.metrics.extractors, "MIN_IMAGES_SEEN", 1)
        patch.setenv("KERAS_GEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_help_of_every_command_has_an_example():
    assert "sample" in ok("--help")
    for name in ("sample", "evaluate", "synthesize", "export", "info"):
        text = ok(name, "--help")
        assert "Example" in text and f"keras-gen {name} " in text and "--debug" in text


def test_sample_writes_a_grid(model, tmp_path):
    ok("sample", model.folder / "saved", "--n", 4, "--labels", 3, "--seed", 7,
       "--columns", 2, "--output", tmp_path / "grid.png")  # fmt: skip
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    expected = model.generate(4, labels=3, seed=7)
    assert grid.shape == (2 * 64 + 6, 2 * 64 + 6)
    np.testing.assert_array_equal(grid[2:66:8, 2:66:8], expected[0, :, :, 0])
    assert read_provenance(tmp_path / "grid.png")["Seed"] == "7"


def test_sample_writes_single_files(model, tmp_path):
    ok("sample", model.folder / "m.keras", "--n", 12, "--labels", "0-9", "--folder", tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"{index:02d}.png" for index in range(12)]
    labels = np.arange(12) % 10
    expected = model.generate(12, labels=labels, seed=0)
    for file, image in zip(files, expected):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), image[..., 0])
    again = model.generate(
        1, labels=int(labels[11]), seed=[int(read_provenance(files[11])["Seed"])]
    )
    np.testing.assert_array_equal(again[0], expected[11])


def test_export_takes_the_next_version(model, tmp_path):
    ok("export", model.folder / "m.keras", tmp_path / "out")
    (tmp_path / "out" / "9").mkdir()
    assert ok("export", model.folder / "m.keras", tmp_path / "out").strip().endswith("10")


def test_info(model, tmp_path):
    ok("sample", model.folder / "saved", "--n", 1, "--output", tmp_path / "one.png")
    for path, expected in (
        (model.folder / "saved", "SavedModel"),
        (model.folder / "saved" / "1", "SavedModel"),
        (model.folder / "m.keras", ".keras file"),
        (tmp_path / "one.png", "image"),
    ):
        found = json.loads(ok("info", path, "--json"))
        assert found["kind"] == expected
        weights = found.get("weights") or found["Weights"]
        assert model.weights_hash().startswith(weights)
        assert expected in ok("info", path)
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    assert "no provenance of ours" in ok("info", tmp_path / "plain.png")


def test_evaluate_writes_a_report_and_resumes(model, tmp_path):
    options = ("--num-images", 120, "--bootstrap", 2, "--audit-images", 20, "--quiet")
    arguments = ("evaluate", model.folder / "saved", "--data", "digits", *options)
    arguments += ("--output", tmp_path)
    text = ok(*arguments)
    assert "frechet_distance" in text and "report.html" in text
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["settings"]["num_images"] == 120 and record["real"]["split"] == "train"
    assert record["real"]["n_held_out"] == 297 and record["images_from_cache"] == 0
    ok(*arguments)
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["images_from_cache"] == 120 and again["metrics"] == record["metrics"]


def test_evaluate_compares(model, tmp_path):
    ok("evaluate", model.folder / "saved", model.folder / "m.keras", "--data", "digits",
       "--num-images", 60, "--bootstrap", 0, "--audit-images", 0, "--output", tmp_path,
       "--quiet")  # fmt: skip
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert list(record["reports"]) == ["saved", "m"]
    first, second = (one["metrics"] for one in record["reports"].values())
    assert first == second


def test_evaluate_checkpoints(model, tmp_path):
    model.export(str(model.folder / "versions" / "1"), verbose=False)
    model.export(str(model.folder / "versions" / "3"), verbose=False)
    ok("evaluate", model.folder / "versions", "--checkpoints", "--data", "digits", "--num-images",
       40, "--bootstrap", 0, "--audit-images", 0, "--output", tmp_path, "--quiet")  # fmt: skip
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert list(record["reports"]) == ["1", "3"] and record["curve"]


def test_evaluate_takes_an_extractor_and_writes_the_closest_pairs(model, tmp_path, monkeypatch):
    from keras_gen import metrics

    made = []

    class Inception(metrics.KerasExtractor):
        """In the place of the published network, whose weights are not here."""

        def __init__(self, weights="imagenet", size=299):
            made.append((weights, size))
            inputs = keras.Input((8, 8, 1))
            super().__init__(keras.Model(inputs, keras.layers.AveragePooling2D(4)(inputs)))
            self.size, self.inception = size, True

    evaluation = importlib.import_module("keras_gen.metrics.evaluate")
    monkeypatch.setattr(evaluation, "InceptionV3", Inception)
    options = ("--num-images", 40, "--bootstrap", 0, "--audit-images", 40, "--quiet")
    arguments = ("evaluate", model.folder / "saved", "--data", "digits", *options)
    for extractor, fid in (("inception-75", "frechet_distance"), ("inception", "FID")):
        text = ok(*arguments, "--extractor", extractor, "--output", tmp_path / extractor)
        assert f"  {fid} " in text and "  KID " in text
        assert (tmp_path / extractor / "closest_pairs.png").is_file()
    assert made == [("imagenet", 75), ("imagenet", 299)]


def test_splits(capsys):
    assert _load_splits("digits", "all", "test", None, None)[1] is None
    assert "Nothing is held out: 'all' has the images of 'test'" in capsys.readouterr().err
    assert _load_splits("digits", "train", "valid", None, (8, 8, 1))[1] is None
    assert "'digits' has the splits" in capsys.readouterr().err
    source, held_out = _load_splits("digits", "train", "test", None, (12, 12, 3))
    assert source.image_shape == held_out.image_shape == (12, 12, 3) and len(held_out) == 297


def test_images_that_differ_in_size_are_brought_to_the_models(tmp_path, capsys):
    for side in (9, 12):
        image = np.full((side, 10, 1), 7, np.uint8)
        write_png(tmp_path / "a" / f"{side}.png", image, Provenance("test", "0", side))
    source, _ = _load_splits(tmp_path, "all", None, None, (8, 8, 1))
    assert source.image_shape == (8, 8, 1) and len(source) == 2
    assert "are brought to 8x8" in capsys.readouterr().err
    with pytest.raises(ValueError, match="differ in size"):
        _load_splits(tmp_path, "all", None, None, None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--class-balance", "3=100,3=50"], "a class twice"),
        (["--class-balance", "3=100", "--num-images", "500"], "drop --num-images"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(model, tmp_path, arguments, message):
    result = run("synthesize", model.folder / "m.keras", "--data", "digits", *arguments,
                 "--output", tmp_path / "new")  # fmt: skip
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "new").exists()


def test_synthesize(model, tmp_path):
    ok("synthesize", model.folder / "m.keras", "--data", "digits", "--class-balance", "3=3,7=2",
       "--keep-near-duplicates", "--no-memorization-filter", "--quiet",
       "--output", tmp_path / "new")  # fmt: skip
    source = kg.data.load(tmp_path / "new")
    assert len(source) == 5 and source.class_names == ["3", "7"]


def test_class_balance_prefers_names(model, tmp_path):
    """ "3" is the class of that name, the third; "0" is no name, and so the first class."""
    pixels, labels = kg.data.load("digits").take(100)
    names = [*"123456789", "90"]
    for index, (image, label) in enumerate(zip(pixels, labels)):
        path = tmp_path / "data" / names[label] / f"{index}.png"
        write_png(path, image, Provenance("test", "0", index))
    ok("synthesize", model.folder / "m.keras", "--data", tmp_path / "data", "--class-balance",
       "3=2,0=1", "--keep-near-duplicates", "--no-memorization-filter", "--quiet",
       "--output", tmp_path / "new")  # fmt: skip
    assert kg.data.load(tmp_path / "new").class_names == ["1", "3"]


def test_usefulness_of_a_folder_that_is_called_like_a_data_set(model, tmp_path, monkeypatch):
    """The folder is what was written, not the data set of its name."""
    seen = {}

    def usefulness(real, synthetic, test, images_per_class, **options):
        from keras_gen.usefulness import Usefulness

        seen.update(synthetic=kg.data.load(synthetic), images_per_class=images_per_class)
        return Usefulness([], len(synthetic.name), 0, 1, 1, 0.0)

    monkeypatch.setattr("keras_gen.usefulness.usefulness", usefulness)
    monkeypatch.chdir(tmp_path)
    ok("synthesize", model.folder / "m.keras", "--data", "digits", "--num-images", 20,
       "--usefulness", "--keep-near-duplicates", "--no-memorization-filter", "--quiet",
       "--output", "digits")  # fmt: skip
    assert len(seen["synthetic"]) == 20 and seen["images_per_class"] == [10, 50, 100]
    assert (tmp_path / "digits.json").is_file() and (tmp_path / "digits.md").is_file()


def test_usefulness_is_checked_before_anything_is_generated(model, tmp_path):
    arguments = ("synthesize", model.folder / "m.keras", "--usefulness", "--quiet")
    result = run(*arguments, "--data", "digits", "--split", "all", "--output", tmp_path / "new")
    assert result.exit_code == 1 and "Received: no images of `--held-out-split`" in result.stderr
    assert not (tmp_path / "new").exists()
    pixels = kg.data.load("digits").take(50)[0]
    np.savez(tmp_path / "plain.npz", x_train=pixels, x_test=pixels)
    result = run(*arguments, "--data", tmp_path / "plain.npz", "--output", tmp_path / "new")
    assert "needs labels of two classes" in result.stderr and "Received: --data" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "nowhere"), "no such file or folder"),
        (("info", "nowhere"), "no such file or folder"),
        (("sample", "{saved}", "--labels", "10"), "has the classes 0 to 9"),
        (("sample", "{folder}/.."), "no SavedModel"),
        (("evaluate", "{saved}", "--data", "nosuchdata"), "Unknown source"),
        (("export", "{folder}/nowhere.keras", "{folder}/out"), "no such file"),
        (("info", "{text}"), "neither a model nor an image"),
        (("export", "{text}", "{folder}/out"), "cannot be loaded"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(model, tmp_path, arguments, message):
    text = tmp_path / "text.txt"
    text.write_text("no model")
    places = {"saved": model.folder / "saved", "folder": tmp_path, "text": text}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("draw",), ("sample",), ("sample", "m", "--n", "0"), ("sample", "m", "--labels", "x"),
     ("evaluate", "m"), ("evaluate", "--data", "digits")],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(*arguments).exit_code == 2


def test_debug_shows_the_traceback():
    assert isinstance(run("info", "nowhere", "--debug").exception, FileNotFoundError)
    assert isinstance(run("--debug", "info", "nowhere").exception, FileNotFoundError)


def test_a_real_process(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "keras_gen.cli", "info", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: There is no such file")
