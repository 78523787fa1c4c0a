"""How good is a generator, can the number be trusted, does it copy? One call, one report."""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import io
import json
import math
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_gen.data.classes import class_numbers
from keras_gen.data.load import load
from keras_gen.data.source import NoSuchSplit, Source
from keras_gen.images import write_atomically
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.diversity import mean_pairwise_distance, vendi_score
from keras_gen.metrics.extractors import (
    Extractor,
    InceptionV3,
    train_extractor,
    warn_of_range,
)
from keras_gen.metrics.frechet import (
    check_confidence,
    frechet_distance,
    frechet_distance_interval,
)
from keras_gen.metrics.generators import (
    SourceImages,
    as_generator,
    source_fingerprint,
    versions,
)
from keras_gen.metrics.inception_score import inception_score
from keras_gen.metrics.kernel import kernel_distance, kernel_distance_all_pairs
from keras_gen.metrics.memorization import CopyDetector, MemorizationAudit
from keras_gen.metrics.precision_recall import density_coverage, precision_recall
from keras_gen.metrics.report import Comparison, Report
from keras_gen.metrics.resampling import disjoint_subsets, half_sampling_interval
from keras_gen.metrics.result import MetricWarning, measure, metric_name
from keras_gen.metrics.sliced_wasserstein import sliced_wasserstein_distance
from keras_gen.metrics.statistics import FeatureStatistics
from keras_gen.version import __version__

CHUNK = 1024  # images generated between two writes of the cache
NUM_REAL = 50_000
MIN_IMAGES = 20
MIN_CLASS_IMAGES = 50
SAMPLES = 64
AUDIT_MEMORY = 2**31
NUM_PAIRS = 16
MAX_APART = 0.05  # total variation between the shares of classes above which it is said
_FORMAT = 1
_CACHE_FORMAT = 3  # raise it when the same key would stand for other numbers


def evaluate(
    model,
    source,
    num_images=10_000,
    extractor=None,
    held_out=None,
    labels="source",
    seed=0,
    *,
    batch_size=64,
    num_real=NUM_REAL,
    audit_images=1000,
    bootstrap=20,
    confidence=0.95,
    cache_dir=None,
    progress=True,
    split=None,
    name=None,
):
    """Measures a generator against real images.

    Fréchet and kernel distance, Inception Score where the extractor has logits, precision, recall,
    density, coverage, sliced Wasserstein distance, diversity, a table of classes, and an audit for
    copies of training images. Every number stands beside what other real images get, the floor: of
    `held_out` where it has as many images as are generated, otherwise of a part of `source` against
    the rest. Generated images are not kept but for `audit_images`; their features are.

    Args:
        model: an object with `generate(n, labels=None, seed=0)`; the path of a SavedModel (highest
            version), of a `.keras` file or of a folder of images; a `Source`; or uint8 images.
        source: the images that the model was trained on: a `Source`, or what `keras_gen.data.load`
            takes, of which `split` is loaded, and the "test" split, where there is one, held out.
        num_images: int, how many images to generate; of existing images, at most all, in an order
            that `seed` chooses.
        extractor: an `Extractor`; "inception" for InceptionV3, "inception-75" for the KID of the
            Keras examples (75 px; there is no FID of it); or the path of a file of its weights,
            with "inception-75:" before it for 75 px. None trains a small classifier on `source`,
            which must be labelled; whatever `seed` is, it is the same.
        held_out: real images that were not trained on, a `Source` or what `load` takes.
        labels: "source", "balanced", or an integer array `[num_images]`: what a model with classes
            is asked for. By default classes are as frequent as in the source, which the distances
            and their floors are of; where model and source do not have the same classes, balanced.
        seed: int, of the generated images and of all that is drawn in measuring; the classifier
            that measures is the same for all seeds.
        batch_size: images that the model generates at a time.
        num_real: int, at most so many images of `source`, chosen by `seed`, are compared with.
        audit_images: int, so many of the generated images are audited; 0 for no audit.
        bootstrap: int, random halves of the generated images behind each confidence interval; 0
            for no intervals.
        confidence: float in (0, 1).
        cache_dir: folder in which features are kept, so that an interrupted evaluation goes on
            where it stopped, with the same result; None keeps nothing.
        progress: whether to show a progress bar (on stderr).
        split: str, the part of the data to load where `source` is what `load` takes ("train");
            of a `Source`, what the report calls it.
        name: str, what the report calls the model.

    Returns:
        A `Report`.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        ValueError: if arguments are out of range, or images, labels and extractor do not fit.

    Example:

        report = keras_gen.metrics.evaluate("saved_models/digits", "digits", num_images=2000)
        print(report)
        report.save("runs/report")
    """
    settings = Settings(
        num_images,
        labels,
        seed,
        batch_size,
        num_real,
        audit_images,
        bootstrap,
        confidence,
        None if cache_dir is None else os.fspath(cache_dir),
        progress,
    )
    generator = as_generator(model, batch_size)
    real = _Real.prepare(source, held_out, extractor, split, settings, generator)
    return _evaluate(generator, real, settings, name)


