"""Every adversarial loss, and the default, at equal time: how good are the images?

    python benchmarks/gan_losses.py --data mnist fashion_mnist --seconds 300

Unconditional models of each data set are trained for `--seconds` each, then 5,000 images of each
are judged by the features of the project's classifier: Fréchet distance with the floor of real
images beside it, precision, recall, and the shares of the classes that the classifier sees. Models
are kept in `--work-dir` and what was found in `--results`, so that running the command again
continues where it stopped, in the middle of a training too (`--piece-seconds` ends it after so
many). Writes benchmarks/gan_losses.md, of all results there are, with a grid of each model.

The schedules of the default end with its training: how many images that is, is guessed from the
speed of the first steps, and kept. On a machine that has other work, `--clock cpu` counts the
seconds of the processors in place of those on the wall.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from timing import table

import keras_gen as kg
from keras_gen import losses, metrics
from keras_gen.models import GAN

HERE = Path(__file__).resolve().parent
EXTRACTOR_SEED = 0


class Variant(NamedTuple):
    """A row of the table: its name, function (image_shape, burn_in) -> compiled model, batch size
    (None: `--batch-size`)."""

    text: str
    make: Callable
    batch_size: int | None = None


def option(text, batch_size=None, optimizer=None, **arguments):
    """A variant of the default; `optimizer`: function that makes one, None for the default's."""

    def make(shape, burn_in):
        model = GAN(shape, **{"burn_in": burn_in, **arguments})
        model.compile(*(optimizer() for _ in range(2) if optimizer))
        return model

    return Variant(text, make, batch_size)


def keras_example(shape, burn_in):
    """TensorFlow's tutorial of the DCGAN: Adam, rate 1e-4, no average of the weights."""
    model = GAN(shape, recipe="dcgan", ema=0.0, burn_in=burn_in)
    model.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
    return model


def wgan_adam():  # of Gulrajani et al. 2017
    return keras.optimizers.Adam(1e-4, 0.0, 0.9)


def wgan_rmsprop():
    """Of Arjovsky et al. 2017. Clipped weights make logits of some 1e-8, beside whose gradients
    Keras's epsilon, which stands within the root, would be all that counts."""
    return keras.optimizers.RMSprop(5e-5, epsilon=1e-30)


CLIPPED = {"weight_clip": 0.01, "discriminator_steps": 5}
VARIANTS = {
    "r3gan": option("R3GAN, the default: relativistic, R1 + R2"),
    "dcgan": option("DCGAN: non-saturating, batch normalization", 64, recipe="dcgan"),
    "keras_dcgan": Variant(
        "DCGAN, plain: rate 1e-4, no average (TensorFlow tutorial)", keras_example, 64
    ),
    "minimax": option("minimax, R1 + R2", loss="minimax"),
    "non_saturating": option("non-saturating, R1 + R2", loss="non_saturating"),
    "smoothed": option("the same, real target 0.9", loss=losses.NonSaturating(0.9)),
    "least_squares": option("least squares, R1 + R2", loss="least_squares"),
    "hinge": option("hinge, R1 + R2", loss="hinge"),
    "wgan_gp": option(
        "Wasserstein, gradient penalty, Adam 1e-4",
        optimizer=wgan_adam,
        loss="wasserstein",
        discriminator_steps=5,
    ),
    "wgan": option(
        "Wasserstein, weights clipped, RMSprop 5e-5",
        optimizer=wgan_rmsprop,
        loss="wasserstein",
        **CLIPPED,
    ),
    "sngan": option("SNGAN: hinge, spectral normalization", recipe="sngan"),
    "ada": option("R3GAN with ADA", augmentation="ada"),
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--data-dir", type=Path, default=HERE.parent.parent / "shared/data/tfds")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seconds", type=float, default=300, help="of training, each")
    parser.add_argument(
        "--piece-seconds", type=float, default=1e9, help="then stop, to go on later"
    )
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images-per-epoch", type=int, default=3200)
    parser.add_argument("--num-images", type=int, default=5000)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, default=Path("runs/gan_losses"))
    parser.add_argument("--results", type=Path, default=HERE / "gan_losses")
    parser.add_argument("--output", type=Path, default=HERE / "gan_losses.md")
    return parser.parse_args()


