r"""Anomaly scores of models trained on unlabelled normal images: AUROC on two kinds of tasks.

    python benchmarks/anomaly.py --data-dir ../shared/data/tfds \
        --fruits ../shared/data/images/fruits

MNIST against Fashion-MNIST, trained on either; and the fruits without one class, against that
class, for each class. Every model is trained for `--seconds` from the same seed, on the train
split, and judged on images of the test split. Writes anomaly.md.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from timing import table

import keras_gen as kg

HERE = Path(__file__).resolve().parent
SCORES = {
    "reconstruction_error": "reconstruction",
    "likelihood": "likelihood",
    "likelihood_corrected": "corrected",
    "complexity": "PNG alone",
}


class Budget(keras.callbacks.Callback):
    """Ends the training after some seconds from its first step on; counts the images."""

    def __init__(self, seconds, batch_size):
        super().__init__()
        self.seconds, self.batch_size, self.images, self.end = seconds, batch_size, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.end = self.end or time.perf_counter() + self.seconds  # the first step is compiled
        self.images += self.batch_size
        self.model.stop_training = time.perf_counter() > self.end


def autoencoder(shape, args):
    return kg.models.Autoencoder(shape, seed=args.seed)


def vae(shape, args):
    return kg.models.VAE(shape, likelihood="discretized_logistic", seed=args.seed)


def pixelcnn(shape, args):
    network = kg.networks.pixelcnn.gated(
        shape,
        likelihood="logistic_mixture",
        width=args.width,
        blocks=args.blocks,
        dilations=(1, 2),
        seed=args.seed,
    )
    return kg.models.PixelCNN(shape, network=network, likelihood="logistic_mixture", seed=args.seed)


# each with the settings of its likelihood
MODELS = {
    "Autoencoder": (autoencoder, lambda args: {}),
    "VAE": (vae, lambda args: {"samples": args.samples}),
    "PixelCNN": (pixelcnn, lambda args: {}),
}


def without_labels(source, classes=None):
    """The images of some classes of a source, all of them where None, without their labels."""
    pictures, labels = source.take(len(source))
    if classes is not None:
        pictures = pictures[np.isin(labels, classes)]
    return kg.data.load(pictures)


def tasks(args):
    """Yields name, training images, normal and anomalous test images."""
    names = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    if "mnist" in args.tasks:
        sets = {
            name: [
                without_labels(kg.data.load(name, split, data_dir=args.data_dir))
                for split in ("train", "test")
            ]
            for name in names
        }
        for name, other in (tuple(names), tuple(names)[::-1]):
            yield f"{names[name]} against {names[other]}", *sets[name], sets[other][1]
    if "fruits" in args.tasks:
        train, test = (
            kg.data.load(args.fruits, split, image_size=args.fruit_size)
            for split in ("train", "test")
        )
        for held_out, name in enumerate(train.class_names):
            rest = [i for i in range(train.num_classes) if i != held_out]
            yield (
                f"fruits without {name}, against it",
                without_labels(train, rest),
                without_labels(test, rest),
                without_labels(test, [held_out]),
            )


def trained(make, train, args):
    """A model after the budget, and how many images it saw."""
    model = make(train.image_shape, args)
    model.compile(kg.optimizers.Adam(1e-3, global_clipnorm=1.0))
    budget = Budget(args.seconds, args.batch_size)
    batches = train.batches(args.batch_size, seed=args.seed, drop_remainder=True)
    model.fit(batches, epochs=10**6, callbacks=[budget], verbose=0)
    return model, budget.images


def cell(results, score):
    if score not in results:
        return "–"
    result = results[score]
    return f"{result.value:.3f} [{result.interval[0]:.3f}, {result.interval[1]:.3f}]"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of the prepared TFDS data sets")
    parser.add_argument("--fruits", help="folder of the fruits: train/ and test/, a folder a class")
    parser.add_argument(
        "--tasks", nargs="+", choices=("mnist", "fruits"), help="None: those whose data is given"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=180, help="of training, for each model")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-images", type=int, default=2000, help="at most, of each kind")
    parser.add_argument("--samples", type=int, default=100, help="of the VAE's bound")
    parser.add_argument("--width", type=int, default=32, help="of the PixelCNN")
    parser.add_argument("--blocks", type=int, default=4, help="of the PixelCNN")
    parser.add_argument("--fruit-size", type=int, default=32, help="side of the fruits, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(HERE / "anomaly.md"))
    args = parser.parse_args()
    args.tasks = args.tasks or ["mnist", *(["fruits"] if args.fruits else [])]
    if "fruits" in args.tasks and not args.fruits:
        parser.error("The fruits need their folder, --fruits. Received: --tasks fruits")

    rows = []
    for task, train, normal, anomalous in tasks(args):
        for name in args.models:
            make, settings = MODELS[name]
            model, seen = trained(make, train, args)
            results = kg.metrics.anomaly(
                model, normal, anomalous, args.test_images, args.seed, **settings(args)
            )
            counts = results["complexity"]
            rows.append(
                [
                    task,
                    name,
                    f"{seen:,}",
                    f"{counts.n_real:,} / {counts.parameters['n_anomalous']:,}",
                    *(cell(results, score) for score in SCORES),
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    header = ["task", "model", "images seen", "normal / anomalous", *SCORES.values()]
    text = f"""# Anomaly scores

`python benchmarks/anomaly.py --tasks {" ".join(args.tasks)} --seconds {args.seconds:g}
--test-images {args.test_images}`: area under the ROC curve, 1 where every anomalous test
image scores above every normal one, 0.5 by chance, with
the 95% interval of a bootstrap over the test images. One training of each model, seed {args.seed},
without labels. "corrected" is the likelihood with the length as a PNG file subtracted (Serrà et al.
2020); "PNG alone" is that length, which no model is needed for. The VAE's likelihood is the bound
of {args.samples} samples, of 256 levels by a discretized logistic.

{table(header, rows)}
"""
    Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