def compare(models, source, num_images=10_000, extractor=None, held_out=None, **options):
    """Evaluates several models against the same real images, with the same seeds.

    Args:
        models: dict from the name in the table to a model, as `evaluate` takes it.
        source, num_images, extractor, held_out: see `evaluate`.
        **options: further arguments of `evaluate`.

    Returns:
        A `Comparison`: one table with confidence intervals, and each model's report.

    Raises:
        ValueError: if there is no model, or as `evaluate`.
    """
    return _compare(models, source, num_images, extractor, held_out, options, curve=False)


def evaluate_checkpoints(
    checkpoints, source, num_images=2000, extractor=None, held_out=None, **options
):
    """Evaluates versions of one model; the page shows a curve over training steps for each metric.

    Args:
        checkpoints: a folder of SavedModel versions ("saved_models/digits"), a folder of `.keras`
            files, or a list of paths. In the order of their training steps; where these are not
            known, of their numbers and names.
        source, num_images, extractor, held_out, **options: see `evaluate`.

    Returns:
        A `Comparison` whose `curve` is True.

    Raises:
        FileNotFoundError, ValueError: if there are no checkpoints, or as `evaluate`.
    """
    if isinstance(checkpoints, (str, os.PathLike)):
        paths = checkpoints_in(Path(checkpoints).expanduser())
    else:
        paths = [Path(path) for path in checkpoints]
    models = {_unique_name(path, paths): path for path in paths}
    return _compare(models, source, num_images, extractor, held_out, options, curve=True)


def _compare(models, source, num_images, extractor, held_out, options, curve):
    if not isinstance(models, dict) or not models:
        raise ValueError(
            "`models` must be a dict from names to models, at least one. "
            f"Received: models={models!r}"
        )
    options = dict(options)
    split, _ = options.pop("split", None), options.pop("name", None)
    cache_dir = options.pop("cache_dir", None)
    settings = Settings(
        num_images, cache_dir=None if cache_dir is None else os.fspath(cache_dir), **options
    )
    real = _Real.prepare(source, held_out, extractor, split, settings)
    reports = {}
    for name, model in models.items():  # one at a time in memory
        generator = as_generator(model, settings.batch_size)
        reports[str(name)] = _evaluate(generator, real, settings, str(name))
    return Comparison(reports, curve)


def checkpoints_in(folder):
    """The SavedModel versions in a folder, or its `.keras` files: list of paths, in order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no such folder. Received: checkpoints={str(folder)!r}")
    found = list(versions(folder).values()) or sorted(folder.glob("*.keras"))
    if not found:
        raise ValueError(
            "The folder must hold SavedModel versions or .keras files. "
            f"Received: checkpoints={str(folder)!r}"
        )
    return found


def _unique_name(path, paths):
    short = path.stem if path.suffix == ".keras" else path.name
    same = [other for other in paths if (other.stem, other.name)[other.suffix != ".keras"] == short]
    return short if len(same) == 1 else str(path)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of `evaluate` that are numbers and choices, checked."""

    num_images: int = 10_000
    labels: object = "source"
    seed: int = 0
    batch_size: int = 64
    num_real: int = NUM_REAL
    audit_images: int = 1000
    bootstrap: int = 20
    confidence: float = 0.95
    cache_dir: str | None = None
    progress: bool = True

    def __post_init__(self):
        check_integer("num_images", self.num_images, minimum=MIN_IMAGES)
        check_integer("num_real", self.num_real, minimum=MIN_IMAGES)
        check_integer("batch_size", self.batch_size)
        check_integer("audit_images", self.audit_images, minimum=0)
        check_integer("seed", self.seed, minimum=0, maximum=2**31 - 1)
        check_integer("bootstrap", self.bootstrap, minimum=0)
        check_confidence(self.confidence)
        if self.bootstrap == 1:
            raise ValueError("`bootstrap` must be 0, or at least 2. Received: bootstrap=1")
        if isinstance(self.labels, str) and self.labels not in ("balanced", "source"):
            raise ValueError(
                '`labels` must be "balanced", "source" or an integer array. '
                f"Received: labels={self.labels!r}"
            )

    def to_dict(self):
        record = dataclasses.asdict(self)
        for key in ("cache_dir", "progress"):
            del record[key]
        if not isinstance(self.labels, str):
            record["labels"] = "given"
        return record


