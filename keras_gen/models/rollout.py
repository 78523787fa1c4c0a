"""What models that make sequences frame by frame share."""

import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images
from keras_gen.models.base import in_batches
from keras_gen.strategies import checked_count


class RollOut:
    """Part of models with `num_frames` whose `generate_step` goes on from first frames.

    It takes seeds int64 [rows], labels, first frames uint8 [rows, given, h, w, c] (None: none are
    given), a number of frames (None: the model's) and perhaps settings of its own, and returns
    float32 [rows, num_frames, h, w, c] in [-1, 1].
    """

    def generate(
        self,
        n,
        labels=None,
        seed=0,
        batch_size=1024,
        num_frames=None,
        first_frames=None,
        **settings,
    ):
        """Generates sequences with the averaged weights.

        Args:
            n: number of sequences.
            labels, seed, batch_size: as in `GenerativeModel.generate`, a sequence for an image;
                with first frames, labels are needed where the model has classes.
            num_frames: int, length of the sequences, with the first frames; any length, and a
                longer sequence begins with the shorter one. None: the model's `num_frames`.
            first_frames: uint8 [n, given, h, w, c], with which the sequences begin. None: all
                frames are drawn.
            **settings: of the model's `generate_step`.

        Returns:
            NumPy uint8 [n, num_frames, height, width, channels]. Sequence i depends on its own
            seed, label and first frames alone.

        Raises:
            ValueError: when n, seeds, labels, the number of frames or the first frames do not fit.
        """
        rows = self.rows if first_frames is None else self.picture_rows
        seeds, *label = rows(n, labels, seed)
        if first_frames is None:
            first_frames = np.zeros([n, 0, *self.image_shape], np.uint8)
        else:
            first_frames = self.checked_sequences(first_frames, "first_frames", 0)
        given = first_frames.shape[1]
        frames = self.num_frames if num_frames is None else checked_count("num_frames", num_frames)
        if len(first_frames) != n or given > frames:
            raise ValueError(
                f"`first_frames` must be [n, given, *{self.image_shape}] with n={n} and given at "
                f"most num_frames={frames}. Received: first_frames of shape {first_frames.shape}"
            )

        def function(seed, first, *rest):
            *label, frames = rest
            return self.generate_images(
                seed, *label, first_frames=first, num_frames=frames, **settings
            )

        signature = [*self.signature_with_frames("first_frames"), tf.TensorSpec([], tf.int32)]
        key = ("generate", *sorted(settings.items()))
        compiled = self.compiled_function(key, function, signature)
        return in_batches(compiled, [seeds, first_frames, *label], batch_size, frames)

    def generate_images(self, seed, label=None, first_frames=None, num_frames=None, **settings):
        """As `generate_step`, for any number of rows including none; uint8 [batch, num_frames, h,
        w, c]."""
        frames = self.num_frames if num_frames is None else num_frames
        if first_frames is None:
            first_frames = tf.zeros([tf.shape(seed)[0], 0, *self.image_shape], tf.uint8)

        def step(seed, first, label=None):
            return images.to_uint8(self.generate_step(seed, label, first, frames, **settings))

        spec = tf.TensorSpec([tf.get_static_value(frames), *self.image_shape], tf.uint8)
        return self.grouped(step, [seed, first_frames, label], spec)

    def roll_out(self, first_frames, num_frames, begin, draw):
        """What `generate_step` returns: the frames given, and others drawn one after another.

        Args:
            first_frames, num_frames: those of `generate_step`.
            begin: function of uint8 [rows, given, h, w, c] -> tuple of tensors, the state after
                these frames.
            draw: function (t, *state) -> (frame t uint8 [rows, h, w, c], tuple of the next state).
        """
        rows, shape = self.generation_rows, self.image_shape
        frames = self.num_frames if num_frames is None else num_frames
        if first_frames is None:
            first_frames = tf.zeros([rows, 0, *shape], tf.uint8)
        given = tf.shape(first_frames)[1]

        def draw_next(t, made, *state):
            frame, state = draw(t, *state)
            return t + 1, made.write(t - given, frame), *state

        made = tf.TensorArray(tf.uint8, frames - given, element_shape=[rows, *shape])
        start = given, made, *begin(first_frames)
        made = tf.while_loop(lambda t, *_: t < frames, draw_next, start)[1]
        made = tf.transpose(made.stack(), [1, 0, 2, 3, 4])
        sequence = images.from_uint8(tf.concat([first_frames, made], 1))
        return tf.ensure_shape(sequence, [rows, tf.get_static_value(frames), *shape])

    def signature_with_frames(self, name):
        """Input signature of seeds, frames of any number (and labels)."""
        seed, *label = saved_model.row_signature(self.num_classes)
        return [seed, tf.TensorSpec([None, None, *self.image_shape], tf.uint8, name=name), *label]

    def checked_sequences(self, frames, name, least):
        """Sequences uint8 [n, time, h, w, c] of the model's shape, or a ValueError."""
        frames = np.asarray(frames)
        fits = frames.ndim == 5 and frames.shape[2:] == self.image_shape
        if frames.dtype != np.uint8 or not fits or frames.shape[1] < least:
            raise ValueError(
                f"`{name}` must be uint8 [n, time, *{self.image_shape}]. Received: {name} of dtype "
                f"{frames.dtype} and shape {frames.shape}"
            )
        return frames

    def signatures(self):
        """As in `GenerativeModel`, of `num_frames` frames each; and `predict`.

        `serving_default`: images uint8 [batch, num_frames, h, w, c]. `png_bytes`: the frames side
        by side in one picture. `predict`: seed (and label) and first_frames uint8 [batch, given, h,
        w, c], of any length -> images, the `num_frames` frames after these.
        """
        return {**super().signatures(), "predict": self._predict_signature()}

    def _predict_signature(self):
        def predict(seed, first_frames, label=None):
            with tf.control_dependencies(self.request_checks([seed, first_frames], label)):
                given = tf.shape(first_frames)[1]
                frames = given + self.num_frames
                made = self.generate_images(tf.identity(seed), label, first_frames, frames)
            made = made[:, given:]
            return {"images": tf.ensure_shape(made, [None, self.num_frames, *self.image_shape])}

        return predict, self.signature_with_frames("first_frames")
