import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import randomness
from keras_gen.networks import dit, inputs, unet


def small(shape, num_classes=None, **kwargs):
    return unet.denoiser(
        shape, num_classes, **{"width": 8, "blocks": 1, "attention": (1,), **kwargs}
    )


@pytest.mark.parametrize(
    "shape",
    [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (30, 45, 3), (17, 9, 1), (100, 64, 1)],
)
def test_any_image_size(shape):
    network = small(shape, 10)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    y = network([x, np.array([0.1, 0.9]), np.array([3, 10])])
    assert y.shape == x.shape and y.dtype == tf.float32
    np.testing.assert_array_equal(y, 0)  # the last layer is zero at first


def test_28_pixels_need_no_padding():
    kinds = {type(layer) for layer in small((28, 28, 1)).layers}
    assert keras.layers.ZeroPadding2D not in kinds and keras.layers.Cropping2D not in kinds


def test_patches_become_the_image_they_were_cut_from():
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    positions = tf.nn.space_to_depth(image, 4)
    np.testing.assert_array_equal(inputs.assembled(positions, 4, ((0, 0), (0, 0))), image)


def randomized(network):
    random = np.random.default_rng(1)
    network.set_weights([w + 0.1 * random.normal(size=w.shape) for w in network.get_weights()])
    return network


@pytest.mark.parametrize("block", ["dense", "separable"])
def test_time_and_label_matter_and_no_label_is_a_label(block):
    network = randomized(small((8, 8, 1), 3, block=block))
    x = np.ones((5, 8, 8, 1), np.float32)
    y = network([x, np.array([0.5, 0.5, 0.5, 0.6, 0.5]), np.array([0, 1, 3, 0, 0])]).numpy()
    np.testing.assert_allclose(y[0], y[4], atol=1e-5)
    for other in (1, 2, 3):
        assert np.abs(y[0] - y[other]).max() > 1e-3


def test_every_pixel_sees_every_other():
    network = randomized(small((12, 12, 1)))
    x = tf.zeros([1, 12, 12, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        corner = network([x, tf.constant([0.5])])[0, 0, 0, 0]
    assert np.abs(tape.gradient(corner, x)[0, 11, 11, 0]) > 0


def test_the_seed_makes_the_weights():
    first, again, other = (small((8, 8, 1), seed=s).get_weights() for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again))
    assert any((a != b).any() for a, b in zip(first, other))


def test_condition_channels_are_seen_besides():
    network = small((8, 8, 1), condition_channels=2)
    assert network.input_shape[0] == (None, 8, 8, 3)
    assert network.output_shape == (None, 8, 8, 1)


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="block='round'"):
        small((8, 8, 1), block="round")


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (30, 45, 3)])
def test_dit_takes_any_image_size(shape):
    network = dit.denoiser(shape, 10, width=16, depth=1, heads=2)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    y = network([x, np.array([0.1, 0.9]), np.array([3, 10])])
    assert y.shape == x.shape and y.dtype == tf.float32
    np.testing.assert_array_equal(y, 0)


def test_dit_tells_times_labels_and_places_apart():
    network = randomized(dit.denoiser((8, 8, 1), 3, width=16, depth=2, heads=2, patch=2))
    x = np.ones((4, 8, 8, 1), np.float32)
    y = network([x, np.array([0.5, 0.5, 0.6, 0.5]), np.array([0, 1, 0, 3])]).numpy()
    for other in (1, 2, 3):
        assert np.abs(y[0] - y[other]).max() > 1e-3
    assert np.abs(y[0, :2, :2] - y[0, 2:4, :2]).max() > 1e-3


def test_dit_is_saved_with_its_positions(tmp_path):
    network = randomized(dit.denoiser((8, 8, 1), width=16, depth=1, heads=2))
    network.save(tmp_path / "dit.keras")
    loaded = keras.saving.load_model(tmp_path / "dit.keras")
    x = [np.ones((2, 8, 8, 1), np.float32), np.array([0.1, 0.7])]
    np.testing.assert_array_equal(network(x), loaded(x))


def test_dit_widths_are_checked():
    for width, heads in ((10, 3), (20, 2), (8, 2)):
        with pytest.raises(ValueError, match=f"width={width}, heads={heads}"):
            dit.denoiser((8, 8, 1), width=width, heads=heads)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_recomputing_changes_no_number(policy):
    """In a graph, where Keras's RematScope fails, and with dropout."""
    keras.config.set_dtype_policy(policy)
    x = tf.random.stateless_normal([2, 8, 8, 1], [0, 1])
    found, counts = [], []
    for recompute in (False, True):
        network = randomized(small((8, 8, 1), multipliers=(1, 2), dropout=0.3, recompute=recompute))

        @tf.function(autograph=False)
        def gradients(network=network):
            with tf.GradientTape() as tape, randomness.scope(randomness.key(3)):
                loss = tf.reduce_sum(network([x, tf.constant([0.1, 0.9])], training=True) ** 3)
            return loss, tape.gradient(loss, network.trainable_weights)

        convolutions = [
            op.type
            for op in gradients.get_concrete_function().graph.get_operations()
            if op.type in ("Conv2D", "DepthwiseConv2dNative")
        ]
        counts.append(len(convolutions))
        loss, slopes = gradients()
        names = [weight.path for weight in network.trainable_weights]
        found.append((loss, dict(zip(names, slopes))))
    (plain, expected), (again, slopes) = found
    assert counts[1] > 1.7 * counts[0]  # all but those outside of the blocks are run again
    np.testing.assert_allclose(plain, again, rtol=1e-5)
    assert sorted(expected) == sorted(slopes)
    away = np.sqrt(sum(np.square(slopes[name] - slope).sum() for name, slope in expected.items()))
    length = np.sqrt(sum(np.square(slope).sum() for slope in expected.values()))
    assert away < (1e-4 if policy == "float32" else 0.02) * length


def test_a_recomputing_network_is_saved(tmp_path):
    network = randomized(small((8, 8, 1), recompute=True))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    taken = [tf.zeros([2, 8, 8, 1]), tf.constant([0.1, 0.9])]
    np.testing.assert_array_equal(network(taken), again(taken))
