"""Moving digits: sequences made on the fly of real images that move and bounce."""

import numbers

import numpy as np

from keras_gen.data.load import check_image_size, load
from keras_gen.data.source import IndexedSource, Source


def moving_digits(
    source="mnist",
    digits=2,
    image_size=64,
    num_frames=20,
    count=10_000,
    seed=0,
    speed=None,
    subpixel=False,
    **loading,
):
    """Moving MNIST (Srivastava et al. 2015), of any source of small images on black.

    In each sequence `digits` images, drawn at random, start anywhere and move straight on, all as
    fast, in directions of their own; they bounce off the borders. Where they overlap the brightest
    counts. Sequence i is a function of (seed, i) alone: it is made whenever it is read, and memory
    does not grow with `count`.

    Args:
        source: what `load` takes, or a `Source` whose images are held in memory or in a folder.
            Smaller digits: `load("mnist", image_size=14)`.
        digits: int, how many move.
        image_size: int or (height, width) of a frame, no smaller than the digits.
        num_frames: int, frames of a sequence.
        count: int, number of sequences.
        seed: int; another one gives other sequences, as for a test set.
        speed: pixels a frame. None: a tenth of the room that a digit has in the shorter direction.
        subpixel: bool. False: positions are rounded to whole pixels, so that frames do not tell
            where the next digit will be, to one pixel. True: digits lie between the pixels, each
            shared among four by bilinear interpolation, and motion is smooth.
        **loading: further arguments of `load`, such as `split` or `data_dir`.

    Returns:
        `MovingDigits`.

    Raises:
        ValueError: when an argument is out of range, or the digits do not fit into the frame.

    Example:

    >>> source = moving_digits("digits", image_size=16, num_frames=10, count=100)
    >>> source.take(4)[0].shape
    (4, 10, 16, 16, 1)
    """
    if not isinstance(source, Source):
        source = load(source, **loading)
    elif loading:
        raise ValueError(
            f"A `Source` is loaded already. Received: source={source!r} with {sorted(loading)}"
        )
    return MovingDigits(source, digits, image_size, num_frames, count, seed, speed, subpixel)


class MovingDigits(IndexedSource):
    """Sequences of moving digits; made by `moving_digits`.

    As every source, but that an example is a sequence, uint8 [num_frames, height, width, channels];
    `batches` gives float32 [batch, num_frames, height, width, channels] in [-1, 1]. With one digit
    the label of a sequence is that of the digit; with several there are no labels.

    Attributes:
        num_frames: int.
        image_shape: (height, width, channels) of a frame.
    """

    def __init__(self, source, digits, image_size, num_frames, count, seed, speed, subpixel=False):
        if not isinstance(source, IndexedSource):
            raise ValueError(
                "Digits are drawn one by one, which a streamed set cannot do; raise the "
                f"`memory_limit` of `load`. Received: source={source!r}"
            )
        for name, value in {"digits": digits, "num_frames": num_frames, "count": count}.items():
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
        if not isinstance(seed, numbers.Integral) or not -(2**63) <= seed < 2**63:
            raise ValueError(f"`seed` must be an integer of 64 bits. Received: seed={seed!r}")
        frame = check_image_size(image_size) or (0, 0)
        room = np.subtract(frame, source.image_shape[:2])
        if (room < 0).any():
            raise ValueError(
                f"`image_size` must have room for digits of {source.image_shape[:2]} pixels. "
                f"Received: image_size={image_size!r}"
            )
        speed = room.min() / 10 if speed is None else speed
        if not 0 <= speed < np.inf:
            raise ValueError(f"`speed` must be finite and not negative. Received: speed={speed!r}")
        if not isinstance(subpixel, bool):
            raise ValueError(f"`subpixel` must be a bool. Received: subpixel={subpixel!r}")
        self._source, self._digits, self._room = source, int(digits), room
        self._subpixel = subpixel
        self._seed, self.speed, self.num_frames = int(seed), float(speed), int(num_frames)
        labelled = digits == 1 and source.num_classes
        super().__init__(
            f"moving {source.name}",
            int(count),
            (*frame, source.image_shape[2]),
            source.num_classes if labelled else None,
            source.class_names if labelled else None,
        )
        if labelled:
            self._labels = source._labels[self._draws(np.arange(count))[0][:, 0]]

    @property
    def example_shape(self):
        return (self.num_frames, *self.image_shape)

    def paths(self, indices):
        """Where the digits are in some sequences.

        Args:
            indices: int [n].

        Returns:
            float64 [n, digits, num_frames, 2]: the upper left corners, rows and columns in pixels,
            before they are rounded where they are.
        """
        _, start, angle = self._draws(indices)
        velocity = self.speed * np.stack([np.sin(angle), np.cos(angle)], -1)
        time = np.arange(self.num_frames)[:, None]
        return reflected(
            start[:, :, None] * self._room + velocity[:, :, None] * time, self._room.astype(float)
        )

    def _draws(self, indices):
        """Which digits [n, digits], starts [n, digits, 2] in [0, 1), angles [n, digits]."""
        shape = (len(indices), self._digits, 4)
        raw = [
            np.random.Philox(key=[self._seed % 2**64, int(index)]).random_raw(4 * self._digits)
            for index in indices
        ]
        uniform = (np.reshape(raw, shape) >> np.uint64(11)) * 2.0**-53
        chosen = (uniform[..., 0] * len(self._source)).astype(np.int64)
        return chosen, uniform[..., 1:3], 2 * np.pi * uniform[..., 3]

    def _images(self, indices):
        chosen, *_ = self._draws(indices)
        digits = self._source._images(chosen.reshape(-1))
        digits = digits.reshape(*chosen.shape, *self._source.image_shape)
        sequences = np.zeros((len(indices), *self.example_shape), np.uint8)
        paths = self.paths(indices)
        corners = (np.floor if self._subpixel else np.rint)(paths).astype(np.int64)
        for i, d, t in np.ndindex(corners.shape[:3]):
            digit, (row, column) = digits[i, d], corners[i, d, t]
            if self._subpixel:
                digit = moved(digit, *(paths[i, d, t] - corners[i, d, t]))
            place = sequences[i, t, row : row + len(digit), column : column + digit.shape[1]]
            digit = digit[: len(place), : place.shape[1]]  # what lies beyond the frame is black
            np.maximum(place, digit, out=place)
        return sequences


def moved(image, down, right):
    """An image moved by fractions of a pixel in [0, 1), by bilinear interpolation.

    Args:
        image: uint8 [height, width, channels].
        down, right: floats.

    Returns:
        uint8 [height + 1, width + 1, channels], of an image on black.
    """
    padded = np.pad(image.astype(np.float32), [(1, 1), (1, 1), (0, 0)])
    rows = (1 - down) * padded[1:] + down * padded[:-1]
    return np.rint((1 - right) * rows[:, 1:] + right * rows[:, :-1]).astype(np.uint8)


def reflected(position, room):
    """Where a point that moves freely to `position` is if it bounces within [0, room].

    The triangle wave of period 2 room: room - |position mod 2 room - room|; 0 where there is no
    room.
    """
    period = np.where(room > 0, 2 * room, 1)
    return np.where(room > 0, room - np.abs(np.mod(position, period) - room), 0.0)
