"""Translation of images, from pairs (Isola et al. 2017) and without pairs (Zhu et al. 2017).

Pictures are translated into pictures of the same shape, by generators that are trained against
PatchGAN discriminators.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_gen import export as saved_model
from keras_gen import images, losses, networks, optimizers, randomness
from keras_gen.data.arrays import check_images
from keras_gen.layers import HistoryBuffer
from keras_gen.models.adversarial import AdversarialModel
from keras_gen.models.base import in_batches, specs_of
from keras_gen.strategies import checked_count


class Translator(AdversarialModel):
    """What the two have in common: batches of two kinds of images, two optimizers, `translate`.

    Args:
        image_shape: (height, width, channels) of both kinds of images.
        num_classes: None; these models have no labels.
        loss: name of an adversarial loss or a `keras_gen.losses.AdversarialLoss`.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, image_shape, num_classes, loss, **kwargs):
        if num_classes is not None:
            raise ValueError(
                f"Translation models have no classes. Received: num_classes={num_classes!r}"
            )
        super().__init__(image_shape, **kwargs)
        self.loss_function = losses.get_adversarial_loss(loss)
        if isinstance(self.loss_function, losses.Wasserstein):
            raise ValueError(
                "The Wasserstein loss needs a penalty on the discriminator, which translation "
                f"models have not. Received: loss={loss!r}"
            )

    def _check_generator(self, name, network):
        self._check_takes(name, network, 1)
        made = tuple(network.outputs[0].shape[1:])
        if made != self.image_shape:
            raise ValueError(
                f"The {name} must make images {self.image_shape}. Received: a network to {made}"
            )

    def _check_discriminator(self, name, network, takes):
        self._check_takes(name, network, takes)
        made = tuple(network.outputs[0].shape[1:])
        if len(made) != 3 or made[2] != 1:
            raise ValueError(
                f"The {name} must make logits [batch, rows, columns, 1]. "
                f"Received: a network to {made}"
            )

    def _check_takes(self, name, network, count):
        taken = [tuple(x.shape[1:]) for x in network.inputs]
        if taken != [self.image_shape] * count:
            raise ValueError(
                f"The {name} must take {'two kinds of ' * (count - 1)}images {self.image_shape}. "
                f"Received: a network from {taken}"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "loss": keras.saving.serialize_keras_object(self.loss_function),
        }

    def default_optimizer(self):
        """Adam, rate 2e-4, beta_1 0.5, as in both papers; Zhu et al. let the rate fall:
        `keras_gen.schedules.LinearDecay`."""
        return optimizers.Adam(2e-4, beta_1=0.5)

    # Data

    def _check_data(self, x, y):
        specs = None
        if isinstance(x, tf.data.Dataset):
            specs = x.element_spec
        elif hasattr(x, "shape") and hasattr(x, "dtype"):
            arrays = [x] if y is None else [x, np.asarray(y)]
            specs = tuple(tf.TensorSpec(array.shape, array.dtype) for array in arrays)
        if specs is None:
            return
        if not isinstance(specs, tuple) or len(specs) != 2:
            raise ValueError(
                f"{self.name!r} needs batches of two kinds of images, such as "
                "`keras_gen.data.pairs(...)` and `keras_gen.data.unpaired(...)` give. "
                f"Received: {specs}"
            )
        for spec in specs:
            self._check_image_spec(spec)
        counts = [spec.shape[0] for spec in specs]
        if None not in counts and counts[0] != counts[1]:
            raise ValueError(
                "There must be as many images of the one kind as of the other; "
                "`keras_gen.data.unpaired(...)` makes batches where there are not. "
                f"Received: {counts[0]} and {counts[1]} images"
            )

    def unpack(self, data):
        """The images of both kinds, float32 [batch, h, w, c] each."""
        first, second, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().unpack(first)[0], super().unpack(second)[0]

    # Training

    def translations(self, first, second, key, training=True):
        """What the generators make of a batch, by the weights being trained: a tensor or several.

        Args:
            first, second: the images of both kinds, float32 [batch, h, w, c].
            key: of the training step.
            training: whether the networks train.
        """
        raise NotImplementedError

    def discriminator_terms(self, first, second, made, key, training=True):
        """The discriminators' losses for what `translations` made.

        Returns:
            dict from name to float32 [batch], and dict from the discriminator ("" where there is
            one) to its logits [batch, rows, columns, 1] of real and of generated images.
        """
        raise NotImplementedError

    def generator_terms(self, first, second, made, key, training=True):
        """The generators' losses, weighted: dict from name to float32 [batch]."""
        raise NotImplementedError

    def translated(self, generator, pictures, key, training=True):
        """Pictures float32 [batch, h, w, c] through a generator; dropout draws from the key."""
        with randomness.scope(key):
            return generator(pictures, training=training)

    def logits(self, discriminator, taken, key, training=True):
        """Logits [batch, rows, columns, 1] of an image, or of what else a discriminator takes."""
        with randomness.scope(key):
            return discriminator(taken, training=training)

    def discriminator_loss(self, discriminator, real, fake, key, training=True):
        """Float32 [batch], the mean over the patches, and the logits of real and of generated
        images; arguments as in `generator_loss`."""
        logits = [
            self.logits(discriminator, taken, randomness.key(key, name), training)
            for name, taken in (("real", real), ("fake", fake))
        ]
        return tf.reduce_mean(self.loss_function.discriminator(*logits), [1, 2, 3]), logits

    def generator_loss(self, discriminator, real, fake, key, training=True):
        """The adversarial loss of a generator, float32 [batch], the mean over the patches.

        Args:
            discriminator: the network.
            real, fake: what it takes, with a real and with a generated image.
            key: the same as in `discriminator_loss`, for the same dropout masks.
            training: whether the networks train.
        """
        fake_logits = self.logits(discriminator, fake, randomness.key(key, "fake"), training)
        real_logits = None
        if self.loss_function.pairs_real:
            real_logits = self.logits(discriminator, real, randomness.key(key, "real"), training)
        return tf.reduce_mean(self.loss_function.generator(fake_logits, real_logits), [1, 2, 3])

    def train_step(self, data):
        first, second = self.unpack(data)
        key = self.step_key()

        def discriminator_terms(made):
            return self.discriminator_terms(first, second, made, key)

        terms, own = self.alternate(
            lambda: self.translations(first, second, key),
            lambda made: self.discriminators_down(made, discriminator_terms),
            lambda made: self.generator_terms(first, second, made, key),
        )
        self.finish_step()
        return self.report(self.with_total(own | terms))

    def evaluated(self, first, second=None):
        key = self.step_key(training=False)
        made = self.translations(first, second, key, training=False)
        own = self.generator_terms(first, second, made, key, training=False)
        return own, *self.discriminator_terms(first, second, made, key, training=False)

    def checked_examples(self, pictures, others=None):
        if others is None or len(pictures) != len(others):
            raise ValueError(
                "There must be as many pictures of the one kind as of the other. Received: "
                f"{len(pictures)} and {'none' if others is None else len(others)}"
            )
        return [self.checked_pictures(kind) for kind in (pictures, others)]

    def made_and_real(self, pictures, others=None, seed=0):
        pictures, others = self.checked_examples(pictures, others)
        return self.translate(pictures), others

    # Translation

    def generate(self, n, labels=None, seed=0, batch_size=1024):
        """Raises a ValueError: nothing is drawn from seeds alone, `translate` takes pictures."""
        raise ValueError(
            f"A {type(self).__name__} draws no images from seeds alone; give it pictures, "
            f"`translate(pictures)`. Received: generate({n!r})"
        )

    def translation_signatures(self, function, signature, suffix=""):
        """Signatures of the exported SavedModel for one direction of translation.

        Args:
            function: what is compiled, of the tensors that `signature` names, to images uint8.
            signature: list of `tf.TensorSpec`s, "image" first.
            suffix: of the names.

        Returns:
            dict of "translate" -> images uint8 [batch, h, w, c] and "png_bytes" -> string [batch],
            both of the same inputs.
        """
        weights = self.weights_hash()

        @tf.function(input_signature=signature, autograph=False)
        def translated(image, seed=None):  # traced once for both signatures
            parts = [image] if seed is None else [image, seed]
            with tf.control_dependencies(self.request_checks(parts)):
                return function(*map(tf.identity, parts))

        def translate(image, seed=None):
            return {"images": _given(translated, image, seed)}

        def png_bytes(image, seed=None):
            pictures = _given(translated, image, seed)
            if seed is None:  # for the provenance: nothing is drawn
                seed = tf.zeros(tf.shape(pictures)[:1], tf.int64)
            return {"png_bytes": images.png_bytes(pictures, seed, self.name, weights)}

        return {
            f"translate{suffix}": (translate, signature),
            f"png_bytes{suffix}": (png_bytes, signature),
        }

    def _image_spec(self):
        return tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image")


