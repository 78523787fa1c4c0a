"""What the training scripts share: flags for data, training and output, and the call of `fit`."""

import argparse
import contextlib
import functools
import json
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_gen as kg


def parser(description):
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def positive(text):
    """The type of a flag that is a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text!r}")
    return int(text)


def add_data(to):
    data = to.add_argument_group("data")
    data.add_argument("--data", default="digits", help="digits, a TFDS name, a folder or an .npz")
    data.add_argument("--data-dir", help="folder of the prepared TFDS data sets")
    data.add_argument("--split", default="train")
    data.add_argument("--image-size", type=int, nargs="+", help="one side, or height and width")
    data.add_argument("--channels", type=int, choices=(1, 3))
    data.add_argument("--unconditional", action="store_true", help="leave the labels out")


def add_sequences(to, digits=2, canvas=64, frames=20):
    """Flags of `moving`, with the defaults of the recipe; returns the group for more of them."""
    sequences = to.add_argument_group("sequences")
    sequences.add_argument("--test-split", default="test", help="of the digits")
    sequences.add_argument(
        "--digits", type=int, default=digits, help="how many move; of one, the label counts"
    )
    sequences.add_argument(
        "--canvas", type=int, nargs="+", default=[canvas], help="side, or height and width"
    )
    sequences.add_argument("--frames", type=int, default=frames)
    sequences.add_argument("--sequences", type=int, default=10_000)
    sequences.add_argument("--speed", type=float, help="pixels a frame; None: a tenth of the room")
    sequences.add_argument(
        "--subpixel", action="store_true", help="smooth motion, not of whole pixels"
    )
    sequences.add_argument("--rows", type=positive, default=8, help="sequences that are continued")
    sequences.add_argument("--first-frames", type=int, default=5, help="given; the rest is drawn")
    return sequences


def add_training(to, **defaults):
    """Flags of training, with the defaults of the recipe; returns the group for more of them."""
    training = to.add_argument_group("training")
    training.add_argument("--batch-size", type=positive)
    training.add_argument("--epochs", type=int)
    training.add_argument(
        "--images", type=positive, help="train on so many images; sets the epochs"
    )
    training.add_argument(
        "--steps-per-epoch", type=positive, help="batches an epoch; None: all data"
    )
    training.add_argument("--learning-rate", type=float)
    training.add_argument("--ema", type=float, help="decay of the weight average")
    training.add_argument("--seed", type=int)
    training.add_argument("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    training.add_argument("--steps-per-execution", type=int)
    training.add_argument("--jit-compile", action="store_true")
    training.add_argument("--strategy", choices=("none", "mirrored", "multiworker"))
    to.set_defaults(
        **{
            "batch_size": 128,
            "epochs": 20,
            "learning_rate": 2e-4,
            "ema": 0.999,
            "seed": 0,
            "precision": "float32",
            "steps_per_execution": 1,
            "strategy": "none",
            **defaults,
        }
    )
    return training


def compile_settings(args):
    """What `compile` is told besides the optimizers."""
    return {
        "steps_per_execution": args.steps_per_execution,
        "jit_compile": args.jit_compile or "auto",
    }


def add_schedule(training):
    """Flags of `scheduled`."""
    training.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    training.add_argument("--warmup", type=int, default=100, help="steps of rising learning rate")
    training.add_argument("--clip-norm", type=float, default=1.0)


def scheduled(args, steps, optimizer=kg.optimizers.Adam, **settings):
    """An optimizer whose learning rate over the `steps` of training rises, then falls to 0 or
    stays."""
    warmup = max(1, min(args.warmup, steps // 10))
    last = 0.0 if args.schedule == "cosine" else 1.0
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), last, warmup_target=args.learning_rate, warmup_steps=warmup
    )
    return optimizer(rate, global_clipnorm=args.clip_norm, **settings)


def add_output(to, run_dir):
    output = to.add_argument_group("output")
    output.add_argument("--run-dir", default=run_dir, help="grids, logs, checkpoints, model")
    output.add_argument("--export-dir", help="such as saved_models/mnist; SavedModel versions")
    output.add_argument("--sample-every", type=int, default=1, help="epochs from grid to grid")
    output.add_argument("--gif", action="store_true", help="an animation of the training")


def load(args):
    """The source of `add_data`."""
    size = image_size(args)
    return kg.data.load(
        args.data, args.split, image_size=size, channels=args.channels, data_dir=args.data_dir
    )


load_images = load


def moving(args, **kwargs):
    """The source of `add_sequences`: the digits of `add_data`, moving."""
    canvas = sides("--canvas", args.canvas)
    settings = {"num_frames": args.frames, "count": args.sequences, "speed": args.speed}
    settings |= {"subpixel": args.subpixel, **kwargs}
    return kg.data.moving_digits(load(args), args.digits, canvas, **settings)


def moving_test(args, **kwargs):
    """As `moving`, of test digits."""
    test = argparse.Namespace(**{**vars(args), "split": args.test_split})
    return moving(test, **{"seed": 1, **kwargs})


def write_continued(args, model):
    """Test sequences, each above what the model makes of its first frames, twice as long as those
    of training.

    `continued.png` has a row for each, `continued.gif` a column, in motion.
    """
    frames = 2 * args.frames
    true, labels = moving_test(args, count=args.rows, num_frames=frames).take(args.rows)
    labels = labels if model.num_classes else None
    seen = true[:, : args.first_frames]
    drawn = model.generate(len(true), labels, num_frames=frames, first_frames=seen)
    pairs = np.stack([true, drawn], 1).reshape(-1, *true.shape[1:])
    provenance = kg.images.Provenance(model.name, model.weights_hash(), 0)
    strips = kg.images.grid(pairs.reshape(-1, *pairs.shape[2:]), columns=frames)
    kg.images.write_png(Path(args.run_dir, "continued.png"), strips, provenance)
    both = np.concatenate([true, drawn])
    motion = [kg.images.grid(both[:, t], columns=len(true), scale=2) for t in range(frames)]
    kg.images.write_gif(Path(args.run_dir, "continued.gif"), motion, 10, provenance)


def enlarged(model, pictures, labels=None, columns=6, **how):
    """Rows of what a diffusion model that enlarges makes of pictures which were made smaller.

    Returns:
        uint8 [n * columns, h, w, c], for each picture: the small one in squares, several drawings
        of it, and the picture itself.
    """
    factor, count = model.upscale, len(pictures)
    height, width, channels = model.image_shape
    squares = pictures.reshape(count, height // factor, factor, width // factor, factor, channels)
    small = np.round(squares.mean((2, 4))).astype(np.uint8)
    given = small.repeat(factor, 1).repeat(factor, 2)
    times = columns - 2
    labels = None if labels is None else np.repeat(labels, times)
    drawn = model.enlarge(np.repeat(small, times, 0), labels, **how)
    drawn = drawn.reshape(count, times, *model.image_shape)
    rows = np.concatenate([given[:, None], drawn, pictures[:, None]], 1)
    return rows.reshape(-1, *model.image_shape)


def enlarging(source, rows=6):
    """What `SampleGrid` draws of a model that enlarges."""
    pictures, labels = source.take(min(rows, len(source)), seed=0)

    def draw(model, columns=6):
        known = labels if model.num_classes else None
        return enlarged(model, pictures, known, columns), columns

    return draw


def image_size(args):
    """(height, width) of `--image-size`, or None."""
    return sides("--image-size", args.image_size) if args.image_size else None


def sides(flag, given):
    """(height, width) of a flag's one or two numbers."""
    if len(given) > 2:
        raise SystemExit(f"{flag} takes one side, or height and width. Received: {given}")
    return given[0], given[-1]


