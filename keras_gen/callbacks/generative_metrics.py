"""GenerativeMetrics: how far the generated images are from the real ones, epoch after epoch."""

import time

import keras
import numpy as np

from keras_gen.callbacks.chief import has_other_workers, is_chief
from keras_gen.data.load import load
from keras_gen.data.source import Source
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.extractors import extract, train_extractor
from keras_gen.metrics.frechet import frechet_distance
from keras_gen.metrics.kernel import kernel_distance_all_pairs
from keras_gen.metrics.statistics import FeatureStatistics

KERNEL, FRECHET = "kernel_distance", "frechet_distance"


class GenerativeMetrics(keras.callbacks.Callback):
    """Measures the model with a fixed number of images while it trains.

    Writes to the logs of the epoch, and so to the history, to the progress bar, to
    `keras.callbacks.TensorBoard` (as `epoch_kernel_distance`) and to every callback that monitors:

    - `kernel_distance`, the squared maximum mean discrepancy with KID's cubic kernel, from all
      pairs of images: unbiased at any number of images, and so the one to monitor. It can be
      slightly negative.
    - `frechet_distance`, where there are more images than features. At few images it is biased
      upwards: compare it with `floor`, and with itself only.

    The same seeds are drawn each time, with the weights that generate (the averaged ones), and
    compared with the same real images, whose features are computed once, before training. Of a
    model with classes, the images have the classes of the real images. Drawing images takes no
    random numbers from training: whether and when it is measured changes no weight.

    Every epoch has values. The first epoch is always measured, and an epoch that is not repeats
    the last values (after a resume those of the history), because `ModelCheckpoint` saves, also
    with `save_best_only`, where its metric is missing; a repeated value is no improvement.
    `EarlyStopping` counts its patience in epochs, also in those that repeat.

    Smaller is better, which Keras cannot guess: give `mode="min"`. With a model of this library
    the place in the list of callbacks does not matter; with another model, list it before those
    that monitor. The best averaged model is kept by any of

        keras.callbacks.ModelCheckpoint(
            "best.keras", monitor="kernel_distance", mode="min", save_best_only=True)
        kg.callbacks.ExportSavedModel("saved_models/mnist", monitor="kernel_distance")

    of which the second knows the best value after a resume too.

    Of several workers each one measures, so that all have the same logs. Their clocks differ, so
    that `max_share` does not bind them.

    Args:
        source: the real images: a `Source`, `(images, labels)`, or what `keras_gen.data.load`
            takes. A fixed random part of them is used.
        every: measure after every so many epochs.
        num_images: images generated each time.
        num_real: real images to compare with; by default twice as many, or all there are.
        extractor: what turns images into features (`keras_gen.metrics.extractors`). None trains
            the project's small classifier on `source` when training begins, which takes labels
            and a minute; it is kept in a cache. It is trained on nine tenths of `source`, and
            `keras_gen.metrics.evaluate` trains its own on all where it has held-out images: the
            values are those of different features. Give both the same extractor to compare them.
        max_share: float in (0, 1], the share of the time since training began that measuring may
            take, apart from the first epoch: an epoch is skipped, and this said once, where
            measuring it would lead above the share. None measures whatever it takes; only then do
            two equal runs surely measure the same epochs.
        seed: int, of the generated images and of the choice of real ones.
        verbose: 0 prints nothing.

    Attributes:
        values: dict of the last values by name.
        floor: dict of the values that other real images get, as many as are generated; empty where
            there are too few.
        time_share: float, share of the training time that measuring has taken so far.
        num_measured: int, epochs measured in this `fit`.

    Raises:
        ValueError: an argument is out of range, or there are neither labels nor an extractor;
            when training begins, the model does not fit the images.

    Example:
        `model.fit(batches, epochs=20, callbacks=[kg.callbacks.GenerativeMetrics(source)])`
    """

    def __init__(
        self,
        source,
        every=1,
        num_images=1000,
        num_real=None,
        extractor=None,
        max_share=0.1,
        seed=0,
        verbose=1,
    ):
        super().__init__()
        check_integer("every", every)
        check_integer("num_images", num_images, minimum=4)
        if num_real is not None:
            check_integer("num_real", num_real, minimum=4)
        check_integer("seed", seed, minimum=-(2**31), maximum=2**31 - 1)
        if max_share is not None and not 0 < max_share <= 1:
            raise ValueError(
                f"`max_share` must lie in (0, 1], or be None. Received: max_share={max_share!r}"
            )
        self.source = source if isinstance(source, Source) else load(source)
        if extractor is None and (self.source.num_classes or 0) < 2:
            raise ValueError(
                "Without labels of two classes or more there is no classifier to train: give "
                "`extractor`, such as `InceptionV3(weights=...)` or `KerasExtractor(model)` of "
                f"`keras_gen.metrics.extractors`. Received: source={self.source!r}, extractor=None"
            )
        self.every = every
        self.num_images = num_images
        self.num_real = min(num_real or 2 * num_images, len(self.source))
        self.extractor = extractor
        self.max_share = max_share
        self.seed = seed
        self.verbose = verbose
        self.values, self.floor = {}, {}
        self.num_measured, self._num_epochs = 0, 0
        self._real = self._labels = None
        self._begun, self._spent, self._last_cost = None, 0.0, 0.0
        self._ended = None  # the last epoch whose end was seen
        self._said = False
        # Measured before the other callbacks look at the logs, wherever this one is listed.
        self.before_others = keras.callbacks.LambdaCallback(on_epoch_end=self._end_epoch)

    @property
    def time_share(self):
        if not self._begun:
            return 0.0
        return self._spent / max(time.perf_counter() - self._begun, 1e-9)

    def on_train_begin(self, logs=None):
        self._check_model()
        if self._real is None:
            self._prepare()
        self._generate(1)  # traced here, and not in the time of the first epoch
        self.values, self._ended, self._said = {}, None, False
        self.num_measured, self._num_epochs = 0, 0
        self._spent, self._last_cost = 0.0, 0.0
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._end_epoch(epoch, logs)

    def on_train_end(self, logs=None):
        if self._num_epochs:
            self._say(
                f"measured {self.num_measured} of {self._num_epochs} epochs in {self._spent:.1f} s,"
                f" {self.time_share:.1%} of the training time"
            )

    # Preparation

    def _check_model(self):
        model, source = self.model, self.source
        if not callable(getattr(model, "generate", None)):
            raise ValueError(
                "GenerativeMetrics needs a model with `generate(n, labels=None, seed=0)`. "
                f"Received: model={model!r}"
            )
        shape = getattr(model, "image_shape", None)
        if shape is not None and tuple(shape) != source.image_shape:
            raise ValueError(
                f"The images must have the shape of those of the model, {tuple(shape)}. "
                f"Received: source={source!r}"
            )
        classes = getattr(model, "num_classes", None)
        if classes and source.num_classes and source.num_classes > classes:
            raise ValueError(
                f"The model has {classes} classes, and the images must not have more. "
                f"Received: source={source!r}"
            )

    def _prepare(self):
        """The extractor, and the features of the real images."""
        begun = time.perf_counter()
        if self.extractor is None:
            self.extractor = train_extractor(self.source)
        count = min(self.num_real + self.num_images, len(self.source))
        images, labels = self.source.take(count, self.seed)
        if labels is not None:
            self._labels = np.resize(labels[: self.num_real], self.num_images)
        features = extract(self.extractor, images).features
        self._real, others = features[: self.num_real], features[self.num_real :]
        fewest = min(len(self._real), self.num_images)
        few = fewest <= self.extractor.dimension
        self._statistics = None if few else FeatureStatistics.of(self._real)
        self.floor = self._compare(others) if len(others) == self.num_images else {}
        self._say(self._description(time.perf_counter() - begun))

    def _description(self, seconds):
        text = (
            f"{self.num_images:,} images against {self.num_real:,} real ones of "
            f"{self.source.name}, features {self.extractor.name}"
        )
        if self.floor:
            floors = ", ".join(f"{name} {value:.4g}" for name, value in self.floor.items())
            text += f"; real images get {floors}"
        if self._statistics is None:
            text += f"; no {FRECHET}, which takes more than {self.extractor.dimension:,} images"
        return f"{text}; prepared in {seconds:.1f} s"

    # Measuring

    def _end_epoch(self, epoch, logs=None):
        if epoch != self._ended:
            self._ended = epoch
            self._num_epochs += 1
            self.values = self.values or self._restored()
            if not self.values or ((epoch + 1) % self.every == 0 and self._is_affordable()):
                self._measure()
        if logs is not None:
            logs.update(self.values)

    def _restored(self):
        """The last values of a history that was restored before this epoch; empty without one."""
        history = getattr(self.model.history, "history", {})
        values = {name: history[name][-1] for name in self._names() if history.get(name)}
        return values if len(values) == len(self._names()) else {}

    def _names(self):
        return (KERNEL,) if self._statistics is None else (KERNEL, FRECHET)

    def _is_affordable(self):
        if self.max_share is None or has_other_workers(self.model):
            return True
        elapsed = time.perf_counter() - self._begun
        if self._spent + self._last_cost <= self.max_share * (elapsed + self._last_cost):
            return True
        if not self._said:
            self._say(
                f"measuring takes {self._last_cost:.2f} s, so that it would be more than "
                f"{self.max_share:.0%} of the training time: some epochs repeat the last values"
            )
            self._said = True
        return False

    def _measure(self):
        begun = time.perf_counter()
        images = self._generate(self.num_images)
        self.values = self._compare(extract(self.extractor, images).features)
        self._last_cost = time.perf_counter() - begun
        self._spent += self._last_cost
        self.num_measured += 1

    def _generate(self, count):
        labels = None
        if self._labels is not None and getattr(self.model, "num_classes", None):
            labels = self._labels[:count]
        return self.model.generate(count, labels=labels, seed=self.seed)

    def _compare(self, features):
        values = {KERNEL: kernel_distance_all_pairs(self._real, features)}
        if self._statistics is not None:
            values[FRECHET] = frechet_distance(self._statistics, features)
        return values

    def _say(self, text):
        if self.verbose and is_chief(self.model):
            print(f"\nGenerativeMetrics: {text}", flush=True)
