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


def test_a_predictor_without_memory():
    with pytest.raises(ValueError, match=r"`memories` must be at least 1.*Received"):
        networks.convlstm.predictor((8, 8, 1), memories=0)
