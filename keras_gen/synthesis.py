"""Synthetic data sets: labelled folders of generated images, without copies."""

import collections
import csv
import dataclasses
import io
import json
import math
import numbers
import time
import warnings
from pathlib import Path

import numpy as np

from keras_gen.data.classes import folder_name
from keras_gen.data.folder import SPLIT_NAMES
from keras_gen.data.load import load
from keras_gen.data.pixels import fit_arrays
from keras_gen.data.source import Source
from keras_gen.images import Provenance, write_atomically, write_png
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.extractors import weights_hash
from keras_gen.metrics.generators import as_generator
from keras_gen.metrics.memorization import CopyDetector, collected
from keras_gen.metrics.neighbours import nearest_neighbours
from keras_gen.randomness import row_seeds
from keras_gen.version import __version__

MANIFEST, ROWS = "manifest.json", "manifest.csv"
DUPLICATE_QUANTILE = 0.01
DUPLICATE_DISTANCE = 4.0
"""Grey levels (root mean square) below which images are near-duplicates, without real images."""

_FORMAT = 1
_ROUND = 512  # images generated at a time; part of what decides which class a seed gets
_COMPARED_SIDE = 32
_CALIBRATION = 2000
_REFERENCES = 10_000
_COLUMNS = (
    "seed",
    "label",
    "class_name",
    "file",
    "dropped",
    "nearest_training_image",
    "nearest_training_distance",
    "copy_p_value",
    "nearest_synthetic_seed",
    "nearest_synthetic_distance",
)


def synthesize(
    model,
    directory,
    num_images=None,
    source=None,
    class_balance="equal",
    seed=0,
    memorization_filter=True,
    drop_near_duplicates=True,
    held_out=None,
    extractor=None,
    class_names=None,
    false_alarm_rate=0.01,
    duplicate_distance=None,
    max_attempts=4.0,
    progress=None,
):
    """Writes generated images as a labelled folder, without copies and near-duplicates.

    The folder is `directory/<class name>/<seed>.png`, or `directory/<seed>.png` without classes,
    and `keras_gen.data.load(directory)` reads it. (That numbers classes by sorted name; the labels
    of the model are in `manifest.csv`.) Each PNG carries its provenance: `model.generate(1,
    labels=label, seed=[seed])` draws its pixels again.

    An image is dropped, and another one drawn in its place, if

    - it is a training image, pixel by pixel (`training image`);
    - a `keras_gen.metrics.CopyDetector` flags it: it is nearer to a training image than all but
      `false_alarm_rate` of fresh real images come (`copy of a training image`). That share of
      good images is lost too;
    - it is a `near-duplicate`: the root mean square difference to an image of its class that was
      kept before, both averaged down to at most 32 pixels a side, is at most `duplicate_distance`
      grey levels of 255. By default this is the distance that 1 % of the training images have to
      their nearest in the same class (of up to 10,000); without training images 4 grey levels.

    `manifest.csv` has a row for every image that was generated, dropped ones too: its seed, label
    and file, why it was dropped, its nearest training image (number in `source`, distance in grey
    levels after undoing flips and shifts, p-value) and the nearest image kept before it.
    `manifest.json` has the settings and the totals.

    The result is a function of the model, the source and the arguments. A run that was interrupted
    goes on where it was when it is called again in the same way, and ends with the same files.

    Args:
        model: a model of this library, or the path of its SavedModel or `.keras` file.
        directory: folder to write; new, empty, or of the same run.
        num_images: int, number of images in all. None only where `class_balance` is a dict.
        source: the images that the model was trained on: a `Source`, or what
            `keras_gen.data.load` takes. They are held in memory as uint8.
        class_balance: "equal"; "source", as the labels of `source`; or a dict from class (number
            or name) to its number of images.
        seed: int in [-2^31, 2^31); image k is drawn from `seed * 2^32 + k`.
        memorization_filter: whether to drop copies of training images, which takes `source`.
        drop_near_duplicates: whether to drop near-duplicates.
        held_out: real images that the model was not trained on, to calibrate the memorization
            filter on; None leaves out each training image instead.
        extractor: an `Extractor` whose features the memorization filter compares too.
        class_names: list of str; by default those of `source`, or the class numbers.
        false_alarm_rate, duplicate_distance: see above.
        max_attempts: float, at least 1: give up a class after so many images for each one wanted.
        progress: None, or a function called with (images kept, images wanted).

    Returns:
        A `Synthesis`.

    Raises:
        FileExistsError: if there is something else in `directory`.
        ValueError: if an argument is out of range, or model, source and classes do not fit.

    Warns:
        UserWarning: if a class was given up with fewer images than wanted.
    """
    _check_options(seed, memorization_filter, source, duplicate_distance, max_attempts)
    generator = as_generator(model)
    if generator.kind == "images":
        raise ValueError(f"`model` must generate images. Received: model={model!r}")
    directory = Path(directory)
    _check_folder(directory)
    real = None if source is None else _Real.of(source, generator)
    names = _class_names(class_names, generator, real)
    settings = {
        "model": generator.name,
        "weights": generator.weights,
        "fingerprint": generator.fingerprint(seed),
        "class_names": names,
        "wanted": _wanted(num_images, class_balance, generator.num_classes, names, real),
        "seed": int(seed),
        "source": None if real is None else real.record(),
        "memorization_filter": bool(memorization_filter),
        "held_out": None if held_out is None else weights_hash([collected(held_out)]),
        "extractor": None if extractor is None else extractor.weights,
        "false_alarm_rate": false_alarm_rate,
        "drop_near_duplicates": bool(drop_near_duplicates),
        "duplicate_distance": duplicate_distance,
        "max_attempts": max_attempts,
    }
    run = _Run(generator, directory, settings)

    def make_filters():
        copies = duplicates = None
        if memorization_filter:
            copies = CopyDetector(
                real.images, held_out, extractor, false_alarm_rate=false_alarm_rate, seed=0
            )
        if drop_near_duplicates:
            distance = duplicate_distance
            if distance is None:
                distance = DUPLICATE_DISTANCE if real is None else real.spacing()
            duplicates = NearDuplicates(distance)
        return copies, duplicates

    return run.finished(make_filters, progress)


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """What `synthesize` wrote.

    Attributes:
        directory: `Path`.
        wanted, kept: dict from class name ("" without classes) to number of images.
        generated: int, images generated in all.
        dropped: dict from reason to number of images.
        complete: whether every class has the images wanted.
        filters: dict, how the filters were calibrated.
        seconds: float, of this call.
    """

    directory: Path
    wanted: dict
    kept: dict
    generated: int
    dropped: dict
    complete: bool
    filters: dict
    seconds: float

    def to_dict(self):
        """Everything as JSON values."""
        return dataclasses.asdict(self) | {"directory": str(self.directory)}

    def __str__(self):
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        return (
            f"{sum(self.kept.values()):,} of {sum(self.wanted.values()):,} images in "
            f"{self.directory}; {self.generated:,} generated, dropped: {dropped or 'none'}"
        )


