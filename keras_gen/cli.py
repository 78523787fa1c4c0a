"""The `keras-gen` command line. A command imports what it needs besides TensorFlow itself."""

import json
import sys
from pathlib import Path

import click

from keras_gen.version import __version__

_LONGEST_ERROR = 500


class _Commands(click.Group):
    """Errors become one line on stderr and exit code 1; `--debug` shows the traceback."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if context.find_root().meta.get("debug"):
                raise
            raise click.ClickException(_one_line(error)) from None

    def list_commands(self, context):
        return list(self.commands)  # in the order of this file


def _one_line(error):
    text = " ".join(str(error).split())
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 4] + " ..."


def _debug(context, parameter, value):
    if value:
        context.find_root().meta["debug"] = True


_DEBUG = {
    "is_flag": True,
    "expose_value": False,
    "is_eager": True,
    "callback": _debug,
    "help": "Show the traceback of an error.",
}


def _command(function):
    """A command whose last option is `--debug`."""
    command = main.command()(function)
    command.params.append(click.Option(["--debug"], **_DEBUG))
    return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="keras-gen")
@click.option("--debug", **_DEBUG)
def main():
    """Generative image models: draw from them, measure them, export them.

    A MODEL is a SavedModel (saved_models/digits, whose highest version is taken, or one version,
    saved_models/digits/3) or a .keras file.

    \b
    Examples:
      keras-gen info saved_models/digits
      keras-gen sample saved_models/digits --n 16 --labels 3 --output threes.png
      keras-gen evaluate saved_models/digits --data digits --output runs/report

    Exit codes: 0 it worked, 1 an error, 2 wrong usage.
    """


def _data_options(function):
    """What `keras_gen.data.load` needs."""
    for option in reversed(
        [
            click.option(
                "--data",
                required=True,
                help="digits, a TFDS name such as mnist, a folder of images, or an .npz file.",
            ),
            click.option("--data-dir", help="Folder of the prepared TFDS data sets."),
            click.option(
                "--split", default="train", show_default=True, help="What was trained on."
            ),
            click.option(
                "--held-out-split",
                default="test",
                show_default=True,
                help="Real images that were not trained on; left out if there is no such split.",
            ),
        ]
    ):
        function = option(function)
    return function


# ---------------------------------------------------------------------------------------------
# sample
# ---------------------------------------------------------------------------------------------


def _integers(context, parameter, value):
    """ "3", "0,1,2" or "0-9" as a list of int."""
    if value is None:
        return None
    try:
        numbers = []
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            numbers += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not like 3, 0,1,2 or 0-9.") from None
    if not numbers:
        raise click.BadParameter(f"{value!r} has no number in it.")
    return numbers


@_command
@click.argument("model")
@click.option("--n", "count", type=click.IntRange(1), default=16, show_default=True, help="Images.")
@click.option(
    "--labels", callback=_integers, help="Class of the images, or several in turn: 3, 0,1,2 or 0-9."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the images.")
@click.option("--columns", type=click.IntRange(1), help="Images in a row of the grid.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="PNG of a grid. [default: grid.png]"
)
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="One PNG for each image."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Images generated at a time; changes no image.",
)
def sample(model, count, labels, seed, columns, output, folder, batch_size):
    """Draw images from MODEL, as a grid or as single files.

    Image i is a function of the seed, of i and of its label alone. Every file carries its
    provenance, which `keras-gen info` reads.

    \b
    Examples:
      keras-gen sample saved_models/digits
      keras-gen sample runs/gan/model.keras --n 100 --labels 0-9 --columns 10 --output grid.png
      keras-gen sample saved_models/digits --n 1000 --labels 3 --folder threes
    """
    import numpy as np

    from keras_gen.images import Provenance, grid, write_png
    from keras_gen.metrics.generators import as_generator

    generator = as_generator(_existing_model(model), batch_size)
    labels = _checked_labels(generator, labels, count)
    weights = generator.weights or "unknown"
    if folder is not None:
        from keras_gen.randomness import row_seeds

        seeds = row_seeds(seed, count)
        width = len(str(count - 1))
        for start, images, _ in generator.batches(count, labels, seed, chunk=256):
            for index, image in enumerate(images, start):
                path = folder / f"{index:0{width}d}.png"
                write_png(path, image, Provenance(generator.name, weights, int(seeds[index])))
        click.echo(f"{count:,} images are in {folder}")
    if output is not None or folder is None:
        output = output or Path("grid.png")
        images = [part for _, part, _ in generator.batches(count, labels, seed, chunk=256)]
        images = np.concatenate(images)
        picture = grid(images, columns=columns, scale=max(1, 64 // max(images.shape[1:3])))
        write_png(output, picture, Provenance(generator.name, weights, seed))
        click.echo(f"A grid of {count:,} images is in {output}")


def _existing_model(path):
    """The path of a SavedModel or .keras file; a folder of images is none."""
    from keras_gen.metrics.generators import saved_model_version

    found = Path(path).expanduser()
    if found.is_dir() and saved_model_version(found) is None:
        raise ValueError(f"There is no SavedModel in this folder. Received: MODEL={path!r}")
    return found


def _checked_labels(generator, labels, count):
    import numpy as np

    if not generator.num_classes:
        if labels is not None:
            raise ValueError(f"{generator.name!r} has no classes. Received: --labels {labels}")
        return None
    labels = list(range(generator.num_classes)) if labels is None else labels
    if min(labels) < 0 or max(labels) >= generator.num_classes:
        raise ValueError(
            f"{generator.name!r} has the classes 0 to {generator.num_classes - 1}. "
            f"Received: --labels {','.join(map(str, labels))}"
        )
    return np.resize(np.array(labels, np.int32), count)


# ---------------------------------------------------------------------------------------------
# evaluate
# ---------------------------------------------------------------------------------------------


@_command
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@_data_options
@click.option(
    "--num-images", type=click.IntRange(20), default=5000, show_default=True, help="To generate."
)
@click.option(
    "--extractor",
    help="Features: inception (downloads weights), a file of InceptionV3 weights; inception-75, or "
    "inception-75:FILE, for the KID of the Keras examples, at 75 pixels. By default a small "
    "classifier is trained on the data, once.",
)
@click.option(
    "--labels",
    type=click.Choice(["source", "balanced"]),
    default="source",
    show_default=True,
    help="Classes as often as in the data, or equally often.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Images generated at a time; changes no image.",
)
@click.option(
    "--audit-images",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Generated images among which copies of training images are looked for.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Random halves behind the confidence intervals; 0 for none.",
)
@click.option(
    "--checkpoints", is_flag=True, help="The MODELs, or all versions in a folder, are one run."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/report"),
    show_default=True,
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate(models, data, data_dir, split, held_out_split, output, checkpoints, quiet, **options):
    """Measure how good MODEL is, and whether it copies.

    MODEL may also be a folder of images. Several MODELs are compared in one table with confidence
    intervals. Writes JSON and one self-contained HTML page into --output. Features are kept in
    --output/cache: run the same command again to go on with an interrupted evaluation.

    \b
    Examples:
      keras-gen evaluate saved_models/digits --data digits --num-images 2000
      keras-gen evaluate saved_models/mnist --data mnist --data-dir data --output runs/report
      keras-gen evaluate runs/a/model.keras runs/b/model.keras --data mnist --output runs/compared
      keras-gen evaluate saved_models/mnist --checkpoints --data mnist --output runs/curve
    """
    from keras_gen import metrics
    from keras_gen.metrics.generators import as_generator

    missing = [path for path in models if not Path(path).expanduser().exists()]
    if missing:
        raise FileNotFoundError(f"There is no such file or folder: {', '.join(missing)}")
    paths = _checkpoint_paths(models) if checkpoints else list(models)
    first = as_generator(paths[0], options["batch_size"])
    source, held_out = _load_splits(data, split, held_out_split, data_dir, first.image_shape)
    options |= {
        "held_out": held_out,
        "split": split,
        "cache_dir": output / "cache",
        "progress": not quiet,
    }
    if checkpoints:
        result = metrics.evaluate_checkpoints(paths, source, **options)
    elif len(models) > 1:
        result = metrics.compare(_named(models), source, **options)
    else:
        result = metrics.evaluate(first, source, **options)
    page = result.save(output)
    click.echo(str(result))
    click.echo(f"The report is {page}")


def _checkpoint_paths(models):
    from keras_gen.metrics.evaluate import checkpoints_in

    if len(models) > 1:
        return [Path(path) for path in models]
    return checkpoints_in(Path(models[0]).expanduser())


def _named(models):
    """Short names that differ: dict from name to path."""
    paths = [Path(path) for path in models]
    short = [
        path.parent.name + "/" + path.name if path.parent.name else path.name for path in paths
    ]
    plain = [path.stem if path.suffix == ".keras" else path.name for path in paths]
    names = next(
        (choice for choice in (plain, short) if len(set(choice)) == len(paths)), list(models)
    )
    if len(set(names)) < len(names):
        raise click.UsageError("The same MODEL is given twice.")
    return dict(zip(names, models))


def _load_splits(data, split, held_out_split, data_dir, image_shape):
    """The source and the held-out images (or None), in the size of the model's images."""
    from keras_gen.data import load
    from keras_gen.data.source import NoSuchSplit
    from keras_gen.metrics.evaluate import split_overlaps

    options = {"data_dir": data_dir}
    try:
        source = load(data, split, **options)
    except NoSuchSplit:
        raise
    except ValueError:  # images that differ in size have none of their own
        if image_shape is None:
            raise
        source = None
    if image_shape is not None and (source is None or tuple(image_shape) != source.image_shape):
        options |= {"image_size": tuple(image_shape[:2]), "channels": int(image_shape[2])}
        source = load(data, split, **options)
        click.echo(f"The images of {data} are brought to {_shape(image_shape)}.", err=True)
    if not held_out_split:
        return source, None
    if split_overlaps(split, held_out_split):
        click.echo(
            f"Nothing is held out: {split!r} has the images of {held_out_split!r}.", err=True
        )
        return source, None
    try:
        return source, load(data, held_out_split, **options)
    except NoSuchSplit as error:
        click.echo(f"Nothing is held out: {_one_line(error)}", err=True)
        return source, None


