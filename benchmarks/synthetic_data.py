"""Are generated images of use? A GAN is trained, a synthetic set written, classifiers compared.

    python benchmarks/synthetic_data.py --data mnist fashion_mnist fruits

For each data set: a conditional GAN is trained for `--train-seconds`, watched by
`GenerativeMetrics`, and the best averaged model kept (or `--model` is taken); `synthesize` writes a
balanced folder without copies and near-duplicates; `usefulness` trains the same classifier on real,
on synthetic and on both. All is kept in `--work-dir`, so that running the command again continues,
and benchmarks/synthetic_data.md is written anew from all results there.

`--images-per-class` gives generator and classifier so few real images: the case of somebody who has
no more.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_gen as kg
from keras_gen.callbacks.generative_metrics import GenerativeMetrics
from keras_gen.synthesis import synthesize
from keras_gen.usefulness import usefulness

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist", "fruits"])
    parser.add_argument("--data-dir", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/synthetic_data"))
    parser.add_argument("--output", type=Path, default=HERE / "synthetic_data.md")
    parser.add_argument("--images-per-class", type=int, help="real images there are; None: all")

    generator = parser.add_argument_group("generator")
    generator.add_argument("--model", help="a .keras file or SavedModel, in place of training")
    generator.add_argument("--train-seconds", type=float, default=900)
    generator.add_argument("--train-steps", type=int, help="stop after so many steps too")
    generator.add_argument("--steps-per-epoch", type=int, default=200)
    generator.add_argument("--batch-size", type=int, default=64)
    generator.add_argument("--width", type=int, default=32)
    generator.add_argument("--loss", choices=kg.losses.ADVERSARIAL_LOSSES, default="non_saturating")
    generator.add_argument("--r1", type=float, default=0.0)
    generator.add_argument("--r2", type=float, default=0.0)
    generator.add_argument("--dropout", type=float, default=0.3)
    generator.add_argument("--learning-rate", type=float, default=2e-4)
    generator.add_argument("--metric-images", type=int, default=1000)

    judged = parser.add_argument_group("synthetic images and classifiers")
    judged.add_argument("--num-synthetic", type=int, default=10_000)
    judged.add_argument("--real-per-class", type=int, nargs="+", default=[10, 50, 100])
    judged.add_argument("--num-test", type=int, default=10_000)
    judged.add_argument("--num-seeds", type=int, default=3)
    judged.add_argument("--num-images-seen", type=int, default=40_000)
    judged.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = arguments()
    for name in args.data:
        scarce = f"_{args.images_per_class}" if args.images_per_class else ""
        folder = args.work_dir / f"{name}{scarce}"
        real, test = load(name, args)
        result = {
            "name": name,
            "command": command(name, args),
            "n_real": len(real),
            "image_shape": list(real.image_shape),
            "class_names": real.class_names,
        }
        model, result["training"] = trained(real, folder, args)
        synthetic = synthesize(
            model, folder / "images", args.num_synthetic, real, seed=args.seed, progress=tell
        )
        print(f"\n{synthetic}", flush=True)
        result["synthesis"] = synthetic.to_dict() | {"directory": synthetic.directory.name}
        table = usefulness(
            real,
            kg.data.load(synthetic.directory),
            test,
            images_per_class=args.real_per_class,
            num_seeds=args.num_seeds,
            num_images_seen=args.num_images_seen,
            progress=lambda line: print(line, flush=True),
        )
        result |= {"usefulness": table.to_dict(), "table": table.markdown()}
        print(f"\n{table.markdown()}\n", flush=True)
        text = json.dumps(result, indent=1)
        kg.images.write_atomically(folder / "result.json", text.encode())
        args.output.write_text(report(args.work_dir))
    print(f"Written: {args.output}")


def load(name, args):
    """Real images to train on, and to test on."""
    if name == "fruits":
        folder = args.data_dir / "images" / "fruits"
        real, test = kg.data.load(folder), kg.data.load(folder, "test")
    else:
        folder = args.data_dir / "tfds"
        real, test = (kg.data.load(name, split, data_dir=folder) for split in ("train", "test"))
    images, labels = test.take(min(args.num_test, len(test)), seed=args.seed)
    test = kg.data.load((images, labels), class_names=real.class_names)
    if not args.images_per_class:
        return real, test
    images, labels = real.take(len(real), seed=args.seed)
    rows = [np.flatnonzero(labels == label)[: args.images_per_class] for label in np.unique(labels)]
    rows = np.sort(np.concatenate(rows))
    return kg.data.load((images[rows], labels[rows]), class_names=real.class_names), test


def command(name, args):
    """The command that repeats one data set, without the folders of this machine."""
    shown = [f"--data {name}"]
    hidden = ["data", "data_dir", "work_dir", "output", "model"]
    if args.model:  # which is not trained
        hidden += ["train_seconds", "train_steps", "steps_per_epoch", "batch_size", "width", "loss"]
        hidden += ["r1", "r2", "dropout", "learning_rate", "metric_images"]
    for key, value in vars(args).items():
        if key not in hidden and value is not None:
            value = " ".join(map(str, value)) if isinstance(value, list) else value
            shown.append(f"--{key.replace('_', '-')} {value}")
    if args.model:
        shown.append(f"--model {Path(args.model).name}")
    return "python benchmarks/synthetic_data.py " + " ".join(shown)


def tell(kept, wanted):
    print(f"\r{kept:,} of {wanted:,} images", end="", flush=True)


# ---------------------------------------------------------------------------------------------
# The generator
# ---------------------------------------------------------------------------------------------


class StopAfter(keras.callbacks.Callback):
    """Stops training after so many seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_begin(self, logs=None):
        self.begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if time.perf_counter() - self.begun > self.seconds:
            self.model.stop_training = True


