"""What synthetic images are worth: classifiers trained on real ones, on them, and on both."""

import dataclasses
import time

import numpy as np

from keras_gen.data.classes import class_numbers
from keras_gen.data.load import load
from keras_gen.data.source import Source
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.extractors import train_extractor

REAL, SYNTHETIC, BOTH = "real", "synthetic", "real + synthetic"


def classification_accuracy_score(
    synthetic, test, num_seeds=3, num_images_seen=40_000, progress=None
):
    """Accuracy on real images of a classifier that was trained on generated ones alone.

    Ravuri and Vinyals, "Classification Accuracy Score for Conditional Generative Models" (2019),
    with the project's small classifier (`keras_gen.metrics.train_extractor`).

    Args:
        synthetic: generated images: a labelled `Source`, `(images, labels)`, or what
            `keras_gen.data.load` takes.
        test: real images that neither generator nor classifier was trained on, likewise. Classes
            are matched by name where both have names; names that are numbers by their value.
        num_seeds: int, number of trainings.
        num_images_seen: int, images that each training sees, counting repetition.
        progress: None, or a function called with a line of text before each training.

    Returns:
        dict of "value" and "std" (over the seeds), "values", "n_synthetic" and "n_test".

    Raises:
        ValueError: if there are no labels, or the classes do not match.
    """
    test = _Labelled.of(test, "test")
    bench = _Bench(test, num_seeds, num_images_seen, progress)
    synthetic = _Labelled.of(synthetic, "synthetic").named_as(test)
    values = [bench.accuracy(SYNTHETIC, synthetic, seed) for seed in range(num_seeds)]
    return {**_mean(values), "n_synthetic": len(synthetic), "n_test": len(test)}


def usefulness(
    real,
    synthetic,
    test,
    images_per_class=(10, 50, 100),
    all_images=True,
    num_seeds=3,
    num_images_seen=40_000,
    progress=None,
):
    """Do the generated images help a classifier? Trained on real, on synthetic, and on both.

    For each number of real images a class the same small classifier is trained on them alone, on
    the synthetic images alone, and on both, where fewer real images are repeated until they are as
    many as the synthetic ones. Every training sees the same number of images. The seed of a
    training chooses the real images, the weights and the order.

    The generator has seen all of the images it was trained on. Where a row has fewer real images
    than that, it says what the synthetic images are worth in place of the missing real ones: what
    somebody can hope for who is given the generator, and not the images. Whoever has only 10
    images a class must train the generator on those too; give `real` = these.

    Args:
        real: labelled real images for training: a `Source`, `(images, labels)`, or what
            `keras_gen.data.load` takes.
        synthetic: generated images, such as the folder of `synthesize`, likewise.
        test: real images that neither generator nor classifier was trained on, likewise. Classes
            are matched by name where both have names.
        images_per_class: real images of each class, the rows of the table.
        all_images: whether a last row has all of `real`.
        num_seeds, num_images_seen, progress: see `classification_accuracy_score`.

    Returns:
        A `Usefulness`.

    Raises:
        ValueError: if there are no labels, the classes do not match, or a class has too few images.
    """
    begun = time.perf_counter()
    test = _Labelled.of(test, "test")
    real = _Labelled.of(real, "real").named_as(test)
    synthetic = _Labelled.of(synthetic, "synthetic").named_as(test)
    real.check_has(images_per_class)
    bench = _Bench(test, num_seeds, num_images_seen, progress)
    only = [bench.accuracy(SYNTHETIC, synthetic, seed) for seed in range(num_seeds)]
    rows = []
    for count in [*images_per_class, *([None] if all_images else [])]:
        values = {REAL: [], BOTH: []}
        for seed in range(num_seeds):
            part = real if count is None else real.some(count, seed)
            values[REAL].append(bench.accuracy(REAL, part, seed))
            values[BOTH].append(bench.accuracy(BOTH, part.joined(synthetic), seed))
        gains = np.subtract(values[BOTH], values[REAL])
        rows.append(
            {
                "real_per_class": count,
                "n_real": len(part),
                REAL: _mean(values[REAL]),
                SYNTHETIC: _mean(only),
                BOTH: _mean(values[BOTH]),
                "gain": _mean(gains),
            }
        )
    return Usefulness(
        rows=rows,
        n_synthetic=len(synthetic),
        n_test=len(test),
        num_seeds=num_seeds,
        num_images_seen=num_images_seen,
        seconds=round(time.perf_counter() - begun, 1),
    )


