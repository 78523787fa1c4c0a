"""What every generative model shares, and nothing of any one family."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images, optimizers, randomness
from keras_gen.data.arrays import check_images, float_batches
from keras_gen.data.epochs import epochs_of, untuned
from keras_gen.models.average import WeightAverages
from keras_gen.strategies import checked_count, is_integer, is_number


class GenerativeModel(keras.Model):
    """Base of the models: optimizers, stateless randomness, weight averages, saving, export.

    A family gives its networks, `loss_names`, `generate_step` and `compute_loss`, or a
    `train_step` and a `test_step` of its own where there are several optimizers.

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; None for a model without labels.
        seed: int; every random draw is a function of it, the training step and the replica.
        ema: decay of the exponential moving average of the weights that generate, in [0, 1), per
            training step. It warms up as min(ema, (1 + step) / (10 + step)). 0 follows the weights.

    Raises:
        ValueError: when an argument is out of range.
    """

    # Images are generated this many at a time, a last smaller group being padded. CPU and GPU
    # kernels sum in an order that depends on the batch size, so that only batches of one size make
    # a row's image independent of the rows around it, bit for bit.
    generation_rows = 16

    def __init__(self, image_shape, num_classes=None, *, seed=0, ema=0.999, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = _checked_image_shape(image_shape)
        if num_classes is not None and not (is_integer(num_classes) and num_classes > 0):
            raise ValueError(
                "`num_classes` must be a positive integer, or None for a model without labels. "
                f"Received: num_classes={num_classes!r}"
            )
        if not is_integer(seed):
            raise ValueError(f"`seed` must be an integer. Received: seed={seed!r}")
        if not is_number(ema) or not 0 <= ema < 1:
            raise ValueError(f"`ema` must lie in [0, 1). Received: ema={ema!r}")
        self.num_classes = None if num_classes is None else int(num_classes)
        self.seed = int(seed)
        self.ema = float(ema)
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.averages = WeightAverages(self.ema)
        self.continuous_data = False  # whether one iterator runs through all epochs of `fit`
        self._loss_trackers = []
        self._functions = {}  # compiled, by what they do

    @property
    def example_shape(self):
        """Shape of what a model learns from: an image, or (None, *image_shape), a sequence."""
        return self.image_shape

    # Configuration and saving

    def get_config(self):
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "image_shape": list(self.image_shape),
            "num_classes": self.num_classes,
            "seed": self.seed,
            "ema": self.ema,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{k: _deserialized(v) for k, v in config.items()})

    # Optimizers

    @property
    def optimizers(self):
        """All optimizers: dict from the name of the argument of `compile` to the optimizer."""
        return {"optimizer": self.optimizer}

    @property
    def optimized_variables(self):
        """The variables that `optimizer` moves."""
        return self.trainable_variables

    def default_optimizer(self):
        """Adam, rate 1e-3."""
        return optimizers.Adam(1e-3)

    def compile(self, optimizer=None, run_eagerly=False, steps_per_execution=1, jit_compile="auto"):
        """Sets the optimizer and how the training step is run.

        Args:
            optimizer: a Keras optimizer or its name. None: `default_optimizer()`.
            run_eagerly, steps_per_execution: as in `keras.Model.compile`.
            jit_compile: whether XLA compiles the step; "auto" does so on GPU only, because on CPU
                it slows convolutions down.
        """
        if jit_compile == "auto":
            jit_compile = not run_eagerly and bool(tf.config.list_physical_devices("GPU"))
        super().compile(
            optimizer=self._built_optimizer(
                optimizer or self.default_optimizer(), self.optimized_variables
            ),
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=False,
        )
        with self.distribute_strategy.scope():
            self._loss_trackers = [keras.metrics.Mean(name=name) for name in self.loss_names]

    def _built_optimizer(self, optimizer, variables):
        """The optimizer, ready: its state exists before weights are loaded or a step is traced."""
        optimizer = keras.optimizers.get(optimizer)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if hasattr(inner, "follow") and not hasattr(self, "images_seen"):
            raise ValueError(
                f"A {type(inner).__name__} follows the images that a model has seen, which a "
                f"{type(self).__name__} does not count. Received: optimizer={inner.name!r}"
            )
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if self.dtype_policy.compute_dtype == "float16" and not scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        with self.distribute_strategy.scope():
            optimizer.build(variables)
        return optimizer

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return {
            **{k: keras.saving.serialize_keras_object(v) for k, v in self.optimizers.items()},
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
            "jit_compile": self.jit_compile,
        }

    def compile_from_config(self, config):
        self.compile(**{k: _deserialized(v) for k, v in config.items()})

    # Data

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        steps_per_epoch=None,
        **kwargs,
    ):
        """Trains the model; arguments as in `keras.Model.fit`.

        Epoch e of a data set made by `source.batches` is shuffled by (seed, e), also when training
        begins at a later epoch; so are arrays, by (the model's seed, e). With `steps_per_epoch` the
        data set is repeated as often as needed.

        Raises:
            ValueError: before training starts, when the data do not fit the model.
        """
        if steps_per_epoch is not None:
            checked_count("steps_per_epoch", steps_per_epoch)
        self._check_given(x, kwargs)
        self._check_data(x, y)
        self._check_validation(kwargs.get("validation_data"))
        share = kwargs.get("validation_split")
        if hasattr(x, "shape") and share and kwargs.get("validation_data") is None:
            x, y, kwargs["validation_data"] = _split(x, y, share)
            del kwargs["validation_split"]
        if hasattr(x, "shape"):
            size = 32 if batch_size is None else checked_count("batch_size", batch_size)
            x = float_batches(x, y, size, self.seed, kwargs.pop("shuffle", True))
            y = batch_size = None
        if isinstance(x, tf.data.Dataset):
            kwargs["shuffle"] = False  # the data set has its own order
            x = untuned(_of_any_batch_size(x))
            self.continuous_data = steps_per_epoch is not None
            if self.continuous_data:
                x = x.repeat()
            callbacks = _with(
                callbacks,
                _EpochFollower(
                    epochs_of(x), self.continuous_data, epochs_of(kwargs.get("validation_data"))
                ),
            )
        else:
            callbacks = _with(callbacks)
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            steps_per_epoch=steps_per_epoch,
            **kwargs,
        )

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # All is built before. Keras would read a batch here, and reduce it over the replicas, which
        # fails where there are several workers.
        pass

    def evaluate(
        self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, *args, **kwargs
    ):
        """Losses on data, with the weights being trained; arguments as in `keras.Model`."""
        self._check_given(x, {**kwargs, "sample_weight": sample_weight})
        self._check_data(x, y)
        return super().evaluate(x, y, batch_size, verbose, None, *args, **kwargs)

    def _check_given(self, x, settings):
        """Raises where what is given to `fit` is nothing that a model of this kind trains on."""
        weights = [k for k in ("sample_weight", "class_weight") if settings.get(k) is not None]
        if weights or (isinstance(x, tf.data.Dataset) and _length(x.element_spec) > 2):
            received = weights or x.element_spec
            raise ValueError(
                f"Examples have no weights in the loss: all count alike. Received: {received}"
            )
        if isinstance(x, (list, tuple)):
            raise ValueError(
                "Images are given as one array [n, h, w, c] or as a data set. Received: a "
                f"{type(x).__name__} of {len(x)}"
            )
        if getattr(x, "shape", None) is not None and not len(x):
            raise ValueError(f"There are no images. Received: an array of shape {x.shape}")

    def _check_validation(self, data):
        """Raises where what is given to `fit` as `validation_data` does not fit the model."""
        if data is not None:
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            self._check_given(x, {"sample_weight": weights})
            self._check_data(x, y)

    def _check_data(self, x, y):
        """Raises where what is given to `fit` can be seen not to fit the model."""
        if isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            has_labels = _length(spec) > 1
            spec = spec[0] if isinstance(spec, tuple) else spec
        elif hasattr(x, "shape") and hasattr(x, "dtype"):
            spec, has_labels = tf.TensorSpec(x.shape, x.dtype), y is not None
        else:
            return
        self._check_image_spec(spec)
        if not self.num_classes:
            return
        if not has_labels:
            raise ValueError(
                f"{self.name!r} has {self.num_classes} classes: it needs batches of (images, "
                f"labels). Received: images alone, {spec}"
            )
        labels = x.element_spec[1] if isinstance(x, tf.data.Dataset) else y
        shape = tf.TensorShape(getattr(labels, "shape", None))
        if shape.rank not in (None, 1):
            one = shape.rank == 2 and shape[1] == 1
            raise ValueError(
                f"{self.name!r} needs labels [batch], a class number for each image; "
                f"{'columns' if one else 'one-hot rows'} become so by "
                f"`{'labels[:, 0]' if one else 'labels.argmax(-1)'}`. Received: labels of shape "
                f"{labels.shape}"
            )

    def _check_image_spec(self, spec):
        """Raises unless the images of a batch are float [batch, *example_shape]."""
        expected = tf.TensorShape([None, *self.example_shape])
        if (
            not isinstance(spec, tf.TensorSpec)
            or not spec.dtype.is_floating
            or not expected.is_compatible_with(spec.shape)
        ):
            raise ValueError(
                f"{self.name!r} needs batches of float images {expected} in [-1, 1], such as "
                f"`keras_gen.data.load(...).batches(...)` gives. Received: {spec}"
            )

    def unpack(self, data):
        """Images float32 [batch, *example_shape], labels int32 [batch] (None without classes)."""
        pixels, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        pixels = tf.ensure_shape(tf.cast(pixels, tf.float32), [None, *self.example_shape])
        checks = [
            tf.debugging.assert_less_equal(
                tf.reduce_max(tf.abs(pixels)), 1.001, "Images must lie in [-1, 1]."
            )
        ]
        if not self.num_classes:
            labels = None
        else:
            labels = tf.ensure_shape(tf.cast(labels, tf.int32), [None])
            checks += saved_model.label_checks(labels, self.num_classes)
        with tf.control_dependencies(checks):
            return tf.identity(pixels), None if labels is None else tf.identity(labels)

    # Randomness

    def step_key(self, training=True):
        """Key of the current training step on the current replica; outside of training a fixed one,
        or within a scope of randomness, such as `test_step` opens, one of that scope."""
        if not training:
            scope = randomness.current_key()
            return randomness.key(self.seed if scope is None else scope, "evaluation")
        return randomness.key(self.seed, "training", self.step.value, _replica())

    # Training

    @property
    def loss_names(self):
        """Names of the loss terms that a training step reports; "loss", their total, is one."""
        raise NotImplementedError

    @property
    def metrics(self):
        return self._loss_trackers

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The losses of a batch.

        Args:
            x: images float32 [batch, h, w, c] in [-1, 1].
            y: labels int32 [batch], or None without classes.
            y_pred, sample_weight: not used; Keras's signature.
            training: whether the networks train, at the key of the training step; otherwise what
                is drawn is that of `step_key`.

        Returns:
            dict from each of `loss_names` to float32 [batch]. The mean of "loss" is minimized.
        """
        raise NotImplementedError

    def train_step(self, data):
        pixels, labels = self.unpack(data)
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            terms = self.compute_loss(pixels, labels)
            loss = self.scaled(tf.reduce_mean(terms["loss"]), self.optimizer)
        self.apply(self.optimizer, tape.gradient(loss, variables), variables)
        self.finish_step()
        return self.report(terms)

    def apply(self, optimizer, gradients, variables):
        """Applies gradients of a loss that `scaled` has scaled.

        Keras clips, and looks for overflows of float16, in each replica before the sum over the
        replicas. Here that is done after the sum, so that several replicas make the update of one.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1 and _looks_at_gradients(optimizer):
            used = [i for i, gradient in enumerate(gradients) if gradient is not None]
            context = tf.distribute.get_replica_context()
            total = context.all_reduce("SUM", [gradients[i] for i in used])
            for i, gradient in zip(used, _clipped(total, optimizer)):
                gradients[i] = gradient / replicas  # Keras sums once more
        optimizer.apply(gradients, variables)

    def test_step(self, data):
        with self.test_scope():
            return self.report(self.compute_loss(*self.unpack(data), training=False))

    def test_scope(self):
        """Scope of randomness of a batch of an evaluation, by the examples counted before it: each
        batch draws its own, and every evaluation the same."""
        counted = self._loss_trackers[0].count.value
        return randomness.scope(randomness.key(self.seed, counted, _replica()))

    def scaled(self, loss, optimizer):
        """The scalar to differentiate: the loss, scaled for replicas and for float16.

        Args:
            loss: float32 scalar, the mean over this replica's examples.
            optimizer: the optimizer that will apply its gradients.
        """
        # Keras sums the gradients of the replicas, so that each gives its share of the mean.
        return optimizer.scale_loss(loss / self.distribute_strategy.num_replicas_in_sync)

    def finish_step(self, decay_of=None):
        """Counts the training step and moves the weight averages.

        Args:
            decay_of: function of the steps between two changes of the weights (1, unless gradients
                are accumulated) -> decay of the averages, float32 scalar; None: that of `ema`.
        """
        self.step.assign_add(1)
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        every = optimizer.gradient_accumulation_steps or 1
        self.averages.update(self.step.value, every, decay_of and decay_of(every))

    def report(self, terms):
        """Tracks the loss terms and returns their means over the epoch so far.

        Args:
            terms: dict from name to float32 [batch], the values of this replica's examples.
        """
        for tracker in self._loss_trackers:
            tracker.update_state(terms[tracker.name])
        results = {tracker.name: tracker.result() for tracker in self._loss_trackers}
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Keras's trainer reduces over axis 0 there, which a scalar does not have.
            results = {name: tf.reshape(value, [1]) for name, value in results.items()}
        return results

    # Generation

    def generate_step(self, seed, label=None):
        """Generates one group of images with the averaged weights: pure tensors in and out.

        Args:
            seed: int64 [rows]; image i is a function of `seed[i]` and `label[i]` alone.
            label: int32 [rows] where the model has classes.

        Returns:
            float32 [rows, height, width, channels] in [-1, 1].
        """
        raise NotImplementedError

    def generate_images(self, seed, label=None, **settings):
        """As `generate_step`, for any number of rows including none; uint8 [batch, h, w, c]."""
        return self.grouped(
            lambda *rows: images.to_uint8(self.generate_step(*rows, **settings)), [seed, label]
        )

    def grouped(self, step, rows, row_spec=None):
        """A function of `generation_rows` rows, applied to any number of rows including none.

        Args:
            step: takes a tensor [generation_rows, ...] for each of `rows` that is not None.
            rows: tensors [batch, ...], or None.
            row_spec: tf.TensorSpec of one row of the result; None: an image, uint8.
        """
        taken = [row for row in rows if row is not None]
        row_spec = row_spec or tf.TensorSpec(self.image_shape, tf.uint8)
        return in_groups(step, self.generation_rows, taken, row_spec)

    def generate(self, n, labels=None, seed=0, batch_size=1024):
        """Generates images with the averaged weights.

        Args:
            n: number of images.
            labels: class of the images: an int, or an integer array [n]. None draws each image's
                class from its seed. Not for models without classes.
            seed: int in [-2^31, 2^31): image i gets the seed `seed * 2^32 + i`. Or an integer array
                [n], one 64-bit seed for each image.
            batch_size: images in memory of the accelerator at a time; changes no image.

        Returns:
            NumPy uint8 [n, height, width, channels]. Image i depends on its own seed and label
            alone.

        Raises:
            ValueError: when n is negative or no integer, seeds or labels do not fit.
        """
        function = self.compiled_function(
            "generate", self.generate_images, saved_model.row_signature(self.num_classes)
        )
        return in_batches(function, self.rows(n, labels, seed), batch_size)

    def rows(self, n, labels, seed):
        """The checked arguments of `generate` as arrays, [seeds int64 [n]] or with labels int32
        [n] after them."""
        if not is_integer(n) or n < 0:
            raise ValueError(f"`n` must be an integer, 0 or more. Received: n={n!r}")
        seeds = randomness.row_seeds(seed, n)
        if self.num_classes:
            return [seeds, self._row_labels(labels, seeds)]
        if labels is not None:
            raise ValueError(f"{self.name!r} has no classes. Received: labels={labels!r}")
        return [seeds]

    def picture_rows(self, n, labels, seed=0):
        """As `rows`, of given pictures, whose labels are not drawn at random."""
        if self.num_classes and labels is None:
            raise ValueError(
                f"{self.name!r} has {self.num_classes} classes: pictures and latents need their "
                "labels. Received: labels=None"
            )
        return self.rows(n, labels, seed)

    def checked_pictures(self, pictures):
        """Pictures uint8 [n, h, w, c] of the model's shape, or a ValueError."""
        pictures = check_images(pictures, any_channels=True)
        if pictures.shape[1:] != self.image_shape:
            raise ValueError(
                f"Pictures must be [n, *{self.image_shape}]. Received: pictures of shape "
                f"{pictures.shape}"
            )
        return pictures

    def compiled_function(self, key, function, signature):
        """`function` as a `tf.function` of the `signature`, traced once for each `key`."""
        if key not in self._functions:
            self._functions[key] = tf.function(function, input_signature=signature, autograph=False)
        return self._functions[key]

    def _row_labels(self, labels, seeds):
        """Checked labels int32 [n], drawn from the seeds when None."""
        if labels is None:
            draw = tf.map_fn(
                lambda seed: randomness.uniform(
                    (), randomness.key(seed, "label"), 0, self.num_classes, "int32"
                ),
                seeds,
                fn_output_signature=tf.int32,
            )
            return draw.numpy()
        given = np.asarray(labels)
        if given.dtype.kind not in "iu" or given.shape not in ((), seeds.shape):
            raise ValueError(
                f"`labels` must be an integer or one integer for each of the {len(seeds)} images. "
                f"Received: labels={labels!r}"
            )
        if given.size and not (given.min() >= 0 and given.max() < self.num_classes):
            raise ValueError(
                f"`labels` must lie in [0, {self.num_classes}). Received: labels={labels!r}"
            )
        return np.broadcast_to(given, seeds.shape).astype(np.int32)

    @property
    def generating_weights(self):
        """The weights, averaged, that generated images are a function of."""
        return [average for average, _ in self.averages.pairs]

    def weights_hash(self):
        """SHA-256, hexadecimal, of `generating_weights`: names the generator in provenance."""
        digest = hashlib.sha256()
        for weight in self.generating_weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
        return digest.hexdigest()

    # Export

    def signatures(self):
        """The signatures of the exported SavedModel.

        Returns:
            dict from the signature's name to (function, list of tf.TensorSpec); the function takes
            the tensors and returns a dict of tensors.
        """
        return saved_model.generation_signatures(self)

    def request_checks(self, parts, label=None, with_none=False):
        """Assertions, to be run before, on a request: as many rows in all of `parts` and of the
        labels, labels in range. With `with_none`, `num_classes` is one: no label."""
        checks = []
        if label is not None:
            checks = saved_model.label_checks(label, self.num_classes + bool(with_none))
        counts = [tf.shape(part)[0] for part in (*parts, *([] if label is None else [label]))]
        same = tf.reduce_all(tf.equal(counts, counts[0]))
        message = "All parts of a request must have as many rows. Received rows:"
        return [*checks, tf.debugging.Assert(same, [message, *counts])]

    def export(self, filepath, format="tf_saved_model", verbose=True):
        """Writes a SavedModel for TensorFlow and TF Serving; see `keras_gen.export`.

        Args:
            filepath: directory of one version, such as "saved_models/digits/1".
            format: "tf_saved_model", the only one.
            verbose: whether to print where it was written.

        Raises:
            ValueError: for another format.
            FileExistsError: when there is something at `filepath`.
        """
        if format != "tf_saved_model":
            raise ValueError(f'`format` must be "tf_saved_model". Received: format={format!r}')
        saved_model.export_saved_model(self, filepath)
        if verbose:
            print(f"SavedModel written to {filepath}")


class _EpochFollower(keras.callbacks.Callback):
    """Ties the order of the data to the epoch that Keras trains.

    Args:
        epochs: the `Epochs` of the data set, or None where it has none.
        continuous: whether one iterator runs through all epochs (`steps_per_epoch`).
        validation: the `Epochs` of the validation data, or None: every validation has the order of
            the first epoch, however often there was one before.
    """

    def __init__(self, epochs, continuous, validation):
        super().__init__()
        self.epochs, self.continuous = epochs, continuous
        self.validation = validation if validation is not epochs else None

    def on_train_begin(self, logs=None):
        if self.validation is not None:
            self.validation.counting, self.validation.next = False, 0
        if self.epochs is not None and self.continuous:
            self.epochs.counting, self.epochs.next = True, 0  # also after a fit that was cut off

    def on_epoch_begin(self, epoch, logs=None):
        if self.epochs is not None and not self.continuous:
            self.epochs.counting, self.epochs.next = False, epoch

    def on_train_end(self, logs=None):
        if self.epochs is not None and not self.continuous:
            self.epochs.counting, self.epochs.next = True, self.epochs.next + 1
        if self.validation is not None:
            self.validation.counting = True


def _replica():
    """Which replica this is, 0 outside of all."""
    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group if context else 0


def _length(spec):
    """How many parts the elements of a data set have."""
    return len(spec) if isinstance(spec, tuple) else 1


def _with(callbacks, *first):
    """The callbacks of `fit`, after `first` and whatever they want before all others."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:0] = [*first, *_before_others(callbacks.callbacks)]
        return callbacks
    callbacks = tf.nest.flatten(callbacks or [])
    return [*first, *_before_others(callbacks), *callbacks]


def _before_others(callbacks):
    return [c.before_others for c in callbacks if hasattr(c, "before_others")]


def _looks_at_gradients(optimizer):
    """Whether a Keras optimizer does more with gradients than what is linear in them."""
    limits = "clipnorm", "global_clipnorm", "clipvalue"
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return scaled or any(getattr(optimizer, limit) is not None for limit in limits)


def _clipped(gradients, optimizer):
    """Gradients within the limits of a Keras optimizer, scaled where it scales the loss."""
    inner, scale = optimizer, 1.0
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner, scale = optimizer.inner_optimizer, optimizer.dynamic_scale.value
    if inner.clipnorm:
        return [tf.clip_by_norm(gradient, inner.clipnorm * scale) for gradient in gradients]
    if inner.global_clipnorm:
        return tf.clip_by_global_norm(gradients, inner.global_clipnorm * scale)[0]
    if inner.clipvalue:
        limit = inner.clipvalue * scale
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
    return gradients


def checked_masks(masks, pictures):
    """Masks bool [h, w] or [n, h, w] as [n, h, w], or a ValueError.

    Args:
        masks: what the caller gave.
        pictures: uint8 [n, h, w, c].
    """
    masks = np.asarray(masks)
    if masks.dtype != bool or masks.shape not in (pictures.shape[1:3], pictures.shape[:3]):
        raise ValueError(
            "`masks` must be bool [h, w] or [n, h, w] for the pictures. Received: masks of "
            f"shape {masks.shape} and dtype {masks.dtype}, pictures of shape {pictures.shape}"
        )
    return np.broadcast_to(masks, pictures.shape[:3])


def specs_of(rows):
    """`tf.TensorSpec`s of arrays, of any length."""
    return [tf.TensorSpec([None, *row.shape[1:]], row.dtype) for row in rows]


def in_batches(function, rows, batch_size, *settings):
    """Calls a compiled function for `batch_size` rows at a time; a NumPy array of all results.

    Args:
        function: takes parts of `rows`, then the `settings`; returns a tensor [batch, ...].
        rows: list of arrays of the same length, 0 or more.
        batch_size: int.
        *settings: what every call is given besides.

    Raises:
        ValueError: when `batch_size` is no positive integer.
    """
    batch_size = checked_count("batch_size", batch_size)
    count = len(rows[0])
    parts = [
        function(*(array[i : i + batch_size] for array in rows), *settings).numpy()
        for i in range(0, max(count, 1), batch_size)
    ]
    return np.concatenate(parts)


def in_groups(function, rows, tensors, row_spec):
    """Applies a function of `rows` rows to any number of rows, padding the last group.

    Args:
        function: takes tensors [rows, ...] and returns one [rows, *row_spec.shape].
        rows: int.
        tensors: list of tensors with the same first dimension, 0 or more.
        row_spec: tf.TensorSpec of one row of the result; with unknown sides, a group is run for no
            rows too, because only then they become known.

    Returns:
        tensor [batch, *row_spec.shape].
    """
    count = tf.shape(tensors[0])[0]
    least = 0 if row_spec.shape.is_fully_defined() else 1
    groups = tf.maximum((count + rows - 1) // rows, least)

    def grouped(tensor):
        padding = [[0, groups * rows - count]] + [[0, 0]] * (tensor.shape.rank - 1)
        shape = tf.concat([[groups, rows], tf.shape(tensor)[1:]], 0)
        return tf.reshape(tf.pad(tensor, padding), shape)

    result = tf.map_fn(
        lambda group: function(*(tf.ensure_shape(t, [rows, *t.shape[1:]]) for t in group)),
        tuple(grouped(tensor) for tensor in tensors),
        fn_output_signature=tf.TensorSpec([rows, *row_spec.shape], row_spec.dtype),
    )
    row_shape = tf.shape(result)[2:] if least else row_spec.shape
    return tf.reshape(result, tf.concat([[groups * rows], row_shape], 0))[:count]


def _split(x, y, share):
    """The first images and labels, and the others as validation data, `share` of all."""
    first = int(len(x) * (1 - share)) if is_number(share) and 0 < share < 1 else 0
    if not 0 < first < len(x):
        raise ValueError(
            "`validation_split` must be a fraction that leaves images for training and for "
            f"validation. Received: validation_split={share!r} of {len(x)} images"
        )
    if y is None:
        return x[:first], None, x[first:]
    y = np.asarray(y)
    return x[:first], y[:first], (x[first:], y[first:])


def _of_any_batch_size(dataset):
    """The data set without a batch size known in advance, so that every batch runs one graph.

    TensorFlow optimizes a graph of known shapes differently: the same batch would give a step that
    differs in the last bit, depending on how the data set was made.
    """
    specs = tf.nest.flatten(dataset.element_spec)
    if not all(isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in specs):
        return dataset
    if all(spec.shape[0] is None for spec in specs):
        return dataset

    def forget(tensor):
        shape = [None, *tensor.shape[1:]]
        return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=shape)

    def forget_all(*batch):
        return tf.nest.map_structure(forget, batch if len(batch) > 1 else batch[0])

    return dataset.map(forget_all, num_parallel_calls=2, deterministic=True)


def _checked_image_shape(image_shape):
    shape = tuple(image_shape) if isinstance(image_shape, (tuple, list)) else ()
    if len(shape) != 3 or not all(is_integer(side) and side > 0 for side in shape):
        raise ValueError(
            "`image_shape` must be three positive integers, (height, width, channels). "
            f"Received: image_shape={image_shape!r}"
        )
    return tuple(int(side) for side in shape)


def _deserialized(value):
    """A value of a config; objects, and the objects in a list, made again."""
    if isinstance(value, (dict, list)):
        return keras.saving.deserialize_keras_object(value)
    return value
