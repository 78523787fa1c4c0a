"""SampleGrid: what the model draws, epoch after epoch, from the same seeds."""

import math
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_gen import images as image_files
from keras_gen.callbacks.chief import is_chief

_GIF_FRAMES_PER_SECOND = 4
_SEQUENCE_FRAMES_PER_SECOND = 10
_LEGIBLE = 64  # smaller images are magnified up to about this many pixels


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of generated images while a model trains, always from the same seeds.

    Writes `run_dir/samples/epoch_0001.png` and so on, the number being that of the epochs
    completed (Keras's epoch index + 1), and the same picture to TensorBoard, as `samples` in
    `run_dir/logs/samples`, with that number as the step. `epoch_0000.png` is the untrained model;
    it is written only before the first training step of all. The last epoch is always written,
    however training ends. A resumed run goes on with the numbers and the pictures it would have
    had without the interruption. Of several workers the first one writes.

    Of a model with classes each row shows one class. Where the classes are too many, the rows are
    spread evenly over them.

    Of a model of sequences each row shows the frames of one sequence, of one class where there are
    any, and `epoch_0001.gif` and so on show them all in motion.

    Each PNG carries its provenance, in TensorBoard too (see `keras_gen.images.Provenance`); its
    seed is the one given here.

    Args:
        run_dir: folder of the run.
        every: write after every so many epochs.
        num_images: images in a grid, with classes the most there may be. By default 36, with
            classes 128; of sequences 8, with classes 10.
        seed: given to `model.generate`.
        gif: also write `run_dir/samples/training.gif` when training ends, made of the grids on
            disk, those from before a resume too.
        per_class: images in a row of a model with classes; of sequences 1.
        scale: whole factor by which pixels are magnified; by default images below 64 pixels are
            magnified to at most that.
        draw: function (model) -> (images uint8 [n, h, w, c], how many in a row), in place of
            `model.generate`: for models that translate, `lambda model: (model.strips(inputs,
            targets), 6)`. Then `num_images`, `seed` and `per_class` count for nothing.

    Raises:
        ValueError: an argument is out of range; when training begins, the model cannot generate.

    Example:
        `model.fit(batches, epochs=20, callbacks=[kg.callbacks.SampleGrid("runs/mnist")])`
    """

    def __init__(
        self,
        run_dir,
        every=1,
        num_images=None,
        seed=0,
        gif=False,
        per_class=8,
        scale=None,
        draw=None,
    ):
        super().__init__()
        for name, value, optional in (
            ("every", every, False),
            ("num_images", num_images, True),
            ("per_class", per_class, False),
            ("scale", scale, True),
        ):
            if not (optional and value is None) and not _is_count(value):
                raise ValueError(
                    f"`{name}` must be a whole number >= 1{' or None' if optional else ''}. "
                    f"Received: {name}={value}"
                )
        if not isinstance(seed, (int, np.integer)):
            raise ValueError(f"`seed` must be an integer. Received: seed={seed!r}")
        self.run_dir = pathlib.Path(run_dir)
        self.every = every
        self.num_images = num_images
        self.seed = seed
        self.gif = gif
        self.per_class = per_class
        self.scale = scale
        self.draw = draw
        self._writes = True
        self._writer = None
        self._epoch = None  # epochs completed, once it is known
        self._written = None  # the last of them that has a grid

    def on_train_begin(self, logs=None):
        if self.draw is None and not callable(getattr(self.model, "generate", None)):
            raise ValueError(
                "SampleGrid needs a model with `generate(n, labels=None, seed=0)`. "
                f"Received: model={self.model!r}"
            )
        if self.draw is None and hasattr(self.model, "translate"):
            raise ValueError(
                "SampleGrid of a model that translates pictures needs `draw`, such as `lambda "
                f"model: (model.strips(first, second), 3)`. Received: model={self.model!r}"
            )
        self._epoch = self._written = None
        self._writes = is_chief(self.model)
        if self._writes:
            self._writer = tf.summary.create_file_writer(str(self.run_dir / "logs" / "samples"))

    def on_epoch_begin(self, epoch, logs=None):
        # Not in `on_train_begin`: only here is it known what has been restored.
        if self._writes and epoch == 0 and not _has_trained(self.model):
            self._write(0)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self._writes and self._epoch % self.every == 0:
            self._write(self._epoch)

    def on_train_end(self, logs=None):
        if not self._writes:
            return
        if self._epoch is not None and self._written != self._epoch:
            self._write(self._epoch)
        if self.gif:
            self._write_gif()
        self._writer.close()

    def _write(self, epoch):
        images, columns = (self.draw or self._generated)(self.model)
        if images.ndim == 5:  # sequences
            self._write_motion(images, epoch)
            columns, images = images.shape[1], images.reshape(-1, *images.shape[2:])
        grid = image_files.grid(images, columns=columns, scale=self._scale_of(images))
        png = image_files.encode_png(grid, self._provenance())
        image_files.write_atomically(self._path(epoch), png)
        self._write_summary(png, grid.shape, epoch)
        self._written = epoch

    def _scale_of(self, images):
        return self.scale or max(1, _LEGIBLE // max(images.shape[1:3]))

    def _write_motion(self, sequences, epoch):
        scale = self._scale_of(sequences[:, 0])
        frames = [image_files.grid(sequences[:, t], scale=scale) for t in range(sequences.shape[1])]
        path = self._path(epoch).with_suffix(".gif")
        image_files.write_gif(path, frames, _SEQUENCE_FRAMES_PER_SECOND, self._provenance())

    @property
    def _frames(self):
        """Frames of a sequence, or None where the model makes images."""
        return getattr(self.model, "num_frames", None)

    def _generated(self, model):
        labels, columns = self._layout()
        unlabelled = self.num_images or (8 if self._frames else 36)
        count = unlabelled if labels is None else len(labels)
        return model.generate(count, labels=labels, seed=self.seed), columns

    def _layout(self):
        """The labels of all images and the images per row; None where the model has no classes."""
        num_classes = getattr(self.model, "num_classes", None)
        if not num_classes:
            return None, None
        most = self.num_images or (10 if self._frames else 128)
        columns = 1 if self._frames else min(self.per_class, most)
        rows = min(num_classes, most // columns)
        classes = np.linspace(0, num_classes - 1, rows).round().astype(np.int32)
        return classes.repeat(columns), columns

    def _write_summary(self, png, shape, epoch):
        """`tf.summary.image`, except that the PNG is ours, with its provenance."""
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "images"
        width_height_png = tf.constant([str(shape[1]).encode(), str(shape[0]).encode(), png])
        # Keras's TensorBoard callback with an `update_freq` leaves recording switched off.
        with self._writer.as_default(), tf.summary.record_if(True):
            tf.summary.write("samples", width_height_png, step=epoch, metadata=metadata)
        self._writer.flush()

    def _write_gif(self):
        paths = self._grids_on_disk()
        if not paths:
            return
        shape = _read_pixels(paths[-1]).shape
        # A run resumed with another `num_images` has grids of another size before.
        frames = (frame for frame in map(_read_pixels, paths) if frame.shape == shape)
        image_files.write_gif(
            self.run_dir / "samples" / "training.gif",
            frames,
            _GIF_FRAMES_PER_SECOND,
            self._provenance(),
        )

    def _grids_on_disk(self):
        """Paths by epoch, without those that a longer run has left behind."""
        last = math.inf if self._epoch is None else self._epoch
        numbered = {}
        for path in (self.run_dir / "samples").glob("epoch_*.png"):
            number = path.stem.removeprefix("epoch_")
            if number.isdecimal() and int(number) <= last:
                numbered[int(number)] = path
        return [numbered[number] for number in sorted(numbered)]

    def _path(self, epoch):
        return self.run_dir / "samples" / f"epoch_{epoch:04d}.png"

    def _provenance(self):
        return image_files.Provenance(self.model.name, self.model.weights_hash(), self.seed)


def _is_count(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1


def _has_trained(model):
    optimizers = getattr(model, "optimizers", None) or {"optimizer": model.optimizer}
    return any(
        int(np.asarray(optimizer.iterations)) > 0
        for optimizer in optimizers.values()
        if optimizer is not None
    )


def _read_pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
