import numpy as np
import pytest

from keras_gen.metrics.continuity import frame_distances, temporal_continuity


def noise(n=3, time=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, time, 5, 6, 3), np.uint8)


def test_frame_distances_are_their_formula():
    x = noise()
    expected = np.abs(np.diff(x.astype(float), axis=1)).mean((2, 3, 4))
    np.testing.assert_allclose(frame_distances(x), expected, rtol=1e-12)


def test_a_pixel_that_moves_changes_two_pixels_a_frame():
    x = np.zeros((1, 4, 4, 4, 1), np.uint8)
    for t in range(4):
        x[0, t, 1, t] = 160
    np.testing.assert_array_equal(frame_distances(x), [[20.0] * 3])


def test_the_ratio_tells_still_slow_and_flickering_sequences():
    real = noise()
    still = np.repeat(noise(2, 1, 1), 6, axis=1)
    found = temporal_continuity(real, still)
    assert found["frame_distance_ratio"] == 0 == found["fake_frame_distance"]
    assert found["real_frame_distance"] == pytest.approx(frame_distances(real).mean())
    slow = temporal_continuity(real, np.repeat(real, 2, axis=1))  # each frame twice
    assert slow["frame_distance_ratio"] == pytest.approx(3 / 7)
    black_and_white = np.where(real > 127, 255, 0).astype(np.uint8)
    assert temporal_continuity(real, black_and_white)["frame_distance_ratio"] > 1.2
    assert temporal_continuity(real, real)["frame_distance_ratio"] == 1


def test_bad_sequences():
    real = noise()
    with pytest.raises(ValueError, match=r"`fake` must be uint8.*Received: fake of dtype uint8"):
        temporal_continuity(real, real[:, :1])
    with pytest.raises(ValueError, match=r"`real` must be uint8.*Received: real of dtype float64"):
        temporal_continuity(real / 255, real)
    with pytest.raises(ValueError, match=r"`sequences` must be uint8.*Received"):
        frame_distances(real[0])
    with pytest.raises(ValueError, match=r"must have one shape.*Received"):
        temporal_continuity(real, real[..., :1])
    with pytest.raises(ValueError, match=r"`real` must move.*Received"):
        temporal_continuity(np.zeros_like(real), real)