def trained(real, folder, args):
    """(path of the generator, what is to be said of its training); trained once a folder."""
    if args.model:
        return args.model, {"model": Path(args.model).name}
    path, record = folder / "model.keras", folder / "training.json"
    if record.is_file():
        return path, json.loads(record.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    model = gan(real, args)
    metrics = GenerativeMetrics(real, num_images=args.metric_images, seed=args.seed)
    steps = min(args.steps_per_epoch, args.train_steps or args.steps_per_epoch)
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="kernel_distance", mode="min", save_best_only=True
    )
    begun = time.perf_counter()
    history = model.fit(
        real.batches(args.batch_size, seed=args.seed),
        epochs=args.train_steps // steps if args.train_steps else 10**6,
        steps_per_epoch=steps,
        verbose=2,
        callbacks=[metrics, best, StopAfter(args.train_seconds)],
    ).history
    epoch = int(np.argmin(history["kernel_distance"]))
    told = {
        "steps": int(np.asarray(model.step)),
        "batch_size": args.batch_size,
        "seconds": round(time.perf_counter() - begun, 1),
        "best_step": min((epoch + 1) * steps, int(np.asarray(model.step))),
        "kernel_distance": history["kernel_distance"][epoch],
        "frechet_distance": history.get("frechet_distance", [None])[epoch],
        "floor": metrics.floor,
        "metric_images": metrics.num_images,
        "metric_real": metrics.num_real,
        "metrics_share": round(metrics.time_share, 3),
        "extractor": metrics.extractor.name,
        "extractor_accuracy": metrics.extractor.accuracy,
        "parameters": model.generator.count_params(),
    }
    kg.images.write_atomically(record, json.dumps(told, indent=1).encode())
    return path, told


def gan(real, args):
    shape, classes = real.image_shape, real.num_classes
    shared = {
        "width": args.width,
        "kernel_size": 5 if shape[0] < 64 else 4,
        "num_classes": classes,
    }
    dcgan, seed = kg.networks.dcgan, args.seed
    penalties = [make(w) for make, w in ((kg.losses.R1, args.r1), (kg.losses.R2, args.r2)) if w]
    model = kg.models.GAN(
        shape,
        classes,
        generator=dcgan.generator(shape, seed=2 * seed, **shared),
        discriminator=dcgan.discriminator(shape, seed=2 * seed + 1, dropout=args.dropout, **shared),
        loss=args.loss,
        penalties=penalties or None,
        seed=seed,
        recipe="dcgan",
    )
    model.compile(
        kg.optimizers.Adam(args.learning_rate, 0.5),
        kg.optimizers.Adam(args.learning_rate, 0.5),
    )
    return model


# ---------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------


def report(work_dir):
    """All results in the folder, as Markdown."""
    lines = [
        "# Synthetic data: where it helps",
        "",
        "Written by `benchmarks/synthetic_data.py`, on 2 processors. The classifier is the "
        "project's small one, the same in all cells; accuracy is on the real test split, which "
        "neither it nor the generator has seen. `gain` is the accuracy on both less that on real "
        "images alone, seed by seed. Unless a section says that real images were limited, the "
        "generator was trained on all of them: rows with few real images then say what the "
        "generator is worth in place of the images it was trained on.",
    ]
    for path in sorted(work_dir.glob("*/result.json")):
        lines += ["", *section(json.loads(path.read_text()))]
    return "\n".join(lines) + "\n"


def section(result):
    training, made = result["training"], result["synthesis"]
    height, width, channels = result["image_shape"]
    yield f"## {result['name']}, {result['n_real']:,} real images, {height}x{width}x{channels}"
    yield from ["", f"`{result['command']}`", "", generator_text(training), ""]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in made["dropped"].items())
    kept, wanted = sum(made["kept"].values()), sum(made["wanted"].values())
    yield (
        f"Synthetic set: {kept:,} of {wanted:,} images kept, of {made['generated']:,} generated; "
        f"dropped: {dropped or 'none'} (near-duplicates within "
        f"{made['filters']['duplicate_distance']:.1f} grey levels); {made['seconds']:,.0f} s."
    )
    yield from ["", result["table"]]


def generator_text(training):
    if "steps" not in training:
        return f"Generator: {training['model']}, given."
    floor = training["floor"].get("kernel_distance")
    beside = "" if floor is None else f", real images {floor:.4g}"
    return (
        f"Generator: DCGAN of {training['parameters']:,} parameters, {training['steps']:,} steps "
        f"of {training['batch_size']} images in {training['seconds']:,.0f} s (measuring and the "
        f"extractor included); kept at step {training['best_step']:,} with kernel_distance "
        f"{training['kernel_distance']:.4g}{beside} ({training['metric_images']:,} images against "
        f"{training['metric_real']:,} real ones, features {training['extractor']})."
    )


if __name__ == "__main__":
    main()
