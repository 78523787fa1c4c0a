"""Stateless random numbers: every draw is a function of its key.

A key is an `int64 [2]` tensor. Keys are derived, never advanced: `key(seed, "dropout", step)` gives
the same numbers in every process, on every device and after every restart.
"""

import contextlib
import math
import threading
import zlib

import numpy as np
import tensorflow as tf

# Keys are derived from another Philox key than numbers are drawn from, so that no key is a draw.
DERIVING = 0x6B65795F64657276

_scopes = threading.local()  # the replicas of a MirroredStrategy are traced in threads of their own


def key(seed, *path):
    """Derives a key from a seed, or from another key, and what it is for.

    Args:
        seed: int, int64 scalar tensor, or a key to go on from.
        *path: what the draw is a function of: strings (its purpose), integers or integer scalar
            tensors (training step, replica, row).

    Returns:
        int64 tensor [2].
    """
    derived = tf.cast(tf.convert_to_tensor(seed), tf.int64)
    if derived.shape.rank == 0:
        derived = tf.stack([derived, tf.zeros_like(derived)])
    for part in path:
        if isinstance(part, str):
            part = zlib.crc32(part.encode())
        first, second = tf.split(derived, 2)
        part = tf.reshape(tf.cast(part, tf.int64), [1])
        derived = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[2], **_philox(first ^ DERIVING, part, second), dtype=tf.int64
        )
    return derived


def normal(shape, key, dtype="float32"):
    """Standard normal tensor of the given shape, a function of the key alone."""
    return tf.raw_ops.StatelessRandomNormalV2(shape=shape, **_start(key), dtype=dtype)


def uniform(shape, key, minval=0, maxval=1, dtype="float32"):
    """Tensor uniform in [minval, maxval), integers or floats, a function of the key alone."""
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        bounds = {"minval": tf.cast(minval, dtype), "maxval": tf.cast(maxval, dtype)}
        return tf.raw_ops.StatelessRandomUniformIntV2(shape=shape, **_start(key), **bounds)
    draws = tf.raw_ops.StatelessRandomUniformV2(shape=shape, **_start(key), dtype=dtype)
    if (minval, maxval) == (0, 1):
        return draws
    return minval + (maxval - minval) * draws


def _start(key):
    """Where the draws of a key start."""
    first, second = tf.split(key, 2)
    return _philox(first, tf.zeros_like(second), second)


def _philox(key, low, high):
    """Philox-4x32 (Salmon et al. 2011) of this key and this 128-bit counter, whose lower half
    counts the numbers that are drawn; a mere few nodes of a graph, where `tf.random.stateless_*`
    and `fold_in` take 46 each, a quarter of the graph of a small network's training step."""
    counter = tf.bitcast(tf.concat([low, high], 0), tf.uint64)
    return {"key": tf.bitcast(key, tf.uint64), "counter": counter, "alg": 1}


def random_bytes(shape, key):
    """Integers uniform in [0, 256), uint8 of the given shape: a quarter of the draws of `uniform`.

    Args:
        shape: list of at least two lengths; all but the first are ints.
        key: key.
    """
    row = math.prod(shape[1:])
    words = [shape[0], (row + 3) // 4]
    draws = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=words, **_start(key), dtype=tf.int32)
    draws = tf.reshape(tf.bitcast(draws, tf.uint8), [shape[0], 4 * words[1]])
    return tf.reshape(draws[:, :row] if row % 4 else draws, shape)


def row_normal(seeds, shape, *purpose):
    """One standard normal draw for each seed.

    Args:
        seeds: int64 [batch].
        shape: shape of one draw.
        *purpose: what the draw is for, so that two draws for one seed differ; "latent" if nothing.

    Returns:
        float32 [batch, *shape]; row i depends on `seeds[i]` alone.
    """
    return _rows(lambda key: normal(shape, key), seeds, shape, purpose or ["latent"])


def row_uniform(seeds, shape, *purpose, minval=0.0, maxval=1.0):
    """As `row_normal`, uniform in [minval, maxval)."""
    return _rows(lambda key: uniform(shape, key, minval, maxval), seeds, shape, purpose)


def row_keys(seeds, *purpose):
    """One key for each seed: int64 [batch, 2] for `seeds` int64 [batch]; see `scope`."""
    return tf.map_fn(
        lambda seed: key(seed, *purpose), seeds, fn_output_signature=tf.TensorSpec([2], tf.int64)
    )


def row_bytes(keys, shape, *path):
    """As `random_bytes`, one draw for each key: uint8 [batch, *shape] for keys int64 [batch, 2].

    Row i is a function of `keys[i]` and the path, as `key` takes it, alone.
    """
    return tf.map_fn(
        lambda one: random_bytes(shape, key(one, *path)),
        keys,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


def _rows(draw, seeds, shape, purpose):
    """`draw(key)` for the key of each seed and the purpose."""
    return tf.map_fn(
        lambda seed: draw(key(seed, *purpose)),
        seeds,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )


def row_seeds(seed, count):
    """The seeds of the `count` images of one call of `generate`.

    Args:
        seed: int in [-2^31, 2^31): image i gets the seed `seed * 2^32 + i`, so that two calls with
            different seeds share no image; or an integer array [count], one seed for each image.
        count: number of images.

    Returns:
        NumPy int64 [count].
    """
    seeds = np.asarray(seed)
    if seeds.dtype.kind not in "iu":
        raise ValueError(f"`seed` must be an integer or an array of them. Received: seed={seed!r}")
    if seeds.ndim == 0:
        if not -(2**31) <= int(seeds) < 2**31:
            raise ValueError(
                "An integer `seed` must lie in [-2^31, 2^31) (pass an array to choose each image's "
                f"64-bit seed). Received: seed={seed!r}"
            )
        return (np.int64(seeds) << 32) + np.arange(count, dtype=np.int64)
    if seeds.shape != (count,):
        raise ValueError(
            f"An array of seeds must have one for each of the {count} images. "
            f"Received: seed of shape {seeds.shape}"
        )
    return seeds.astype(np.int64)


@contextlib.contextmanager
def scope(key):
    """Layers that draw while this scope is open (`keras_gen.layers.Dropout`) draw from `key`.

    Where it is int64 [batch, 2], as `row_keys` gives, each row of a batch draws from a key of its
    own.
    """
    outer = current_key()
    _scopes.key = key
    try:
        yield
    finally:
        _scopes.key = outer


def current_key():
    """The key of the innermost open `scope`, or None."""
    return getattr(_scopes, "key", None)
