"""What holds of the roll-outs of every model of sequences, of 3 frames and 10 classes."""

import numpy as np


def a_longer_one_begins_with_the_shorter(model, frames, labels):
    short, long = (model.generate(5, 3, seed=1, num_frames=count) for count in (4, 9))
    assert long.shape == (5, 9, *model.image_shape)
    np.testing.assert_array_equal(long[:, :4], short)
    assert (long[:, 4:] != long[:, 3:8]).any((2, 3, 4)).all()
    assert model.generate(0, seed=1, num_frames=9).shape == (0, 9, *model.image_shape)
    np.testing.assert_array_equal(
        model.generate(5, 3, seed=1), model.generate(5, 3, seed=1, num_frames=3)
    )


def it_begins_with_the_frames_given(model, frames, labels):
    for given in (1, 2, 3):
        made = model.generate(6, labels, 0, num_frames=5, first_frames=frames[:, :given])
        np.testing.assert_array_equal(made[:, :given], frames[:, :given])
        assert made.shape == (6, 5, *model.image_shape)
    alone = model.generate(1, labels[3:4], np.array([3]), 1, 5, frames[3:4])
    np.testing.assert_array_equal(alone[0], made[3])
    other = model.generate(6, labels, 7, num_frames=5, first_frames=frames)
    assert (other[:, 3:] != made[:, 3:]).any((1, 2, 3, 4)).all()


def what_was_drawn_can_be_given_and_goes_on_the_same(model, frames, labels):
    """Its draws are functions of the frame's number, also where the first ones are given."""
    whole = model.generate(4, 2, seed=5, num_frames=7)
    again = model.generate(4, 2, seed=5, num_frames=7, first_frames=whole[:, :3])
    np.testing.assert_array_equal(again, whole)
    for function in model._functions.values():
        assert function.experimental_get_tracing_count() == 1


CHECKS = [
    a_longer_one_begins_with_the_shorter,
    it_begins_with_the_frames_given,
    what_was_drawn_can_be_given_and_goes_on_the_same,
]
