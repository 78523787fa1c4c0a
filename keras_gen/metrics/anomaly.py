"""Anomaly scores: how unlike its training images a model finds an image.

    found = keras_gen.metrics.anomaly(model, normal, anomalous)
    print(found["likelihood_corrected"])

All scores are larger for what is less like the training images.
"""

import io
import math
import os

import numpy as np
from PIL import Image

from keras_gen.data.arrays import check_images
from keras_gen.metrics.checks import check_integer
from keras_gen.metrics.frechet import check_confidence
from keras_gen.metrics.generators import load_keras
from keras_gen.metrics.likelihood import check_has, images_for
from keras_gen.metrics.result import MetricResult


def reconstruction_error(model, pictures):
    """Mean squared difference of pictures and what the model makes of them, in grey levels².

    Args:
        model: what has `reconstruct(pictures)` -> uint8 `[n, h, w, c]`, as autoencoders have.
        pictures: uint8 `[n, h, w, c]`.

    Returns:
        float64 `[n]`.

    Raises:
        ValueError: if the model does not reconstruct.
    """
    check_has(model, "reconstruct", "reconstructions")
    pictures = check_images(pictures)
    difference = pictures.astype(np.float64) - model.reconstruct(pictures)
    return np.square(difference).mean((1, 2, 3))


def surprise(model, pictures, seed=0, **settings):
    """-log2 p of pictures: the bits in which the model would write them.

    Args:
        model: what has `log_prob(pictures, seed=...)`; see `keras_gen.metrics.likelihood`. It
            should be of all the levels that pictures have: what it binarizes is not what `png_bits`
            counts.
        pictures: uint8 `[n, h, w, c]`.
        seed: int, of what is drawn.
        **settings: of the model's `log_prob`.

    Returns:
        float64 `[n]`, bits an image; of a bound, at most so many.

    Raises:
        ValueError: if the model gives no likelihood.
    """
    check_has(model, "log_prob", "likelihood")
    pictures = _checked(pictures)
    return _bits(model.log_prob(pictures, seed=seed, **settings), pictures)


def _checked(pictures):
    """Pictures uint8 `[n, h, w, c]`, or sequences as they are."""
    return pictures if np.ndim(pictures) == 5 else check_images(pictures)


def _bits(told, pictures):
    """Bits an image, float64 `[n]`, of what `log_prob` says of pictures."""
    bits = np.asarray(told["bits_per_dimension"], np.float64)
    return bits * math.prod(pictures.shape[1:])


def png_bits(pictures):
    """The length of each picture as a PNG file, in bits: how complex it is whatever the model.

    Args:
        pictures: uint8 `[n, h, w, c]`, c being 1 or 3; or sequences `[n, time, h, w, c]`, of which
            the frames lie side by side.

    Returns:
        float64 `[n]`.
    """
    if pictures.ndim == 5:
        pictures = np.concatenate(list(np.moveaxis(pictures, 1, 0)), axis=2)

    def length(picture):
        file = io.BytesIO()
        picture = picture[..., 0] if picture.shape[-1] == 1 else picture
        Image.fromarray(picture).save(file, "png", optimize=True)
        return 8 * file.tell()

    return np.array([length(picture) for picture in pictures], np.float64)


def likelihood_score(model, pictures, corrected=True, seed=0, **settings):
    """How unlikely pictures are, for how complex they are (Serrà et al. 2020, eq. 1).

        score = -log2 p(x) - L(x),   L(x) the bits of x as a PNG file

    Without the correction, smooth images are likely under most models, whatever these were trained
    on: models of clothes find digits likelier than clothes (Nalisnick et al. 2019).

    Args:
        model, pictures, seed, **settings: as in `surprise`.
        corrected: whether to subtract L.

    Returns:
        float64 `[n]`, bits.

    Raises:
        ValueError: if the model gives no likelihood.
    """
    pictures = _checked(pictures)
    bits = surprise(model, pictures, seed, **settings)
    return bits - png_bits(pictures) if corrected else bits


def auroc(normal, anomalous, num_resamples=1000, confidence=0.95, seed=0):
    """Area under the ROC curve: how often an anomalous image scores above a normal one.

    Args:
        normal, anomalous: scores `[n]` and `[m]`, larger for anomalies.
        num_resamples: int, bootstrap samples of both sets behind the interval.
        confidence: float in (0, 1).
        seed: int, of the bootstrap.

    Returns:
        dict of "value", in [0, 1], a tie counting half, and "interval", `(low, high)`: percentiles
        of the bootstrap, which says nothing of another training of the model.

    Raises:
        ValueError: if there are no scores, or these are not finite, or a number is out of range.
    """
    check_integer("num_resamples", num_resamples)
    check_confidence(confidence)
    sets = {"normal": normal, "anomalous": anomalous}
    normal, anomalous = (_as_scores(name, scores) for name, scores in sets.items())
    # the distinct scores, ascending, and which of them each image has
    distinct, places = np.unique(np.concatenate([normal, anomalous]), return_inverse=True)
    places = places[: len(normal)], places[len(normal) :]

    def area(*chosen):
        ours, theirs = (np.bincount(one, minlength=len(distinct)) for one in chosen)
        below = np.cumsum(ours) - ours / 2
        return float(theirs @ below / (len(normal) * len(anomalous)))

    random = np.random.default_rng(seed)
    resampled = [
        area(*(one[random.integers(0, len(one), len(one))] for one in places))
        for _ in range(num_resamples)
    ]
    outside = (1 - confidence) / 2
    low, high = np.quantile(resampled, [outside, 1 - outside])
    return {"value": area(*places), "interval": (float(low), float(high))}