@keras.saving.register_keras_serializable("keras_gen")
class Pix2Pix(Translator):
    """Translation learned from pairs: a U-Net, judged by a PatchGAN that sees the input too.

    The generator minimizes the adversarial loss and `l1_weight` |target - output| (Isola et al.
    2017, eq. 4). Its noise is dropout, in translation as in training, so that a picture has
    different translations for different seeds; `evaluate` drops nothing.

    Example:

    ```python
    pairs = kg.data.pairs("facades", flip=True, jitter=30)  # side by side, input on the left
    model = kg.models.Pix2Pix(pairs.image_shape)
    model.compile()
    model.fit(pairs.batches(1), epochs=200)
    inputs, targets = pairs.take(8)
    outputs = model.translate(inputs)
    ```

    Args:
        image_shape: (height, width, channels) of inputs and outputs; with the default generator,
            sides that are multiples of 4 and at least 8.
        num_classes: None; there are no labels.
        generator: Functional model: images float32 [batch, h, w, c] in [-1, 1] -> as many, alike.
            None: `networks.translation.unet`.
        discriminator: Functional model: [inputs, images] -> logits float32 [batch, rows, columns,
            1]. None: `networks.patchgan.discriminator`, with patches of 70×70.
        loss: as in `GAN`, but for "wasserstein".
        l1_weight: float, 0 or more, of the mean absolute error of pixels in [-1, 1].
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the networks do not fit the image shape, or an argument is out of range.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        generator=None,
        discriminator=None,
        loss="non_saturating",
        l1_weight=100.0,
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, loss, **kwargs)
        self.l1_weight = _weight("l1_weight", l1_weight)
        if generator is None:
            generator = networks.translation.unet(self.image_shape, seed=2 * self.seed)
        if discriminator is None:
            discriminator = networks.patchgan.discriminator(
                self.image_shape, conditional=True, seed=2 * self.seed + 1
            )
        self._check_generator("generator", generator)
        self._check_discriminator("discriminator", discriminator, takes=2)
        self.generator, self.discriminator = generator, discriminator
        self.averaged_generator = self.averages.follow(generator)
        self.built = True

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "l1_weight": self.l1_weight,
        }

    @property
    def generators(self):
        return [self.generator]

    @property
    def discriminators(self):
        return [self.discriminator]

    # Training

    @property
    def loss_names(self):
        return ["loss", "generator_loss", "l1_loss", "discriminator_loss"]

    def translations(self, first, second, key, training=True):
        return self.translated(self.generator, first, randomness.key(key, "generator"), training)

    def discriminator_terms(self, first, second, made, key, training=True):
        real, fake = [first, second], [first, made]
        loss, logits = self.discriminator_loss(self.discriminator, real, fake, key, training)
        return {"discriminator_loss": loss}, {"": logits}

    def generator_terms(self, first, second, made, key, training=True):
        real, fake = [first, second], [first, made]
        return {
            "generator_loss": self.generator_loss(self.discriminator, real, fake, key, training),
            "l1_loss": self.l1_weight * losses.absolute_error(second, made),
        }

    # Translation

    def translate_step(self, image, seed):
        """Translates one group of images with the averaged weights: pure tensors in and out.

        Args:
            image: float32 [rows, h, w, c] in [-1, 1].
            seed: int64 [rows]; row i is a function of `image[i]` and `seed[i]` alone.

        Returns:
            float32 [rows, h, w, c] in [-1, 1].
        """
        keys = randomness.row_keys(seed, "translation")
        # The average is not trainable, so that nothing but dropout does what it does in training.
        return self.translated(self.averaged_generator, image, keys, training=True)

    def translate_images(self, image, seed):
        """As `translate_step`, for any number of images including none; uint8 [batch, h, w, c]."""
        return self.grouped(
            lambda x, seed: images.to_uint8(self.translate_step(images.from_uint8(x), seed)),
            [image, seed],
        )

    def translate(self, pictures, seed=0, batch_size=1024):
        """Translates pictures with the averaged weights.

        Args:
            pictures: uint8 [n, h, w, c].
            seed: int in [-2^31, 2^31), or an integer array [n], as in `generate` of other models:
                the seeds of the dropout masks.
            batch_size: pictures in memory of the accelerator at a time; changes no image.

        Returns:
            NumPy uint8 [n, h, w, c]. Image i depends on its own picture and seed alone.

        Raises:
            ValueError: when the pictures or seeds do not fit.
        """
        pictures = self.checked_pictures(pictures)
        rows = [pictures, *self.rows(len(pictures), None, seed)]
        function = self.compiled_function("translate", self.translate_images, specs_of(rows))
        return in_batches(function, rows, batch_size)

    def strips(self, inputs, targets, seed=0):
        """Input, output and target of each pair, one after another, for a grid of 3 or 6 columns.

        Args:
            inputs, targets: uint8 [n, h, w, c].
            seed: as in `translate`.

        Returns:
            uint8 [3 n, h, w, c].
        """
        return _in_turn(inputs, self.translate(inputs, seed), self.checked_pictures(targets))

    def signatures(self):
        """Signatures of the exported SavedModel.

        `translate`, also the default: image uint8 [batch, h, w, c] and seed int64 [batch] -> images
        uint8. `png_bytes`: the same inputs -> PNG files.
        """
        signature = [self._image_spec(), *saved_model.row_signature(None)]
        made = self.translation_signatures(self.translate_images, signature)
        return {"serving_default": made["translate"], **made}


@keras.saving.register_keras_serializable("keras_gen")
class CycleGAN(Translator):
    """Translation between two kinds of images, a and b, learned without pairs.

    Each direction has a generator, and each kind a discriminator. A picture translated there and
    back must be itself again (Zhu et al. 2017, eq. 2), and a picture that is of the wanted kind
    already must stay as it is (section 5.2). The discriminators are shown earlier translations
    among new ones.

    Example:

    ```python
    source = kg.data.unpaired("fruits/train/apple", "fruits/train/tomato", flip=True, jitter=8)
    model = kg.models.CycleGAN(source.image_shape)
    model.compile()
    model.fit(source.batches(1), epochs=200)
    apples, tomatoes = source.take(8)
    made = model.translate(apples, to="b")
    ```

    Args:
        image_shape: (height, width, channels) of both kinds; with the default generators, sides
            that are multiples of 4 and at least 8.
        num_classes: None; there are no labels.
        generator_to_a, generator_to_b: Functional models: images float32 [batch, h, w, c] in
            [-1, 1] -> as many, alike. None: `networks.translation.residual`.
        discriminator_a, discriminator_b: Functional models: images -> logits float32 [batch, rows,
            columns, 1], of the kind that they tell from fakes. None:
            `networks.patchgan.discriminator`, with patches of 70×70.
        loss: as in `GAN`, but for "wasserstein". None: least squares without the factor 1/2, as
            in the paper.
        cycle_weight: float, 0 or more, of the mean absolute error of pixels in [-1, 1].
        identity_weight: likewise; half the cycle's in the paper, and 0 where colours may change.
        history: int, how many earlier translations of each kind are kept; 0 for none.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when the networks do not fit the image shape, or an argument is out of range.
    """

    def __init__(
        self,
        image_shape,
        num_classes=None,
        generator_to_a=None,
        generator_to_b=None,
        discriminator_a=None,
        discriminator_b=None,
        loss=None,
        cycle_weight=10.0,
        identity_weight=5.0,
        history=50,
        **kwargs,
    ):
        loss = losses.LeastSquares(scale=1.0) if loss is None else loss
        super().__init__(image_shape, num_classes, loss, **kwargs)
        self.cycle_weight = _weight("cycle_weight", cycle_weight)
        self.identity_weight = _weight("identity_weight", identity_weight)
        history = checked_count("history", history, least=0)
        generator, discriminator = networks.translation.residual, networks.patchgan.discriminator
        seeds, shape = range(4 * self.seed, 4 * self.seed + 4), self.image_shape
        self.generator_to_a = generator_to_a or generator(shape, seed=seeds[0])
        self.generator_to_b = generator_to_b or generator(shape, seed=seeds[1])
        self.discriminator_a = discriminator_a or discriminator(shape, seed=seeds[2])
        self.discriminator_b = discriminator_b or discriminator(shape, seed=seeds[3])
        for name in ("generator_to_a", "generator_to_b"):
            self._check_generator(name, getattr(self, name))
        for name in ("discriminator_a", "discriminator_b"):
            self._check_discriminator(name, getattr(self, name), takes=1)
        self.averaged_to_a = self.averages.follow(self.generator_to_a)
        self.averaged_to_b = self.averages.follow(self.generator_to_b)
        self.history_a, self.history_b = (
            HistoryBuffer(self.image_shape, history) if history else None for _ in range(2)
        )
        self.built = True

    def get_config(self):
        names = "generator_to_a", "generator_to_b", "discriminator_a", "discriminator_b"
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in names},
            "cycle_weight": self.cycle_weight,
            "identity_weight": self.identity_weight,
            "history": self.history_a.size if self.history_a else 0,
        }

    @property
    def generators(self):
        return [self.generator_to_a, self.generator_to_b]

    @property
    def discriminators(self):
        return [self.discriminator_a, self.discriminator_b]

    # Training

    @property
    def loss_names(self):
        identity = ["identity_loss"] if self.identity_weight else []
        return ["loss", "generator_loss", "cycle_loss", *identity, "discriminator_loss"]

    def to_a(self, pictures, key, purpose, training):
        key = randomness.key(key, "generator to a", purpose)
        return self.translated(self.generator_to_a, pictures, key, training)

    def to_b(self, pictures, key, purpose, training):
        key = randomness.key(key, "generator to b", purpose)
        return self.translated(self.generator_to_b, pictures, key, training)

    def translations(self, first, second, key, training=True):
        return (
            self.to_a(second, key, "translation", training),
            self.to_b(first, key, "translation", training),
        )

    def discriminator_terms(self, first, second, made, key, training=True):
        if training and self.history_a:
            made = [
                history(fakes, None, randomness.key(key, kind))[0]
                for history, fakes, kind in zip((self.history_a, self.history_b), made, "ab")
            ]
        losses_of, logits = {}, {}
        for kind, judge, real, fake in zip("ab", self.discriminators, (first, second), made):
            own = randomness.key(key, kind)
            losses_of[kind], logits[kind] = self.discriminator_loss(
                judge, real, fake, own, training
            )
        return {"discriminator_loss": losses_of["a"] + losses_of["b"]}, logits

    def generator_terms(self, first, second, made, key, training=True):
        a, b, (fake_a, fake_b) = first, second, made
        error = losses.absolute_error
        cycle = error(a, self.to_a(fake_b, key, "cycle", training))
        cycle += error(b, self.to_b(fake_a, key, "cycle", training))
        fooling = [
            self.generator_loss(judge, real, fake, randomness.key(key, kind), training)
            for kind, judge, real, fake in zip("ab", self.discriminators, (a, b), made)
        ]
        terms = {
            "generator_loss": tf.add_n(fooling),
            "cycle_loss": self.cycle_weight * cycle,
        }
        if self.identity_weight:
            same = error(a, self.to_a(a, key, "identity", training))
            same += error(b, self.to_b(b, key, "identity", training))
            terms["identity_loss"] = self.identity_weight * same
        return terms

    # Translation

    def translate_step(self, image, to="b"):
        """Translates one group of images with the averaged weights: pure tensors in and out.

        Args:
            image: float32 [rows, h, w, c] in [-1, 1].
            to: "a" or "b".

        Returns:
            float32 [rows, h, w, c] in [-1, 1]; row i is a function of `image[i]` alone.
        """
        return {"a": self.averaged_to_a, "b": self.averaged_to_b}[to](image)

    def translate_images(self, image, to="b"):
        """As `translate_step`, for any number of images including none; uint8 [batch, h, w, c]."""
        return self.grouped(
            lambda x: images.to_uint8(self.translate_step(images.from_uint8(x), to)), [image]
        )

    def translate(self, pictures, to="b", batch_size=1024):
        """Translates pictures with the averaged weights.

        Args:
            pictures: uint8 [n, h, w, c], of the other kind than `to`.
            to: "a" or "b", the kind that is wanted.
            batch_size: pictures in memory of the accelerator at a time; changes no image.

        Returns:
            NumPy uint8 [n, h, w, c]. Image i depends on its own picture alone.

        Raises:
            ValueError: when the pictures do not fit, or there is no such kind.
        """
        if to not in ("a", "b"):
            raise ValueError(f'`to` must be "a" or "b". Received: to={to!r}')
        rows = [self.checked_pictures(pictures)]
        function = self.compiled_function(
            f"translate to {to}", lambda image: self.translate_images(image, to), specs_of(rows)
        )
        return in_batches(function, rows, batch_size)

    def strips(self, pictures_a, pictures_b):
        """Each picture, its translation, and that translated back, for a grid of 3 or 6 columns.

        Args:
            pictures_a, pictures_b: uint8 [n, h, w, c] and [m, h, w, c].

        Returns:
            uint8 [3 (n + m), h, w, c], those that begin with an a first.
        """
        strips = []
        for pictures, there, back in ((pictures_a, "b", "a"), (pictures_b, "a", "b")):
            made = self.translate(pictures, there)
            strips.append(_in_turn(pictures, made, self.translate(made, back)))
        return np.concatenate(strips)

    def signatures(self):
        """Signatures of the exported SavedModel.

        `translate`, also the default, makes b of a, and `translate_to_a` makes a of b: image uint8
        [batch, h, w, c] -> images uint8. `png_bytes` and `png_bytes_to_a`: the same as PNG files.
        """
        signature = [self._image_spec()]
        made = self.translation_signatures(self.translate_images, signature)
        back = self.translation_signatures(
            lambda image: self.translate_images(image, "a"), signature, "_to_a"
        )
        return {"serving_default": made["translate"], **made, **back}


def _given(function, image, seed):
    return function(image) if seed is None else function(image, seed)


def _in_turn(*pictures):
    """The first of each, then the second of each ...: uint8 [n * kinds, h, w, c]."""
    kinds = [check_images(x, any_channels=True) for x in pictures]
    return np.stack(kinds, 1).reshape(-1, *kinds[1].shape[1:])


def _weight(name, value):
    if not value >= 0:
        raise ValueError(f"`{name}` must be 0 or more. Received: {name}={value!r}")
    return float(value)