class NearDuplicates:
    """Finds images that are all but equal to an earlier one of their class.

    Args:
        distance: float, root mean square difference in grey levels of 0..255 up to which two
            images are near-duplicates, after averaging down to at most 32 pixels a side.
    """

    def __init__(self, distance):
        self.distance = float(distance)
        self._kept = collections.defaultdict(list)  # by label: vectors
        self._seeds = collections.defaultdict(list)

    def keep(self, images, labels, seeds):
        """Remembers images without looking at them.

        Args:
            images: uint8 `[n, h, w, c]`.
            labels, seeds: integers `[n]`.
        """
        if len(images):
            for vector, label, seed in zip(_vectors(images), labels, seeds):
                self._kept[int(label)].append(vector)
                self._seeds[int(label)].append(int(seed))

    def examine(self, images, labels, seeds):
        """Compares images with those kept and with one another, and keeps the new ones.

        Args:
            images: uint8 `[n, h, w, c]`.
            labels, seeds: integers `[n]`.

        Returns:
            `(distances, nearest)`: float64 `[n]`, infinite where there was nothing to compare
            with, and int64 `[n]`, the seed of the nearest image kept before.
        """
        distances = np.full(len(images), np.inf)
        nearest = np.zeros(len(images), np.int64)
        if not len(images):
            return distances, nearest
        vectors = _vectors(images)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            kept, kept_seeds = self._kept[int(label)], self._seeds[int(label)]
            if kept:
                found, where = nearest_neighbours(vectors[rows], np.stack(kept))
                distances[rows] = found[:, 0] / math.sqrt(vectors.shape[1])
                nearest[rows] = np.array(kept_seeds)[where[:, 0]]
            new = self._among_themselves(rows, vectors, seeds, distances, nearest)
            kept += list(vectors[new])
            kept_seeds += [int(seed) for seed in seeds[new]]
        return distances, nearest

    def _among_themselves(self, rows, vectors, seeds, distances, nearest):
        """Compares each row with the new ones before it; returns the new ones."""
        new = []
        for row in rows:
            if new:
                differences = vectors[new].astype(np.float64) - vectors[row]
                others = np.sqrt(np.mean(differences**2, axis=1))
                closest = others.argmin()
                if others[closest] < distances[row]:
                    distances[row], nearest[row] = others[closest], seeds[new[closest]]
            if distances[row] > self.distance:
                new.append(row)
        return new