class Budget(keras.callbacks.Callback):
    """Counts the seconds of training, over interruptions, and ends it when they are spent.

    Args:
        file: where the seconds of the epochs so far are kept.
        clock: function that gives seconds.
        seconds: float, of all pieces.
        piece: float, of this piece.
    """

    def __init__(self, file, clock, seconds, piece):
        super().__init__()
        self.file, self.clock, self.seconds, self.piece = file, clock, seconds, piece
        self.spent = json.loads(file.read_text()) if file.exists() else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = self.clock()

    def on_epoch_end(self, epoch, logs=None):
        taken = self.clock() - self.begun
        self.spent += taken
        self.piece -= taken
        self.file.write_text(json.dumps(self.spent))
        if self.spent >= self.seconds or self.piece <= 0:
            self.model.stop_training = True


def burn_in(source, make, batch_size, args, clock, file):
    """How many images `--seconds` of training will see, by the speed of some steps."""
    if not file.exists():
        model = make(source.image_shape, 1)
        data = source.batches(batch_size, seed=args.seed)
        model.fit(data, steps_per_epoch=3, verbose=0)
        steps = max(1, 1000 // batch_size)
        begun = clock()
        model.fit(data, steps_per_epoch=steps, verbose=0)
        rate = steps * batch_size / (clock() - begun)
        file.write_text(json.dumps(max(batch_size, int(args.seconds * rate))))
    return json.loads(file.read_text())


def trained(source, name, args, folder):
    """The model after its seconds, the seconds, and whether they are all spent."""
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    _, make, batch_size = VARIANTS[name]
    batch_size = batch_size or args.batch_size
    folder.mkdir(parents=True, exist_ok=True)
    keras.config.set_dtype_policy(args.precision)
    images = burn_in(source, make, batch_size, args, clock, folder / "burn_in.json")
    model = make(source.image_shape, images)
    budget = Budget(folder / "seconds.json", clock, args.seconds, args.piece_seconds)
    finished = folder / "finished"  # that the model was saved after all its seconds
    if finished.exists():
        model = keras.saving.load_model(folder / "model.keras")
    else:
        model.fit(
            source.batches(batch_size, seed=args.seed),
            epochs=10**6,
            steps_per_epoch=max(1, args.images_per_epoch // batch_size),
            verbose=0,
            callbacks=[
                kg.callbacks.GANDiagnosis(*source.take(256, seed=0)),
                budget,
                keras.callbacks.CSVLogger(folder / "history.csv", append=True),
                kg.callbacks.Resume(folder),
            ],
        )
        model.save(folder / "model.keras")
        if budget.spent >= args.seconds:
            finished.touch()
    keras.config.set_dtype_policy("float32")
    return model, budget.spent, budget.spent >= args.seconds


def judged(model, extractor, real, args):
    """The numbers of one model's images, and a grid of them."""
    made = model.generate(args.num_images, seed=args.seed)
    features, logits = metrics.extract(extractor, made)
    shares = np.bincount(logits.argmax(1), minlength=logits.shape[1]) / len(made)
    found = {"frechet_distance": float(metrics.frechet_distance(real, features))}
    found |= {k: float(v) for k, v in metrics.precision_recall(real, features).items()}
    found["smallest_share"], found["largest_share"] = float(shares.min()), float(shares.max())
    return found, made[:100]


def run(data, args):
    """Trains and judges the variants of which there is no result yet."""
    files = {name: args.results / data / f"{name}.json" for name in args.variants}
    missing = {name: file for name, file in files.items() if not file.exists()}
    if not missing:
        return
    source = kg.data.load(data, data_dir=args.data_dir)
    pixels, _ = source.take(len(source), seed=args.seed)
    unlabelled = kg.data.load(pixels)
    extractor = metrics.train_extractor(source, seed=EXTRACTOR_SEED)
    real = metrics.extract(extractor, pixels[: 2 * args.num_images]).features
    floor = float(metrics.real_floor(metrics.frechet_distance, real, args.num_images))
    real = real[: args.num_images]
    for name, file in missing.items():
        folder = args.work_dir / data / name
        model, spent, finished = trained(unlabelled, name, args, folder)
        if not finished:
            print(f"{data}, {name}: {spent:.0f} of {args.seconds:.0f} s; run the command again")
            break
        found, shown = judged(model, extractor, real, args)
        seen = int(np.asarray(model.images_seen))
        found |= {"images": seen, "images_per_second": seen / spent, "seconds": spent}
        found |= {"floor": floor, "extractor": extractor.name, "measured": str(date.today())}
        found |= {"batch_size": VARIANTS[name].batch_size or args.batch_size}
        found |= {"clock": args.clock, "policy": args.precision, "seed": args.seed}
        found |= {"num_images": args.num_images}
        provenance = kg.images.Provenance(model.name, model.weights_hash(), args.seed)
        grid = kg.images.grid(shown, columns=10, scale=2)
        file.parent.mkdir(parents=True, exist_ok=True)
        kg.images.write_png(file.with_suffix(".png"), grid, provenance)
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{data}, {name}: {found}", flush=True)


def kept(data, args):
    """The results of a data set that there are, in the order of the variants."""
    files = {name: args.results / data / f"{name}.json" for name in VARIANTS}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    for name in found:
        picture = files[name].with_suffix(".png")
        if picture.exists():
            link = picture.relative_to(args.results.parent)
            found[name]["grid"] = f"[{name}]({link})"
    return list(found.items())


def _shared(setting, results):
    """The values of a setting in all rows."""
    values = {found[setting] for rows in results.values() for _, found in rows}
    return ", ".join(map(str, sorted(values)))


def report(results):
    lines = [
        "# Adversarial losses at equal time",
        "",
        "`python benchmarks/gan_losses.py`: unconditional, each model trained for the same seconds "
        f"({_shared('clock', results)} clock, 2 processors, {_shared('policy', results)}, seed "
        f"{_shared('seed', results)}), n = {_shared('num_images', results)} generated against as "
        "many real training images; distance on the features of the project's classifier, not "
        "FID. All but the DCGANs have the residual networks of the default. Where the "
        "discriminator takes several steps, they see the same real images, unlike those of the "
        "papers.",
    ]
    for data, rows in results.items():
        extractors = ", ".join(sorted({found["extractor"] for _, found in rows}))
        floors = ", ".join(sorted({f"{found['floor']:.3f}" for _, found in rows}))
        lines += ["", f"## {data}", ""]
        lines += [f"Extractor {extractors}. Real against real images, same n: {floors}.", ""]
        cells = [
            [
                found.get("model", VARIANTS[name].text),  # of a row that was trained otherwise
                found["batch_size"],
                f"{found['frechet_distance']:.2f}",
                f"{found['precision']:.3f}",
                f"{found['recall']:.3f}",
                f"{found['images_per_second']:.0f}",
                f"{found['seconds']:.0f}",
                f"{found['images']:,}",
                f"{found['smallest_share']:.1%} to {found['largest_share']:.1%}",
                found["measured"],
                found.get("grid", "not kept"),
            ]
            for name, found in rows
        ]
        header = ["model", "batch", "Fréchet distance", "precision", "recall", "images/s"]
        header += ["seconds", "images seen", "shares of the classes", "measured", "grid"]
        lines.append(table(header, cells))
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    for data in args.data:
        run(data, args)
    text = report({data: kept(data, args) for data in args.data})
    print(text)
    args.output.write_text(text)


if __name__ == "__main__":
    main()