# ---------------------------------------------------------------------------------------------
# The real side
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Features float32 `[n, d]`, logits `[n, k]` or None, labels int32 `[n]` or None."""

    features: np.ndarray
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self):
        return len(self.features)

    def relabelled(self, numbers):
        """The same with other class numbers: `numbers[label]`."""
        if self.labels is None or numbers is None:
            return dataclasses.replace(self, labels=None)
        return dataclasses.replace(self, labels=numbers[self.labels])

    def rows(self, chosen):
        """The sample of some rows."""
        parts = (self.features, self.logits, self.labels)
        return _Sample(*(None if part is None else part[chosen] for part in parts))

    def arrays(self):
        """dict of what there is."""
        return {key: value for key, value in vars(self).items() if value is not None}


class _Floor(NamedTuple):
    """Real images in the place of generated ones, and what they are compared with."""

    reference: _Sample
    others: _Sample
    described: str
    warnings: tuple


class _Real:
    """Everything known of the real images; shared by all models of a comparison."""

    def __init__(self, source, held_out, extractor, split, settings):
        self.source, self.held_out, self.extractor = source, held_out, extractor
        self.split = split or getattr(source, "split", None)
        self.seed, self.seconds, self._floors = settings.seed, {}, {}
        self.detector = None
        started = time.perf_counter()
        self.sample = _cached_sample(source, "real images", extractor, settings)
        self.held_out_sample = None
        if held_out is not None:
            sample = _cached_sample(held_out, "held-out images", extractor, settings)
            self.held_out_sample = sample.relabelled(_held_out_numbers(held_out, source))
        self.seconds["real_features"] = time.perf_counter() - started
        self.statistics = FeatureStatistics.of(self.sample.features)
        self.class_names = source.class_names or [str(i) for i in range(source.num_classes or 0)]

    @classmethod
    def prepare(cls, source, held_out, extractor, split, settings, generator=None):
        """Loads what is not loaded, trains the extractor where there is none.

        Before that it refuses a generator that is known to make images of another shape.
        """
        if not isinstance(source, Source):
            split = split or "train"
            held_out = _test_split(source, split) if held_out is None else held_out
            source = load(source, split) if isinstance(source, (str, os.PathLike)) else load(source)
        if held_out is not None and not isinstance(held_out, Source):
            held_out = load(held_out)
        if held_out is not None and held_out.image_shape != source.image_shape:
            raise ValueError(
                f"`held_out` must have the shape of the source's images, {source.image_shape}. "
                f"Received: held_out={held_out!r}"
            )
        known = generator and generator.image_shape
        if known and None not in known:
            _check_shape(generator, tuple(known), source)
        started = time.perf_counter()
        extractor = _extractor(extractor, source, held_out, settings)
        real = cls(source, held_out, extractor, split, settings)
        real.seconds["extractor"] = time.perf_counter() - started - real.seconds["real_features"]
        return real

    @property
    def classifies(self):
        """Whether the extractor's logits are those of the source's classes."""
        own = getattr(self.extractor, "num_classes", None)
        return bool(self.source.num_classes) and own == self.source.num_classes

    def matched(self, count):
        """As many real images as there are generated ones: `_Sample`."""
        return _subset(self.sample, count, self.seed)

    def floor(self, count):
        """`_Floor` for so many generated images."""
        if count not in self._floors:
            self._floors[count] = self._make_floor(count)
        return self._floors[count]

    def _make_floor(self, count):
        held_out = self.held_out_sample
        if held_out is not None and len(held_out) >= count:
            others = _subset(held_out, count, self.seed)
            return _Floor(self.sample, others, f"{count:,} held-out images", ())
        numbers = np.arange(len(self.sample), dtype=np.float64)[:, None]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MetricWarning)
            parts = disjoint_subsets(numbers, count, self.seed)
        reference, others = (self.sample.rows(part[:, 0].astype(int)) for part in parts)
        described = f"{len(others):,} images of the source against {len(reference):,} others"
        return _Floor(reference, others, described, tuple(str(one.message) for one in caught))

    def record(self):
        names, shape = self.class_names, list(self.source.image_shape)
        return {
            "source": self.source.name,
            "split": self.split,
            "n": len(self.sample),
            "n_source": len(self.source),
            "n_held_out": None if self.held_out_sample is None else len(self.held_out_sample),
            "image_shape": shape,
            "num_classes": self.source.num_classes,
            "class_names": names or None,
        }


def _test_split(source, split):
    """The "test" split of what `load` takes; None without one, or if `split` has its images."""
    if isinstance(source, (str, os.PathLike)) and not split_overlaps(split, "test"):
        with contextlib.suppress(NoSuchSplit):
            return load(source, "test")
    return None


def split_overlaps(split, other):
    """Whether two splits share images, as far as their names tell: "all" is the whole."""
    first, second = ([part.strip() for part in one.split("+")] for one in (split, other))
    return any(
        "all" in (own, foreign)
        or own == foreign
        or (own.split("[")[0] == foreign.split("[")[0] and not ("[" in own and "[" in foreign))
        for own in first
        for foreign in second
    )


def _held_out_numbers(held_out, source):
    """The source's number of each class of the held-out images, -1 for others; or None."""
    if not held_out.num_classes or not source.num_classes:
        return None
    numbers = class_numbers(held_out, source)
    if numbers is None:
        numbers = np.arange(held_out.num_classes, dtype=np.int32)
        numbers[source.num_classes :] = -1
    return numbers


