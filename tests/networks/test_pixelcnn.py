"""The networks of PixelCNN: what each output is a function of."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import networks


def lively(network):
    random = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(np.asarray(weight) + 0.3 * random.normal(size=weight.shape))
    return network


@cache
def built(kind, shape, likelihood, num_classes=None, **kwargs):
    make = getattr(networks.pixelcnn, kind)
    return lively(make(shape, 4, num_classes, likelihood, **{"width": 8, "blocks": 2, **kwargs}))


def influence(shape, likelihood, row, column, outputs=slice(None), kind="gated", **kwargs):
    """Which numbers of the image move the outputs of a pixel, bool [h, w, c]."""
    network = built(kind, shape, likelihood, **kwargs)
    x = tf.random.stateless_uniform([1, *shape], [0, 1], -1, 1)
    moved = np.zeros(shape, bool)
    weights = tf.random.stateless_normal([network.output_shape[-1]], [2, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        taken = [x, tf.constant([1])] if len(network.inputs) == 2 else x
        out = tf.reduce_sum((weights * network(taken)[0, row, column])[outputs])
    moved |= tape.gradient(out, x).numpy()[0] != 0
    return moved


def earlier(shape, row, column):
    """The pixels above a pixel and left of it in its row, bool [h, w]."""
    places = np.arange(shape[0] * shape[1]).reshape(shape[:2])
    return places < places[row, column]


@pytest.mark.parametrize("likelihood", ["categorical", "logistic_mixture"])
@pytest.mark.parametrize("shape", [(9, 11, 1), (9, 11, 3)])
def test_a_pixel_is_told_of_all_earlier_pixels_and_of_no_others(shape, likelihood):
    # kernels of 5, 3 and 3 see 2 + 1 + 1 rows above and as many columns aside
    for row, column in ((4, 4), (8, 10), (3, 0), (0, 3), (4, 7)):
        first = slice(0, 4) if likelihood == "categorical" else slice(None)  # of the first channel
        seen = influence(shape, likelihood, row, column, first, first_kernel=5)
        rows, columns = np.indices(shape[:2])
        near = (row - rows <= 4) & (abs(columns - column) <= 4)
        before = earlier(shape, row, column)
        assert not seen[~before].any()
        np.testing.assert_array_equal(seen[before & near].all(-1), True)


@pytest.mark.parametrize(
    "shape, num_classes", [((8, 12, 1), None), ((8, 12, 1), 3), ((9, 7, 3), None)]
)
def test_no_later_pixel_is_seen_at_any_resolution(shape, num_classes):
    """At each place of a square of the lowest resolution, also at the edges."""
    own = {"kind": "plus_plus", "blocks": 1, "resolutions": 3, "first_kernel": 3}
    own["num_classes"] = num_classes
    rows, columns = np.indices(shape[:2])
    for row, column in ((4, 4), (5, 5), (6, 3), (7, 6), (0, 5), (3, 0), (shape[0] - 1, 6)):
        seen = influence(shape, "logistic_mixture", row, column, **own)
        before = earlier(shape, row, column)
        near = (row - rows <= 2) & (abs(columns - column) <= 2)
        assert not seen[~before].any()
        np.testing.assert_array_equal(seen[before & near].all(-1), True)


def test_lower_resolutions_see_further():
    def places(resolutions):
        own = {"kind": "plus_plus", "blocks": 1, "first_kernel": 3, "resolutions": resolutions}
        seen = influence((16, 16, 1), "categorical", 15, 15, **own)[..., 0]
        return 15 - seen.any(1).argmax(), 15 - seen[15].argmax()

    rows, columns = zip(*(places(resolutions) for resolutions in (1, 2, 3)))
    assert rows[0] < rows[1] < rows[2] and columns[0] < columns[1] < columns[2]


def test_dilations_see_further():
    def rows_above(**kwargs):
        return influence((16, 5, 1), "categorical", 15, 2, first_kernel=3, **kwargs).any((1, 2))

    np.testing.assert_array_equal(np.flatnonzero(rows_above(dilations=(1,))), np.arange(12, 16))
    far = rows_above(dilations=(1, 4))
    assert far[9] and not far[:9].any()


def test_nothing_is_missed_at_the_first_pixel():
    assert not influence((4, 4, 1), "categorical", 0, 0).any()


@pytest.mark.parametrize("kind", ["gated", "plus_plus"])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_is_told_of_the_channels_before_it(channel, kind):
    outputs = slice(4 * channel, 4 * channel + 4)
    seen = influence((5, 5, 3), "categorical", 2, 2, outputs, kind, num_classes=3)
    np.testing.assert_array_equal(seen[2, 2], np.arange(3) < channel)
    assert seen[1].any() and not seen[2, 3:].any() and not seen[3:].any()


def test_labels_move_every_pixel():
    for make in (networks.pixelcnn.gated, networks.pixelcnn.plus_plus):
        network = lively(make((4, 5, 1), 3, 10, width=8, blocks=2))
        image = tf.zeros([2, 4, 5, 1])
        first, second = network([image, tf.constant([1, 7])])
        assert (first != second).numpy().any(-1).all()


def test_of_embedded_levels_a_pixel_is_told_of_those_before_it():
    network = lively(
        networks.pixelcnn.gated((4, 5, 1), 9, width=8, blocks=1, first_kernel=9, embedding=6)
    )
    levels = np.random.default_rng(0).integers(0, 9, (4, 5, 1))
    changed = np.repeat(levels[None], 21, 0)
    for place in range(20):
        changed[place, place // 5, place % 5] = (levels[place // 5, place % 5] + 1) % 9
    out = network(changed.astype(np.float32) / 4 - 1).numpy()
    told = (out[:20] != out[20]).any(-1).reshape(20, 20)  # by which level, which pixel
    np.testing.assert_array_equal(told, np.triu(np.ones((20, 20), bool), 1))


def test_embedded_levels_have_no_order_and_are_not_rounded():
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = networks.pixelcnn.gated((1, 2, 1), 512, width=8, blocks=1, embedding=6)
    for part in ("vertical", "horizontal"):
        table = network.get_layer(part).get_layer("embedding").weights[0]
        assert table.shape == (512, 6)
    table.assign(np.eye(512, 6, -506))  # zero but for the last six levels
    lively(network.get_layer("head"))
    levels = np.stack([np.arange(512), np.zeros(512)], 1).reshape(512, 1, 2, 1)
    out = network((levels * (2 / 511) - 1).astype(np.float32))[:, 0, 1].numpy()
    assert (out[:506] == out[0]).all()
    assert len(np.unique(out[506:], axis=0)) == 6 and (out[506:] != out[0]).any(1).all()


def test_the_seed_decides_the_weights_alone():
    def weights(seed):
        return np.concatenate(
            [
                np.ravel(w)
                for w in networks.pixelcnn.gated((4, 4, 1), width=8, blocks=1, seed=seed).weights
            ]
        )

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()


def test_the_default_is_not_larger_than_the_keras_example():
    assert networks.pixelcnn.gated((28, 28, 1), levels=2).count_params() <= 532_673


@pytest.mark.parametrize("kernels", [{"kernel": 2}, {"first_kernel": 1}, {"first_kernel": 6}])
def test_kernels_without_a_middle_are_refused(kernels):
    with pytest.raises(ValueError, match="Kernels must be odd, and the first at least 3"):
        networks.pixelcnn.gated((4, 4, 1), **kernels)


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match="Received: resolutions=0"):
        networks.pixelcnn.plus_plus((4, 4, 1), resolutions=0)
    with pytest.raises(ValueError, match="Received: first_kernel=4"):
        networks.pixelcnn.plus_plus((4, 4, 1), first_kernel=4)


def test_levels_of_several_channels_are_not_embedded():
    with pytest.raises(ValueError, match=r"one channel. Received: image_shape=\(4, 4, 3\)"):
        networks.pixelcnn.gated((4, 4, 3), embedding=8)