def _shape(shape):
    height, width, channels = shape
    return f"{height}x{width}, {'grey' if channels == 1 else 'RGB'}"


# ---------------------------------------------------------------------------------------------
# synthesize
# ---------------------------------------------------------------------------------------------


@_command
@click.argument("model")
@_data_options
@click.option(
    "--num-images", type=click.IntRange(1), default=1000, show_default=True, help="In all."
)
@click.option(
    "--class-balance",
    default="equal",
    show_default=True,
    help="equal, source (as in the data), or counts of classes by name or number: 3=100,7=50.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the images.")
@click.option(
    "--memorization-filter/--no-memorization-filter",
    default=True,
    show_default=True,
    help="Drop images that are or look like copies of training images.",
)
@click.option(
    "--drop-near-duplicates/--keep-near-duplicates",
    default=True,
    show_default=True,
    help="Drop images that all but equal an earlier one.",
)
@click.option(
    "--usefulness",
    is_flag=True,
    help="Also train classifiers with and without the images (minutes); writes DIRECTORY.json and "
    "DIRECTORY.md beside the folder.",
)
@click.option(
    "--num-seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Trainings of each classifier of --usefulness.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--output", "directory", required=True, type=click.Path(path_type=Path, file_okay=False)
)
def synthesize(
    model,
    directory,
    data,
    data_dir,
    split,
    held_out_split,
    class_balance,
    usefulness,
    num_seeds,
    quiet,
    **options,
):
    """Write a labelled folder of images without copies.

    The images of MODEL that are or look like copies of its training images are left out.
    One PNG for each image, with its provenance, in a folder for each class, and a manifest of all
    that was generated and dropped. Run the same command again to go on with an interrupted run.

    \b
    Examples:
      keras-gen synthesize saved_models/digits --data digits --num-images 500 --output synthetic
      keras-gen synthesize saved_models/mnist --data mnist --class-balance 3=100,7=50 \\
          --output synthetic/mnist
      keras-gen synthesize saved_models/mnist --data mnist --usefulness --output synthetic/mnist
    """
    from keras_gen import synthesis
    from keras_gen.metrics.generators import as_generator

    balance = _class_balance(class_balance)
    if isinstance(balance, dict):
        given = click.get_current_context().get_parameter_source("num_images")
        if given is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--class-balance with counts says how many; drop --num-images.")
        options["num_images"] = None
    generator = as_generator(_existing_model(model))
    shape = generator.image_shape
    source, held_out = _load_splits(data, split, held_out_split, data_dir, shape)
    if usefulness:
        _check_usefulness(generator, source, held_out)
    result = synthesis.synthesize(
        generator,
        directory,
        source=source,
        held_out=held_out,
        class_balance=balance,
        progress=None if quiet else _count_kept,
        **options,
    )
    click.echo(str(result))
    if usefulness:
        _write_usefulness(directory, source, held_out, num_seeds, quiet)
    if not result.complete:
        raise click.ClickException("A class was given up with fewer images than wanted.")