def _extractor(extractor, source, held_out, settings):
    if extractor is None:
        if not source.num_classes or source.num_classes < 2:
            raise ValueError(
                "`extractor` is needed, as these images have no labels to train one on: give "
                '"inception" (downloads weights), the path of an InceptionV3 weights file, or '
                f"`KerasExtractor(model)`. Received: extractor=None, source={source!r}"
            )
        if settings.progress:
            print("Preparing the classifier of the data ...", file=sys.stderr, flush=True)
        labelled = held_out if held_out is not None and (held_out.num_classes or 0) > 1 else None
        return train_extractor(source, held_out=labelled)
    if isinstance(extractor, (str, os.PathLike)):
        return _inception(os.fspath(extractor))
    if not isinstance(extractor, Extractor):
        raise ValueError(
            '`extractor` must be an `Extractor`, "inception", "inception-75", the path of an '
            f"InceptionV3 weights file, or None. Received: extractor={extractor!r}"
        )
    return extractor


def _inception(text):
    """ "inception", "inception-75", a file, or "inception-75:" and a file."""
    kind, _, file = text.partition(":")
    if kind == "inception-75":
        return InceptionV3(file or "imagenet", size=75)
    return InceptionV3("imagenet" if text == "inception" else text)


def _subset(sample, count, seed):
    """Random rows, in their order; all, where there are no more."""
    if count >= len(sample):
        return sample
    order = np.random.default_rng(seed).permutation(len(sample))
    return sample.rows(np.sort(order[:count]))


def _cached_sample(source, what, extractor, settings):
    """Features of up to `num_real` images of a source, from the cache where they are there."""
    count = min(len(source), settings.num_real)
    chosen = np.ones(len(source), bool)
    if count < len(source):
        order = np.random.default_rng(settings.seed).permutation(len(source))
        chosen[order[count:]] = False
    file = None
    if settings.cache_dir is not None:
        known = [source_fingerprint(source), count, settings.seed if count < len(source) else None]
        file = Path(settings.cache_dir) / f"real_{_key(known, extractor, source.image_shape)}.npz"
        stored = _read_npz(file, count)
        if stored is not None:
            return _Sample(**stored)
    parts = []
    with _progress(count, what, settings.progress) as bar:
        position = 0
        for images, labels in source.numpy_batches(CHUNK):
            rows = chosen[position : position + len(images)]
            position += len(images)
            if rows.any():
                computed = extractor(images[rows])
                parts.append(_Sample(*computed, None if labels is None else labels[rows]))
                bar.update(int(rows.sum()))
    sample = _joined(parts)
    if file is not None:
        _write_npz(file, sample.arrays())
    return sample


def _joined(parts):
    keys = parts[0].arrays()
    return _Sample(**{key: np.concatenate([vars(part)[key] for part in parts]) for key in keys})


# ---------------------------------------------------------------------------------------------
# The generated side
# ---------------------------------------------------------------------------------------------


