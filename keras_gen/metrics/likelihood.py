"""How likely real images are under a model: one function and one report for all families."""

import dataclasses
import json
import math
import os

import numpy as np

from keras_gen.data.load import load
from keras_gen.data.source import Source
from keras_gen.images import write_atomically
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.generators import load_keras


@dataclasses.dataclass(frozen=True)
class LikelihoodResult:
    """Negative log-likelihood of images, with all that is needed to know what it says.

    Attributes:
        nats: float, mean of -log p over the images, or of an upper bound of it.
        standard_error: float, of `nats`, over the images.
        bits_per_dimension: float, mean of -log2 p over (height * width * channels).
        bits_standard_error: float, of `bits_per_dimension`.
        n: int, number of images.
        estimator: str: "exact", "importance-weighted bound, k = 500", "variational bound" ...
        data: str, what the images were taken for: how they are binarized, or of how many levels.
        conditional: whether it is of images given their labels.
        source, split: str, where the images are from.
        image_shape: [height, width, channels] that they were given at, resized where need be; or
            [time, height, width, channels].
        weights: str or None, hash of the weights that were asked.
        seed: int, which images these are, and of all that is drawn.
        parameters: dict, the settings that `log_prob` was given.
    """

    nats: float
    standard_error: float
    bits_per_dimension: float
    bits_standard_error: float
    n: int
    estimator: str
    data: str
    conditional: bool
    source: str
    image_shape: list
    split: str | None
    weights: str | None
    seed: int
    parameters: dict = dataclasses.field(default_factory=dict)

    def to_dict(self):
        """Values that `json.dumps` takes; what is infinite or not a number is None."""
        record = dataclasses.asdict(self)
        numbers = {k: v for k, v in record.items() if isinstance(v, float)}
        return {**record, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}}

    def save(self, path):
        """Writes it as JSON; the file is complete or absent."""
        write_atomically(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    def __str__(self):
        split = "" if self.split is None else f" {self.split}"
        given = " given labels" if self.conditional else ""
        size = "×".join(map(str, self.image_shape))
        return (
            f"-log p{given} {self.nats:.2f} ± {self.standard_error:.2f} nats, "
            f"{self.bits_per_dimension:.4f} bits/dim ({self.estimator}; {self.data}; "
            f"n {self.n:,}; source {self.source}{split} at {size}; seed {self.seed})"
        )


def likelihood(model, source, num_images=None, seed=0, *, split=None, **settings):
    """Negative log-likelihood of images that the model was not trained on.

    Args:
        model: what has `log_prob(pictures, labels, seed=..., **settings)`, as `PixelCNN` (exact),
            `VAE` (importance-weighted bound) and `Diffusion` have; or the path of a `.keras` file.
            It returns a dict of "log_prob" (nats) and "bits_per_dimension", arrays `[n]`, and of
            "estimator" and "data", strings.
        source: the images: a `Source`, or what `keras_gen.data.load` takes, of which `split` is
            loaded at the size of the model's images.
        num_images: int, how many images; None: all.
        seed: int, chooses the images where these are not all, and draws what is drawn of them:
            binarizations, dequantization, latents. Every image has a seed of its own.
        split: str, "test" where it is loaded by name; of others, what the report calls it.
        **settings: of the model's `log_prob`, such as `samples=5000` of a `VAE`.

    Returns:
        A `LikelihoodResult`.

    Raises:
        ValueError: if the model gives no likelihood, or the images do not fit it.

    Example:

        result = keras_gen.metrics.likelihood(model, "mnist", samples=500)
        print(result)
        result.save("runs/mnist/likelihood.json")
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_keras(model)
    check_has(model, "log_prob", "likelihood")
    if num_images is not None:
        check_integer("num_images", num_images)
    check_integer("seed", seed, -(2**31), 2**31 - 1)
    source, split = images_for(model, source, split)
    pictures, labels = source.take(num_images or len(source), seed=seed)
    conditional = bool(getattr(model, "num_classes", None)) and labels is not None
    found = model.log_prob(pictures, labels if conditional else None, seed=seed, **settings)
    nats, bits = (np.asarray(found[k], np.float64) for k in ("log_prob", "bits_per_dimension"))
    return LikelihoodResult(
        nats=float(-nats.mean()),
        standard_error=_standard_error(nats),
        bits_per_dimension=float(bits.mean()),
        bits_standard_error=_standard_error(bits),
        n=len(nats),
        estimator=found["estimator"],
        data=found["data"],
        conditional=conditional,
        source=source.name,
        image_shape=list(pictures.shape[1:]),
        split=split,
        weights=model.weights_hash() if hasattr(model, "weights_hash") else None,
        seed=int(seed),
        parameters={k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()},
    )


def images_for(model, source, split=None):
    """Images that a model was not trained on, as a source, and what its split is called.

    Args:
        model: what has an `image_shape`.
        source: a `Source`, or what `keras_gen.data.load` takes, at the size of the model's images.
        split: str or None; of what has several splits, "test" is loaded.

    Returns:
        (source, split); the split of arrays is what the caller calls it, or None.
    """
    if isinstance(source, Source):
        return source, split
    height, width, channels = model.image_shape
    named = isinstance(source, (str, os.PathLike))
    if named:
        split = split or "test"
    return load(source, split if named else "all", (height, width), channels), split


def check_has(model, method, what):
    """Raises a ValueError unless the model has a method, which gives `what`."""
    if not callable(getattr(model, method, None)):
        raise ValueError(
            f"The model gives no {what}: it has no `{method}`. "
            f"Received: model={type(model).__name__}"
        )


def _standard_error(values):
    """Of the mean of values [n]; nan for a single one."""
    if len(values) < 2:
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))