def _class_balance(text):
    """ "equal", "source", or a dict from class to count."""
    if text in ("equal", "source"):
        return text
    try:
        pairs = [part.rpartition("=") for part in text.split(",")]
        counts = {key.strip(): int(count) for key, _, count in pairs}
        if len(counts) < len(pairs):
            raise click.BadParameter(
                f"{text!r} has a class twice.", param_hint="--class-balance"
            ) from None
        return counts
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not equal, source, or like 3=100,7=50.", param_hint="--class-balance"
        ) from None


def _count_kept(kept, wanted):
    click.echo(f"\r{kept:,} of {wanted:,} images", err=True, nl=kept >= wanted)


def _check_usefulness(generator, real, test):
    """What `--usefulness` needs, said before hours of generating."""
    if not generator.num_classes:
        raise ValueError(
            f"`--usefulness` needs a model with classes. Received: MODEL={generator.name!r}"
        )
    for option, source in (("--data", real), ("--held-out-split", test)):
        if source is None:
            raise ValueError(
                f"`--usefulness` needs real images to test on. Received: no images of `{option}`"
            )
        if (source.num_classes or 0) < 2:
            raise ValueError(
                f"`--usefulness` needs labels of two classes or more. Received: {option} {source!r}"
            )


def _write_usefulness(directory, real, test, num_seeds, quiet):
    import numpy as np

    from keras_gen.images import write_atomically
    from keras_gen.usefulness import usefulness

    labels = np.concatenate([labels for _, labels in real.numpy_batches(4096)])
    scarcest = np.bincount(labels, minlength=real.num_classes).min()
    found = usefulness(
        real,
        directory.resolve(),  # a path, and no name of a data set
        test,
        images_per_class=[count for count in (10, 50, 100) if count <= scarcest],
        num_seeds=num_seeds,
        progress=None if quiet else lambda line: click.echo(line, err=True),
    )
    text = json.dumps(found.to_dict(), indent=1) + "\n"
    write_atomically(directory.with_name(directory.name + ".json"), text.encode())
    write_atomically(
        directory.with_name(directory.name + ".md"), (found.markdown() + "\n").encode()
    )
    click.echo(found.markdown())