def _generated(generator, real, settings, labels):
    """Features of the generated images, and the first images themselves.

    Returns:
        `(sample, images, cached)`: `_Sample` whose labels are those asked for; uint8
        `[kept, h, w, c]`; the number of images whose features came from the cache.
    """
    total = len(labels)
    kept = min(total, max(settings.audit_images, SAMPLES))
    folder, cached = _chunk_folder(generator, real, settings), 0
    parts, pictures = [], []
    with _progress(total, "generated images", settings.progress) as bar:
        for start in range(0, total, CHUNK):
            asked = labels[start : start + CHUNK]
            keep = max(0, min(kept - start, len(asked)))
            file = None if folder is None else folder / f"{start:08d}_{len(asked)}.npz"
            arrays = _read_chunk(file, asked, keep)
            if arrays is None:
                arrays = _compute_chunk(generator, real, settings.seed, start, asked, keep)
                if file is not None:
                    _write_npz(file, arrays)
            else:
                cached += len(asked)
            pictures.append(arrays.pop("images")[:keep])
            arrays.pop("asked")
            if "labels" in arrays:  # in the cache they are the generator's
                arrays["labels"] = _source_labels(generator, real)[arrays["labels"]]
            parts.append(_Sample(**arrays))
            bar.update(len(asked))
    return _joined(parts), np.concatenate(pictures), cached


def _check_shape(generator, image_shape, source):
    if image_shape != source.image_shape:
        raise ValueError(
            f"{generator.name!r} must generate images of the source's shape, "
            f"{source.image_shape}. Received: images of shape {image_shape}"
        )


def _compute_chunk(generator, real, seed, start, asked, keep):
    images, labels = generator.images(start, asked, seed)
    _check_shape(generator, images.shape[1:], real.source)
    features, logits = real.extractor(images)
    arrays = {"features": features, "images": images[:keep], "asked": asked}
    if logits is not None:
        arrays["logits"] = logits
    if labels is not None:
        arrays["labels"] = labels
    return arrays


def _chunk_folder(generator, real, settings):
    if settings.cache_dir is None:
        return None
    known = [generator.weights, generator.fingerprint(settings.seed), settings.seed]
    key = _key(known, real.extractor, real.source.image_shape)
    return Path(settings.cache_dir) / f"generated_{key}"


def _read_chunk(file, asked, keep):
    arrays = None if file is None else _read_npz(file, len(asked))
    if arrays is None or len(arrays.get("images", ())) < keep:
        return None
    return arrays if np.array_equal(arrays.get("asked"), asked) else None


def _asked_labels(generator, real, settings):
    """What a model is asked for, int32 `[num_images]`; zeros without classes."""
    count = settings.num_images
    if generator.limit is not None:
        count = min(count, generator.limit)
        if count < MIN_IMAGES:
            raise ValueError(
                f"At least {MIN_IMAGES} images are needed. Received: {generator.name} with {count}"
            )
        return np.zeros(count, np.int32)
    if not generator.num_classes:
        return np.zeros(count, np.int32)
    if not isinstance(settings.labels, str):
        return _given_labels(settings.labels, count, generator.num_classes)
    if settings.labels == "balanced" or generator.num_classes != real.source.num_classes:
        return np.arange(count, dtype=np.int32) % generator.num_classes
    order = np.random.default_rng(settings.seed).permutation(len(real.sample))
    return np.resize(real.sample.labels[order], count).astype(np.int32)


def _given_labels(labels, count, num_classes):
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be one integer for each of the {count} images. "
            f"Received: labels of shape {labels.shape}, {labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"`labels` must lie in [0, {num_classes}). "
            f"Received: labels from {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)


def _source_labels(generator, real):
    """The source's number of each of the generator's classes; -1 for one that it has not."""
    numbers = class_numbers(generator, real.source)
    if numbers is not None:
        return numbers
    if generator.num_classes == real.source.num_classes:
        return np.arange(generator.num_classes, dtype=np.int32)
    return np.full(generator.num_classes, -1, np.int32)


# ---------------------------------------------------------------------------------------------
# Metrics
# ---------------------------------------------------------------------------------------------


class _Metric(NamedTuple):
    """A metric and how it is fed.

    `against` is "all" real images, as many real images as "matched" the generated ones, or "none";
    `of` is "features" or "logits".
    """

    function: Callable
    against: str
    of: str = "features"
    parameters: dict = {}
    noted: dict = {}

    def __call__(self, real, fake):
        """The metric of two `_Sample`s: float or dict."""
        return self.function(*self.inputs(real, fake), **self.parameters)

    def inputs(self, real, fake):
        own = getattr(fake, self.of)
        return (own,) if self.against == "none" else (real.features, own)


def _metrics(seed, logits):
    metrics = [
        _Metric(frechet_distance, "all"),
        _Metric(kernel_distance, "all", parameters={"seed": seed}),
        _Metric(precision_recall, "matched", parameters={"k": 3}, noted={"test": "<="}),
        _Metric(density_coverage, "matched", parameters={"k": 5}, noted={"test": "<"}),
        _Metric(sliced_wasserstein_distance, "matched", parameters={"seed": seed}),
        _Metric(vendi_score, "none"),
        _Metric(mean_pairwise_distance, "none"),
    ]
    if logits:
        metrics.insert(2, _Metric(inception_score, "none", "logits", {"seed": seed}))
    return metrics


