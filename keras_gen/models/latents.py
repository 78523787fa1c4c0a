"""What is done with the latents of an encoder and a decoder, whatever they were trained for."""

import numpy as np
import tensorflow as tf
from scipy import stats

from keras_gen import images, networks, randomness
from keras_gen.models.base import in_batches, specs_of
from keras_gen.models.decoding import Decoding
from keras_gen.strategies import checked_count

LATENT_DIM = 32


class Latents(Decoding):
    """Part of `Autoencoder` and `VAE`: encode, decode, interpolate, traverse; all by the averages.

    A family gives `encode_step`, `decode_step`, `named_codes` and `latents_of`. All results are the
    same for a row whatever the rows around it, bit for bit.
    """

    def use_networks(self, encoder, decoder, latent_dim, parameters, output):
        """Sets the networks and their averages, the default ones where they are None.

        Args:
            encoder, decoder: Functional models, or None.
            latent_dim: units of the latent; None: those of the given networks, or 32.
            parameters: numbers that the encoder puts out for each unit.
            output: dict of what the default decoder is told of its output; `parameters` of it is
                how many numbers a decoder puts out for each pixel and channel.

        Raises:
            ValueError: when they do not fit the images, the classes or one another.
        """
        if latent_dim is None and decoder is not None:
            latent_dim = decoder.inputs[0].shape[-1]
        if latent_dim is None and encoder is not None:
            latent_dim = encoder.outputs[0].shape[-1] // parameters
        if latent_dim is None:
            latent_dim = LATENT_DIM
        self.latent_dim = self.noise_dim = checked_count("latent_dim", latent_dim)
        default = {"num_classes": self.num_classes, "latent_dim": self.latent_dim}
        if encoder is None:
            encoder = networks.autoencoder.encoder(
                self.image_shape, parameters=parameters, seed=2 * self.seed, **default
            )
        if decoder is None:
            decoder = networks.autoencoder.decoder(
                self.image_shape, seed=2 * self.seed + 1, **output, **default
            )
        self._check_networks(encoder, decoder, parameters, output["parameters"])
        self.encoder, self.decoder = encoder, decoder
        self.averaged_encoder = self.averages.follow(encoder)
        self.averaged_decoder = self.averages.follow(decoder)

    def _check_networks(self, encoder, decoder, parameters, outputs):
        takes = 2 if self.num_classes else 1
        *sides, channels = self.image_shape
        fitting = {
            "encoder": (self.image_shape, (parameters * self.latent_dim,)),
            "decoder": ((self.latent_dim,), (*sides, outputs * channels)),
        }
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            if len(network.inputs) != takes:
                expected = "two inputs, with the label second" if takes == 2 else "one input"
                raise ValueError(
                    f"The {name} must have {expected}, as num_classes={self.num_classes}. "
                    f"Received: {name} with inputs {[i.name for i in network.inputs]}"
                )
            found = network.inputs[0].shape[1:], network.outputs[0].shape[1:]
            if found != fitting[name]:
                taken, made = fitting[name]
                raise ValueError(
                    f"The {name} must take {taken} and make {made}, as "
                    f"latent_dim={self.latent_dim}. Received: {name} from {found[0]} to {found[1]}"
                )
            networks.inputs.check_classes(name, network, self.num_classes)
            networks.inputs.check_float32(name, network)

    # What a family gives

    def encode_step(self, x, label=None):
        """Codes of one group of images, with the averaged encoder: pure tensors in and out.

        Args:
            x: float32 [rows, h, w, c] in [-1, 1].
            label: int32 [rows] where the model has classes.

        Returns:
            float32 [rows, parameters * latent_dim], the latents first.
        """
        raise NotImplementedError

    def named_codes(self, codes):
        """What `encode_step` gives, as a dict of names and tensors."""
        raise NotImplementedError

    def latents_of(self, noise, label=None):
        """Standard normal noise [rows, noise_dim] as latents to generate from."""
        raise NotImplementedError

    # Tensors in and out

    def generate_step(self, seed, label=None):
        noise = randomness.row_normal(seed, [self.noise_dim])
        return self.decode_step(self.latents_of(noise, label), label)

    def encode_images(self, image, label=None):
        """As `encode_step`, for any number of images uint8 [batch, h, w, c]."""
        spec = tf.TensorSpec(self.encoder.outputs[0].shape[1:], tf.float32)
        return self.grouped(
            lambda x, *label: self.encode_step(images.from_uint8(x), *label), [image, label], spec
        )

    # NumPy in and out

    def reconstruct(self, pictures, labels=None, batch_size=1024):
        """Pictures encoded and decoded again; arguments as in `encode`, uint8 [n, h, w, c]."""
        return self.decode(self.latents(pictures, labels, batch_size), labels, batch_size)

    def interpolate(self, first, second, count, labels=None, batch_size=1024):
        """Images between two, on the straight line from latent to latent.

        Args:
            first, second: uint8 [n, h, w, c].
            count: int, how many images for each pair, the ends included.
            labels, batch_size: as in `encode`; labels of each pair.

        Returns:
            uint8 [n, count, h, w, c]; the ends are the reconstructions of `first` and `second`.

        Raises:
            ValueError: when the pictures do not fit the model or one another.
        """
        first, second = self.checked_pictures(first), self.checked_pictures(second)
        count = checked_count("count", count, least=2)
        if first.shape != second.shape:
            raise ValueError(
                "`first` and `second` must be as many. Received: "
                f"{len(first)} and {len(second)} images"
            )
        start, end = (
            self.latents(pictures, labels, batch_size)[:, None] for pictures in (first, second)
        )
        share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
        return self._decoded((1 - share) * start + share * end, labels, batch_size)

    def traverse(self, pictures, values=None, units=None, labels=None, batch_size=1024):
        """Latent traversals: one unit of a picture's latent is given one value after another.

        Args:
            pictures: uint8 [n, h, w, c].
            values: floats [count]. None: nine from -3 to 3.
            units: ints, which units of the latent. None: all.
            labels, batch_size: as in `encode`.

        Returns:
            uint8 [n, units, count, h, w, c].

        Raises:
            ValueError: when the pictures do not fit the model, or there is no such unit.
        """
        values = np.asarray(np.linspace(-3, 3, 9) if values is None else values, np.float32)
        chosen = np.arange(self.latent_dim) if units is None else np.asarray(units)
        if (
            values.ndim != 1
            or chosen.ndim != 1
            or chosen.dtype.kind not in "iu"
            or not np.isin(chosen, range(self.latent_dim)).all()
        ):
            raise ValueError(
                f"`values` must be [count], and `units` ints below {self.latent_dim}. "
                f"Received: values={values!r}, units={units!r}"
            )
        latents = self.latents(pictures, labels, batch_size)
        shape = len(latents), len(chosen), len(values), self.latent_dim
        varied = np.broadcast_to(latents[:, None, None], shape).copy()
        for i, unit in enumerate(chosen):
            varied[:, i, :, unit] = values
        return self._decoded(varied, labels, batch_size)

    def manifold(self, count=20, label=None, batch_size=1024):
        """The images of a two-dimensional latent space (Kingma and Welling 2014, figure 4).

        Args:
            count: int, images in each direction. They lie at equal steps of probability.
            label: int, the class, for models with classes.
            batch_size: as in `decode`.

        Returns:
            uint8 [count, count, h, w, c]; the first unit grows to the right, the second upwards.
            `keras_gen.images.grid(manifold.reshape(-1, h, w, c), count, padding=0)` shows it.

        Raises:
            ValueError: when the latent has not two units, or the label does not fit.
        """
        count = checked_count("count", count)
        if (self.latent_dim, self.noise_dim) != (2, 2):
            raise ValueError(
                "A manifold needs a latent of two units, and none above it. Received: "
                f"latent_dim={self.latent_dim} of noise_dim={self.noise_dim}"
            )
        steps = stats.norm.ppf((np.arange(count) + 0.5) / count).astype(np.float32)
        noise = np.stack(np.meshgrid(steps, steps[::-1]), -1).reshape(-1, 2)
        labels = self.picture_rows(len(noise), label)[1:]
        latents = self.latents_of(tf.constant(noise), *labels)
        made = self.decode(latents, label, batch_size)
        return made.reshape(count, count, *self.image_shape)

    def codes(self, pictures, labels=None, batch_size=1024):
        """What the averaged encoder says of pictures, float32 [n, parameters * latent_dim]."""
        pictures = self.checked_pictures(pictures)
        rows = [pictures, *self.picture_rows(len(pictures), labels)[1:]]
        function = self.compiled_function("encode", self.encode_images, specs_of(rows))
        return in_batches(function, rows, batch_size)

    def latents(self, pictures, labels=None, batch_size=1024):
        """Latents of pictures, float32 [n, latent_dim], means where they are distributions;
        arguments as in `encode`."""
        return self.codes(pictures, labels, batch_size)[:, : self.latent_dim]

    def _decoded(self, latents, labels, batch_size):
        """Images of latents [n, ..., latent_dim], labels being those of the first dimension."""
        *shape, size = latents.shape
        if labels is not None and np.ndim(labels):
            labels = np.repeat(labels, int(np.prod(shape[1:])))
        made = self.decode(latents.reshape(-1, size), labels, batch_size)
        return made.reshape(*shape, *self.image_shape)

    # Export

    def signatures(self):
        """As in `GenerativeModel`, and `encode`, `decode` and `reconstruct`.

        `encode`: image uint8 [batch, h, w, c] (and label int32 [batch] with classes) -> what
        `encode` gives, float32 [batch, latent_dim] by name. `decode`: latent float32
        [batch, latent_dim] (and label) -> images uint8. `reconstruct`: image (and label) -> images.
        """

        def encode(image, label=None):
            return self.named_codes(self.encode_images(*self._checked_request(image, label)))

        def decode(latent, label=None):
            return {"images": self.decode_latents(*self._checked_request(latent, label))}

        def reconstruct(image, label=None):
            codes = self.encode_images(*self._checked_request(image, label))
            return {"images": self.decode_latents(codes[:, : self.latent_dim], label)}

        labels = [tf.TensorSpec([None], tf.int32, name="label")] if self.num_classes else []
        image = tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image")
        latent = tf.TensorSpec([None, self.latent_dim], tf.float32, name="latent")
        return {
            **super().signatures(),
            "encode": (encode, [image, *labels]),
            "decode": (decode, [latent, *labels]),
            "reconstruct": (reconstruct, [image, *labels]),
        }

    def _checked_request(self, first, label):
        """Images or latents and their labels, once it is sure that these fit."""
        with tf.control_dependencies(self.request_checks([first], label)):
            return tf.identity(first), label