@dataclasses.dataclass(frozen=True)
class Usefulness:
    """The result of `usefulness`.

    Attributes:
        rows: list of dict: "real_per_class" (None for all), "n_real", and for each of "real",
            "synthetic", "real + synthetic" and "gain" (of the third over the first, seed by seed)
            a dict of "value", "std" and "values": accuracies in [0, 1].
        n_synthetic, n_test, num_seeds, num_images_seen: int.
        seconds: float.
    """

    rows: list
    n_synthetic: int
    n_test: int
    num_seeds: int
    num_images_seen: int
    seconds: float

    def to_dict(self):
        """Everything as JSON values."""
        return dataclasses.asdict(self)

    def markdown(self):
        """The table, with all numbers it rests on below."""
        lines = [
            "| real a class | real images | trained on real | on synthetic | on both | gain |",
            "| --: | --: | --: | --: | --: | --: |",
        ]
        for row in self.rows:
            cells = [row["real_per_class"] or "all", f"{row['n_real']:,}"]
            cells += [_percent(row[key]) for key in (REAL, SYNTHETIC, BOTH)]
            cells.append(_percent(row["gain"], sign="+"))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines += [
            "",
            f"Accuracy in % on {self.n_test:,} real test images, mean ± standard deviation over "
            f"{self.num_seeds} seeds; {self.n_synthetic:,} synthetic images; each training sees "
            f"{self.num_images_seen:,} images; {self.seconds:,.0f} s in all.",
        ]
        return "\n".join(lines)


class _Bench:
    """Trains the same classifier on one set of images after another."""

    def __init__(self, test, num_seeds, num_images_seen, progress):
        check_integer("num_seeds", num_seeds)
        check_integer("num_images_seen", num_images_seen)
        self.test = test.source()
        self.num_images_seen = num_images_seen
        self.progress = progress or (lambda line: None)

    def accuracy(self, kind, data, seed):
        self.progress(f"trains on {len(data):,} images, {kind}, seed {seed}")
        classifier = train_extractor(
            data.source(),
            self.test,
            seed=seed,
            num_images_seen=self.num_images_seen,
            cache=False,
        )
        return classifier.accuracy


class _Labelled:
    """Images uint8 `[n, h, w, c]`, labels int32 `[n]` and names of classes (or None) in memory."""

    def __init__(self, name, images, labels, num_classes, class_names):
        self.name, self.images, self.labels = name, images, labels
        self.num_classes, self.class_names = num_classes, class_names

    @classmethod
    def of(cls, data, name):
        source = data if isinstance(data, Source) else load(data)
        if not source.num_classes or source.num_classes < 2:
            raise ValueError(f"`{name}` must have two classes or more. Received: {name}={source!r}")
        images, labels = source.take(len(source))
        return cls(name, images, labels, source.num_classes, source.class_names)

    def __len__(self):
        return len(self.images)

    def source(self):
        names = self.class_names or [str(label) for label in range(self.num_classes)]
        return load((self.images, self.labels), class_names=names)

    def named_as(self, other):
        """The same images with the class numbers of `other`."""
        numbers = class_numbers(self, other)
        if numbers is None:
            self._check_count(other)
            return self._like(self.images, self.labels, other)
        labels = numbers[self.labels]
        if (numbers < 0).any():
            raise ValueError(
                f"`{self.name}` must have classes of `{other.name}`, "
                f"{other.class_names or f'0 to {other.num_classes - 1}'}. "
                f"Received: {self.name} with the classes {self.class_names}"
            )
        return self._like(self.images, labels, other)

    def _check_count(self, other):
        """Where names do not tell which class is which, numbers must."""
        named = self.class_names or other.class_names
        if self.num_classes > other.num_classes or (
            named and self.num_classes != other.num_classes
        ):
            fits = "the" if named else "at most the"
            raise ValueError(
                f"`{self.name}` must have {fits} {other.num_classes} classes of `{other.name}`, as "
                f"they cannot be matched by name. Received: {self.name} with {self.num_classes} "
                f"classes and class_names={self.class_names}"
            )

    def check_has(self, counts):
        fewest = np.bincount(self.labels, minlength=self.num_classes).min()
        for count in counts:
            check_integer("images_per_class", count, maximum=int(fewest))

    def some(self, count, seed):
        """`count` images of each class, chosen by the seed."""
        order = np.random.default_rng(seed).permutation(len(self))
        rows = [order[self.labels[order] == label][:count] for label in range(self.num_classes)]
        rows = np.sort(np.concatenate(rows))
        return self._like(self.images[rows], self.labels[rows], self)

    def joined(self, other):
        """These images, repeated until they are at least as many, and the others."""
        rows = np.resize(np.arange(len(self)), max(len(self), len(other)))
        images = np.concatenate([self.images[rows], other.images])
        return self._like(images, np.concatenate([self.labels[rows], other.labels]), self)

    def _like(self, images, labels, other):
        return _Labelled(self.name, images, labels, other.num_classes, other.class_names)


def _mean(values):
    values = [float(value) for value in values]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"value": float(np.mean(values)), "std": std, "values": values}


def _percent(result, sign=""):
    return f"{100 * result['value']:{sign}.1f} ± {100 * result['std']:.1f}"