def _measured(metric, real, fake, settings):
    """`MetricResult`s of one metric with floors and intervals."""
    floor = real.floor(len(fake))
    reference = real.matched(len(fake)) if metric.against == "matched" else real.sample
    n_real = None if metric.against == "none" else len(reference)
    results = measure(
        metric.function,
        *metric.inputs(reference, fake),
        name=metric_name(
            metric.function.__name__,
            real.extractor.inception,
            getattr(real.extractor, "size", 299),
        ),
        parameters=metric.parameters,
        n_real=n_real,
        n_fake=len(fake),
        dimension=real.extractor.dimension,
        source=real.source.name,
        split=real.split,
        extractor=real.extractor.name,
        weights=real.extractor.weights,
        resize=real.extractor.resize,
    )
    floors = _floor_values(metric, floor, settings.seed)
    at_floor = _values_at_floor(metric, floor, reference, fake, settings.seed)
    intervals = _intervals(metric, real, reference, fake, settings)
    return [
        _completed(one, metric, floor, floors, at_floor, intervals, settings) for one in results
    ]


def _completed(result, metric, floor, floors, at_floor, intervals, settings):
    key = result.name if result.name in floors else None
    interval = intervals.get(key)
    if interval is not None and key in ("precision", "recall", "coverage"):
        interval = (max(interval[0], 0.0), min(interval[1], 1.0))
    return dataclasses.replace(
        result,
        floor=floors[key],
        floor_n=len(floor.others),
        value_at_floor=result.value if at_floor is None else at_floor[key],
        interval=interval,
        confidence=None if interval is None else settings.confidence,
        seed=settings.seed,
        parameters={**result.parameters, **metric.noted, "floor_of": floor.described},
        warnings=(*result.warnings, *floor.warnings),
    )


def _floor_values(metric, floor, seed):
    """dict from the name of each number (None for a single one) to its floor."""
    reference = floor.reference
    if metric.against == "matched":
        reference = _subset(reference, len(floor.others), seed)
    with _no_metric_warnings():
        return _named(metric(reference, floor.others))


def _values_at_floor(metric, floor, reference, fake, seed):
    """The metric of as many images as the floor is of: dict as `_floor_values`; None if equal."""
    count = len(floor.others)
    others = floor.reference
    if metric.against == "matched":
        others = _subset(others, count, seed)
    if count == len(fake) and (metric.against == "none" or len(others) == len(reference)):
        return None
    with _no_metric_warnings():
        return _named(metric(others, _subset(fake, count, seed)))


def _intervals(metric, real, reference, fake, settings):
    """dict from the name of each number (None for a single one) to `(low, high)`."""
    if not settings.bootstrap:
        return {}
    with _no_metric_warnings():
        if metric.function is frechet_distance:
            return {None: _frechet_interval(real.statistics, fake.features, settings)}

        def of_fakes(rows):
            return metric(reference, _Sample(rows, rows))

        found = half_sampling_interval(
            of_fakes,
            getattr(fake, metric.of),
            num_resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        )
    if "interval" in found:
        return {None: found["interval"]}
    return {key: value["interval"] for key, value in found.items()}


def _frechet_interval(statistics, features, settings):
    if len(features) > features.shape[1]:
        with contextlib.suppress(np.linalg.LinAlgError):
            found = frechet_distance_interval(statistics, features, settings.confidence)
            return found["interval"]
    found = half_sampling_interval(
        functools.partial(frechet_distance, statistics),
        features,
        settings.bootstrap,
        settings.confidence,
        settings.seed,
    )
    return found["interval"]


def _named(returned):
    if not isinstance(returned, dict):
        return {None: float(returned)}
    return {None: float(returned["value"])} if "value" in returned else returned


@contextlib.contextmanager
def _no_metric_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetricWarning)
        yield


# ---------------------------------------------------------------------------------------------
# Classes
# ---------------------------------------------------------------------------------------------


