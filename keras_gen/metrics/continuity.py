"""How fast sequences change from frame to frame, beside real sequences."""

import numpy as np


def frame_distances(sequences):
    """The mean absolute difference of pixels between each frame and the next.

    Args:
        sequences: uint8 [n, time, height, width, channels], of at least 2 frames.

    Returns:
        float64 [n, time - 1], grey levels, 0 to 255.

    Raises:
        ValueError: when these are no sequences.
    """
    sequences = _checked("sequences", sequences)
    pairs = zip(np.moveaxis(sequences[:, :-1], 1, 0), np.moveaxis(sequences[:, 1:], 1, 0))
    distances = [
        np.abs(after.astype(np.int16) - before).mean((1, 2, 3), dtype=np.float64)
        for before, after in pairs
    ]
    return np.stack(distances, 1)


def temporal_continuity(real, fake):
    """The mean distance from frame to frame of generated sequences beside that of real ones.

    The ratio is 0 of sequences that stand still, below 1 of those that move too slowly or fade,
    and above 1 of those that jump or flicker. It says how much changes and not what: noise that
    changes as much as real frames do has a ratio of 1, too.

    Args:
        real, fake: uint8 [n, time, height, width, channels], of at least 2 frames of one shape;
            the numbers of sequences and of frames may differ.

    Returns:
        dict of floats: "frame_distance_ratio", fake to real; "real_frame_distance" and
        "fake_frame_distance", grey levels, the means over all sequences and times.

    Raises:
        ValueError: when these are no sequences of one shape, or the real ones stand still.
    """
    real, fake = _checked("real", real), _checked("fake", fake)
    if real.shape[2:] != fake.shape[2:]:
        raise ValueError(
            "Frames of `real` and `fake` must have one shape. "
            f"Received: real of shape {real.shape}, fake of shape {fake.shape}"
        )
    true, made = (float(frame_distances(sequences).mean()) for sequences in (real, fake))
    if not true:
        raise ValueError(
            f"`real` must move. Received: real of shape {real.shape}, all of whose frames are alike"
        )
    return {
        "frame_distance_ratio": made / true,
        "real_frame_distance": true,
        "fake_frame_distance": made,
    }


def _checked(name, sequences):
    sequences = np.asarray(sequences)
    right = sequences.dtype == np.uint8 and sequences.ndim == 5
    if not right or not len(sequences) or sequences.shape[1] < 2:
        raise ValueError(
            f"`{name}` must be uint8 [n, time, height, width, channels], of at least one sequence "
            f"of 2 frames. Received: {name} of dtype {sequences.dtype} and shape {sequences.shape}"
        )
    return sequences
