"""VQ-VAE (van den Oord et al. 2017; Razavi et al. 2019): images as grids of codes."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_gen import images, losses, networks, randomness
from keras_gen.models import codebook
from keras_gen.models.autoregressive import PixelCNN
from keras_gen.models.average import WeightAverages
from keras_gen.models.base import GenerativeModel, in_batches, specs_of
from keras_gen.networks import inputs
from keras_gen.strategies import is_number, not_negative

STAGES = ("autoencoder", "prior")
CODE_CHANNELS = 16
EMBEDDING = 64  # of a code, in the default prior


@keras.saving.register_keras_serializable("keras_gen")
class VQVAE(GenerativeModel):
    """An autoencoder whose latents are codes of a learned codebook, and a PixelCNN of these codes.

    It is trained in two stages, on the same data:

    ```python
    source = kg.data.load("mnist")
    model = kg.models.VQVAE(source.image_shape, num_classes=source.num_classes)
    model.compile()
    model.fit(source.batches(128), epochs=10)  # encoder, codebook and decoder
    model.stage = "prior"
    model.compile()
    model.fit(source.batches(64), epochs=10)  # the PixelCNN; all else stays as it is

    images = model.generate(16, labels=3, seed=0)
    codes = model.encode(source.take(16)[0])  # int32 [16, 7, 7]
    again = model.decode(codes)
    ```

    The encoder gives each place of a small grid a vector z, which its nearest code e of the
    codebook replaces. The first stage minimizes

        reconstruction(x, decoder(e)) + commitment_cost * mean((z - sg(e))²),

    sg being the stop of the gradient; the decoder's gradient at e is given to z (straight-through).
    The codebook is no matter of gradients: each code follows the mean of the vectors that it stands
    for, and one that hardly any vector is near to begins anew at a vector that is far from all
    codes. `perplexity` is reported beside the terms of the loss: how many codes a batch uses,
    were they used alike.

    The second stage minimizes the nats of an image's codes. Before it, the prior says that all
    codes are alike, and `generate` decodes noise.

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes, which the prior alone is told of; None for a model without
            labels.
        encoder: Functional model: images float32 [batch, h, w, c] in [-1, 1] -> float32 [batch,
            units], units being those of `latent_shape`. None:
            `networks.autoencoder.spatial_encoder`.
        decoder: Functional model: float32 [batch, units] -> images float32 [batch, h, w, c],
            cut at -1 and 1 in the end. None: `networks.autoencoder.spatial_decoder`.
        latent_shape: (height, width, channels) of the grid and of the vectors in it. None: (h / r,
            w / r, 16), r being a power of two that leaves about 8 places
            a side, as far as both sides can be halved.
        codebook_size: int, 2 to 65,536 codes.
        commitment_cost: weight of the commitment term.
        decay: of the averages that codes follow, for each training step, in [0, 1).
        restart_below: a code begins anew when it is used less often than this share of what a code
            is used on average; in [0, 1), 0 for never.
        loss: "squared_error", "absolute_error" or "cross_entropy"; see `keras_gen.losses`.
        prior: Functional model as the `network` of `PixelCNN`, of images (height, width, 1) with
            `codebook_size` levels. None: `networks.pixelcnn.gated` with an `embedding`.
        stage: "autoencoder" or "prior", what is trained. When it is changed, the model must be
            compiled anew; a stage counts its own training steps.
        seed, ema: as in `GenerativeModel`.

    Raises:
        ValueError: when an argument is unknown or out of range, or the networks do not fit the
            images, the latents or the classes.
    """

    generation_rows = PixelCNN.generation_rows

    def __init__(
        self,
        image_shape,
        num_classes=None,
        encoder=None,
        decoder=None,
        latent_shape=None,
        codebook_size=512,
        commitment_cost=0.25,
        decay=0.99,
        restart_below=0.03,
        loss="squared_error",
        prior=None,
        stage="autoencoder",
        **kwargs,
    ):
        super().__init__(image_shape, num_classes, **kwargs)
        if not isinstance(codebook_size, (int, np.integer)) or not 2 <= codebook_size <= 65536:
            raise ValueError(
                "`codebook_size` must be an integer in [2, 65536]. "
                f"Received: codebook_size={codebook_size!r}"
            )
        not_negative(commitment_cost=commitment_cost)
        for name, value in (("decay", decay), ("restart_below", restart_below)):
            if not (is_number(value) and 0 <= value < 1):
                raise ValueError(f"`{name}` must lie in [0, 1). Received: {name}={value!r}")
        if latent_shape is None:
            latent_shape = default_latent_shape(self.image_shape)
        self.latent_shape = _checked_latent_shape(latent_shape)
        self.latent_dim = math.prod(self.latent_shape)
        self.codebook_size, self.commitment_cost = int(codebook_size), float(commitment_cost)
        self.decay, self.restart_below = float(decay), float(restart_below)
        self.loss_name, self.loss_function = loss, losses.get_reconstruction_loss(loss)

        shapes = self.image_shape, self.latent_shape
        if encoder is None:
            encoder = networks.autoencoder.spatial_encoder(
                *shapes, parameters=1, seed=2 * self.seed
            )
        if decoder is None:
            decoder = networks.autoencoder.spatial_decoder(
                *shapes, activation=losses.OUTPUTS.get(loss), seed=2 * self.seed + 1
            )
        self.encoder, self.decoder = encoder, decoder
        self._check_networks()
        self._make_codebook()
        self.autoencoder_averages = WeightAverages(self.ema)
        self.averaged_encoder = self.autoencoder_averages.follow(self.encoder)
        self.averaged_decoder = self.autoencoder_averages.follow(self.decoder)
        self.autoencoder_averages.pairs.append((self.averaged_codebook, self.codebook))
        self.prior = self._prior(prior)
        self._stage = None
        self.stage = stage
        self.built = True

    def _check_networks(self):
        fitting = {
            "encoder": (self.encoder, self.image_shape, (self.latent_dim,)),
            "decoder": (self.decoder, (self.latent_dim,), self.image_shape),
        }
        for name, (network, taken, made) in fitting.items():
            inputs_and_output = [i.shape[1:] for i in (*network.inputs, network.outputs[0])]
            if inputs_and_output != [taken, made]:
                raise ValueError(
                    f"The {name} must take {taken} alone and make {made}, as latent_shape="
                    f"{self.latent_shape}. Received: {name} from "
                    f"{inputs_and_output[:-1]} to {inputs_and_output[-1]}"
                )
            inputs.check_float32(name, network)

    def _make_codebook(self):
        """The codes, how often each is used, and the codes by which images are generated."""
        size, channels = self.codebook_size, self.latent_shape[2]
        own = {
            "dtype": "float32",
            "trainable": False,
            "autocast": False,
            "aggregation": "only_first_replica",  # of values that are the same on all
        }
        first = keras.initializers.RandomNormal(stddev=0.1, seed=self.seed)
        self.codebook = self.add_weight(
            name="codebook", shape=(size, channels), initializer=first, **own
        )
        self.averaged_codebook = self.add_weight(
            name="averaged_codebook", shape=(size, channels), initializer=first, **own
        )
        self.counts = self.add_weight(name="counts", shape=(size,), initializer="zeros", **own)

    def _prior(self, network):
        shape = (*self.latent_shape[:2], 1)
        if network is None:
            network = networks.pixelcnn.gated(
                shape,
                self.codebook_size,
                self.num_classes,
                # nine rows are seen without dilation, which are all of most grids
                dilations=(1,) if max(shape) <= 9 else (1, 2, 4),
                embedding=EMBEDDING,
                seed=self.seed,
            )
        return PixelCNN(
            shape,
            self.num_classes,
            self.codebook_size,
            network,
            seed=self.seed,
            ema=self.ema,
            dtype=self.dtype_policy,
            name="prior",
        )

    def get_config(self):
        serialized = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialized(self.encoder),
            "decoder": serialized(self.decoder),
            "latent_shape": list(self.latent_shape),
            "codebook_size": self.codebook_size,
            "commitment_cost": self.commitment_cost,
            "decay": self.decay,
            "restart_below": self.restart_below,
            "loss": self.loss_name,
            "prior": serialized(self.prior.network),
            "stage": self.stage,
        }

    @property
    def stage(self):
        """What is trained, "autoencoder" or "prior"; see the class."""
        return self._stage

    @stage.setter
    def stage(self, stage):
        if stage not in STAGES:
            raise ValueError(f"`stage` must be one of {STAGES}. Received: stage={stage!r}")
        if stage == self._stage:
            return
        self._stage = stage
        of_prior = stage == "prior"
        self.averages = self.prior.averages if of_prior else self.autoencoder_averages
        self.step.assign(0)
        self.prior.step.assign(0)
        self.compiled = False

    # Training

    @property
    def trainable_variables(self):
        """Those of the networks that the stage trains."""
        if not self.trainable:
            return []
        trained = [self.prior.network]
        if self.stage == "autoencoder":
            trained = [self.encoder, self.decoder]
        return [variable for network in trained for variable in network.trainable_variables]

    trainable_weights = trainable_variables

    @property
    def loss_names(self):
        if self.stage == "prior":
            return self.prior.loss_names
        return ["loss", "reconstruction", "commitment", "perplexity"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.stage == "prior":
            values = self.prior.to_values(self.code_step(x)[..., None])
            return self.prior.compute_loss(values, y, training=training)

        key = self.step_key(training)
        with randomness.scope(randomness.key(key, "encoder")):
            vectors = self._vectors(inputs.call(self.encoder, x, training=training))
        book = tf.convert_to_tensor(self.codebook.value)
        codes, distances = codebook.nearest(tf.stop_gradient(vectors), book)
        counts, sums = self._over_replicas(
            *codebook.sums_of(tf.stop_gradient(vectors), codes, self.codebook_size)
        )
        if training:
            self._follow(counts, sums, tf.stop_gradient(vectors), distances, key)

        chosen = tf.gather(book, codes)
        passed = vectors + tf.stop_gradient(chosen - vectors)  # straight-through
        with randomness.scope(randomness.key(key, "decoder")):
            made = inputs.call(self.decoder, self._units(passed), training=training)
        reconstruction = self.loss_function(x, made)
        commitment = tf.reduce_mean(tf.square(self._units(vectors - chosen)), 1)
        return {
            "loss": reconstruction + self.commitment_cost * commitment,
            "reconstruction": reconstruction,
            "commitment": commitment,
            "perplexity": tf.fill(tf.shape(reconstruction), codebook.perplexity(counts)),
        }

    def _follow(self, batch_counts, batch_sums, vectors, distances, key):
        """Moves the codebook towards the vectors of a batch, and restarts dead codes."""
        book, counts = codebook.moved(
            self.codebook.value, self.counts.value, batch_counts, batch_sums, self.decay
        )
        if self.restart_below:
            # one draw for each vector: replicas draw for their own, and the highest of all count
            places = math.prod(self.latent_shape[:2])
            shape = [tf.shape(vectors)[0] // places, places]
            uniforms = randomness.uniform(shape, randomness.key(key, "restart"))
            vectors, priorities = codebook.candidates(
                vectors, distances, tf.reshape(uniforms, [-1]), self.codebook_size
            )
            if self.distribute_strategy.num_replicas_in_sync > 1:
                context = tf.distribute.get_replica_context()
                vectors, priorities = context.all_gather([vectors, priorities], axis=0)
                vectors, _ = codebook.highest(priorities, vectors, self.codebook_size)
            book, counts = codebook.restarted(book, counts, vectors, self.restart_below)
        # float16 may overflow, in a step that the optimizer then leaves out
        finite = tf.reduce_all(tf.math.is_finite(book)) & tf.reduce_all(tf.math.is_finite(counts))
        self.codebook.assign(tf.where(finite, book, self.codebook.value))
        self.counts.assign(tf.where(finite, counts, self.counts.value))

    def _over_replicas(self, *tensors):
        """The sums of tensors over all replicas."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return tensors
        return tf.distribute.get_replica_context().all_reduce("SUM", list(tensors))

    def finish_step(self):
        super().finish_step()
        if self.stage == "prior":
            self.prior.step.assign(self.step)  # by which it draws

    def _vectors(self, units):
        """[batch, units] to vectors float32 [batch * places, channels], and back `_units`."""
        return tf.reshape(tf.cast(units, tf.float32), [-1, self.latent_shape[2]])

    def _units(self, vectors):
        return tf.reshape(vectors, [-1, self.latent_dim])

    # Tensors in and out, by the averages

    def code_step(self, x):
        """Codes int32 [rows, height, width] of images float32 [rows, h, w, c] in [-1, 1]."""
        return self._nearest(inputs.call(self.averaged_encoder, x))

    def image_step(self, codes):
        """Images float32 [rows, h, w, c] in [-1, 1] of codes int32 [rows, height, width]."""
        return tf.clip_by_value(inputs.call(self.averaged_decoder, self._embedded(codes)), -1, 1)

    def encode_step(self, x, label=None):
        """The vectors of the codes of images, float32 [rows, latent_dim], as for diffusion in
        latents; the label is not looked at."""
        return self._embedded(self.code_step(x))

    def decode_step(self, latent, label=None):
        """Images of vectors float32 [rows, latent_dim], each replaced by the nearest code."""
        return self.image_step(self._nearest(latent))

    def _nearest(self, units):
        codes, _ = codebook.nearest(self._vectors(units), self.averaged_codebook.value)
        return tf.reshape(codes, [-1, *self.latent_shape[:2]])

    def _embedded(self, codes):
        return self._units(tf.gather(self.averaged_codebook.value, codes))

    def generate_step(self, seed, label=None):
        return self.image_step(self.prior.draw_levels(seed, label)[..., 0])

    @property
    def generating_weights(self):
        pairs = self.autoencoder_averages.pairs + self.prior.averages.pairs
        return [average for average, _ in pairs]

    def encode_images(self, image):
        """As `code_step`, for any number of images uint8 [batch, h, w, c]."""
        spec = tf.TensorSpec(self.latent_shape[:2], tf.int32)
        return self.grouped(lambda x: self.code_step(images.from_uint8(x)), [image], spec)

    def decode_codes(self, codes):
        """As `image_step`, for any number of codes; uint8 [batch, h, w, c]."""
        return self.grouped(lambda codes: images.to_uint8(self.image_step(codes)), [codes])

    def latent_images(self, image):
        """As `encode_step`, for any number of images uint8 [batch, h, w, c]."""
        return self._embedded(self.encode_images(image))

    # NumPy in and out

    def encode(self, pictures, labels=None, batch_size=1024):
        """Codes of pictures.

        Args:
            pictures: uint8 [n, h, w, c].
            labels: not looked at, as the prior alone knows classes; other models need them here.
            batch_size: pictures in memory of the accelerator at a time; changes no result.

        Returns:
            NumPy int32 [n, height, width] in [0, codebook_size), height and width those of
            `latent_shape`.

        Raises:
            ValueError: when the pictures do not fit the model.
        """
        return self._of_pictures("encode", self.encode_images, pictures, batch_size)

    def latents(self, pictures, labels=None, batch_size=1024):
        """The vectors of pictures' codes, float32 [n, latent_dim]; arguments as in `encode`."""
        return self._of_pictures("latents", self.latent_images, pictures, batch_size)

    def _of_pictures(self, key, function, pictures, batch_size):
        rows = [self.checked_pictures(pictures)]
        return in_batches(self.compiled_function(key, function, specs_of(rows)), rows, batch_size)

    def decode(self, codes, labels=None, batch_size=1024):
        """Images of codes.

        Args:
            codes: integers [n, height, width] in [0, codebook_size).
            labels, batch_size: as in `encode`.

        Returns:
            NumPy uint8 [n, h, w, c].

        Raises:
            ValueError: when the codes do not fit the model.
        """
        codes = np.asarray(codes)
        height, width, _ = self.latent_shape
        if codes.dtype.kind not in "iu" or codes.shape[1:] != (height, width):
            raise ValueError(
                f"`codes` must be integers [n, {height}, {width}]. "
                f"Received: codes of shape {codes.shape} and dtype {codes.dtype}"
            )
        if codes.size and not (codes.min() >= 0 and codes.max() < self.codebook_size):
            raise ValueError(
                f"`codes` must lie in [0, {self.codebook_size}). "
                f"Received: codes from {codes.min()} to {codes.max()}"
            )
        rows = [codes.astype(np.int32)]
        function = self.compiled_function("decode", self.decode_codes, specs_of(rows))
        return in_batches(function, rows, batch_size)

    def reconstruct(self, pictures, labels=None, batch_size=1024):
        """Pictures encoded and decoded again; arguments as in `encode`, uint8 [n, h, w, c]."""
        return self.decode(self.encode(pictures, labels, batch_size), labels, batch_size)

    # Export

    def signatures(self):
        """As in `GenerativeModel`, and `encode`, `decode` and `reconstruct`.

        `encode`: image uint8 [batch, h, w, c] -> codes int32 [batch, height, width]. `decode`:
        codes -> images uint8. `reconstruct`: image -> images.
        """

        def encode(image):
            return {"codes": self.encode_images(image)}

        def decode(codes):
            in_range = tf.reduce_all((codes >= 0) & (codes < self.codebook_size))
            message = f"Codes must lie in [0, {self.codebook_size}). Received:"
            with tf.control_dependencies([tf.debugging.Assert(in_range, [message, codes])]):
                return {"images": self.decode_codes(tf.identity(codes))}

        def reconstruct(image):
            return {"images": self.decode_codes(self.encode_images(image))}

        image = tf.TensorSpec([None, *self.image_shape], tf.uint8, name="image")
        codes = tf.TensorSpec([None, *self.latent_shape[:2]], tf.int32, name="codes")
        return {
            **super().signatures(),
            "encode": (encode, [image]),
            "decode": (decode, [codes]),
            "reconstruct": (reconstruct, [image]),
        }


def default_latent_shape(image_shape):
    """The image's sides, halved until about 8 places are left, at least once where they are even,
    and the default channels."""
    (height, width, _), ratio = image_shape, 1
    while not (height % (2 * ratio) or width % (2 * ratio)) and (
        ratio == 1 or min(height, width) > 8 * ratio
    ):
        ratio *= 2
    return (height // ratio, width // ratio, CODE_CHANNELS)


def _checked_latent_shape(latent_shape):
    shape = tuple(latent_shape) if isinstance(latent_shape, (tuple, list)) else ()
    if len(shape) != 3 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ValueError(
            "`latent_shape` must be three positive integers, (height, width, channels). "
            f"Received: latent_shape={latent_shape!r}"
        )
    return tuple(int(n) for n in shape)