def _classes(real, fake, settings):
    """The table of classes and the agreement of what was asked for with what is seen, or None."""
    if not real.source.num_classes or real.sample.labels is None:
        return None
    predicted = fake.logits.argmax(-1) if real.classifies else None
    asked = None if fake.labels is None or (fake.labels < 0).all() else fake.labels
    if predicted is None and asked is None:
        return None
    held_out, told = real.held_out_sample, None
    if real.classifies and held_out is not None and held_out.labels is not None:
        held_out = held_out.rows(held_out.labels >= 0)
        told = held_out.logits.argmax(-1) == held_out.labels if len(held_out) else None
    rows = [
        _class_row(real, fake, index, asked, predicted, held_out, told, settings)
        for index in range(real.source.num_classes)
    ]
    agreement = None
    if asked is not None and predicted is not None:
        agreement = _share((predicted == asked)[asked >= 0], settings.confidence)
    return {
        "rows": rows,
        "agreement": agreement,
        "agreement_held_out": None if told is None else _share(told, settings.confidence),
        "grouped_by": "label asked for" if asked is not None else "predicted class",
        "entropy_gap": _entropy_gap(real, rows),
    }


def _class_row(real, fake, index, asked, predicted, held_out, told, settings):
    group = (asked if asked is not None else predicted) == index
    own = real.sample.labels == index
    row = {
        "class": real.class_names[index],
        "n_real": int(own.sum()),
        "real_share": float(own.mean()),
        "n_asked": None if asked is None else int((asked == index).sum()),
        "n_predicted": None if predicted is None else int((predicted == index).sum()),
        "share": None if predicted is None else float((predicted == index).mean()),
        "agreement": None,
        "agreement_held_out": None,
    }
    if asked is not None and predicted is not None and group.any():
        row["agreement"] = float((predicted[group] == index).mean())
    if told is not None and (held_out.labels == index).any():
        row["agreement_held_out"] = float(told[held_out.labels == index].mean())
    return row | _class_distances(real.sample.rows(own), fake.rows(group), settings.seed)


