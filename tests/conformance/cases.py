"""The models that must keep every guarantee: register a new model here on its first day."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import keras
import numpy as np
import tensorflow as tf

import keras_gen as kg
from keras_gen import diffusion as d
from keras_gen import losses, models, networks


def digits(image_shape=(8, 8, 1), labelled=True, count=256):
    """Real handwritten digits, made RGB by repetition or wider by padding, as a source."""
    pixels, labels = kg.data.load("digits").take(count, seed=0)
    pixels = np.repeat(pixels, image_shape[2], axis=3)
    rows, columns = image_shape[0] - 8, image_shape[1] - 8
    pixels = np.pad(pixels, ((0, 0), (0, rows), (0, columns), (0, 0)))
    return kg.data.load((pixels, labels) if labelled else pixels)


def moving_digits(image_shape=(8, 8, 1), labelled=True):
    """Sequences of 3 frames, in which a small digit moves by a pixel."""
    source = kg.data.load(
        "digits", image_size=5, channels=image_shape[2], label=None if labelled else False
    )
    return kg.data.moving_digits(source, 1, image_shape[:2], 3, count=256, speed=1.0)


def negatives(image_shape=(8, 8, 1), labelled=True):
    """Digits, and as many negatives of digits, to be told from them."""
    pictures, _ = digits(image_shape).take(256)
    return kg.data.unpaired(pictures, 255 - pictures)


def masked_digits(image_shape=(8, 8, 1), labelled=True):
    """Digits of which a part is hidden, and the whole ones."""
    return kg.data.masked(digits(image_shape, labelled))


def seeds_and_labels(image_shape, seeds, labels):
    return {"seed": seeds} | ({} if labels is None else {"label": labels.astype(np.int32)})


def generated(model, request, **kwargs):
    return model.generate(len(request["seed"]), request.get("label"), request["seed"], **kwargs)


@dataclass(frozen=True)
class Case:
    """One model of the conformance suite.

    Attributes:
        name: name of the test.
        make: function (image_shape, num_classes, **arguments of the model) -> model, tiny and not
            compiled, the same weights each time.
        labelled: whether the case is tested with classes.
        learning_rate: with which Adam makes progress in 10 epochs on the digits.
        progress: function (model, source) -> float that training lowers.
        weighted: dict from the name of a weight of a loss term to a function of the weight that
            gives arguments for `make`.
        unmoved: paths of the trainable weights that the loss does not depend on.
        data: function (image_shape, labelled) -> source to train on.
        request: function (image_shape, seeds int64 [n], labels int32 [n] or None) -> dict of arrays
            [n, ...]: what the exported model is asked for, by the names of its inputs.
        outputs: function (model, request, **arguments of the model's method) -> uint8 images.
        step: name of the method that makes one group of them, float32.
        eager: whether half precision and replicas are tested eagerly: where the training step is
            that of another case, which is tested in a graph, but for a formula or a network. In
            float32 and by XLA every case trains in a graph.
    """

    name: str
    make: Callable
    labelled: bool
    learning_rate: float = 2e-3
    progress: Callable = None
    weighted: dict = field(default_factory=dict)
    unmoved: frozenset = frozenset()
    data: Callable = digits
    request: Callable = seeds_and_labels
    outputs: Callable = generated
    step: str = "generate_step"
    eager: bool = False


def pixel_distance(model, source):
    """Squared maximum mean discrepancy of generated and real images, Gaussian kernel on pixels."""
    real, labels = source.take(256, seed=0)
    fake = model.generate(len(real), labels=labels if model.num_classes else None, seed=1)
    real, fake = (x.reshape(len(x), -1).astype(np.float64) / 255 for x in (real, fake))

    def kernel(a, b):
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return np.exp(-squared / a.shape[1] / 0.1).mean()

    return kernel(real, real) + kernel(fake, fake) - 2 * kernel(real, fake)


def loss_on_data(model, source):
    """The loss, of models that do not generate images near the data: a diffusion model or a prior
    in the latents of an autoencoder that was not trained, or an autoencoder without a prior."""
    pixels, labels = source.take(256, seed=0)
    batches = kg.data.load((pixels, labels) if model.num_classes else pixels).batches(256)
    return model.evaluate(batches, verbose=0, return_dict=True)["loss"]


def mlp_gan(image_shape, num_classes, **kwargs):
    kwargs = {"recipe": "gan", **kwargs}
    return models.GAN(
        image_shape,
        num_classes,
        generator=networks.mlp.generator(image_shape, 8, (32,), num_classes=num_classes),
        discriminator=networks.mlp.discriminator(image_shape, (32,), num_classes, seed=1),
        ema=0.9,
        **kwargs,
    )


def dcgan(image_shape, num_classes, **kwargs):
    kwargs = {"recipe": "dcgan", **kwargs}
    return models.GAN(
        image_shape,
        num_classes,
        generator=networks.dcgan.generator(
            image_shape, 8, width=8, kernel_size=3, num_classes=num_classes
        ),
        discriminator=networks.dcgan.discriminator(
            image_shape, width=8, kernel_size=3, num_classes=num_classes, seed=1
        ),
        ema=0.9,
        **kwargs,
    )


def resnet(image_shape, num_classes, judge=None, both=None, **kwargs):
    """R3GAN's networks, tiny; `judge` and `both` are settings of the discriminator, of both."""
    kwargs = {"recipe": "r3gan", **kwargs}
    both = {"width": 8, "num_classes": num_classes, **(both or {})}
    codes = kwargs.get("codes")
    return models.GAN(
        image_shape,
        num_classes,
        generator=networks.resnet.generator(image_shape, 8 + (codes.dim if codes else 0), **both),
        discriminator=networks.resnet.discriminator(
            image_shape,
            seed=1,
            **both,
            **(judge or {}),
        ),
        **kwargs,
    )


def acgan(image_shape, num_classes, codes=None, classification_weight=1.0, **kwargs):
    """InfoGAN, and ACGAN where there are classes."""
    codes = codes or losses.Codes([2], 1)
    judge = {"code_parameters": codes.dim}
    if num_classes:
        judge["classifier"] = True
        kwargs["classification_weight"] = classification_weight
    return resnet(image_shape, num_classes, judge=judge, codes=codes, **kwargs)


def gan(name, make, labelled, weighted=None, unmoved=(), learning_rate=2e-3, eager=False, **kwargs):
    return Case(
        name=f"gan-{name}",
        make=lambda image_shape, num_classes, **other: make(
            image_shape, num_classes, **{**kwargs, **other}
        ),
        labelled=labelled,
        learning_rate=learning_rate,
        progress=pixel_distance,
        weighted=weighted or {},
        unmoved=frozenset(unmoved),
        eager=eager,
    )


def unet(image_shape, num_classes):
    return networks.unet.denoiser(
        image_shape, num_classes, width=16, multipliers=(1,), blocks=1, attention=()
    )


def attending_unet(image_shape, num_classes):
    return networks.unet.denoiser(
        image_shape,
        num_classes,
        width=16,
        multipliers=(1,),
        blocks=1,
        attention=(0,),
        block="dense",
        dropout=0.1,
    )


def dit(image_shape, num_classes):
    return networks.dit.denoiser(image_shape, num_classes, width=32, depth=1, heads=2)


def diffusion(
    name,
    labelled,
    kind=models.Diffusion,
    network=unet,
    weighted=None,
    learning_rate=1e-2,  # Muon's
    eager=False,
    **kwargs,
):
    def make(image_shape, num_classes, **other):
        settings = {**kwargs, **other}
        if num_classes is None:
            settings.pop("guidance_scale", None)  # of what there are no classes
        return kind(
            image_shape, num_classes, network=network(image_shape, num_classes), ema=0.9, **settings
        )

    return Case(
        name=f"diffusion-{name}",
        make=make,
        labelled=labelled,
        learning_rate=learning_rate,
        progress=pixel_distance,
        weighted=weighted or {},
        eager=eager,
    )


def latent_diffusion(image_shape, num_classes, **kwargs):
    latent_shape = (image_shape[0] // 2, image_shape[1] // 2, 2)
    own = {"width": 8, "blocks": 0}
    autoencoder = models.VAE(
        image_shape,
        encoder=networks.autoencoder.spatial_encoder(image_shape, latent_shape, **own),
        decoder=networks.autoencoder.spatial_decoder(image_shape, latent_shape, seed=1, **own),
    )
    prior = models.Diffusion(
        latent_shape, num_classes, dit(latent_shape, num_classes), steps=2, clip=False, ema=0.9
    )
    return models.LatentDiffusion(autoencoder, prior, [0.3, -0.2], [0.7, 1.4], **kwargs)


WASSERSTEIN = {
    "loss": "wasserstein",
    "learning_rate": 4e-3,
    "discriminator_steps": 2,
    "weighted": {
        "gradient penalty": lambda w: {"penalties": [losses.GradientPenalty(w)]},
        "drift": lambda w: {"loss": losses.Wasserstein(drift=w)},
    },
    "unmoved": ["logit/bias"],  # only differences of logits count
}
RELATIVISTIC = {
    "loss": "relativistic",
    "penalties": [losses.R1(1.0), losses.R2(1.0)],
    "weighted": {
        "R1": lambda w: {"penalties": [losses.R1(w), losses.R2(1.0)]},
        "R2": lambda w: {"penalties": [losses.R1(1.0), losses.R2(w)]},
    },
    "unmoved": ["logit/bias"],
}

AUGMENTATION = kg.data.augmentation.AdaptiveAugmentation(target=0.0, images=2000)


def pixelcnn(image_shape, num_classes, **kwargs):
    levels = 4
    network = networks.pixelcnn.gated(
        image_shape, levels, num_classes, width=16, blocks=1, first_kernel=5
    )
    return models.PixelCNN(image_shape, num_classes, levels, network, ema=0.9, **kwargs)


def frame_predictor(image_shape, num_classes, **kwargs):
    network = networks.convlstm.predictor(image_shape, 2, num_classes, width=8, kernel=3, blocks=1)
    kwargs = {
        "likelihood": losses.Bernoulli("stochastic"),
        "context_noise": 0.1,
        "ema": 0.9,
        **kwargs,
    }
    return models.FramePredictor(image_shape, num_classes, 2, 3, network, **kwargs)


def sequence_gan(image_shape, num_classes, **kwargs):
    own = {"width": 8, "num_classes": num_classes}
    return models.SequenceGAN(
        image_shape,
        num_classes,
        3,
        2,
        generator=networks.sequence.generator(image_shape, 8, 4, **own),
        first_generator=networks.resnet.generator(image_shape, 12, seed=3, **own),
        discriminator=networks.resnet.discriminator(image_shape, seed=1, **own),
        motion_discriminator=networks.sequence.motion_discriminator(image_shape, 3, seed=2, **own),
        ema=0.9,
        **kwargs,
    )


def pixelcnn_plus_plus(image_shape, num_classes, **kwargs):
    levels, likelihood = 4, losses.LogisticMixture(components=2)
    network = networks.pixelcnn.plus_plus(
        image_shape, levels, num_classes, likelihood, width=8, blocks=1, first_kernel=5
    )
    return models.PixelCNN(image_shape, num_classes, levels, network, likelihood, ema=0.9, **kwargs)


def autoencoder(image_shape, num_classes, **kwargs):
    own = {"hidden": (32,), "num_classes": num_classes}
    return models.Autoencoder(
        image_shape,
        num_classes,
        encoder=networks.autoencoder.dense_encoder(image_shape, 8, parameters=1, **own),
        decoder=networks.autoencoder.dense_decoder(
            image_shape, 8, activation="tanh", seed=1, **own
        ),
        ema=0.9,
        **kwargs,
    )


def vae(image_shape, num_classes, likelihood="bernoulli", **kwargs):
    own = {"width": 8, "hidden": 32, "num_classes": num_classes}
    of_pixels = losses.get_likelihood(likelihood)
    output = {"parameters": of_pixels.parameters, "shared": of_pixels.shared}
    return models.VAE(
        image_shape,
        num_classes,
        encoder=networks.autoencoder.encoder(image_shape, 8, **own),
        decoder=networks.autoencoder.decoder(image_shape, 8, seed=1, **own, **output),
        likelihood=likelihood,
        ema=0.9,
        **kwargs,
    )


def convolution(image_shape, seed, filters, kinds=1, **kwargs):
    """The smallest generator or discriminator of a translation model."""
    taken = [keras.Input(image_shape, name=f"image_{i}") for i in range(kinds)]
    convolved = keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name="convolution",
        **kwargs,
    )(keras.layers.Concatenate()(taken) if kinds > 1 else taken[0])
    made = keras.layers.Activation("linear", dtype="float32")(convolved)
    return keras.Model(taken if kinds > 1 else taken[0], made, name=f"convolution_{seed}")


def pix2pix(image_shape, num_classes, **kwargs):
    generator = networks.translation.unet(image_shape, width=4, depth=2)
    discriminator = convolution(image_shape, 1, 1, kinds=2, strides=2)
    return models.Pix2Pix(image_shape, None, generator, discriminator, ema=0.9, **kwargs)


def cyclegan(image_shape, num_classes, **kwargs):
    channels = image_shape[2]
    generators = [convolution(image_shape, i, channels, activation="tanh") for i in (0, 1)]
    discriminators = [convolution(image_shape, i, 1, strides=2) for i in (2, 3)]
    settings = {"history": 10, "ema": 0.9, **kwargs}
    return models.CycleGAN(image_shape, None, *generators, *discriminators, **settings)


def pictures(image_shape, seeds, labels):
    """Pictures to translate: digits, each of which is a function of its seed."""
    known, _ = digits(image_shape, labelled=False).take(256)
    return {"image": known[seeds % len(known)]}


def pictures_and_seeds(image_shape, seeds, labels):
    return {**pictures(image_shape, seeds, labels), "seed": seeds}


def translated(model, request, **kwargs):
    request = dict(request)
    image = request.pop("image")
    return model.translate(image, **request, **kwargs)


def translation_distance(model, source):
    """Mean absolute difference between translations and targets, in grey levels."""
    inputs, targets = source.take(256, seed=0)
    return np.abs(model.translate(inputs).astype(float) - targets).mean()


def cycle_distance(model, source):
    """Mean absolute difference between pictures and their translations back, in grey levels."""
    a, b = source.take(256, seed=0)
    again = (
        model.translate(model.translate(a, to="b"), to="a"),
        model.translate(model.translate(b, to="a"), to="b"),
    )
    return np.abs(np.stack(again).astype(float) - np.stack([a, b])).mean()


def vqvae(image_shape, num_classes, **kwargs):
    codes = (image_shape[0] // 2, image_shape[1] // 2, 1)
    latents, own = (*codes[:2], 4), {"width": 8, "blocks": 0}
    prior = {"width": 16, "blocks": 1, "first_kernel": 5, "embedding": 8}
    return models.VQVAE(
        image_shape,
        num_classes,
        encoder=networks.autoencoder.spatial_encoder(image_shape, latents, parameters=1, **own),
        decoder=networks.autoencoder.spatial_decoder(image_shape, latents, seed=1, **own),
        latent_shape=latents,
        codebook_size=16,
        prior=networks.pixelcnn.gated(codes, 16, num_classes, **prior),
        ema=0.9,
        **kwargs,
    )


CASES = [
    Case("autoencoder", autoencoder, labelled=False, progress=pixel_distance),
    Case(
        "vae",
        vae,
        labelled=True,
        progress=pixel_distance,
        weighted={
            "beta": lambda w: {"beta": w},
            "free bits": lambda w: {"free_bits": w / 100},
        },
    ),
    Case(
        "vae-hierarchy",
        partial(vae, likelihood="discretized_logistic", hierarchy=[4, 2]),
        labelled=False,
        progress=pixel_distance,
        eager=True,
    ),
    Case(
        "vqvae",
        vqvae,
        labelled=False,
        progress=loss_on_data,
        weighted={"commitment": lambda w: {"commitment_cost": w}},
    ),
    Case(
        "vqvae-prior",
        lambda *shape_and_classes, **kwargs: vqvae(*shape_and_classes, stage="prior", **kwargs),
        labelled=True,
        learning_rate=1e-2,
        progress=loss_on_data,
    ),
    diffusion("rectified_flow", labelled=True, steps=4, guidance_scale=1.5),
    diffusion(
        "edm",
        labelled=False,
        network=attending_unet,
        eager=True,
        path="edm",
        weighting="edm",
        steps=4,
    ),
    diffusion(
        "ddpm",
        labelled=False,
        network=dit,
        eager=True,
        path="linear",
        prediction="noise",
        weighting="min_snr",
        sampler="ddpm",
        steps=16,
        weighted={"gamma": lambda w: {"weighting": d.MinSNRWeighting(w)}},
    ),
    Case(
        "latent_diffusion",
        latent_diffusion,
        labelled=False,
        learning_rate=1e-2,
        progress=loss_on_data,
    ),
    diffusion(
        "consistency",
        labelled=True,
        kind=models.ConsistencyModel,
        network=dit,
        learning_rate=4e-3,
        stage_steps=20,
        stages=3,
    ),
    diffusion(
        "mean_flow",
        labelled=False,
        kind=models.MeanFlow,
        network=lambda *shape_and_classes: networks.inputs.with_span(unet(*shape_and_classes)),
        learning_rate=4e-3,
        eager=True,
        steps=2,
    ),
    Case(
        "pixelcnn-categorical",
        pixelcnn,
        labelled=True,
        learning_rate=4e-3,
        progress=pixel_distance,
    ),
    Case(
        "frame_predictor",
        frame_predictor,
        labelled=True,
        learning_rate=4e-3,
        progress=pixel_distance,
        data=moving_digits,
    ),
    Case(
        "sequence_gan",
        sequence_gan,
        labelled=True,
        learning_rate=4e-3,
        progress=pixel_distance,
        weighted={
            **RELATIVISTIC["weighted"],
            "continuation": lambda w: {"continuation_weight": w},
        },
        unmoved=frozenset(RELATIVISTIC["unmoved"]),
        data=moving_digits,
    ),
    Case(
        "pix2pix",
        pix2pix,
        labelled=False,
        learning_rate=4e-3,
        progress=translation_distance,
        weighted={"L1": lambda w: {"l1_weight": w}},
        data=masked_digits,
        request=pictures_and_seeds,
        outputs=translated,
        step="translate_step",
    ),
    Case(
        "cyclegan",
        cyclegan,
        labelled=False,
        learning_rate=4e-3,
        progress=cycle_distance,
        weighted={
            "cycle": lambda w: {"cycle_weight": w},
            "identity": lambda w: {"identity_weight": w},
        },
        data=negatives,
        request=pictures,
        outputs=translated,
        step="translate_step",
    ),
    Case(
        "pixelcnn-plus_plus",
        pixelcnn_plus_plus,
        labelled=False,
        learning_rate=1e-2,
        progress=pixel_distance,
        eager=True,
    ),
    # Every loss with both networks, once with labels and once without.
    gan("mlp-minimax", mlp_gan, labelled=False, loss="minimax"),
    gan("dcgan-minimax", dcgan, labelled=True, loss="minimax"),
    gan("mlp-non_saturating", mlp_gan, labelled=False, eager=True, loss="non_saturating"),
    gan("dcgan-non_saturating", dcgan, labelled=True, eager=True, loss="non_saturating"),
    gan(
        "mlp-least_squares",
        mlp_gan,
        labelled=True,
        eager=True,
        loss="least_squares",
        weighted={"scale": lambda w: {"loss": losses.LeastSquares(w)}},
    ),
    gan("dcgan-least_squares", dcgan, labelled=False, eager=True, loss="least_squares"),
    gan("mlp-hinge", mlp_gan, labelled=True, eager=True, loss="hinge"),
    gan(
        "dcgan-hinge",
        dcgan,
        labelled=False,
        eager=True,
        loss="hinge",
        unmoved=["logit/bias"],  # real and fake pull alike while all logits are within the margin
    ),
    gan("mlp-wasserstein", mlp_gan, labelled=False, eager=True, **WASSERSTEIN),
    gan("dcgan-wasserstein", dcgan, labelled=True, **WASSERSTEIN),
    gan("mlp-relativistic", mlp_gan, labelled=False, eager=True, **RELATIVISTIC),
    gan("dcgan-relativistic", dcgan, labelled=True, eager=True, **RELATIVISTIC),
    gan(
        "resnet-r3gan",
        resnet,
        labelled=True,
        burn_in=5000,
        weighted=RELATIVISTIC["weighted"],
        unmoved=["logit/bias"],
    ),
    gan(
        "resnet-sngan",
        resnet,
        labelled=True,
        recipe="sngan",
        judge={"normalization": "spectral"},
        discriminator_steps=1,
        ema=0.9,
    ),
    gan(
        "resnet-options",
        resnet,
        labelled=False,
        eager=True,
        burn_in=5000,
        both={"normalization": "equalized", "attention": (4,)},
        history=64,
        augmentation="diff_augment",
        learning_rate=4e-3,
        unmoved=["logit_equalized/logit/bias"],
    ),
    gan(
        "mlp-clipped",
        mlp_gan,
        labelled=False,
        eager=True,
        loss="wasserstein",
        weight_clip=0.05,
        discriminator_steps=2,
        unmoved=["logit/bias"],
    ),
    gan("dcgan-ada", dcgan, labelled=False, augmentation=AUGMENTATION),
    gan(
        "resnet-acgan-infogan",
        acgan,
        labelled=True,
        loss="non_saturating",
        burn_in=5000,
        weighted={
            "classification": lambda w: {"classification_weight": w},
            "information": lambda w: {"codes": losses.Codes([2], 1, w)},
        },
    ),
]


def state(model):
    """Copies of all that training changes, as NumPy arrays: weights, averages, optimizers."""
    variables = list(model.variables)
    for optimizer in model.optimizers.values():
        variables += optimizer.variables
    return [np.asarray(variable).copy() for variable in variables]


def assert_same_state(first, second, **tolerance):
    """Bit for bit, unless a tolerance is given."""
    first, second = state(first), state(second)
    assert len(first) == len(second)
    for a, b in zip(first, second):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def one_step(model, batch):
    """One training step on one batch; returns the logs."""
    return model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