# ---------------------------------------------------------------------------------------------
# export and info
# ---------------------------------------------------------------------------------------------


@_command
@click.argument("model", metavar="MODEL.keras", type=click.Path(path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def export(model, directory):
    """Write a .keras file as the next version of a SavedModel.

    TF Serving then serves it.

    \b
    Example:
      keras-gen export runs/gan/model.keras saved_models/digits
    writes saved_models/digits/1, or the number after the highest that is there.
    """
    from keras_gen.metrics.generators import load_keras

    if not model.is_file():
        raise FileNotFoundError(f"There is no such file. Received: MODEL.keras={str(model)!r}")
    loaded = load_keras(model)
    numbers = []
    if directory.is_dir():
        names = [entry.name for entry in directory.iterdir()]
        numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    version = directory / str(max(numbers, default=0) + 1)
    loaded.export(str(version), verbose=False)
    click.echo(f"SavedModel written to {version}")


@_command
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(path, as_json):
    """Tell what a model or an image is, and where it is from.

    PATH is a SavedModel, a .keras file, a PNG or a GIF.

    \b
    Examples:
      keras-gen info saved_models/digits
      keras-gen info runs/gan/model.keras
      keras-gen info threes/007.png
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no such file or folder. Received: PATH={str(path)!r}")
    if path.is_dir():
        found = _directory_info(path)
    elif path.suffix == ".keras":
        found = _keras_info(path)
    else:
        found = _image_info(path)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    width = max(map(len, found))
    for key, value in found.items():
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{key:{width}}  {value}")


def _directory_info(path):
    from keras_gen.metrics.generators import saved_model_info, saved_model_version, versions

    version = saved_model_version(path)
    if version is None:
        raise ValueError(
            f"The folder holds no SavedModel: no saved_model.pb, no versions. "
            f"Received: PATH={str(path)!r}"
        )
    found = {"kind": "SavedModel", "path": str(version)}
    if version != path:
        found["versions"] = list(versions(path))
    known = saved_model_info(version)
    if not known:
        found["made by"] = "not keras_gen: assets.extra/keras_gen.json is missing"
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    return found | known | {"bytes": size}


def _keras_info(path):
    """What the file says of itself, without building the model."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"The file is no .keras model, or damaged. Received: PATH={str(path)!r}"
        ) from error
    own = config.get("config", {})
    found = {"kind": ".keras file", "path": str(path), "class": config.get("class_name")}
    for key in ("name", "image_shape", "num_classes", "seed", "ema"):
        if key in own:
            found[key] = own[key]
    found["keras"] = metadata.get("keras_version")
    found["saved"] = metadata.get("date_saved")
    if config.get("registered_name", "").startswith("keras_gen>"):
        from keras_gen.metrics.generators import load_keras

        model = load_keras(path)
        found["training_steps"] = int(model.step.numpy())
        found["weights"] = model.weights_hash()
    return found | {"bytes": path.stat().st_size}


def _image_info(path):
    from keras_gen.images import read_provenance

    found = {"kind": "image", "path": str(path)}
    provenance = read_provenance(path)
    if provenance is not None:
        return found | provenance
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            found["size"] = f"{image.width}x{image.height} {image.format}"
    except UnidentifiedImageError:
        raise ValueError(
            "This is neither a model nor an image. A model is a folder or a .keras file. "
            f"Received: PATH={str(path)!r}"
        ) from None
    return found | {"made by": "not keras_gen: the file has no provenance of ours"}


if __name__ == "__main__":
    sys.exit(main())
