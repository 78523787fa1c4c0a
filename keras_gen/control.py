"""Control of what a generator makes: by moving its latents.

Functions of a model with `decode(latents, labels)` and `latent_dim`, such as `GAN` and `VAE`, whose
latents are standard normal (but for those of a VAE with a hierarchy), and of NumPy arrays. The
codes of InfoGAN, the last numbers of its latents, are not normal: what they stand for is told by
`generate(codes=...)`.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_gen import images, optimizers, randomness
from keras_gen.diffusion.control import slerp as spherical
from keras_gen.networks import inputs
from keras_gen.strategies import checked_count


def random_latents(model, n, seed=0):
    """Latents float32 [n, latent_dim]: of a GAN, codes of InfoGAN included, and of a VAE those of
    `generate(n, seed=seed)`; of others standard normal."""
    step = getattr(
        model, "seed_latents", lambda seeds: randomness.row_normal(seeds, [model.latent_dim])
    )

    def draw(seeds):
        return model.grouped(step, [seeds], tf.TensorSpec([model.latent_dim], tf.float32))

    function = model.compiled_function("latents", draw, [tf.TensorSpec([None], tf.int64)])
    return function(randomness.row_seeds(seed, n)).numpy()


def slerp(first, second, fraction):
    """Latents on the great circle between two (Shoemake 1985), float32 [n, latent_dim].

    Opposite ones have no such circle: theirs is the straight line, through 0.

    Args:
        first, second: float [n, latent_dim].
        fraction: float or [n], 0 for `first`, 1 for `second`.

    Raises:
        ValueError: when there are not as many of both, or of the fractions.
    """
    first, second = (_checked(x) for x in (first, second))
    fraction = np.asarray(fraction, np.float32)
    if first.shape != second.shape or fraction.shape not in ((), first.shape[:1]):
        raise ValueError(
            "`first` and `second` must be as many latents, `fraction` one number or one for each. "
            f"Received: first, second and fraction of shapes {first.shape}, {second.shape} and "
            f"{fraction.shape}"
        )
    fraction = np.broadcast_to(fraction, len(first))
    return spherical(first, second, fraction).numpy()


def interpolate(model, first, second, count, labels=None):
    """Images on the way from one latent to another.

    Args:
        model: with `decode`.
        first, second: float [n, latent_dim].
        count: int, images of each pair, the ends included.
        labels: class of each pair, an int or [n]; for models with classes.

    Returns:
        uint8 [n, count, h, w, c].

    Raises:
        ValueError: when the latents do not fit one another or the model, or there is no image.
    """
    checked_count("count", count)
    steps = [slerp(first, second, fraction) for fraction in np.linspace(0, 1, count)]
    return _decoded(model, np.stack(steps, 1), labels)


def truncate(latents, psi):
    """Latents drawn in towards their mean: less variety, fewer bad images (Karras et al. 2019).

    The codes of InfoGAN are to be left out of it: what is between two of them was never seen.

    Args:
        latents: float [n, latent_dim], of mean 0.
        psi: float in [0, 1]; 1 changes nothing, 0 makes all the same.
    """
    if not 0 <= psi <= 1:
        raise ValueError(f"`psi` must lie in [0, 1]. Received: psi={psi!r}")
    return np.asarray(latents, np.float32) * np.float32(psi)


class Direction(NamedTuple):
    """A direction of the latent space and how well it tells an attribute."""

    vector: np.ndarray  # float32 [latent_dim], of length 1
    accuracy: float  # of the linear probe, on latents that it was not fitted to
    majority: float  # accuracy of always guessing the more frequent of the two there


def direction(latents, attribute, ridge=1e-3):
    """The direction along which an attribute grows, found by a linear probe.

    The probe is Fisher's discriminant: the difference of the means of those that have the attribute
    and those that have not, by the inverse of the covariance within. A fifth of the latents, every
    fifth one, tests it.

    Args:
        latents: float [n, latent_dim].
        attribute: bool [n], whether the image of each has it, as somebody or a classifier says.
        ridge: float, added to the variances.

    Returns:
        `Direction`.

    Raises:
        ValueError: when the attribute does not fit, or too few have it or have it not.
    """
    latents, has = np.asarray(latents, np.float64), np.asarray(attribute)
    if has.dtype != bool or has.shape != latents.shape[:1]:
        raise ValueError(
            "`attribute` must be one bool for each latent. Received: attribute of shape "
            f"{has.shape} and dtype {has.dtype}, {len(latents)} latents"
        )
    test = np.arange(len(has)) % 5 == 4
    groups = latents[~test & has], latents[~test & ~has]
    if min(map(len, groups)) < 2 or not test.any():
        raise ValueError(
            "Both those with and those without the attribute must be some, of five latents or "
            "more. Received: "
            f"{has.sum()} of {len(has)} with it"
        )
    within = sum((len(g) - 1) * np.cov(g.T) for g in groups) / (len(latents[~test]) - 2)
    within = np.atleast_2d(within) + ridge * np.eye(latents.shape[1])
    means = [group.mean(0) for group in groups]
    vector = np.linalg.solve(within, means[0] - means[1])
    odds = np.log(len(groups[0]) / len(groups[1]))
    middle = (means[0] + means[1]) / 2
    guess = (latents[test] - middle) @ vector + odds > 0
    share = has[test].mean()
    return Direction(
        (vector / np.linalg.norm(vector)).astype(np.float32),
        float((guess == has[test]).mean()),
        float(max(share, 1 - share)),
    )


def class_direction(model, classify, label, n=2000, seed=0, labels=None):
    """`direction` towards images that a classifier puts into a class.

    Args:
        model: with `decode`.
        classify: function of pictures uint8 [n, h, w, c] -> class of each, int [n].
        label: int, the class.
        n: int, images to fit the probe to.
        seed: int, of their latents.
        labels: class to generate, an int or [n]; for models with classes.
    """
    latents = random_latents(model, n, seed)
    return direction(latents, np.asarray(classify(model.decode(latents, labels))) == label)


def traverse(model, latents, vector, values, labels=None):
    """Images of latents moved along a direction.

    Args:
        model: with `decode`.
        latents: float [n, latent_dim].
        vector: float [latent_dim].
        values: floats [count], how far.
        labels: class of each latent, an int or [n]; for models with classes.

    Returns:
        uint8 [n, count, h, w, c].

    Raises:
        ValueError: when the vector or the latents do not fit one another or the model.
    """
    latents, vector = _checked(latents), np.asarray(vector, np.float32)
    if vector.shape != latents.shape[1:] or np.ndim(values) != 1:
        raise ValueError(
            "`vector` must be a direction of the latents [n, latent_dim], `values` a list. "
            f"Received: vector of shape {vector.shape}, latents of shape {latents.shape}, "
            f"values={values!r}"
        )
    values = np.asarray(values, np.float32)[:, None]
    moved = latents[:, None] + values * vector
    return _decoded(model, moved, labels)


def invert(
    model, pictures, labels=None, steps=300, learning_rate=0.05, prior=1e-3, starts=4, seed=0
):
    """Latents whose images are nearest to given pictures, found by descent (Zhu et al. 2016).

    Minimizes the mean squared error of pixels in [-1, 1] plus `prior` times the mean square of the
    latent, by Adam, from several random starts; the best of them counts for each picture.

    Args:
        model: a `GAN`.
        pictures: uint8 [n, h, w, c].
        labels: class of each, an int or [n]; for models with classes.
        steps: int.
        learning_rate: float, falling to 0 along a cosine.
        prior: float, weight of the latent's length.
        starts: int.
        seed: int, of the starts.

    Returns:
        latents float32 [n, latent_dim], and the mean squared errors float32 [n].

    Raises:
        ValueError: when the pictures do not fit the model, or a count is not positive.
    """
    if not hasattr(model, "averaged_generator"):
        raise ValueError(f"`model` must be a `GAN`. Received: {type(model).__name__}")
    checked_count("steps", steps)
    checked_count("starts", starts)
    pictures = model.checked_pictures(pictures)
    rows = [pictures, *model.picture_rows(len(pictures), labels)[1:]]
    target, *label = (tf.repeat(tf.constant(row), starts, axis=0) for row in rows)
    target, label = images.from_uint8(target), label[0] if label else None
    latents = keras.Variable(random_latents(model, starts * len(pictures), seed))
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = optimizers.Adam(rate)
    optimizer.build([latents])

    def errors():
        made = inputs.call(model.averaged_generator, latents.value, label)
        return tf.reduce_mean(tf.square(made - target), [1, 2, 3])

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            length = tf.reduce_mean(tf.square(latents.value), 1)
            loss = tf.reduce_sum(errors() + prior * length)
        optimizer.apply([tape.gradient(loss, latents)], [latents])

    for _ in range(steps):
        step()
    found = errors().numpy().reshape(len(pictures), starts)
    best = found.argmin(1)
    every = np.asarray(latents).reshape(len(pictures), starts, -1)
    row = np.arange(len(pictures))
    return every[row, best], found[row, best]


def _checked(latents):
    latents = np.asarray(latents, np.float32)
    if latents.ndim != 2:
        raise ValueError(
            f"Latents must be [n, latent_dim]. Received: latents of shape {latents.shape}"
        )
    return latents


def _decoded(model, latents, labels):
    """Images of latents [n, count, latent_dim], labels being those of the first dimension."""
    n, count, size = latents.shape
    if labels is not None and np.ndim(labels):
        labels = np.repeat(labels, count)
    made = model.decode(latents.reshape(-1, size), labels)
    return made.reshape(n, count, *made.shape[1:])