def _class_distances(real, fake, seed):
    """Distances within one class, at equal numbers of images, and their floors."""
    count = min(len(fake), len(real) // 2)
    row = {"n_compared": count}
    if count < MIN_CLASS_IMAGES:
        return row
    order = np.random.default_rng(seed).permutation(len(real))
    first, second = real.features[order[:count]], real.features[order[count : 2 * count]]
    fakes = _subset(fake, count, seed).features
    with _no_metric_warnings():
        for name, metric in (
            ("kernel_distance", kernel_distance_all_pairs),
            ("precision_recall", precision_recall),
        ):
            value, floor = metric(first, fakes), metric(first, second)
            for key, number in _named(value).items():
                row[key or name] = number
                row[f"{key or name}_floor"] = _named(floor)[key]
    return row


def _entropy_gap(real, rows):
    """Divergence KL(generated || real) of the shares of the classes, in bits; None if unknown."""
    if rows[0]["share"] is None:
        return None
    terms = [
        row["share"] * math.log2(row["share"] / row["real_share"])
        for row in rows
        if row["share"] > 0 and row["real_share"] > 0
    ]
    return max(0.0, float(sum(terms)))


def _share(hits, confidence):
    """A share with Wilson's interval."""
    import statistics

    n, p = len(hits), float(np.mean(hits))
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": p, "n": n, "interval": [max(0.0, middle - width), min(1.0, middle + width)]}


# ---------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------


def _evaluate(generator, real, settings, name):
    started = time.perf_counter()
    labels = _asked_labels(generator, real, settings)
    fake, images, cached = _generated(generator, real, settings, labels)
    seconds = dict(real.seconds, generation=time.perf_counter() - started)
    notes = [*_notes(generator, real, fake, settings), *_range_notes(real, images)]
    if (fake.labels is not None) and (fake.labels < 0).any():
        notes.append("Some classes of the generated images are no classes of the source.")

    started = time.perf_counter()
    results, failures = _all_metrics(real, fake, settings)
    seconds["metrics"] = time.perf_counter() - started
    started = time.perf_counter()
    audited, failure = _audited(real, images, settings)
    seconds["memorization"] = time.perf_counter() - started
    record = {
        "format": _FORMAT,
        "keras_gen": __version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "images_from_cache": cached,
        "model": {**generator.record(), "name": name or generator.name},
        "real": real.record(),
        "extractor": real.extractor.record(),
        "settings": {**settings.to_dict(), "num_images": len(fake)},
        "metrics": [result.to_dict() for result in results],
        "classes": _classes(real, fake, settings),
        "memorization": None if audited is None else audited.to_dict(),
        "warnings": [*notes, *failures, *failure],
    }
    shown = None if fake.labels is None else fake.labels[:SAMPLES]
    pairs = [] if audited is None else audited.closest_pairs(NUM_PAIRS)
    return Report(record, images[:SAMPLES], shown, pairs)


def _all_metrics(real, fake, settings):
    results, failures = [], []
    metrics = _metrics(settings.seed, fake.logits is not None)
    with _progress(len(metrics), "metrics", settings.progress, "metric") as bar:
        for metric in metrics:
            try:
                results += _measured(metric, real, fake, settings)
            except ValueError as error:
                failures.append(f"{metric.function.__name__} is left out: {error}")
            bar.update(1)
    return results, failures


def _audited(real, images, settings):
    """`(MemorizationAudit or None, list of why not)`."""
    if not settings.audit_images:
        return None, []
    if real.detector is None:
        real.detector = _make_detector(real, settings)
    detector, failures = real.detector
    if detector is None:
        return None, failures
    images = images[: settings.audit_images]
    return MemorizationAudit(detector, images, detector.examine(images)), failures


def _make_detector(real, settings):
    """`(CopyDetector or None, list of what to know of it)`."""
    train, failures = real.source, []
    affordable = AUDIT_MEMORY // int(np.prod(train.image_shape))
    if len(train) > affordable:
        train = load(train.take(affordable, settings.seed)[0])
        failures.append(
            f"Copies were looked for in {affordable:,} random images of {len(real.source):,} only."
        )
    features = _train_features(real, train, settings)
    for held_out in dict.fromkeys([real.held_out, None]):
        try:
            detector = CopyDetector(
                train,
                held_out,
                real.extractor,
                seed=settings.seed,
                progress=_say if settings.progress else None,
                train_features=features,
            )
            return detector, failures
        except ValueError as error:
            failures.append(f"No audit for copies against {held_out or 'the source'}: {error}")
    return None, failures


def _train_features(real, train, settings):
    """Features of all images of `train`, in its order."""
    if train is real.source and len(real.sample) == len(train):
        return real.sample.features
    every = dataclasses.replace(settings, num_real=max(len(train), MIN_IMAGES))
    return _cached_sample(train, "training images", real.extractor, every).features


def _say(stage):
    print(f"Looking for copies: {stage} ...", file=sys.stderr, flush=True)


def _on_shares(real, fake):
    """A note where the classes asked for are not as frequent as the source's."""
    known = fake.labels is not None and real.sample.labels is not None
    if not known or not real.source.num_classes or (fake.labels < 0).any():
        return
    asked, own = (
        np.bincount(labels, minlength=real.source.num_classes) / len(labels)
        for labels in (fake.labels, real.sample.labels)
    )
    apart = np.abs(asked - own).sum() / 2
    chance = np.sqrt(own * (1 - own) / len(fake)).sum()  # some 2.5 times what random images have
    if apart > max(MAX_APART, chance):
        yield (
            f"The generated images have other shares of classes than the source, by {apart:.0%}: "
            "the distances include that, and their floors do not."
        )


def _range_notes(real, images):
    """Notes on images whose values end at 1."""
    known, _ = real.source.take(min(len(real.source), SAMPLES))
    return [
        *warn_of_range(int(images.max()), "generated images"),
        *warn_of_range(int(known.max()), "real images"),
    ]


def _notes(generator, real, fake, settings):
    if generator.limit is not None and len(fake) < settings.num_images:
        yield f"There are only {len(fake):,} images, not {settings.num_images:,}."
    if generator.num_classes and generator.num_classes != real.source.num_classes:
        yield (
            f"The generated images have {generator.num_classes} classes and the source "
            f"{real.source.num_classes or 'no labels'}: labels are not compared, and a model is "
            "asked for its classes equally often."
        )
    yield from _on_shares(real, fake)
    if real.held_out is None:
        yield (
            "No held-out images were given: the floor and the audit are calibrated on the images "
            "that the model was trained on."
        )
    if not isinstance(generator, SourceImages) and generator.weights is None:
        yield "The model does not tell a hash of its weights: the report cannot name them."
    accuracy = getattr(real.extractor, "accuracy", None)
    if accuracy is not None and accuracy < 0.8:
        yield (
            f"The classifier that gives the features is right on {accuracy:.0%} of held-out images "
            "only: what it says of classes is rough."
        )


# ---------------------------------------------------------------------------------------------
# The cache
# ---------------------------------------------------------------------------------------------


def _key(values, extractor, image_shape):
    """Names a file by what its numbers depend on; what a classifier took to train is not."""
    record = extractor.record()
    fields = [record[field] for field in ("name", "weights", "dimension", "resize")]
    text = json.dumps([_CACHE_FORMAT, values, fields, extractor.fingerprint(image_shape)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read_npz(file, count):
    """The arrays of a file, or None where there is none, it is damaged or of other length."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if len(arrays.get("features", ())) == count else None


def _write_npz(file, arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(file, buffer.getvalue())


def _progress(total, what, shown, unit="image"):
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=f" {unit}s", disable=not shown, leave=shown)
