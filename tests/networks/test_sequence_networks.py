import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen.networks import sequence

SHAPES = [(8, 8, 1), (9, 21, 3), (34, 32, 1)]


def step_inputs(network, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    taken = [
        tf.constant(rng.uniform(-1, 1, (batch, *x.shape[1:])), tf.float32)
        for x in network.inputs[:4]
    ]
    return taken + [tf.constant([1, 2][:batch])] * (len(network.inputs) - 4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_shapes_ranges_and_float32_outputs(shape, num_classes):
    keras.config.set_dtype_policy("mixed_bfloat16" if num_classes else "float32")
    network = sequence.generator(shape, 5, 3, width=8, num_classes=num_classes)
    frame, memory = network(step_inputs(network))
    assert frame.shape == (2, *shape) and np.abs(frame).max() <= 1
    assert memory.shape[1:] == network.inputs[1].shape[1:]
    assert 4 <= min(memory.shape[1:3]) < 16 and memory.shape[3] == 8
    judge = sequence.motion_discriminator(shape, 3, width=8, num_classes=num_classes)
    frames = tf.stack([frame] * 3, 1)
    logits = judge([frames, tf.constant([1, 2])] if num_classes else frames)
    assert logits.shape == (2, 1)
    assert frame.dtype == memory.dtype == logits.dtype == "float32"


def test_a_frame_depends_on_all_that_the_step_is_given():
    network = sequence.generator((8, 8, 1), 5, 3, width=8, num_classes=3)
    taken = step_inputs(network)
    frame, memory = network(taken)
    for i, other in enumerate(step_inputs(network, seed=1)[:4] + [tf.constant([0, 0])]):
        changed = network([*taken[:i], other, *taken[i + 1 :]])
        for before, after in zip((frame, memory), changed):
            assert np.abs(before - after).max((1, 2, 3)).min() > 1e-4, network.inputs[i].name


def test_the_memory_is_a_mean_of_the_old_one_and_the_new():
    """A GRU with a gate that is shut keeps its memory, and with an open one forgets it."""
    network = sequence.generator((8, 8, 1), 5, 3, width=8)
    taken = step_inputs(network)
    gates = network.get_layer("gates")
    for bias, kept in ((-100.0, True), (100.0, False)):
        gates.kernel.assign(tf.zeros_like(gates.kernel))
        gates.bias.assign([bias] * 8 + [-100.0] * 8)  # update, and reset, which hides the memory
        memory = network(taken)[1]
        assert np.allclose(memory, taken[1], atol=1e-6) == kept
        other = network([taken[0], -taken[1], *taken[2:]])[1]
        assert np.allclose(memory, other, atol=1e-6) == (not kept)


def test_without_a_drawing_the_frame_before_stays():
    network = sequence.generator((34, 32, 1), 5, 3, width=8)
    for name in ("drawn_and_kept", "ways", "way_of_all"):
        network.get_layer(name).kernel.assign(tf.zeros_like(network.get_layer(name).kernel))
    taken = step_inputs(network)
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    still = np.broadcast_to(ramp, (2, 34, 32))
    frame = network([tf.constant(still[..., None]), *taken[1:]])[0]
    kept = 2.0
    np.testing.assert_allclose(frame[:, :, 5:-5, 0], np.tanh(kept * still)[:, :, 5:-5], atol=1e-4)
    start = network([tf.zeros_like(frame), *taken[1:]])[0]
    assert not np.any(start)  # 0 is no frame: nothing to keep


@pytest.mark.parametrize("drawing", [0.0, 0.1])
def test_frames_only_move_where_nothing_is_to_be_drawn(drawing):
    """A frame of one brightness stays it, however it moves."""
    network = sequence.generator((8, 8, 1), 5, 3, width=8, drawing=drawing)
    _, *taken = step_inputs(network)
    frame = network([tf.fill([2, 8, 8, 1], 0.5), *taken])[0]
    assert np.allclose(frame, np.tanh(1.0), atol=1e-6) == (drawing == 0)


def test_the_judge_of_motion_sees_the_order_of_the_frames():
    judge = sequence.motion_discriminator((8, 8, 1), 4, width=8)
    frames = tf.random.stateless_uniform([2, 4, 8, 8, 1], [0, 1], -1, 1)
    difference = judge(frames) - judge(frames[:, ::-1])
    assert np.abs(difference).min() > 1e-4


def test_weights_are_a_function_of_the_seed():
    first, same, other = (
        sequence.generator((16, 16, 1), width=8, seed=seed).get_weights() for seed in (3, 3, 4)
    )
    for a, b in zip(first, same):
        np.testing.assert_array_equal(a, b)
    kernels = [(a, b) for a, b in zip(first, other) if a.ndim > 1 and a.any()]
    assert kernels and all((a != b).any() for a, b in kernels)