def anomaly(
    model,
    normal,
    anomalous,
    num_images=None,
    seed=0,
    *,
    num_resamples=1000,
    confidence=0.95,
    split=None,
    **settings,
):
    """How well a model tells images like those it was trained on from others.

    Args:
        model: trained on normal images without labels, or the path of its `.keras` file. What it
            has decides which scores there are: `reconstruct` ("reconstruction_error"), `log_prob`
            ("likelihood" and "likelihood_corrected", see `likelihood_score`).
        normal: images that the model was not trained on, of the kind that it was trained on: a
            `Source`, or what `keras_gen.data.load` takes (its "test" split, where it has several).
        anomalous: images of another kind, likewise. They must be prepared alike: a model may well
            tell two ways of resizing apart.
        num_images: int, at most so many of each; None: all.
        seed: int, 0 or more, chooses the images and draws what is drawn.
        num_resamples, confidence: of the intervals, as in `auroc`.
        split: str, of the images that are loaded by name; of others, what the result calls it.
        **settings: of the model's `log_prob`.

    Returns:
        dict from the name of the score to a `MetricResult` called "auroc". "complexity" is there
        whatever the model: the length as PNG alone, which needs no model to beat. 0.5 is chance; an
        area below it says that the anomalies look more normal than the normal images.

    Raises:
        ValueError: if the model has classes or gives no score, or the images do not fit it.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_keras(model)
    if getattr(model, "num_classes", None):
        raise ValueError(
            "Anomaly scores are of a model without labels: an anomaly has none of its classes. "
            f"Received: a model with num_classes={model.num_classes}"
        )
    if not any(callable(getattr(model, name, None)) for name in ("reconstruct", "log_prob")):
        raise ValueError(
            "The model gives no anomaly score: it has neither `reconstruct` nor `log_prob`. "
            f"Received: model={type(model).__name__}"
        )
    if settings:
        check_has(model, "log_prob", f"likelihood, which the settings {sorted(settings)} are of")
    if num_images is not None:
        check_integer("num_images", num_images)
    check_integer("seed", seed, 0)
    (normal, split), (anomalous, _) = (images_for(model, x, split) for x in (normal, anomalous))
    scores, of_what = zip(
        *(
            _scores(model, one.take(min(num_images or len(one), len(one)), seed)[0], seed, settings)
            for one in (normal, anomalous)
        )
    )
    found = {}
    for name in scores[0]:
        described = {**settings, **of_what[0]} if name.startswith("likelihood") else {}
        unlike = name == "likelihood_corrected" and not _of_all_levels(described["data"])
        area = auroc(scores[0][name], scores[1][name], num_resamples, confidence, seed)
        found[name] = MetricResult(
            "auroc",
            area["value"],
            interval=area["interval"],
            confidence=confidence,
            n_real=len(scores[0][name]),
            source=normal.name,
            split=split,
            weights=model.weights_hash() if hasattr(model, "weights_hash") else None,
            seed=seed,
            parameters={
                "score": name,
                "anomalous": anomalous.name,
                "n_anomalous": len(scores[1][name]),
                **described,
            },
            warnings=(f"PNG counts 256 levels, this likelihood: {described['data']}",)
            if unlike
            else (),
        )
    return found


def _of_all_levels(data):
    """Whether a likelihood of that description can be compared with the bits of a PNG."""
    return data.startswith("256 levels") or "dequantized" in data


def _scores(model, pictures, seed, settings):
    """dict from name to score, all that the model gives and the complexity; and what the likelihood
    is one of, a dict of str."""
    complexity = png_bits(pictures)
    scores, of_what = {}, {}
    if callable(getattr(model, "reconstruct", None)):
        scores["reconstruction_error"] = reconstruction_error(model, pictures)
    if callable(getattr(model, "log_prob", None)):
        told = model.log_prob(pictures, seed=seed, **settings)
        of_what = {name: told[name] for name in ("data", "estimator")}
        bits = _bits(told, pictures)
        scores["likelihood"], scores["likelihood_corrected"] = bits, bits - complexity
    return {**scores, "complexity": complexity}, of_what


def _as_scores(name, scores):
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(
            f"`{name}` must be finite scores [n], one or more. "
            f"Received: {name} of shape {scores.shape}, {np.sum(~np.isfinite(scores))} not finite"
        )
    return scores