def duration(args, all_batches):
    """(epochs, batches of each; None: all) of `--epochs` or `--images`."""
    if not args.images:
        return args.epochs, args.steps_per_epoch
    batches = math.ceil(args.images / args.batch_size)
    epochs = math.ceil(batches / (args.steps_per_epoch or all_batches))
    return epochs, math.ceil(batches / epochs)


@functools.cache  # what trains twice must not start the workers twice
def strategy_of(name):
    """The `tf.distribute` strategy; None for "none"."""
    return {
        "none": lambda: None,
        "mirrored": tf.distribute.MirroredStrategy,
        "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
    }[name]()


def train(args, build, more_callbacks=None, load=load, draw=None):
    """Loads the data, builds the model under the strategy, trains it and writes what is wanted.

    Args:
        args: of the parser.
        build: function (args, source, num_classes, steps) -> compiled model, where `steps` is how
            many steps the training will take.
        more_callbacks: function (source) -> list of callbacks of this family alone, or None.
        load: function (args) -> source.
        draw: function (source) -> `draw` of `SampleGrid`. None: `enlarging` of a model that does,
            else what the model generates.

    Returns:
        bool, whether this process wrote it: of several workers, one does.
    """
    strategy = strategy_of(args.strategy)  # before anything else starts TensorFlow
    keras.config.set_dtype_policy(args.precision)

    source = load(args)
    if getattr(args, "test_split", None):  # which is not there to find out after the training
        load_images(argparse.Namespace(**{**vars(args), "split": args.test_split}))
    batches = source.batches(args.batch_size, seed=args.seed)
    epochs, part = duration(args, len(batches))
    with strategy.scope() if strategy else contextlib.nullcontext():
        num_classes = None if args.unconditional else source.num_classes
        model = build(args, source, num_classes, epochs * (part or len(batches)))

    if draw is None and getattr(model, "upscale", None):
        draw = enlarging
    grid = {"every": args.sample_every, "gif": args.gif, "draw": draw and draw(source)}
    callbacks = [
        kg.callbacks.SampleGrid(args.run_dir, **grid),
        kg.callbacks.LearningRates(args.run_dir),
        keras.callbacks.TerminateOnNaN(),
        kg.callbacks.Resume(args.run_dir),
    ]
    if kg.callbacks.is_chief(model):
        callbacks.insert(0, keras.callbacks.TensorBoard(f"{args.run_dir}/logs"))
    if args.export_dir:
        callbacks.append(kg.callbacks.ExportSavedModel(args.export_dir))
    if more_callbacks:
        callbacks = [*more_callbacks(source), *callbacks]
    history = model.fit(batches, epochs=epochs, steps_per_epoch=part, callbacks=callbacks)
    if not kg.callbacks.is_chief(model):
        return False
    model.save(f"{args.run_dir}/model.keras")
    Path(args.run_dir, "metrics.json").write_text(json.dumps(history.history, indent=1))
    print(f"Sample grids, TensorBoard logs, metrics and the model are in {args.run_dir}")
    return True


def diagnosis(source, count=64):
    """The callbacks of adversarial training alone, which take the time and the memory of a step of
    `count` examples in each epoch."""
    return [kg.callbacks.GANDiagnosis(*source.take(min(count, len(source)), seed=0))]


def number(text):
    """A float where the text is one, else the text."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def add_test(to):
    """Flags of `write_likelihood`; returns the group for more of them."""
    test = to.add_argument_group("test")
    test.add_argument("--test-split", help="its likelihood is written to likelihood.json")
    test.add_argument("--test-images", type=positive, help="so many, drawn at random; None: all")
    return test


def write_likelihood(args, **settings):
    """How likely the images of `args.test_split` are, as JSON beside the trained model.

    Args:
        args: of the parser.
        **settings: of the model's `log_prob`.
    """
    model = keras.saving.load_model(f"{args.run_dir}/model.keras", compile=False)
    height, width, channels = model.image_shape
    source = kg.data.load(
        args.data,
        args.test_split,
        image_size=(height, width),
        channels=channels,
        data_dir=args.data_dir,
    )
    count = min(args.test_images or len(source), len(source))
    found = kg.metrics.likelihood(model, source, count, split=args.test_split, **settings)
    found.save(f"{args.run_dir}/likelihood.json")
    print(found)
