import numpy as np
import pytest

from keras_gen import networks


@pytest.mark.parametrize(
    "shape, settings",
    [
        ((9, 7, 3), {"num_classes": 4, "parameters": 2}),
        ((18, 17, 1), {"memories": 2, "parameters": 2, "shared": 1}),
        ((33, 40, 1), {"blocks": 0}),
    ],
)
def test_any_size_of_frame(shape, settings):
    network = networks.convlstm.predictor(shape, 3, width=4, **settings)
    taken = [np.zeros((2, 3, *shape), "float32")]
    if "num_classes" in settings:
        taken.append(np.array([1, 3]))
    out = network(taken if len(taken) > 1 else taken[0])
    assert out.shape == (2, *shape[:2], settings.get("parameters", 1) * shape[2])
    assert out.dtype == "float32"


def test_weights_are_a_function_of_the_seed():
    first, same, other = (
        networks.convlstm.predictor((8, 8, 1), 2, width=4, memories=2, seed=seed).get_weights()
        for seed in (3, 3, 4)
    )
    for a, b in zip(first, same):
        np.testing.assert_array_equal(a, b)
    kernels = [(a, b) for a, b in zip(first, other) if a.ndim > 1 and a.any()]
    assert kernels and all((a != b).any() for a, b in kernels)
    drawn = [kernel.ravel()[:4] for kernel, _ in kernels]
    assert len(np.unique(np.round(drawn, 7), axis=0)) == len(drawn)


def test_it_reads_the_frames_in_their_order():
    network = networks.convlstm.predictor((8, 8, 1), 3, width=8, blocks=0)
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 8, 1)).astype("float32")
    swapped = frames[:, [1, 0, 2]]
    assert np.abs(network(frames) - network(swapped)).max() > 1e-3


def test_what_it_says_can_be_the_last_frame_moved():
    reach, detail = 3, 2
    network = networks.convlstm.predictor((17, 16, 1), 2, width=4, reach=reach, detail=detail)
    squares, pixels, out = (network.get_layer(n) for n in ("squares", "pixels_conv", "out"))
    ways = np.zeros((2, 2 * reach + 1), "float32")
    ways[0, reach + 1], ways[1, reach - 2] = 50, 50  # from a row below and two columns left
    bias = np.tile(np.append(ways.ravel(), np.zeros(detail, "float32")), 4)  # squares of two
    squares.set_weights([np.zeros_like(squares.kernel), bias])
    kernel = np.zeros_like(pixels.kernel)
    kernel[1, 1, detail, 0] = 1  # of the moved frame
    pixels.set_weights([kernel, np.ones(detail, "float32")])
    kernel = np.zeros_like(out.kernel)
    kernel[1, 1, 0, 0] = 1
    out.set_weights([kernel, -np.ones(1, "float32")])
    frames = np.random.default_rng(0).uniform(-1, 1, (3, 2, 17, 16, 1)).astype("float32")
    made = network(frames).numpy()
    np.testing.assert_allclose(made[:, :-1, 2:], frames[:, 1, 1:, :-2], atol=1e-5)


@pytest.mark.parametrize("name", ["memories", "width", "reach", "detail"])
def test_a_size_that_is_not_positive(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received"):
        networks.convlstm.predictor((8, 8, 1), **{name: 0})
