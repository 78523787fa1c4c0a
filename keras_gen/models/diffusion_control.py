"""What a trained diffusion model can be told besides a label."""

import numpy as np
import tensorflow as tf

from keras_gen import diffusion, images, randomness
from keras_gen import export as saved_model
from keras_gen.data.arrays import check_images
from keras_gen.models.base import checked_masks
from keras_gen.strategies import checked_count, is_number


class Control:
    """Part of `Diffusion`: inpainting, image to image, enlarging, interpolation, mixed classes."""

    def inpaint(
        self, pictures, masks, labels=None, repeats=4, seed=0, batch_size=1024, progress=None, **how
    ):
        """Draws what a mask hides, to match the rest (RePaint, Lugmayr et al. 2022).

        Args:
            pictures: uint8 [n, h, w, c].
            masks: bool [h, w] or [n, h, w], True where to draw.
            labels: as in `generate`, but for None, which is "no label".
            seed, batch_size, progress: as in `generate`.
            repeats: how often each step is done anew; more makes a better match and takes longer.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as in
                `generate`.

        Returns:
            uint8 [n, h, w, c], exactly `pictures` where the masks are False.

        Raises:
            ValueError: when the pictures or masks do not fit the model.
        """
        pictures = self.checked_pictures(pictures)
        masks = checked_masks(masks, pictures)
        repeats = checked_count("repeats", repeats)
        rows = [pictures, masks]
        rows += self.picture_rows(len(pictures), labels, seed)

        def function(picture, mask, *row, sampling):
            *row, repeats = row
            return self.inpaint_images(picture, mask, *row, sampling=sampling, repeats=repeats)

        steps_done = repeats * (len(self.checked_sampling(how).times) - 1)
        return self.sampled(
            "inpaint", function, rows, batch_size, progress, how, [repeats], steps_done
        )

    def inpaint_images(self, picture, mask, seed, label=None, sampling=None, repeats=4):
        """As `inpaint`, with tensors: uint8 [batch, h, w, c], bool [batch, h, w], int64 [batch]."""
        sampling = sampling or self.checked_sampling()

        def step(picture, mask, seed, label=None):
            mask = mask[..., None]
            drawn = diffusion.inpaint(
                sampling.sampler,
                x=self.prior(seed),
                known=images.from_uint8(picture),
                mask=mask,
                repeats=repeats,
                **self.sampler_arguments(seed, label, sampling),
            )
            return tf.where(mask, images.to_uint8(drawn), picture)

        return self.grouped(step, [picture, mask, seed, label])

    def image_to_image(
        self,
        pictures,
        strength=0.5,
        labels=None,
        seed=0,
        batch_size=1024,
        progress=None,
        **how,
    ):
        """Draws pictures anew from a noise level on (SDEdit, Meng et al. 2022).

        Args:
            pictures: uint8 [n, h, w, c].
            strength: in [0, 1], the part of the sampler's steps that is done, rounded to whole
                steps, at least one: 0 alone gives the pictures back, 1 keeps nothing of them.
            labels: as in `generate`, but for None, which is "no label".
            seed, batch_size, progress: as in `generate`.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as in
                `generate`.

        Returns:
            uint8 [n, h, w, c].

        Raises:
            ValueError: when the pictures do not fit the model or `strength` is out of range.
        """
        pictures = self.checked_pictures(pictures)
        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        if not is_number(strength) or not 0 <= strength <= 1:
            raise ValueError(f"`strength` must lie in [0, 1]. Received: strength={strength!r}")
        steps = len(self.checked_sampling(how).times) - 1
        if strength == 0:
            return pictures.copy()
        steps_done = max(1, int(strength * steps + 0.5))

        def function(picture, *row, sampling):
            *row, start = row

            def step(picture, seed, label=None):
                arguments = self.sampler_arguments(seed, label, sampling)
                times = arguments.pop("times")[start:]
                noise = randomness.row_normal(seed, self.image_shape)
                first = tf.cast(times[0], tf.float32)
                mixed = self.noise_path.mix(images.from_uint8(picture), noise, first)
                # the end of a path holds something of the data yet, from which nothing starts
                x = tf.where(start == 0, self.noise_path.prior(noise), mixed)
                return images.to_uint8(sampling.sampler(x=x, times=times, **arguments))

            return self.grouped(step, [picture, *row])

        start = steps - steps_done
        return self.sampled(
            "image_to_image", function, rows, batch_size, progress, how, [start], steps_done
        )

    def interpolate(self, first, second, count, labels=None, batch_size=1024, **how):
        """Images between two: the noise that leads to each, and noise between.

        The noise is what the probability-flow ODE makes of an image (Song et al. 2021, section 4.3
        of DDIM), solved both ways with Heun's method.

        Args:
            first, second: uint8 [n, h, w, c].
            count: int, how many images for each pair, the ends included.
            labels: as in `generate`, of each pair; None is "no label".
            batch_size: as in `generate`.
            **how: `steps`, `grid` (by default "logsnr"), `guidance_scale`, `guidance_interval`.

        Returns:
            uint8 [n, count, h, w, c]. The ends are `first` and `second` but for the errors of the
            network and of the steps.
        """
        first, second = self.checked_pictures(first), self.checked_pictures(second)
        count = checked_count("count", count, least=2)
        if first.shape != second.shape:
            raise ValueError(
                "`first` and `second` must be as many. Received: "
                f"{len(first)} and {len(second)} images"
            )
        if "sampler" in how:
            raise ValueError(
                "`interpolate` solves the ODE by Heun's method alone. Received: "
                f"sampler={how['sampler']!r}"
            )
        how = {**how, "grid": how.get("grid") or "logsnr", "sampler": "heun"}
        if (how.get("steps") or self.sampling["steps"]) == 1:
            raise ValueError(
                "`interpolate` needs two steps or more: one ends at no noise, from which nothing "
                "can be told. Received: steps=1"
            )
        labels = self.picture_rows(len(first), labels, 0)[1:]

        def encode(picture, *label, sampling):
            def step(picture, label=None):
                arguments = self.sampler_arguments(None, label, sampling)
                rising = tf.reverse(arguments.pop("times")[:-1], [0])
                clean = tf.cast(self.noise_path.alpha(rising[0]), tf.float32)
                x = clean * images.from_uint8(picture)
                return sampling.sampler(x=x, times=rising, **arguments)

            spec = tf.TensorSpec(self.image_shape, tf.float32)
            return self.grouped(step, [picture, *label], spec)

        def decode(x, *label, sampling):
            def step(x, label=None):
                arguments = self.sampler_arguments(None, label, sampling)
                return images.to_uint8(sampling.sampler(x=x, **arguments))

            return self.grouped(step, [x, *label])

        ends = [
            self.sampled("encode", encode, [pictures, *labels], batch_size, None, how)
            for pictures in (first, second)
        ]
        fractions = np.tile(np.linspace(0, 1, count, dtype=np.float32), len(first))
        between = diffusion.slerp(*(np.repeat(x, count, axis=0) for x in ends), fractions)
        rows = [between.numpy(), *(np.repeat(label, count) for label in labels)]
        made = self.sampled("decode", decode, rows, batch_size, None, how)
        return made.reshape(len(first), count, *self.image_shape)

    def mix_classes(self, labels, others, weights, seed=0, batch_size=1024, progress=None, **how):
        """Images of what lies between two classes: the mean of both denoisers.

        Args:
            labels, others: ints or integer arrays [n], the classes.
            weights: floats [n] in [0, 1], of `others`.
            seed, batch_size, progress, **how: as in `generate`.

        Returns:
            uint8 [n, h, w, c].
        """
        if not self.num_classes or labels is None or others is None:
            raise ValueError(
                "Two classes are needed, of a model that has classes. Received: "
                f"labels={labels!r}, others={others!r}, num_classes={self.num_classes}"
            )
        weights = np.asarray(weights, np.float32)
        if weights.ndim != 1 or not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError(f"`weights` must be [n] within [0, 1]. Received: weights={weights!r}")
        rows = self.rows(len(weights), labels, seed)
        rows += [self.rows(len(weights), others, seed)[1], weights]

        def function(*rows, sampling):
            def step(seed, label, other, weight):
                arguments = self.sampler_arguments(seed, label, sampling)
                denoise = arguments.pop("denoise")
                denoise_other = self.denoiser(other, sampling.scale, sampling.interval)

                def mixed(x, t):
                    return diffusion.combine(1 - weight, denoise(x, t), weight, denoise_other(x, t))

                x = sampling.sampler(mixed, x=self.prior(seed), **arguments)
                return images.to_uint8(x)

            return self.grouped(step, rows)

        return self.sampled("mix_classes", function, rows, batch_size, progress, how)

    def enlarge(self, pictures, labels=None, seed=0, batch_size=1024, progress=None, **how):
        """Enlarges pictures by `upscale` (SR3, Saharia et al. 2021).

        Args:
            pictures: uint8 [n, h / upscale, w / upscale, c].
            labels: as in `generate`, but for None, which is "no label".
            seed, batch_size, progress: as in `generate`; another seed draws other details.
            **how: `steps`, `sampler`, `grid`, `guidance_scale`, `guidance_interval`, as in
                `generate`.

        Returns:
            uint8 [n, h, w, c].

        Raises:
            ValueError: when the model does not enlarge, or the pictures do not fit it.
        """
        self.check_purpose(enlarges=True)
        pictures = check_images(pictures, any_channels=True)
        small = self._small_shape()
        if pictures.shape[1:] != small:
            raise ValueError(
                f"Pictures must be [n, *{small}]. Received: pictures of shape {pictures.shape}"
            )
        rows = [pictures, *self.picture_rows(len(pictures), labels, seed)]
        return self.sampled("enlarge", self.enlarge_images, rows, batch_size, progress, how)

    def enlarge_images(self, picture, seed, label=None, sampling=None):
        """As `enlarge`, with tensors: uint8 [batch, h / upscale, w / upscale, c], int64 [batch]."""
        sampling = sampling or self.checked_sampling()

        def step(picture, seed, label=None):
            small = images.from_uint8(picture)
            arguments = self.sampler_arguments(seed, label, sampling, small)
            return images.to_uint8(sampling.sampler(x=self.prior(seed), **arguments))

        return self.grouped(step, [picture, seed, label])

    def _small_shape(self):
        height, width, channels = self.image_shape
        return height // self.upscale, width // self.upscale, channels

    def signatures(self):
        """As in `GenerativeModel`, and `inpaint`.

        A model that enlarges has `serving_default` alone: image uint8 [batch, h / upscale,
        w / upscale, c], seed int64 [batch] (and label) -> images. Where the model was trained
        without labels too, the label `num_classes` of a picture is "no label".
        """
        if not self.upscale:
            return {**super().signatures(), "inpaint": self._inpaint_signature()}
        signature = [
            tf.TensorSpec([None, *self._small_shape()], tf.uint8, name="image"),
            *saved_model.row_signature(self.num_classes),
        ]

        def serving_default(image, seed, label=None):
            with tf.control_dependencies(self._picture_checks([image, seed], label)):
                return {"images": self.enlarge_images(tf.identity(image), seed, label)}

        return {"serving_default": (serving_default, signature)}

    def _inpaint_signature(self):
        """`inpaint`: image uint8 [batch, h, w, c], mask bool [batch, h, w], seed (and label) ->
        images."""
        height, width, _ = self.image_shape
        signature = [
            tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image"),
            tf.TensorSpec([None, height, width], tf.bool, name="mask"),
            *saved_model.row_signature(self.num_classes),
        ]

        def inpaint(image, mask, seed, label=None):
            with tf.control_dependencies(self._picture_checks([image, mask, seed], label)):
                return {"images": self.inpaint_images(image, mask, tf.identity(seed), label)}

        return inpaint, signature

    def _picture_checks(self, parts, label):
        """As `request_checks`, of given pictures, which may have no label."""
        return self.request_checks(parts, label, with_none=self.label_dropout > 0)

    def picture_rows(self, n, labels, seed=0):
        """As `rows`, of given pictures; where there are no labels, "no label" is the label."""
        if self.num_classes and labels is None:
            if not self.label_dropout:
                raise ValueError(
                    f"{self.name!r} knows no pictures without labels. Received: labels=None with "
                    "label_dropout=0"
                )
            return [self.rows(n, 0, seed)[0], np.full(n, self.num_classes, np.int32)]
        return self.rows(n, labels, seed)