def _vectors(images):
    """float32 `[n, d]` of uint8 images, averaged down."""
    height, width = images.shape[1:3]
    scale = min(1.0, _COMPARED_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return fit_arrays(images, size, None).reshape(len(images), -1).astype(np.float32)


class _Real:
    """The training images, and their labels where model and source both have classes."""

    def __init__(self, source, images, labels):
        self.source, self.images, self.labels = source, images, labels

    @classmethod
    def of(cls, source, generator):
        source = source if isinstance(source, Source) else load(source)
        shape, classes = generator.image_shape, generator.num_classes
        if shape is not None and tuple(shape) != source.image_shape:
            raise ValueError(
                f"`source` must have images of the model's shape, {tuple(shape)}. "
                f"Received: source={source!r}"
            )
        if classes and source.num_classes and source.num_classes != classes:
            raise ValueError(
                f"`source` must have the {classes} classes of the model. "
                f"Received: source={source!r}"
            )
        images, labels = source.take(len(source))
        return cls(source, images, labels if classes else None)

    def record(self):
        arrays = [self.images] if self.labels is None else [self.images, self.labels]
        return {"name": self.source.name, "n": len(self.images), "sha256": weights_hash(arrays)}

    def spacing(self):
        """The distance that 1 % of the images have to the nearest other one of their class."""
        generator = np.random.default_rng(0)
        labels = np.zeros(len(self.images), int) if self.labels is None else self.labels
        present, distances = np.unique(labels), []
        for label in present:
            rows = np.flatnonzero(labels == label)
            rows = generator.permutation(rows)[:_REFERENCES]
            if len(rows) < 2:
                continue
            vectors = _vectors(self.images[rows])
            queries = vectors[: max(1, _CALIBRATION // len(present))]
            found, _ = nearest_neighbours(queries, vectors, k=2)
            others = found[found[:, 1] > 0, 1]  # an exact duplicate is not what differs least
            distances.append(others / math.sqrt(vectors.shape[1]))
        if not sum(map(len, distances)):
            return DUPLICATE_DISTANCE
        return float(np.quantile(np.concatenate(distances), DUPLICATE_QUANTILE))


# ---------------------------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------------------------


class _Run:
    """The state of a synthesis: the rows of its manifest."""

    def __init__(self, generator, directory, settings):
        self.generator, self.directory, self.settings = generator, directory, settings
        self.begun = time.perf_counter()
        self.wanted = np.array(settings["wanted"])
        self.names = settings["class_names"]
        self.folders = [folder_name(name) for name in self.names] if self.names else [""]
        self.seed = settings["seed"]
        self.provenance = (generator.name, generator.weights or "unknown")
        self.rows = self._rows_of_the_same_run()
        self.filters = {}

    def finished(self, make_filters, progress):
        """Generates until all is there or given up; returns the `Synthesis`."""
        labels = self._next_labels()
        if len(labels):
            copies, duplicates = make_filters()
            self.filters = _described(copies, duplicates)
            if duplicates is not None:
                self._remember_kept(duplicates)
            self._write_manifest()
        while len(labels):
            self._round(labels, copies, duplicates)
            if progress is not None:
                progress(int(self._counts(kept=True).sum()), int(self.wanted.sum()))
            labels = self._next_labels()
        result = self._result()
        self._write_manifest()
        if not result.complete:
            self._warn(result)
        return result

    def _round(self, labels, copies, duplicates):
        start = len(self.rows)
        seeds = row_seeds(self.seed, start + len(labels))[start:]
        images, _ = self.generator.images(start, labels, self.seed)
        rows = [self._row(*pair) for pair in zip(seeds, labels)]
        alive = np.ones(len(rows), bool)
        if copies is not None:
            alive &= _mark_copies(rows, copies.examine(images))
        if duplicates is not None:
            _mark_duplicates(rows, alive, images, labels, seeds, duplicates)
        for row, image in zip(rows, images):
            if not row["dropped"]:
                provenance = Provenance(*self.provenance, row["seed"])
                write_png(self.directory / row["file"], image, provenance)
            else:
                row["file"] = ""
        self.rows += rows
        self._write_manifest()

    def _row(self, seed, label):
        file = f"{seed}.png"
        row = dict.fromkeys(_COLUMNS, "") | {"seed": int(seed), "file": file}
        if self.names:
            name = self.names[label]
            row |= {"label": int(label), "class_name": name}
            row["file"] = f"{self.folders[label]}/{file}"
        return row

    def _next_labels(self):
        """The classes of the next images: those that lack some, in proportion; int32 `[n]`."""
        kept, generated = self._counts(kept=True), self._counts(kept=False)
        most = np.ceil(self.wanted * self.settings["max_attempts"]).astype(int)
        lacking = np.minimum(self.wanted - kept, np.maximum(most - generated, 0))
        labels = np.repeat(np.arange(len(lacking), dtype=np.int32), lacking)
        if len(labels) > _ROUND:
            labels = labels[np.linspace(0, len(labels) - 1, _ROUND).astype(int)]
        return labels

    def _counts(self, kept):
        """Images of each class, kept or generated: int64 `[classes]`."""
        labels = [row["label"] or 0 for row in self.rows if not (kept and row["dropped"])]
        return np.bincount(np.array(labels, np.int64), minlength=len(self.wanted))

    def _remember_kept(self, duplicates):
        kept = [row for row in self.rows if not row["dropped"]]
        if kept:
            images = np.stack([self._read(row["file"]) for row in kept])
            labels = np.array([row["label"] or 0 for row in kept])
            duplicates.keep(images, labels, [row["seed"] for row in kept])

    def _read(self, file):
        from PIL import Image

        with Image.open(self.directory / file) as image:
            pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _result(self):
        kept = self._counts(kept=True)
        keys = self.names or [""]
        dropped = collections.Counter(row["dropped"] for row in self.rows if row["dropped"])
        return Synthesis(
            directory=self.directory,
            wanted=dict(zip(keys, self.wanted.tolist())),
            kept=dict(zip(keys, kept.tolist())),
            generated=len(self.rows),
            dropped=dict(sorted(dropped.items())),
            complete=bool((kept == self.wanted).all()),
            filters=self.filters,
            seconds=round(time.perf_counter() - self.begun, 1),
        )

    def _warn(self, result):
        lacking = ", ".join(
            f"{name or 'images'}: {result.kept[name]:,} of {count:,}"
            for name, count in result.wanted.items()
            if result.kept[name] < count
        )
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in result.dropped.items())
        warnings.warn(
            f"Too many images were dropped ({reasons} of {result.generated:,}), so that some "
            f"classes were given up: {lacking}. The model may copy or repeat itself; "
            f"max_attempts={self.settings['max_attempts']} bounds the images for each one wanted.",
            stacklevel=4,
        )

    # Files

    def _write_manifest(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.directory / ROWS, text.getvalue().encode())
        totals = self._result().to_dict()
        del totals["directory"]
        record = {"format": _FORMAT, "keras_gen": __version__, "settings": self.settings} | totals
        write_atomically(self.directory / MANIFEST, json.dumps(record, indent=1).encode())

    def _rows_of_the_same_run(self):
        record = _read_manifest(self.directory)
        if record is None:
            return []
        before, now = record["settings"], json.loads(json.dumps(self.settings))
        differing = sorted(key for key in now if now[key] != before.get(key))
        if differing:
            raise FileExistsError(
                "The folder holds images of other settings; give a new folder. They differ in: "
                f"{', '.join(differing)}. Received: directory={str(self.directory)!r}"
            )
        self.filters = record["filters"]
        with open(self.directory / ROWS, newline="") as file:
            return [_parsed(row) for row in csv.DictReader(file)]


def _mark_copies(rows, examination):
    """Writes what the detector found into the rows; returns which images are no copies."""
    found = examination.nearest["pixels"]
    for index, row in enumerate(rows):
        row["nearest_training_image"] = int(found.indices[index, 0])
        row["nearest_training_distance"] = round(float(found.distances[index, 0]), 3)
        row["copy_p_value"] = round(float(examination.p_values[index]), 6)
        if examination.exact[index]:
            row["dropped"] = "training image"
        elif examination.flagged[index]:
            row["dropped"] = "copy of a training image"
    return ~(examination.exact | examination.flagged)


def _mark_duplicates(rows, alive, images, labels, seeds, duplicates):
    alive = np.flatnonzero(alive)
    distances, nearest = duplicates.examine(images[alive], labels[alive], seeds[alive])
    for index, distance, seed in zip(alive, distances, nearest):
        if math.isfinite(distance):
            rows[index]["nearest_synthetic_distance"] = round(float(distance), 3)
            rows[index]["nearest_synthetic_seed"] = int(seed)
        if distance <= duplicates.distance:
            rows[index]["dropped"] = "near-duplicate"


def _described(copies, duplicates):
    return {
        "memorization": None if copies is None else copies.record,
        "duplicate_distance": None if duplicates is None else duplicates.distance,
    }


def _parsed(row):
    row["seed"] = int(row["seed"])
    row["label"] = int(row["label"]) if row["label"] else ""
    return row


def _read_manifest(directory):
    """What an earlier run wrote, or None where there was none."""
    try:
        record = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    is_ours = isinstance(record, dict) and record.get("format") == _FORMAT
    return record if is_ours and (directory / ROWS).is_file() else None


# ---------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------


def _check_options(seed, memorization_filter, source, duplicate_distance, max_attempts):
    check_integer("seed", seed, minimum=-(2**31), maximum=2**31 - 1)
    if memorization_filter and source is None:
        raise ValueError(
            "The memorization filter compares with the training images: give `source`, or "
            "`memorization_filter=False`. Received: source=None"
        )
    if duplicate_distance is not None and not duplicate_distance >= 0:
        raise ValueError(
            "`duplicate_distance` must be a number of grey levels, 0 or more, or None. "
            f"Received: duplicate_distance={duplicate_distance!r}"
        )
    if not 1 <= max_attempts < math.inf:
        raise ValueError(f"`max_attempts` must be at least 1. Received: {max_attempts=}")


def _check_folder(directory):
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"There is a file. Received: directory={str(directory)!r}")
    if directory.is_dir() and any(directory.iterdir()) and _read_manifest(directory) is None:
        raise FileExistsError(
            "The folder is neither new nor empty, nor that of an earlier synthesis. "
            f"Received: directory={str(directory)!r}"
        )


def _class_names(class_names, generator, real):
    """list of str, one for each class of the model; None where it has none."""
    count = generator.num_classes
    if not count:
        if class_names is not None:
            raise ValueError(f"The model has no classes. Received: class_names={class_names!r}")
        return None
    if class_names is None and real is not None:
        class_names = real.source.class_names
    if class_names is None:
        digits = len(str(count - 1))  # so that sorted names are sorted numbers
        class_names = [f"{label:0{digits}d}" for label in range(count)]
    names = [str(name) for name in class_names]
    folders = {folder_name(name).casefold() for name in names}
    if len(names) != count or len(folders) != count or "" in folders:
        raise ValueError(
            f"`class_names` must be {count} names for different folders. "
            f"Received: class_names={class_names!r}"
        )
    if folders <= set(SPLIT_NAMES):
        raise ValueError(
            f"Class names must not all be names of splits. Received: class_names={class_names!r}"
        )
    return names


def _wanted(num_images, class_balance, num_classes, names, real):
    """Images wanted of each class: list of int; one number where there are no classes."""
    if isinstance(class_balance, dict):
        return _wanted_by_class(num_images, class_balance, num_classes, names)
    check_integer("num_images", num_images)
    if class_balance not in ("equal", "source"):
        raise ValueError(
            '`class_balance` must be "equal", "source" or a dict. '
            f"Received: class_balance={class_balance!r}"
        )
    if not num_classes:
        return [int(num_images)]
    shares = np.full(num_classes, 1 / num_classes)
    if class_balance == "source":
        if real is None or real.labels is None:
            raise ValueError(
                '`class_balance="source"` needs a labelled `source`. '
                f"Received: source={None if real is None else real.source!r}"
            )
        shares = np.bincount(real.labels, minlength=num_classes) / len(real.labels)
    return _apportioned(int(num_images), shares)


def _apportioned(total, shares):
    """Whole numbers of sum `total`, by largest remainders."""
    exact = total * shares
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()


def _label_of(key, names):
    """The number of a class; text is a name before it is a number."""
    if names and key in names:
        return names.index(key)
    is_number = isinstance(key, str) and key.isascii() and key.isdecimal()
    return int(key) if is_number else key


def _wanted_by_class(num_images, class_balance, num_classes, names):
    wanted = [0] * (num_classes or 0)
    for key, count in class_balance.items():
        label = _label_of(key, names)
        known = isinstance(label, numbers.Integral) and 0 <= label < len(wanted)
        if not known or wanted[label]:
            raise ValueError(
                f"`class_balance` must have classes of {names}, by number or by name, each once. "
                f"Received: class_balance={class_balance!r}"
            )
        check_integer(f"class_balance[{key!r}]", count, minimum=0)
        wanted[label] = int(count)
    total = sum(wanted)
    if not total or num_images not in (None, total):
        raise ValueError(
            f"`class_balance` asks for {total} images: `num_images` must be that, above 0, or "
            f"None. Received: num_images={num_images!r}"
        )
    return wanted
