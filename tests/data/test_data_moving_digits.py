"""Moving digits: sequences that are functions of (seed, index), after the laws of motion."""

import numpy as np
import pytest

from keras_gen import data
from keras_gen.data.moving_digits import moved, reflected


@pytest.fixture(scope="module")
def source():
    return data.moving_digits("digits", image_size=(16, 20), num_frames=12, count=50, speed=1.5)


def test_a_sequence_is_a_function_of_seed_and_number(source):
    whole, labels = source.take(50)
    assert whole.shape == (50, 12, 16, 20, 1) and whole.dtype == np.uint8 and labels is None
    assert (source.image_shape, source.num_frames, len(source)) == ((16, 20, 1), 12, 50)
    again = data.moving_digits("digits", 2, (16, 20), 12, count=1000, speed=1.5)
    np.testing.assert_array_equal(again._images(np.array([31, 2])), whole[[31, 2]])
    longer = data.moving_digits("digits", 2, (16, 20), 30, count=50, speed=1.5)
    np.testing.assert_array_equal(longer.take(3)[0][:, :12], whole[:3])
    other = data.moving_digits("digits", 2, (16, 20), 12, count=50, seed=1, speed=1.5)
    assert (other.take(50)[0] != whole).any((1, 2, 3, 4)).all()
    assert len(np.unique(whole.reshape(50, -1), axis=0)) == 50


def test_batches_are_reproducible_by_seed_and_epoch(source):
    def epochs(dataset, first, count):
        data.epochs_of(dataset).next = first
        return [np.concatenate([x.numpy() for x in dataset]) for _ in range(count)]

    batches = source.batches(16, seed=3)
    assert batches.element_spec.shape.as_list() == [None, 12, 16, 20, 1] and len(batches) == 4
    three = epochs(batches, 0, 3)
    np.testing.assert_array_equal(epochs(source.batches(16, seed=3), 2, 1)[0], three[2])
    assert (three[0] != three[1]).any()
    plain = np.concatenate([x.numpy() for x in source.batches(16, shuffle=False)])
    np.testing.assert_allclose((plain + 1) * 127.5, source.take(50)[0], atol=1e-4)
    np.testing.assert_array_equal(
        np.sort(three[0].sum((1, 2, 3, 4))), np.sort(three[1].sum((1, 2, 3, 4)))
    )


def test_digits_move_straight_on_as_fast_and_bounce(source):
    paths = source.paths(np.arange(50))
    assert paths.shape == (50, 2, 12, 2)
    room = np.array([8, 12])
    assert (paths >= 0).all() and (paths <= room).all()
    steps = np.diff(paths, axis=2)
    speed = np.linalg.norm(steps, axis=-1)
    assert (speed < 1.5 + 1e-9).all()
    inside = ((paths > 1.5) & (paths < room - 1.5)).all(-1)
    unhindered = inside[:, :, 1:] & inside[:, :, :-1]
    np.testing.assert_allclose(speed[unhindered], 1.5)
    turned = np.abs(np.diff(steps, axis=2)) > 1e-9
    near = (paths[:, :, 1:-1] < 1.5) | (paths[:, :, 1:-1] > room - 1.5)
    assert turned.any() and (near[turned]).all()


def test_reflection_is_that_of_a_simulation():
    position, velocity, seen = 1.0, 0.7, []
    for _ in range(40):
        seen.append(position)
        position += velocity
        if not 0 <= position <= 3:
            position = -position if position < 0 else 6 - position
            velocity = -velocity
    np.testing.assert_allclose(reflected(1.0 + 0.7 * np.arange(40), 3.0), seen)
    np.testing.assert_array_equal(reflected(np.arange(3.0), np.array(0.0)), [0, 0, 0])


def test_one_digit_is_itself_where_its_path_says(source):
    one = data.moving_digits("digits", 1, 16, 6, count=20)
    sequences, labels = one.take(20)
    digits, classes = data.load("digits").take(1500)
    for sequence, label, path in zip(sequences, labels, one.paths(np.arange(20))[:, 0]):
        for frame, (row, column) in zip(sequence, np.rint(path).astype(int)):
            found = frame[row : row + 8, column : column + 8]
            assert frame.sum() == found.sum()
            assert label in classes[(digits == found).all((1, 2, 3))]
    assert one.num_classes == 10 and one.class_names[3] == "3"
    assert one.batches(4).element_spec[1].shape.as_list() == [None]


def test_mass_is_that_of_the_digits_unless_they_overlap(source):
    two, _ = source.take(50)
    corners = np.rint(source.paths(np.arange(50))).astype(int)
    apart = (np.abs(corners[:, 0] - corners[:, 1]) >= 8).any(-1)
    mass = two.sum((2, 3, 4))
    whole = np.array([m[a].max() if a.any() else 0 for m, a in zip(mass, apart)])[:, None]
    assert apart.any() and (~apart).any()
    assert (mass == whole)[apart].all()
    known = apart.any(1)
    assert (mass <= whole)[known].all() and (mass < whole)[known].any()


def test_between_pixels_the_centre_of_mass_follows_the_path():
    smooth = data.moving_digits("digits", 1, (16, 20), 9, count=30, speed=1.5, subpixel=True)
    sequences = smooth.take(30)[0].astype(np.float64)
    whole = data.moving_digits("digits", 1, (16, 20), 9, count=30, speed=0, subpixel=True)
    mass = sequences.sum((2, 3, 4))
    np.testing.assert_allclose(mass, mass[:, :1].repeat(9, 1), rtol=0.01)  # rounded to levels
    places = np.indices((16, 20)).reshape(2, -1)
    centres = sequences.reshape(30, 9, -1) @ places.T / mass[..., None]
    offsets = centres - smooth.paths(np.arange(30))[:, 0]  # of the digit's centre from its corner
    np.testing.assert_allclose(offsets, offsets[:, :1].repeat(9, 1), atol=0.05)
    still = whole.take(30)[0]
    assert (still == still[:, :1]).all() and (still[:, 0] == smooth.take(30)[0][:, 0]).all()


def test_moved_by_nothing_by_halves_and_to_whole_pixels():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 2), dtype=np.uint8)
    np.testing.assert_array_equal(moved(image, 0, 0)[:-1, :-1], image)
    assert (moved(image, 0, 0)[-1] == 0).all() and (moved(image, 0, 0)[:, -1] == 0).all()
    spot = np.full((1, 1, 1), 200, np.uint8)
    np.testing.assert_array_equal(moved(spot, 0.5, 0.25)[..., 0], [[75, 25], [75, 25]])


def test_colours_and_a_source_of_smaller_digits():
    digits = data.load("digits", image_size=6, channels=3)
    assert data.moving_digits(digits, 2, 6, 3, count=2).take(2)[0].shape == (2, 3, 6, 6, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"digits": 0}, "`digits` must be a positive integer"),
        ({"num_frames": 2.5}, "`num_frames` must be a positive integer"),
        ({"count": -1}, "`count` must be a positive integer"),
        ({"image_size": 7}, "must have room for digits of"),
        ({"image_size": (16, 16, 1)}, "`image_size` must be"),
        ({"speed": -1}, "`speed` must be finite"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"subpixel": 1}, "`subpixel` must be a bool"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message + ".*Received: "):
        data.moving_digits("digits", **{"image_size": 16, **arguments})


def test_a_source_is_not_loaded_twice():
    with pytest.raises(ValueError, match=r"loaded already.*Received: .*split"):
        data.moving_digits(data.load("digits"), image_size=16, split="test")
